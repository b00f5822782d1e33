"""The light category model: a small head on the averaged maps of the frozen trunk, calibrated.

Categories without a photo to train on are taught by the trunk's own ImageNet classifier: a table of ours
(`imagenet_top14.toml`) says which of its classes speak for which top category.
"""

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sameitem.category.calibration import fit_temperature, softmax
from sameitem.core.errors import InputError, ShapeError
from sameitem.learning.trunk import CHANNELS, SHORT_CHANNELS, Trunk

DECAY = 1e-3  # pull of the linear layer's weights towards 0
BORROWED = 0.02  # share of each trained category's photos that the categories without photos may take, together
HELD_OUT = 0.1  # share of the groups that calibrate and choose

_TRUST = 0.5  # in the teacher's log odds: it looks at the same maps as the linear layer, so it is no second witness
_STEPS = 60  # of L-BFGS
_FAR = 1e-30  # of a class whose score lies far below the best: keeps the logarithm finite
_WIDEN_RATE = 2e-3


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Averaged maps of labelled photos; row i of each array describes one.

    Raises:
        ShapeError: arrays that do not fit each other.
    """

    pooled: NDArray[np.float32]  # (photos, 1280)
    labels: NDArray[np.int64]  # (photos,) place of the category in the model's names
    held_out: NDArray[np.bool_]  # (photos,) not fitted on while the temperature is found

    def __post_init__(self) -> None:
        rows = self.pooled.shape[:1]
        if self.pooled.ndim != 2 or self.labels.shape != rows or self.held_out.shape != rows:
            raise ShapeError(
                f"need one label and flag per photo, got {self.pooled.shape}, {self.labels.shape}, "
                f"{self.held_out.shape}"
            )


class Teacher(nn.Module):
    """What the ImageNet classifier says for each category: the log-sum-exp of the scores of its classes."""

    members: Tensor

    def __init__(self, trunk: Trunk, classes: Sequence[Sequence[int]]) -> None:
        """Keep the rows of the classifier that are needed.

        Args:
            trunk: with its ImageNet classifier.
            classes: of each category, at least one.
        """
        super().__init__()
        used = [index for group in classes for index in group]
        members = torch.zeros(len(used), len(classes))
        members[torch.arange(len(used)), torch.arange(len(classes)).repeat_interleave(_lengths(classes))] = 1
        self.register_buffer("members", members)  # (classes used, categories)
        self.scores: nn.Module = nn.Linear(CHANNELS, len(used))
        with torch.no_grad():
            self.scores.weight.copy_(trunk._fc.weight[used])
            self.scores.bias.copy_(trunk._fc.bias[used])

    def compact(self, pooled: Tensor, *, rank: int) -> None:
        """Replace the classifier's rows by two smaller matrices that give nearly the same scores of such photos.

        Args:
            pooled: (photos, 1280) averaged maps.
            rank: numbers between the two matrices.
        """
        assert isinstance(self.scores, nn.Linear)
        weight, bias = self.scores.weight.detach(), self.scores.bias.detach()
        scores = pooled @ weight.T + bias
        middle = scores.mean(0)
        _, _, axes = torch.linalg.svd(scores - middle, full_matrices=False)
        kept = axes[:rank]  # (rank, classes used)
        narrow, wide = nn.Linear(CHANNELS, rank, bias=False), nn.Linear(rank, len(bias))
        with torch.no_grad():
            narrow.weight[:] = kept @ weight
            wide.weight[:] = kept.T
            wide.bias[:] = middle - (middle - bias) @ kept.T @ kept
        self.scores = nn.Sequential(narrow, wide)

    def forward(self, pooled: Tensor) -> Tensor:
        """Turn (n, 1280) averaged maps into (n, categories) evidence, up to a number of each photo's own."""
        scores = self.scores(pooled)
        relative = torch.exp(scores - scores.amax(1, keepdim=True)) @ self.members
        return torch.log(torch.clamp(relative, min=_FAR))


