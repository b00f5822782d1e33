"""Compose user photos of catalogue items with known boxes: shop (c) of the click experiments.

python benchmarks/composed_photos.py --data FOLDER --out FOLDER [--photos-per-item 3] [--seed 0] [--planted 500]

Belongs to the experiments alone: no training code imports it and it shares none with `learning.edits`. Items are ABO
pictures with an even backdrop, one per visual cluster; backgrounds are trainable photos of clothes, fruit and
vegetables. A cluster is clicked or never clicked by the hash of its id (those of the val split are never clicked), a
background belongs to one of the halves by the hash of its sender (clothes) or product. The folder that is written:

    photos.npy       (photos, 224, 224, 3) uint8, photos of one item side by side
    photo_item.npy   (photos,) row of the item in items.csv and catalogue.npy
    catalogue.npy    (items, 224, 224, 3) uint8, the catalogue image padded white
    items.csv        cluster, member, split, half (clicked or never), top14
    truth/boxes.npy  (photos, 4) left, top, right, bottom in shares of the side; only evaluation reads it
    counts.json      what was kept, what was dropped and why, the best constant box

With --planted N, N photos of never-clicked items beside a patch of another background, pasted alike, are written to
the folder `planted` instead, with `truth/patches.npy` beside the boxes.
"""

import argparse
import csv
import functools
import hashlib
import io
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from sameitem.core.records import Pixels
from sameitem.features.preprocess import Fit, square_pixels
from sameitem.learning.real_sets import RealSets, Row
from sameitem.metrics.boxes import iou

SIDE_PX = 224
CLICKED, NEVER = "clicked", "never"
PLANTED = "planted"  # subfolder of the control set
CLICKED_SHARE = 0.56  # of the clusters that may be trained on; the rest and the val split make the other half
SCALES = (0.28, 0.72)  # longest side of the item's box, in shares of the photo
PLANTED_SCALES = (0.28, 0.48)
MASK_SHARES = (0.06, 0.75)  # of the catalogue picture
OCCLUDED_PHOTOS, OCCLUDED_ITEM = 0.15, 0.15  # share of the photos, largest share of the item

_ITEM_PX = 192  # a cut-out is made at this longest side
_NEAR, _PURE, _SURE = 4.5, 1.4, 1.8  # Lab units from the backdrop: looks like it, is it, may yet be a white item
_SHADOW_DEPTH, _SHADOW_TINT, _SHADOW_STEP = 26.0, 4.0, 1.6  # a shadow is darker, as grey, without edges
_EVEN_SHARE = 0.55  # of the border must look like its median
_DOUBTFUL = 1.5  # times the area that a strict cut-out may have
_SOLID_SHARE = 0.3  # of the mask that a 5 x 5 erosion leaves; less is lettering or wire

Rgba = NDArray[np.uint8]  # (height, width, 4)
Boxes = NDArray[np.float64]  # (n, 4) left, top, right, bottom


@dataclass(frozen=True, slots=True)
class Item:
    """One catalogue item whose picture could be cut out."""

    row: Row
    half: str
    cutout: Rgba


