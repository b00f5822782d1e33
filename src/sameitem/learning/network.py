"""The two-branch network: one branch finds the subject's rectangle, the other turns what is inside into a feature.

Both look through trunks that start from the same weights. The detection branch keeps them; the feature branch may
change its last blocks. Nothing here ever sees a true box: what the rectangle should hold
is told by triplets, for the model that ships also by what the trunk sees (`saliency.py`).
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sameitem.learning.trunk import COARSE_CHANNELS, FINE_CHANNELS, SHORT, SHORT_CHANNELS, SPLIT, Trunk

LEAST_SIDE = 0.06  # of a box, as a share of the photo's side
_WIDTH, _BODY = 96, 64  # channels where the three kinds of maps are joined, and after
_STEP = 0.2  # how far the attended correction moves a centre, in shares of the side per unit
_UNIFORM = 3**0.5  # half the width of an even distribution, in standard deviations


class BoxHead(nn.Module):
    """From a photo's maps to its rectangle: the centre and spread of an attention map, corrected."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(FINE_CHANNELS, _WIDTH, 1)
        self.coarse = nn.Conv2d(COARSE_CHANNELS, _WIDTH, 1)
        self.last = nn.Conv2d(SHORT_CHANNELS, _WIDTH, 1)
        self.body = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(_WIDTH, _BODY, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(_BODY, _BODY, 3, padding=2, dilation=2),
            nn.ReLU(),
            nn.Conv2d(_BODY, _BODY, 3, padding=3, dilation=3),
            nn.ReLU(),
        )
        self.attend = nn.Conv2d(_BODY, 1, 1)
        self.correct = nn.Conv2d(_BODY, 4, 1)
        nn.init.zeros_(self.correct.weight)
        nn.init.zeros_(self.correct.bias if self.correct.bias is not None else self.correct.weight)

    def forward(self, fine: Tensor, coarse: Tensor, last: Tensor) -> Tensor:
        """Return (n, 4) rectangles: left, top, right, bottom in shares of the side, up to a little outside 0..1.

        Args:
            fine: (n, 40, s, s) maps of stride 8.
            coarse: (n, 112, s / 2, s / 2) maps of stride 16.
            last: (n, 192, s / 4, s / 4) maps of stride 32.
        """
        weight, correction = self.look(fine, coarse, last)
        return self.rectangle(weight, correction)

    def look(self, fine: Tensor, coarse: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        """Return the attention, (n, cells) with sum 1, and each cell's correction of the rectangle, (n, 4, cells)."""
        side = int(fine.shape[2])
        joined = self.fine(fine) + _grown(self.coarse(coarse), side) + _grown(self.last(last), side)
        body = self.body(joined)
        return self.attend(body).flatten(1).softmax(1), self.correct(body).flatten(2)

    def rectangle(self, weight: Tensor, correction: Tensor) -> Tensor:
        """Return the (n, 4) rectangles of attention maps: centre and spread, with the attended correction."""
        attended = (correction * weight[:, None]).sum(2)  # (n, 4)
        places = self.places(weight)
        mean = weight @ places.T  # (n, 2)
        spread = ((weight @ (places**2).T - mean**2).clamp(min=0) + 1e-4).sqrt()
        centre = mean + _STEP * attended[:, :2]
        half = _at_least(LEAST_SIDE / 2, _UNIFORM * spread * attended[:, 2:].clamp(-2, 2).exp())
        return torch.cat([centre - half, centre + half], 1).clamp(-0.05, 1.05)

    def places(self, weight: Tensor) -> Tensor:
        """Return x and y of the cells' middles, (2, cells), in shares of the side."""
        side = math.isqrt(int(weight.shape[1]))
        at = (torch.arange(side, dtype=weight.dtype, device=weight.device) + 0.5) / side
        return torch.stack([at.repeat(side), at.repeat_interleave(side)])


class Candidates(nn.Module):
    """The head's rectangle, and those of what its attention finds outside of it: other objects in the photo."""

    def __init__(self, head: BoxHead, *, count: int) -> None:
        super().__init__()
        self.head, self.count = head, count

    def forward(self, fine: Tensor, coarse: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        """Return (n, count, 4) hard rectangles in shares of the side, best first, and (n, count) shares of attention.

        A score is the attention that lies inside the rectangle and inside none before it, 0..1.
        """
        weight, correction = self.head.look(fine, coarse, last)
        places = self.head.places(weight)
        boxes, scores = [], []
        left_over = weight
        for _ in range(self.count):
            total = left_over.sum(1, keepdim=True)
            box = hard_boxes(self.head.rectangle(left_over / torch.clamp(total, min=1e-6), correction))
            x_in, y_in = (
                (places[axis] >= box[:, axis, None]) & (places[axis] <= box[:, axis + 2, None]) for axis in (0, 1)
            )
            within = (x_in & y_in).to(weight.dtype)
            boxes.append(box)
            scores.append((left_over * within).sum(1))
            left_over = left_over * (1 - within)
        return torch.stack(boxes, 1), torch.stack(scores, 1)


def _at_least(least: float, values: Tensor) -> Tensor:
    """Raise values to the least; their gradient passes, so that a rectangle that has shrunk to it can grow again."""
    return values + (values.clamp(min=least) - values).detach()


def _grown(maps: Tensor, side: int) -> Tensor:
    return functional.interpolate(maps, size=(side, side), mode="bilinear", align_corners=False)


def soft_mask(boxes: Tensor, side_px: int, *, sharpness: float) -> Tensor:
    """Return (n, 1, side_px, side_px) masks, near 1 inside each rectangle and near 0 outside.

    `M(x, y) = [s(x - left) - s(x - right)] [s(y - top) - s(y - bottom)]`, `s(t) = 1 / (1 + exp(-K t))`.

    Args:
        boxes: (n, 4) in shares of the side.
        side_px: of the masks.
        sharpness: K; at infinity the mask is the hard rectangle.

    Source: article §02.2; FORMULAS.md §2.
    """
    at = (torch.arange(side_px, dtype=boxes.dtype, device=boxes.device) + 0.5) / side_px
    x, y = (
        torch.sigmoid(sharpness * (at - boxes[:, low, None]))
        - torch.sigmoid(sharpness * (at - boxes[:, low + 2, None]))
        for low in (0, 1)
    )
    return (y[:, :, None] * x[:, None, :])[:, None]


def cut(photos: Tensor, boxes: Tensor, side_px: int) -> Tensor:
    """Cut out each rectangle and scale it, padded white, to a square, as serving does with the hard box.

    Args:
        photos: (n, 3, h, w) normalised.
        boxes: (n, 4) in shares of the sides, some area each.
        side_px: of the squares.

    Returns:
        (n, 3, side_px, side_px)
    """
    sizes = boxes[:, 2:] - boxes[:, :2]
    middles = (boxes[:, 2:] + boxes[:, :2]) / 2
    side = sizes.max(1).values  # of the square around the rectangle
    at = (torch.arange(side_px, dtype=boxes.dtype, device=boxes.device) + 0.5) / side_px - 0.5
    away = at * side[:, None]  # (n, side_px) from the middle, in shares of the photo's side
    x, y = (middles[:, axis, None] + away for axis in (0, 1))
    grid = torch.stack([x[:, None, :].expand(-1, side_px, -1), y[:, :, None].expand(-1, -1, side_px)], 3) * 2 - 1
    found = functional.grid_sample(photos, grid, padding_mode="border", align_corners=False)
    x_in, y_in = (away.abs() <= sizes[:, axis, None] / 2 for axis in (0, 1))
    inside = (y_in[:, :, None] & x_in[:, None, :])[:, None].to(photos.dtype)
    return (found * inside + (1 - inside)).contiguous(memory_format=torch.channels_last)


class SubjectPooling(nn.Module):
    """A weighted mean over maps of any size: cells near the centre, and unlike the border, count more.

    With both settings at their neutral values (infinite, 0) this is average pooling.
    """

    def __init__(self, *, centre: float, contrast: float) -> None:
        """Keep the settings.

        Args:
            centre: standard deviation of the centre weight, as a share of the side.
            contrast: how much a cell that looks like the border loses.
        """
        super().__init__()
        self.centre, self.contrast = centre, contrast

    def forward(self, maps: Tensor) -> Tensor:
        """Pool (n, channels, s, s) maps to (n, channels)."""
        side = int(maps.shape[2])
        place = (torch.arange(side, device=maps.device) - (side - 1) / 2) / side
        bell = torch.exp(-(place**2) / (2 * self.centre**2))
        ring = torch.ones(side, side, device=maps.device)
        if side > 2:
            ring[1:-1, 1:-1] = 0
        cells = maps.flatten(2)  # (n, channels, cells)
        border = (cells * (ring / ring.sum()).flatten()).sum(2, keepdim=True)  # (n, channels, 1)
        lengths = (cells * cells).sum(1).sqrt() * (border * border).sum(1).sqrt()  # (n, cells)
        likeness = (cells * border).sum(1) / torch.clamp(lengths, min=1e-6)
        weight = torch.outer(bell, bell).flatten() * torch.exp(-self.contrast * likeness)
        weight = weight / weight.sum(1, keepdim=True)
        return (cells * weight[:, None, :]).sum(2)


class FeatureBranch(nn.Module):
    """Trunk, pooling and projection: (n, 3, side, side) images to (n, dim) unit features."""

    def __init__(self, trunk: Trunk, pooling: nn.Module, projection: NDArray[np.floating]) -> None:
        """Put the branch together.

        Args:
            trunk: its blocks from `SPLIT` on are what training may change.
            pooling: (n, 1280, s, s) maps to (n, 1280).
            projection: (1280, dim)
        """
        super().__init__()
        self.trunk, self.pooling = trunk, pooling
        self.projection = nn.Parameter(torch.from_numpy(np.array(projection, np.float32)))

    def forward(self, image: Tensor) -> Tensor:
        """Embed normalised images."""
        return self.from_coarse(self.trunk.begin(image)[-1])

    def from_coarse(self, coarse: Tensor) -> Tensor:
        """Embed what `Trunk.begin` made of images; those maps never change and may be kept."""
        return self.from_short(self.trunk.shorten(coarse))

    def from_short(self, short: Tensor) -> Tensor:
        """Embed what `Trunk.shorten` made of images."""
        projected = self.pooling(self.trunk.end(short)) @ self.projection
        length = (projected * projected).sum(1, keepdim=True).sqrt()
        feature: Tensor = projected / torch.clamp(length, min=1e-6)
        return feature

    def changeable(self) -> dict[str, nn.Parameter]:
        """Return what training may change, by the names of `state_dict`; the biases of folded norms stay."""
        kept = (f"trunk._blocks.{number}." for number in range(SPLIT))
        frozen = ("trunk._conv_stem.", "trunk._fc.", *kept)
        named = self.named_parameters()
        return {name: value for name, value in named if value.requires_grad and not name.startswith(frozen)}

    def last(self) -> dict[str, nn.Parameter]:
        """Return of `changeable` what stands after `Trunk.shorten`: last block, head and projection."""
        ends = ("trunk._conv_head.", "projection", f"trunk._blocks.{SHORT}.")
        return {name: value for name, value in self.changeable().items() if name.startswith(ends)}


class DetectionBranch(nn.Module):
    """A trunk that stays as it is, and the head that finds the rectangle."""

    def __init__(self, trunk: Trunk, head: BoxHead) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head

    def maps(self, photos: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the head looks at: maps of stride 8, 16 and 32 of normalised (n, 3, side, side) photos."""
        fine, coarse = self.trunk.begin(photos)
        return fine, coarse, self.trunk.shorten(coarse)

    def forward(self, photos: Tensor) -> Tensor:
        """Return (n, 4) rectangles in shares of the side."""
        boxes: Tensor = self.head(*self.maps(photos))
        return boxes


def hard_boxes(boxes: Tensor) -> Tensor:
    """Clip rectangles to the photo, each side at least `LEAST_SIDE` long, half as long at the photo's edge."""
    clipped = boxes.clamp(0, 1)
    middles = (clipped[:, :2] + clipped[:, 2:]) / 2
    halves = ((clipped[:, 2:] - clipped[:, :2]) / 2).clamp(min=LEAST_SIDE / 2)
    return torch.cat([middles - halves, middles + halves], 1).clamp(0, 1)