class CategoryHead(nn.Module):
    """(n, 1280) averaged maps to (n, categories) calibrated logits.

    Trained categories: log p_d, by a linear layer on the square roots of the averages. A category c without photos
    comes into play where the teacher speaks for it more than for the trained category d that the linear layer sees, by
    more than it does on d's own photos: `-log sum_d p_d exp(threshold_dc - gap_dc)`. With the gap as a log likelihood
    ratio this is Bayes' rule for a photo that is either of c or one of the mixture of the trained ones.
    """

    order: Tensor
    thresholds: Tensor

    def __init__(self, linear: nn.Linear, *, trained: Sequence[int], categories: int) -> None:
        """Start without a teacher.

        Args:
            linear: (1280) -> trained categories.
            trained: places of the linear layer's outputs among the categories; the others are taught by a teacher.
            categories: how many there are.
        """
        super().__init__()
        borrowed = [place for place in range(categories) if place not in trained]
        self.linear = linear
        self.teacher: Teacher | None = None
        self.temperature = 1.0
        order = np.argsort([*trained, *borrowed])
        self.register_buffer("order", torch.from_numpy(order))  # from (trained, borrowed) to the categories
        self.register_buffer("thresholds", torch.zeros(len(trained), len(borrowed)))

    def forward(self, pooled: Tensor) -> Tensor:
        """Score averaged maps; the softmax of the logits are the probabilities."""
        own = functional.log_softmax(self.linear(roots(pooled)), 1)
        if self.teacher is None:
            return own / self.temperature
        gaps = self.gaps(pooled) - self.thresholds
        borrowed = -torch.logsumexp(own[:, :, None] - gaps, 1)
        logits: Tensor = torch.cat([own, borrowed], 1)[:, self.order] / self.temperature
        return logits

    def gaps(self, pooled: Tensor) -> Tensor:
        """Return (n, trained, borrowed): how much more the teacher speaks for the borrowed category, tempered."""
        if self.teacher is None:
            raise InputError("this head has no teacher; every category was trained")
        evidence: Tensor = self.teacher(pooled)
        trained = self.thresholds.shape[0]
        return _TRUST * (evidence[:, None, trained:] - evidence[:, :trained, None])


class ShortCategory(nn.Module):
    """The head on the short trunk of the detection branch: a wider layer stands in for the stage that is left out."""

    def __init__(self, widen: nn.Conv2d, head: CategoryHead) -> None:
        super().__init__()
        self.widen, self.head = widen, head

    def forward(self, short: Tensor) -> Tensor:
        """Turn the short trunk's maps (n, 192, s, s) into (n, categories) logits."""
        logits: Tensor = self.head(widened(self.widen, short))
        return logits


def widened(widen: nn.Conv2d, short: Tensor) -> Tensor:
    """Return about what the whole trunk's last maps average to, (n, 1280), of the short trunk's (n, 192, s, s)."""
    return functional.relu6(widen(short)).mean((2, 3))


def learn_to_widen(short: Tensor, pooled: Tensor, *, steps: int, generator: np.random.Generator) -> nn.Conv2d:
    """Return a 1 x 1 layer (192 -> 1280) after which the short trunk gives about what the whole trunk gives.

    Args:
        short: (photos, 192, s, s) maps of the short trunk, float16.
        pooled: (photos, 1280) averages of the last maps.
        steps: of gradient descent, 128 photos each.
        generator: draws the photos.
    """
    widen = nn.Conv2d(SHORT_CHANNELS, CHANNELS, 1)
    optimiser = torch.optim.Adam(widen.parameters(), _WIDEN_RATE)
    for step in range(steps):
        rows = torch.from_numpy(generator.integers(len(short), size=128))
        maps = short[rows].float()
        optimiser.param_groups[0]["lr"] = _WIDEN_RATE * (1 - step / steps) + 1e-5
        found = widened(widen, maps.flip(3) if step % 2 else maps)
        error = (torch.sqrt(torch.clamp(found, min=1e-6)) - roots(pooled[rows])).square().mean()
        optimiser.zero_grad()
        error.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return widen.eval()