@dataclass(frozen=True, slots=True)
class Layer:
    """Something to paste: straight colours and coverage, and where its tight box goes."""

    colours: NDArray[np.float32]  # (height, width, 3), 0..255
    cover: NDArray[np.float32]  # (height, width), 0..1
    left: int
    top: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The smallest rectangle around what covers at least half."""
        solid = self.cover >= 0.5
        columns, rows = np.flatnonzero(solid.any(axis=0)), np.flatnonzero(solid.any(axis=1))
        return (
            self.left + int(columns[0]),
            self.top + int(rows[0]),
            self.left + int(columns[-1]) + 1,
            self.top + int(rows[-1]) + 1,
        )


@dataclass(frozen=True, slots=True)
class Photo:
    """A composed photo and the truth about it, in pixels."""

    pixels: Pixels
    box: tuple[int, int, int, int]
    patch: tuple[int, int, int, int] | None  # of what was planted beside the item


class CutOutError(Exception):
    """The item cannot be told from its backdrop; says why."""


# ---------------------------------------------------------------------------------------------------- cutting out


def cut_out(pixels: Pixels) -> Rgba:
    """Cut an item off its even backdrop: colours without fringe, coverage in the fourth channel, tight.

    Raises:
        CutOutError: the backdrop is not even, or the mask is not that of one whole item.
    """
    picture = Image.fromarray(pixels)
    picture.thumbnail((_ITEM_PX, _ITEM_PX), Image.Resampling.LANCZOS)
    rgb = np.asarray(picture)
    mask = item_mask(rgb)
    core = _erode(mask, 1)
    cover = Image.fromarray(core.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(0.6))
    inner = _erode(core, 1)
    rgba = np.dstack([_spread_colours(rgb, inner if inner.any() else core), np.asarray(cover)])
    columns, rows = np.flatnonzero(core.any(axis=0)), np.flatnonzero(core.any(axis=1))
    return rgba[max(0, rows[0] - 2) : rows[-1] + 3, max(0, columns[0] - 2) : columns[-1] + 3]


def item_mask(rgb: Pixels) -> NDArray[np.bool_]:
    """Mark what the backdrop does not reach from the border, nor from pure spots inside (gaps of a chair).

    Raises:
        CutOutError: as for `cut_out`.
    """
    lab = _to_lab(rgb)
    border = np.zeros(rgb.shape[:2], bool)
    border[[0, -1]] = border[:, [0, -1]] = True
    backdrop = np.median(lab[border], axis=0)
    offset = lab - backdrop
    distance = np.sqrt((offset**2).sum(axis=2))
    if (distance[border] < _NEAR).mean() < _EVEN_SHARE:
        raise CutOutError("backdrop")
    light = lab[..., 0]
    step = np.zeros_like(light)
    for axis in (0, 1):
        change = np.abs(np.diff(light, axis=axis))
        head, tail = ((slice(None), slice(None, -1)), (slice(None), slice(1, None)))
        for part in (head, tail):
            place = part[::-1] if axis == 0 else part
            step[place] = np.maximum(step[place], change)
    shadow = (
        (step < _SHADOW_STEP)
        & (offset[..., 0] < 0)
        & (offset[..., 0] > -_SHADOW_DEPTH)
        & (np.hypot(offset[..., 1], offset[..., 2]) < _SHADOW_TINT)
    )
    near = distance < _NEAR
    seeds = (border & near) | _erode(distance < _PURE, 2)
    mask = ~reach(near | shadow, seeds)
    mask = reach(mask, _erode(mask, 2))  # without specks
    strict = ~reach(distance < _SURE, seeds)
    _check_mask(mask, strict)
    return mask


def _check_mask(mask: NDArray[np.bool_], strict: NDArray[np.bool_]) -> None:
    if not MASK_SHARES[0] <= mask.mean() <= MASK_SHARES[1]:
        raise CutOutError("mask share")
    edges = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
    if sum(edge.mean() > 0.02 for edge in edges) > 2:
        raise CutOutError("touches the sides")
    if strict.sum() > _DOUBTFUL * mask.sum():
        raise CutOutError("as white as its backdrop")
    if _erode(mask, 2).sum() < _SOLID_SHARE * mask.sum():
        raise CutOutError("lettering or wire")


def _erode(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Keep the pixels whose square neighbourhood is all in the mask; what lies outside the picture counts as in."""
    for _ in range(radius):
        grown = np.pad(mask, 1, constant_values=True)
        rows = grown[:-2] & grown[1:-1] & grown[2:]
        mask = rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:]
    return mask


