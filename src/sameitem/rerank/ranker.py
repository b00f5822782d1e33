"""The ranker: trees whose leaves carry the regression's weights, and a dense term; NumPy alone scores with it.

`s = sigmoid(bias + sum over trees of the leaf's weight + dense . x)`, FORMULAS §5. `training` makes it; it is kept as
one JSON text:

{"format": 1, "sha256": "…", "ranker": {"names": ["sales", …], "bias": -2.1, "middle": […], "spread": […],
"dense": […], "roots": […], "feature": […], "threshold": […], "left": […], "right": […], "missing_left": […],
"weight": […]}}

The checksum is that of the value of "ranker" as compact JSON with sorted keys, so the same ranker is the same bytes.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from sameitem.core.durable import write_whole
from sameitem.core.errors import InputError, NotFoundError, ShapeError

FORMAT = 1
FAR = 5.0  # spreads from the middle beyond which the dense term goes no further: one odd product must not run away
_MAX_BYTES = 1 << 26


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """Decision trees as arrays over the nodes of all of them.

    A row goes left where its feature is at most the threshold, and where it is missing as `missing_left` says. A leaf
    is its own left and right. Children stand behind their parent, so every walk ends.
    """

    roots: NDArray[np.intp]  # (trees,) a node each
    feature: NDArray[np.intp]  # (nodes,) column; 0 at leaves
    threshold: NDArray[np.float64]  # (nodes,) 0 at leaves
    left: NDArray[np.intp]  # (nodes,)
    right: NDArray[np.intp]  # (nodes,)
    missing_left: NDArray[np.bool_]  # (nodes,)
    weight: NDArray[np.float64]  # (nodes,) 0 where it is no leaf

    def __post_init__(self) -> None:
        nodes = len(self.feature)
        columns = (self.feature, self.threshold, self.left, self.right, self.missing_left, self.weight)
        if self.roots.ndim != 1 or any(column.shape != (nodes,) for column in columns):
            raise ShapeError(f"need one entry per node in every column, got {[column.shape for column in columns]}")
        own = np.arange(nodes)
        leaf = (self.left == own) & (self.right == own)
        inner = (self.left > own) & (self.right > own) & (self.left < nodes) & (self.right < nodes)
        if not (leaf | inner).all() or not ((self.roots >= 0) & (self.roots < nodes)).all():
            raise InputError("need trees whose children stand behind their parents, and roots that are nodes")
        if (self.feature < 0).any() or not (np.isfinite(self.threshold) & np.isfinite(self.weight)).all():
            raise InputError("need features of 0 or more, finite thresholds and finite weights")

    def leaves(self, features: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the leaf (rows, trees) that each row reaches in each tree, as a node's number."""
        columns = features.shape[1]
        missing = np.isnan(features)
        # twice: as seen by nodes where a missing value goes right, and by those where it goes left
        both = np.hstack([np.where(missing, np.inf, features), np.where(missing, -np.inf, features)]).ravel()
        column = self.feature + columns * self.missing_left
        children = np.stack([self.right, self.left], axis=1).ravel()
        row_start = (2 * columns * np.arange(len(features)))[:, None]
        reached = np.repeat(self.roots[None], len(features), axis=0)
        while True:  # one step in all trees of all rows
            goes_left = both.take(row_start + column.take(reached)) <= self.threshold.take(reached)
            following: NDArray[np.intp] = children.take(2 * reached + goes_left)
            if np.array_equal(following, reached):
                return following
            reached = following