def category_arrays(category: ShortCategory) -> dict[str, NDArray[np.float32]]:
    """Return everything that `category_from` needs to make the head again, by name."""
    head = category.head
    kept = {name: np.asarray(value.detach(), np.float32) for name, value in category.state_dict().items()}
    trained = head.order.argsort()[: head.thresholds.shape[0]].numpy()  # places of the linear layer's outputs
    return kept | {
        "temperature": np.array([head.temperature], np.float32),
        "trained": np.asarray(trained, np.float32),
    }


def category_from(arrays: Mapping[str, NDArray[np.floating]]) -> ShortCategory:
    """Make a head of the arrays of `category_arrays`.

    Raises:
        KeyError, RuntimeError, ValueError: these are not such arrays.
    """
    state = {name: torch.from_numpy(np.asarray(value, np.float32)) for name, value in arrays.items()}
    trained = [int(place) for place in state.pop("trained")]
    temperature = float(state.pop("temperature")[0])
    linear = nn.Linear(CHANNELS, len(trained))
    head = CategoryHead(linear, trained=trained, categories=len(state["head.order"]))
    head.temperature = temperature
    if "head.teacher.members" in state:
        head.teacher = Teacher.__new__(Teacher)
        nn.Module.__init__(head.teacher)
        head.teacher.register_buffer("members", state["head.teacher.members"])
        rank = state["head.teacher.scores.0.weight"].shape[0]
        head.teacher.scores = nn.Sequential(
            nn.Linear(CHANNELS, rank, bias=False), nn.Linear(rank, len(state["head.teacher.members"]))
        )
    category = ShortCategory(nn.Conv2d(SHORT_CHANNELS, CHANNELS, 1), head)
    state["head.order"] = state["head.order"].long()
    category.load_state_dict(state)
    return category.eval()