def reach(open_: NDArray[np.bool_], seeds: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the open pixels that are connected, side by side, to an open seed."""
    reached = seeds & open_
    along = [_runs(open_), _runs(open_.T)]
    while True:
        before = int(reached.sum())
        for turned, runs in enumerate(along):
            flat = reached.T if turned else reached
            hit = np.zeros(runs.max() + 1, bool)
            hit[runs[flat]] = True
            hit[0] = False
            reached = hit[runs].T if turned else hit[runs]
        if int(reached.sum()) == before:
            return reached


def _runs(open_: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Number the runs of open pixels in each row, from 1; 0 where closed."""
    starts = open_.copy()
    starts[:, 1:] &= ~open_[:, :-1]
    return np.cumsum(starts.ravel()).reshape(open_.shape) * open_


def _spread_colours(rgb: Pixels, inner: NDArray[np.bool_]) -> Pixels:
    """Keep the colours inside and carry them outwards, so that no backdrop is left in the edge."""
    weight = inner.astype(np.float32)
    painted = rgb.astype(np.float32) * weight[..., None]
    colours = np.where(inner[..., None], rgb, 0).astype(np.float32)
    missing = ~inner
    for radius in (1.2, 3.0, 8.0):
        blur = ImageFilter.GaussianBlur(radius)
        total = np.asarray(Image.fromarray((weight * 255).astype(np.uint8)).filter(blur), np.float32) / 255
        known = missing & (total > 0.06)
        soft = np.asarray(Image.fromarray(painted.astype(np.uint8)).filter(blur), np.float32)
        colours[known] = np.minimum(255, soft[known] / total[known][:, None])
        missing &= ~known
    colours[missing] = rgb[inner].mean(axis=0)
    return colours.astype(np.uint8)


# ------------------------------------------------------------------------------------------------------ composing


def compose_photo(
    cutout: Rgba, background: Pixels, texture: Pixels, generator: np.random.Generator, *, planted: bool = False
) -> Photo:
    """Take a photo of an item: seen from another side, anywhere on a background, in its light.

    Args:
        cutout: of `cut_out`.
        background: the photo that a square part is taken of.
        texture: another photo, for what hides a part of the item or is planted beside it.
        generator: everything is drawn from it.
        planted: paste a patch of the texture beside the item, in the same way.
    """
    scene = _square_part(background, SIDE_PX, generator, shares=(0.45, 1)).astype(np.float32)
    scale = generator.uniform(*(PLANTED_SCALES if planted else SCALES))
    item = _place(_view(cutout, scale * SIDE_PX, generator), generator)
    patch = None
    if planted:
        patch = _beside(item, _patch(texture, generator, shares=(0.2, 0.4)), scale * SIDE_PX, generator)
    layers = [layer for layer in (patch, item) if layer is not None]
    shade = (generator.uniform(-0.05, 0.05), generator.uniform(0.0, 0.06), generator.uniform(2.5, 7))
    depth, pull = generator.uniform(0.15, 0.45), generator.uniform(0.2, 0.55)
    for layer in layers:
        _cast_shadow(scene, layer, shade, depth)
        _paste(scene, _matched(layer, scene, pull))
    if not planted and generator.random() < OCCLUDED_PHOTOS:
        _occlude(scene, item, texture, generator)
    pixels = _develop(scene, generator)
    return Photo(pixels, item.box, None if patch is None else patch.box)


def _square_part(
    pixels: Pixels, side_px: int, generator: np.random.Generator, *, shares: tuple[float, float]
) -> Pixels:
    picture = Image.fromarray(pixels)
    side = max(1, int(min(picture.size) * generator.uniform(*shares)))
    left, top = (int(generator.integers(0, whole - side + 1)) for whole in picture.size)
    part = picture.resize((side_px, side_px), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    values = np.asarray(part)
    return values[:, ::-1] if generator.random() < 0.5 else values


def _view(cutout: Rgba, longest_px: float, generator: np.random.Generator) -> Rgba:
    """Turn the cut-out by perspective and rotation so that the longest side of its box is `longest_px`."""
    picture = Image.fromarray(cutout)
    shrink = min(1.0, 1.4 * longest_px / max(picture.size))
    small = (max(8, round(picture.width * shrink)), max(8, round(picture.height * shrink)))
    picture = picture.convert("RGBa").resize(small, Image.Resampling.BOX if shrink < 1 else Image.Resampling.BILINEAR)
    picture = picture.convert("RGBA")
    width, height = picture.size
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float64)
    bent = corners + generator.uniform(-0.12, 0.12, (4, 2)) * (width, height)
    angle = np.deg2rad(generator.uniform(-25, 25))
    turned = bent @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    rows, columns = np.nonzero(np.asarray(picture.getchannel("A")) >= 128)
    seen = _apply(_homography(corners, turned), np.stack([columns + 0.5, rows + 0.5], axis=1))
    low, high = seen.min(axis=0), seen.max(axis=0)
    zoom = longest_px / max(high - low)
    target = (turned - low) * zoom + 2
    size = (int(np.ceil((high - low)[0] * zoom)) + 4, int(np.ceil((high - low)[1] * zoom)) + 4)
    coefficients = _homography(target, corners).ravel()[:8]
    return np.asarray(
        picture.transform(size, Image.Transform.PERSPECTIVE, tuple(coefficients.tolist()), Image.Resampling.BILINEAR)
    )


def _homography(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (3, 3) projective map that takes four points to four points."""
    rows, values = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return np.append(np.linalg.solve(np.array(rows), np.array(values)), 1).reshape(3, 3)


def _apply(homography: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    moved = np.column_stack([points, np.ones(len(points))]) @ homography.T
    return moved[:, :2] / moved[:, 2:]


def _place(rgba: Rgba, generator: np.random.Generator) -> Layer:
    """Lay a view anywhere in the photo."""
    layer = _layer(rgba)
    left, top, right, bottom = layer.box
    x = int(generator.integers(-left, SIDE_PX - right + 1))
    y = int(generator.integers(-top, SIDE_PX - bottom + 1))
    return Layer(layer.colours, layer.cover, x, y)


def _layer(rgba: Rgba) -> Layer:
    soft = Image.fromarray(rgba[..., 3]).filter(ImageFilter.GaussianBlur(0.5))
    return Layer(rgba[..., :3].astype(np.float32), np.asarray(soft, np.float32) / 255, 0, 0)


def _beside(item: Layer, patch: Rgba, longest_px: float, generator: np.random.Generator) -> Layer:
    """Lay a patch of about the item's size where the two do not meet; smaller where there is no room."""
    left, top, right, bottom = item.box
    for attempt in range(400):
        size = longest_px * generator.uniform(0.8, 1.2) * 0.995**attempt
        layer = _place(_view(patch, size, generator), generator)
        one, two, three, four = layer.box
        if one > right + 2 or three < left - 2 or two > bottom + 2 or four < top - 2:
            return layer
    raise AssertionError("a patch that shrinks fits beside an item of less than half the photo")


def _patch(texture: Pixels, generator: np.random.Generator, *, shares: tuple[float, float]) -> Rgba:
    """Cut a shape without meaning, a rounded rectangle or a blob, out of a square of so much of a photo."""
    side = 160
    colours = _square_part(texture, side, generator, shares=shares)
    aspect = np.exp(generator.uniform(-0.6, 0.6))
    across, down = (min(1.0, aspect), min(1.0, 1 / aspect))
    y, x = (np.mgrid[:side, :side] + 0.5) / side * 2 - 1
    power = generator.choice([2.0, 4.0, 10.0])
    wave = 1 + 0.12 * np.sin(generator.integers(2, 6) * np.arctan2(y, x) + generator.uniform(0, 6))
    inside = (np.abs(x / across) ** power + np.abs(y / down) ** power) < (0.94 * wave / 1.12) ** power
    cover = Image.fromarray(inside.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(0.6))
    return np.dstack([colours, np.asarray(cover)])


def _window(layer: Layer) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the slices of the photo and of the layer where the two overlap."""
    height, width = layer.cover.shape
    left, top = max(0, layer.left), max(0, layer.top)
    right, bottom = min(SIDE_PX, layer.left + width), min(SIDE_PX, layer.top + height)
    return (
        (slice(top, bottom), slice(left, right)),
        (slice(top - layer.top, bottom - layer.top), slice(left - layer.left, right - layer.left)),
    )


def _paste(scene: NDArray[np.float32], layer: Layer) -> None:
    there, here = _window(layer)
    cover = layer.cover[here][..., None]
    scene[there] += cover * (layer.colours[here] - scene[there])


def _cast_shadow(scene: NDArray[np.float32], layer: Layer, shade: tuple[float, float, float], depth: float) -> None:
    """Darken the scene where the layer keeps the light off: its shape moved (shares of the photo) and blurred (px)."""
    across, down, blur_px = shade
    moved = Layer(layer.colours, layer.cover, layer.left + int(across * SIDE_PX), layer.top + int(down * SIDE_PX))
    dark = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    there, here = _window(moved)
    dark[there] = (moved.cover[here] * 255).astype(np.uint8)
    soft = np.asarray(Image.fromarray(dark).filter(ImageFilter.GaussianBlur(blur_px)), np.float32) / 255
    scene *= (1 - depth * soft)[..., None]


def _matched(layer: Layer, scene: NDArray[np.float32], pull: float) -> Layer:
    """Move the layer's light, contrast and tint part of the way to those of the scene around it."""
    there, _ = _window(layer)
    around = _to_lab(scene[there][::2, ::2].clip(0, 255).astype(np.uint8))
    own = _to_lab(layer.colours.astype(np.uint8))
    solid = own[layer.cover >= 0.5]
    mean, target = solid.mean(axis=0), around.mean(axis=(0, 1))
    limit = np.array([14.0, 5.0, 5.0])
    shift = np.clip(pull * (target - mean) * (1, 0.5, 0.5), -limit, limit)
    ratio = (around[..., 0].std() + 2) / (solid[:, 0].std() + 2)
    contrast = np.clip(ratio ** (0.5 * pull), 0.8, 1.15)
    own = mean + shift + (own - mean) * np.array([contrast, 1, 1])
    return Layer(_to_rgb(own.astype(np.float32)), layer.cover, layer.left, layer.top)


def _occlude(scene: NDArray[np.float32], item: Layer, texture: Pixels, generator: np.random.Generator) -> None:
    """Hide a part of the item behind a piece of another photo."""
    left, top, right, bottom = item.box
    whole = np.zeros((SIDE_PX, SIDE_PX), np.float32)
    there, here = _window(item)
    whole[there] = item.cover[here]
    size = max(right - left, bottom - top) * generator.uniform(0.25, 0.5)
    angle = generator.uniform(0, 2 * np.pi)
    middle = np.array([(left + right) / 2, (top + bottom) / 2])
    middle += np.array([np.cos(angle), np.sin(angle)]) * 0.5 * np.array([right - left, bottom - top])
    rgba = _patch(texture, generator, shares=(0.35, 0.6))
    while size >= 4:
        layer = _layer(_view(rgba, size, generator))
        height, width = layer.cover.shape
        layer = Layer(layer.colours, layer.cover, int(middle[0] - width / 2), int(middle[1] - height / 2))
        there, here = _window(layer)
        hidden = (whole[there] * layer.cover[here]).sum() / whole.sum()
        if hidden <= OCCLUDED_ITEM:
            _paste(scene, layer)
            return
        size *= 0.8


def _develop(scene: NDArray[np.float32], generator: np.random.Generator) -> Pixels:
    """Expose, balance, blur or speckle and compress the finished scene."""
    gains = (generator.uniform(0.9, 1.1, 3) * generator.uniform(0.75, 1.15)).astype(np.float32)
    contrast = generator.uniform(0.85, 1.15)
    values = (scene * gains - 110) * contrast + 110
    slope = generator.uniform(-0.2, 0.2, 2).astype(np.float32)
    across = np.linspace(-0.5, 0.5, SIDE_PX, dtype=np.float32)
    values *= 1 + slope[0] * across[None, :, None] + slope[1] * across[:, None, None]
    kind = generator.random()
    if kind < 0.35:
        values += generator.standard_normal(values.shape, np.float32) * generator.uniform(2, 8)
    picture = Image.fromarray(values.clip(0, 255).astype(np.uint8))
    if kind > 0.7:
        picture = picture.filter(ImageFilter.GaussianBlur(generator.uniform(0.3, 1.0)))
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=int(generator.integers(40, 91)))
    with Image.open(encoded) as compressed:
        return np.asarray(compressed)


# --------------------------------------------------------------------------------------------------------- colour

_BYTES = np.arange(256) / 255
_LINEAR = np.where(_BYTES <= 0.04045, _BYTES / 12.92, ((_BYTES + 0.055) / 1.055) ** 2.4).astype(np.float32)
_FINE = np.arange(4097) / 4096
_GAMMA = (255 * np.where(_FINE <= 0.0031308, 12.92 * _FINE, 1.055 * _FINE ** (1 / 2.4) - 0.055)).astype(np.float32)
_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_TO_RATIO = (_XYZ / _XYZ.sum(axis=1, keepdims=True)).T.astype(np.float32)
_FROM_RATIO = np.linalg.inv(_TO_RATIO).astype(np.float32)


def _to_lab(rgb: Pixels) -> NDArray[np.float32]:
    """Turn (…, 3) sRGB bytes into L*a*b* under D65."""
    ratio = _LINEAR[rgb] @ _TO_RATIO
    root = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787037 * ratio + np.float32(4 / 29))
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _to_rgb(lab: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn (…, 3) L*a*b* into sRGB of 0..255, clipped."""
    y = (lab[..., 0] + 16) / 116
    root = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    ratio = np.where(root > 6 / 29, root**3, (root - np.float32(4 / 29)) / 7.787037)
    return _GAMMA[((ratio @ _FROM_RATIO).clip(0, 1) * 4096).astype(np.intp)]


# ---------------------------------------------------------------------------------------------------------- boxes


def best_constant_box(boxes: Boxes) -> tuple[NDArray[np.float64], float]:
    """Return the one box, in the same units, whose mean IoU with all boxes is highest, and that mean.

    A grid over centre and size finds the start, halving steps along the four sides the end.
    """
    low, high = boxes[:, :2].min(), boxes[:, 2:].max()
    span = high - low
    best, score = np.array([low, low, high, high], np.float64), -1.0
    ticks = low + span * np.linspace(0, 1, 9)
    sample = boxes[:: max(1, len(boxes) // 1500)]
    for left, right in [(one, two) for one in ticks for two in ticks if one < two]:
        for top, bottom in [(one, two) for one in ticks for two in ticks if one < two]:
            guess = np.array([left, top, right, bottom])
            mean = float(iou(sample, guess[None]).mean())
            if mean > score:
                best, score = guess, mean
    score, step = float(iou(boxes, best[None]).mean()), span / 16
    while step > span / 1000:
        moves = [best + sign * step * np.eye(4)[side] for side in range(4) for sign in (-1, 1)]
        means = [float(iou(boxes, move[None]).mean()) for move in moves]
        if max(means) > score:
            best, score = moves[int(np.argmax(means))], max(means)
        else:
            step /= 2
    return best, score


# -------------------------------------------------------------------------------------------------------- the set


def share_of(name: str) -> float:
    """Return a number in 0..1 that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6]) / 2**48