@dataclass(frozen=True, slots=True, eq=False)
class Ranker:
    """Scores candidates by the quality of their product."""

    names: tuple[str, ...]  # of the features, in the order of the columns
    trees: Trees
    middle: NDArray[np.float64]  # (features,) subtracted first
    spread: NDArray[np.float64]  # (features,) above 0, divided by then
    dense: NDArray[np.float64]  # (features,) weights of what results
    bias: float

    def __post_init__(self) -> None:
        columns = (self.middle, self.spread, self.dense)
        if any(column.shape != (len(self.names),) for column in columns):
            raise ShapeError(
                f"need {len(self.names)} numbers, one per feature, got {[column.shape for column in columns]}"
            )
        if len(set(self.names)) != len(self.names) or not all(self.names):
            raise InputError(f"need different names of features, got {list(self.names)}", field="names")
        if not all(np.isfinite(column).all() for column in (*columns, self.bias)) or not (self.spread > 0).all():
            raise InputError("need finite numbers, and spreads above 0")
        if self.trees.feature.max(initial=-1) >= len(self.names) and len(self.trees.feature):
            raise InputError(f"need trees over {len(self.names)} features, got one over more")

    def score(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the score of each row, 0..1, larger is better; no row's score depends on the others.

        Args and errors as of `log_odds`.
        """
        return np.asarray(np.exp(-np.logaddexp(0.0, -self.log_odds(features))))

    def log_odds(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return log(score / (1 - score)) of each row.

        Args:
            features: (rows, features) in the order of `names`; nan is missing.

        Raises:
            ShapeError: not one column per name.
            InputError: a value that is infinite.
        """
        if features.ndim != 2 or features.shape[1] != len(self.names):
            raise ShapeError(f"need (rows, {len(self.names)}) features, got {features.shape}")
        if np.isinf(features).any():
            raise InputError("need features that are finite or missing (nan), got an infinite one")
        real = features.astype(np.float64, copy=False)
        raised = (standardise(real, self.middle, self.spread) * self.dense).sum(axis=1)
        raised += self.trees.weight[self.trees.leaves(real)].sum(axis=1)
        return np.asarray(raised + self.bias)


def effects(ranker: Ranker, features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how much each feature changes each row's log odds (rows, features) against its usual value.

    The usual value is the middle of what the ranker was trained on. Where features act together, the effects need not
    add up to the whole.
    """
    usual = np.repeat(features[:, None, :], features.shape[1], axis=1)
    own = np.arange(features.shape[1])
    usual[:, own, own] = ranker.middle
    without = ranker.log_odds(usual.reshape(-1, features.shape[1])).reshape(features.shape)
    return np.asarray(ranker.log_odds(features)[:, None] - without)


def standardise(
    features: NDArray[np.float64], middle: NDArray[np.float64], spread: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return features (rows, features) in spreads from the middle, at most FAR; what is missing lies in the middle."""
    return np.asarray(np.nan_to_num(np.clip((features - middle) / spread, -FAR, FAR), nan=0.0))


def write_ranker(file: Path, ranker: Ranker) -> None:
    """Write the ranker whole, in place of what was there."""
    trees = ranker.trees
    content = _Content(
        names=list(ranker.names),
        bias=ranker.bias,
        middle=ranker.middle.tolist(),
        spread=ranker.spread.tolist(),
        dense=ranker.dense.tolist(),
        roots=trees.roots.tolist(),
        feature=trees.feature.tolist(),
        threshold=trees.threshold.tolist(),
        left=trees.left.tolist(),
        right=trees.right.tolist(),
        missing_left=trees.missing_left.tolist(),
        weight=trees.weight.tolist(),
    ).model_dump()
    write_whole(file, _compact({"format": FORMAT, "sha256": _checksum(content), "ranker": content}) + b"\n")


def read_ranker(file: Path) -> Ranker:
    """Read a ranker and check it.

    Raises:
        NotFoundError: no such file.
        InputError: the file is no ranker, is of another format or damaged.
    """
    if not file.is_file():
        raise NotFoundError(f"no ranker at {file}; train one first")
    if file.stat().st_size > _MAX_BYTES:
        raise InputError(f"{file} has more than {_MAX_BYTES} bytes; that is no ranker")
    try:
        said = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not JSON ({error}); copy or train the ranker again") from error
    if not isinstance(said, dict) or said.get("format") != FORMAT or not isinstance(said.get("ranker"), dict):
        raise InputError(f'{file} is no ranker with "format": {FORMAT}, the one this version reads; train it again')
    found = _checksum(said["ranker"])
    if found != said.get("sha256"):
        raise InputError(f"{file} has the checksum {found[:12]}… and says another; copy or train the ranker again")
    try:
        content = _Content.model_validate(said["ranker"])
        return _ranker(content)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise InputError(f"{file} does not fit: {where}: {problem['msg']}", field=where) from error
    except InputError as error:
        raise InputError(f"{file} does not fit: {error}", field=error.field) from error


_Numbers = list[FiniteFloat]
_Places = list[Annotated[int, Field(ge=0, lt=1 << 31)]]


class _Content(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    names: list[str]
    bias: FiniteFloat
    middle: _Numbers
    spread: _Numbers
    dense: _Numbers
    roots: _Places
    feature: _Places
    threshold: _Numbers
    left: _Places
    right: _Places
    missing_left: list[bool]
    weight: _Numbers


def _ranker(content: _Content) -> Ranker:
    trees = Trees(
        roots=np.array(content.roots, np.intp),
        feature=np.array(content.feature, np.intp),
        threshold=np.array(content.threshold, np.float64),
        left=np.array(content.left, np.intp),
        right=np.array(content.right, np.intp),
        missing_left=np.array(content.missing_left, np.bool_),
        weight=np.array(content.weight, np.float64),
    )
    middle, spread, dense = (
        np.array(numbers, np.float64) for numbers in (content.middle, content.spread, content.dense)
    )
    return Ranker(tuple(content.names), trees, middle, spread, dense, content.bias)


def _checksum(content: object) -> str:
    return hashlib.sha256(_compact(content)).hexdigest()


def _compact(content: object) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