@dataclass(frozen=True, slots=True, eq=False)
class CategoryModel:
    """A trained head, and what it said about held-out photos before it was fitted on them too."""

    names: tuple[str, ...]
    head: CategoryHead
    trained: NDArray[np.bool_]  # (categories,) which had photos
    held_out: NDArray[np.int64]  # rows of the examples
    held_out_probabilities: NDArray[np.float64]  # (held out, categories), calibrated: to choose alpha by

    def probabilities(self, pooled: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return (photos, categories) calibrated probabilities of averaged maps (photos, 1280)."""
        return softmax(_logits(self.head, pooled))


def held_out(group: str) -> bool:
    """Tell whether a group of pictures that belong together is kept from fitting, to choose and to calibrate by."""
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:8]) < HELD_OUT * 2**64


def imagenet_table() -> dict[str, tuple[int, ...]]:
    """Return the ImageNet classes that speak for each top category."""
    text = files("sameitem.learning").joinpath("imagenet_top14.toml").read_text(encoding="utf-8")
    return {top: tuple(int(index) for index in classes) for top, classes in tomllib.loads(text).items()}


def roots(pooled: Tensor) -> Tensor:
    """Return the square roots of averaged maps, which are not negative: a few strong cells outshine less."""
    return torch.sqrt(torch.clamp(pooled, min=0))


def fit_category(
    examples: Examples, names: Sequence[str], *, trunk: Trunk | None = None, decay: float = DECAY
) -> CategoryModel:
    """Fit a head: temperature by the held-out photos, then the linear layer on all of them.

    Args:
        examples: several rows may show one photo (mirrored, cropped); of held-out photos give the plain one.
        names: of the categories, in the order of the logits; one without an example is taught by the trunk.
        trunk: with its ImageNet classifier; needed where a category has no example.
        decay: pull of the weights towards 0.

    Raises:
        InputError: a label that does not exist, nothing to fit on or to hold out, or a category without examples that
            no teacher knows.
    """
    if len(examples.labels) == 0 or not 0 <= examples.labels.min() <= examples.labels.max() < len(names):
        raise InputError(
            f"need at least one example, and labels of 0 to {len(names) - 1}, got {len(examples.labels)} examples with "
            f"labels {sorted(set(examples.labels.tolist()))[:20]}"
        )
    fitted = ~examples.held_out
    trained = np.unique(examples.labels[fitted])
    kept = examples.held_out & np.isin(examples.labels, trained)
    if len(trained) < 2 or not kept.any():
        raise InputError(
            f"need examples of at least 2 categories to fit on and one held out, got {len(trained)} and "
            f"{int(kept.sum())}; label more photos"
        )
    trial = _fit(examples, fitted, trained, names, trunk=trunk, decay=decay)
    logits = _logits(trial, examples.pooled[kept])
    temperature = fit_temperature(logits, examples.labels[kept])
    head = _fit(examples, np.isin(examples.labels, trained), trained, names, trunk=trunk, decay=decay)
    head.temperature = temperature
    return CategoryModel(
        names=tuple(names),
        head=head,
        trained=np.isin(np.arange(len(names)), trained),
        held_out=np.flatnonzero(kept),
        held_out_probabilities=softmax(logits, temperature),
    )


def _fit(
    examples: Examples,
    rows: NDArray[np.bool_],
    trained: NDArray[np.int64],
    names: Sequence[str],
    *,
    trunk: Trunk | None,
    decay: float,
) -> CategoryHead:
    pooled = torch.from_numpy(examples.pooled[rows])
    labels = torch.from_numpy(np.searchsorted(trained, examples.labels[rows]))
    head = CategoryHead(
        _fit_linear(roots(pooled), labels, len(trained), decay), trained=trained.tolist(), categories=len(names)
    ).eval()
    borrowed = [name for number, name in enumerate(names) if number not in trained]
    if not borrowed:
        return head
    head.teacher = _teacher([*(names[number] for number in trained), *borrowed], borrowed, trunk)
    with torch.inference_mode():
        gaps = head.gaps(pooled)
        share = 1 - BORROWED / len(borrowed)
        for number in range(len(trained)):
            head.thresholds[number] = torch.quantile(gaps[labels == number, number], share, dim=0)
    return head


def _fit_linear(features: Tensor, labels: Tensor, categories: int, decay: float) -> nn.Linear:
    """Fit a softmax regression about the features' mean; rare categories count more, by the root of their rarity."""
    counts = torch.bincount(labels, minlength=categories).float()
    weights = counts[labels].rsqrt()
    weights = weights / weights.sum()
    mean = features.mean(0)
    centred = features - mean
    linear = nn.Linear(features.shape[1], categories)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    optimizer = torch.optim.LBFGS(linear.parameters(), max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        errors = functional.cross_entropy(linear(centred), labels, reduction="none")
        total = (errors * weights).sum() + decay * linear.weight.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        linear.bias.sub_(linear.weight @ mean)
    return linear


def _teacher(names: Sequence[str], borrowed: Sequence[str], trunk: Trunk | None) -> Teacher:
    """Make the teacher; for a trained category that the table leaves out, the classes speak that it leaves out."""
    table = imagenet_table()
    unknown = [name for name in borrowed if name not in table]
    if trunk is None or unknown:
        missing = ", ".join(unknown or borrowed)
        raise InputError(f"no example of {missing}, and no teacher knows it; label photos of it or leave it out")
    return Teacher(trunk, [table.get(name) or _others(table) for name in names])


def _others(table: Mapping[str, Sequence[int]]) -> tuple[int, ...]:
    spoken = {index for classes in table.values() for index in classes}
    return tuple(index for index in range(1000) if index not in spoken)


def _lengths(groups: Sequence[Sequence[int]]) -> Tensor:
    return torch.tensor([len(group) for group in groups])


def _logits(head: CategoryHead, pooled: NDArray[np.float32]) -> NDArray[np.float64]:
    with torch.inference_mode():
        logits: NDArray[np.float64] = head.eval()(torch.from_numpy(pooled)).numpy().astype(np.float64)
    return logits