def half_of(row: Row) -> str:
    """Say whether a cluster is ever clicked; what is for measuring only never is."""
    return CLICKED if row.trainable and share_of(row.product) < CLICKED_SHARE else NEVER


def find_items(sets: RealSets, *, never_clicked: int = 0) -> tuple[list[Item], Counter[str]]:
    """Cut out the first picture of each cluster that can be; also count why clusters were dropped.

    Args:
        sets: the real photographs.
        never_clicked: if not 0, stop after so many items that are never clicked, in an order drawn by hash.
    """
    clusters: dict[str, list[Row]] = {}
    for row in sets.select("abo"):
        clusters.setdefault(row.product, []).append(row)
    groups = list(clusters.values())
    if never_clicked:
        groups = sorted(
            (rows for rows in groups if half_of(rows[0]) == NEVER), key=lambda rows: share_of(rows[0].member)
        )
    items, dropped = [], Counter[str]()
    for rows in groups:
        if never_clicked and len(items) == never_clicked:
            break
        reasons = []
        for row in rows[:3]:
            try:
                items.append(Item(row, half_of(row), cut_out(sets.pixels(row))))
                break
            except CutOutError as error:
                reasons.append(str(error))
        else:
            dropped[reasons[0]] += 1
    return items, dropped


def backgrounds(sets: RealSets, half: str) -> list[Row]:
    """Return the trainable photos that the compositions of one half are set on."""
    rows = [*sets.select("clothing"), *sets.select("grocery", lambda row: not row.category.startswith("Packages"))]
    wanted = half == CLICKED
    return [row for row in rows if row.trainable and (share_of(row.group) < 0.5) == wanted]


def draw_photos(
    items: Sequence[tuple[int, Item, int]],
    sets: RealSets,
    *,
    seed: int,
    planted: bool = False,
) -> Iterator[tuple[int, Photo]]:
    """Yield (row of the item, photo) for (row, item, number of the photo); the same call gives the same photos."""
    scenes = {half: backgrounds(sets, half) for half in (CLICKED, NEVER)}
    pixels_of: Callable[[Row], Pixels] = functools.lru_cache(maxsize=6000)(sets.pixels)
    for place, item, number in items:
        name = int.from_bytes(hashlib.sha256(item.row.product.encode()).digest()[:8])
        generator = np.random.default_rng([seed, number, int(planted), name])
        pool = scenes[item.half]
        background, texture = (pixels_of(pool[int(at)]) for at in generator.choice(len(pool), 2, replace=False))
        yield place, compose_photo(item.cutout, background, texture, generator, planted=planted)


def write_set(
    folder: Path, sets: RealSets, items: Sequence[Item], photos: Iterator[tuple[int, Photo]], count: int
) -> tuple[Boxes, NDArray[np.uint8]]:
    """Write the arrays of the module's docstring; return the true boxes in shares of the side, and the photos."""
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    shape = (SIDE_PX, SIDE_PX, 3)
    catalogue = np.lib.format.open_memmap(folder / "catalogue.npy", "w+", np.uint8, (len(items), *shape))
    pictures = np.lib.format.open_memmap(folder / "photos.npy", "w+", np.uint8, (count, *shape))
    places, boxes, patches = np.zeros(count, np.int32), np.zeros((count, 4)), np.zeros((count, 4))
    for at, item in enumerate(items):
        catalogue[at] = square_pixels(sets.pixels(item.row), side_px=SIDE_PX, fit=Fit.PAD, fill=255)
    catalogue.flush()
    for at, (place, photo) in enumerate(photos):
        pictures[at], places[at] = photo.pixels, place
        boxes[at] = np.array(photo.box) / SIDE_PX
        patches[at] = np.array(photo.patch or (0, 0, 0, 0)) / SIDE_PX
    pictures.flush()
    np.save(folder / "photo_item.npy", places)
    np.save(folder / "truth" / "boxes.npy", boxes)
    if patches.any():
        np.save(folder / "truth" / "patches.npy", patches)
    with (folder / "items.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["cluster", "member", "split", "half", "top14"])
        writer.writerows([it.row.product, it.row.member, it.row.split, it.half, it.row.top14] for it in items)
    return boxes, pictures


def contact_sheet(pictures: NDArray[np.uint8], *, columns: int) -> Image.Image:
    """Lay photos side by side."""
    sheet = Image.new("RGB", (columns * SIDE_PX, -(-len(pictures) // columns) * SIDE_PX))
    for at, pixels in enumerate(pictures):
        sheet.paste(Image.fromarray(pixels), (at % columns * SIDE_PX, at // columns * SIDE_PX))
    return sheet


def make_set(sets: RealSets, out: Path, *, photos_per_item: int, seed: int, planted: int = 0) -> dict[str, object]:
    """Compose a set and write its folder; return what counts.json says.

    Args:
        sets: the real photographs.
        out: folder to write.
        photos_per_item: of a clicked item; a never-clicked one gets one photo.
        seed: the same seed gives the same photos.
        planted: if not 0, write only so many photos of never-clicked items, each beside a planted patch.
    """
    items, dropped = find_items(sets, never_clicked=planted)
    wanted = [
        (place, item, number)
        for place, item in enumerate(items)
        for number in range(photos_per_item if item.half == CLICKED else 1)
    ]
    began = time.perf_counter()
    photos = draw_photos(wanted, sets, seed=seed, planted=bool(planted))
    boxes, pictures = write_set(out, sets, items, photos, len(wanted))
    rate = len(wanted) / (time.perf_counter() - began)
    constant, mean = best_constant_box(boxes)
    counts: dict[str, object] = {
        "items": dict(Counter(f"{item.half}, {item.row.split}" for item in items)),
        "photos": dict(Counter(item.half for _, item, _ in wanted)),
        "dropped": dict(dropped),
        "backgrounds": {half: len(backgrounds(sets, half)) for half in (CLICKED, NEVER)},
        "best_constant_box": {
            "box": [round(float(side), 3) for side in constant],
            "mean_iou": round(mean, 4),
            "at_least_half": round(float((iou(boxes, constant[None]) >= 0.5).mean()), 4),
        },
        "seed": seed,
        "photos_per_s": round(rate, 1),
    }
    (out / "counts.json").write_text(json.dumps(counts, indent=1) + "\n")
    sample = np.random.default_rng(0).choice(len(wanted), min(48, len(wanted)), replace=False)
    contact_sheet(pictures[sample], columns=8).save(out / "sheet.png")
    return counts


def main() -> None:
    """Write the set and say what it holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the real photographs (manifest.csv)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--photos-per-item", type=int, default=3, help="of a clicked item; never-clicked ones get 1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--planted", type=int, default=0, help="write this many photos with a planted patch instead")
    options = parser.parse_args()
    counts = make_set(
        RealSets(options.data),
        options.out / PLANTED if options.planted else options.out,
        photos_per_item=options.photos_per_item,
        seed=options.seed,
        planted=options.planted,
    )
    print(json.dumps(counts, indent=1))


if __name__ == "__main__":
    main()
