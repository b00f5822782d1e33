"""Training of the ranker: boosted trees, then a logistic regression over their leaves and the dense features.

He et al. fit the regression on rows that the trees have not seen, since leaves look too good on the trees' own rows.
So do we, without leaving rows unused (ours): the rows are split into parts, the trees of a part are grown on all other
parts, and one regression is fitted on all rows, each with the leaves that it reaches in the trees of its own part. The
ranker is the mean over the parts, which is again a sum of trees and a dense term.

LightGBM and scikit-learn (extra `train`) are loaded by the functions that need them; serving never does.

Source: He et al., Practical Lessons from Predicting Clicks on Ads at Facebook, ADKDD 2014, section 3.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import InputError, ShapeError
from sameitem.metrics.ranking import log_losses
from sameitem.rerank.ranker import Ranker, Trees, standardise

PARTS = 5
LEAST = 2 * PARTS  # rows of each outcome
FEW = 1000  # of the rarer outcome, below which trees are smaller and fewer
_PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C of the regression: larger is freer
_LEAF_SCALES = (0.0, 0.1, 0.3)  # of the leaf columns: their penalty is divided by the square
_STEPS = 2000
_LEAST_SPREAD = 1e-9  # of the trees' sums; below it they split nothing and differ by rounding

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    features: NDArray[np.float64]
    clicked: NDArray[np.bool_]
    groups: NDArray[np.int64]
    weights: NDArray[np.float64]  # mean 1

    def __getitem__(self, rows: NDArray[np.intp]) -> "_Rows":
        return _Rows(self.features[rows], self.clicked[rows], self.groups[rows], self.weights[rows])


def train_ranker(
    features: NDArray[np.float64],
    labels: NDArray[np.bool_],
    names: Sequence[str],
    *,
    seed: int,
    groups: NDArray[np.int64] | None = None,
    weights: NDArray[np.float64] | None = None,
) -> Ranker:
    """Return a ranker of trees and regression; where trees foretell held-out rows no better, of the regression alone.

    Args:
        features: (rows, features), nan is missing.
        labels: (rows,) true where the row was clicked (bought, found relevant).
        names: of the features.
        seed: of the splits and of the trees; the same rows and seed give the same ranker.
        groups: (rows,) rows of one group, such as a session, are never split; without it each row is its own.
        weights: (rows,) 0 or more, such as inverse propensities.

    Raises:
        ShapeError: arrays that do not fit each other.
        InputError: fewer than LEAST rows of an outcome, groups that cannot be split, an infinite number, or the extra
            `train` is not installed.
    """
    rows = _rows(features, labels, names, groups, weights)
    parts = _split(rows, PARTS, seed)
    middle, spread = _scale(rows.features)
    dense = standardise(rows.features, middle, spread)
    grown = _grow_parts(rows, parts, seed)
    margins, blocks = np.empty(len(dense)), np.empty((len(dense), grown[0].roots.size), np.intp)
    start, bases = 0, [_base(rows[_others(parts, number)]) for number in range(PARTS)]
    for part, trees, base in zip(parts, grown, bases, strict=True):
        reached = trees.leaves(rows.features[part])
        margins[part] = trees.weight[reached].sum(axis=1) - base  # else a part of many clicks is told by a low base
        blocks[part] = reached + start
        start += len(trees.feature)
    mean, deviation = float(margins.mean()), float(margins.std())
    freedom = _growth(rows).freedom / (deviation if deviation > _LEAST_SPREAD else 1.0)
    margin = freedom * (margins - mean)[:, None]

    held = _split(rows, 3, seed + 1)
    alone, penalty_alone = min((_held_loss(dense, rows, held, penalty), penalty) for penalty in _PENALTIES)
    both = np.hstack((dense, margin))
    _, penalty = min((_held_loss(both, rows, held, penalty), penalty) for penalty in _PENALTIES)
    designs = {scale: _with_leaves(both, blocks, start, scale) for scale in _LEAF_SCALES}
    best, scale = min((_held_loss(designs[scale], rows, held, penalty), scale) for scale in _LEAF_SCALES)
    _log.info("held-out loss %.5f with trees (leaves %g, C %g), %.5f without", best, scale, penalty, alone)
    if best >= alone:
        weight, bias = _regress(dense, rows, penalty_alone)
        return Ranker(tuple(names), _no_trees(), middle, spread, weight, bias)
    weight, bias = _regress(designs[scale], rows, penalty)
    known = len(names)
    slope = weight[known] * freedom
    of_leaf = scale * weight[known + 1 :] if scale else np.zeros(start)
    trees = _join(grown)
    leaf = trees.left == np.arange(len(trees.left))
    trees = replace(trees, weight=np.where(leaf, (slope * trees.weight + of_leaf) / PARTS, 0.0))
    bias -= slope * (mean + float(np.mean(bases)))
    return Ranker(tuple(names), trees, middle, spread, weight[:known], bias)


def train_linear(
    features: NDArray[np.float64],
    labels: NDArray[np.bool_],
    names: Sequence[str],
    *,
    seed: int,
    groups: NDArray[np.int64] | None = None,
    weights: NDArray[np.float64] | None = None,
) -> Ranker:
    """Return a ranker without trees, to compare with; arguments as for `train_ranker`."""
    rows = _rows(features, labels, names, groups, weights)
    middle, spread = _scale(rows.features)
    dense = standardise(rows.features, middle, spread)
    held = _split(rows, PARTS, seed)
    _, penalty = min((_held_loss(dense, rows, held, penalty), penalty) for penalty in _PENALTIES)
    weight, bias = _regress(dense, rows, penalty)
    return Ranker(tuple(names), _no_trees(), middle, spread, weight, bias)


def train_trees(
    features: NDArray[np.float64],
    labels: NDArray[np.bool_],
    names: Sequence[str],
    *,
    seed: int,
    groups: NDArray[np.int64] | None = None,
    weights: NDArray[np.float64] | None = None,
) -> Ranker:
    """Return a ranker of trees alone, grown on all rows, to compare with; arguments as for `train_ranker`."""
    rows = _rows(features, labels, names, groups, weights)
    count = _best_count(rows, _split(rows, PARTS, seed), seed)
    trees = _parse(_boost(rows, _growth(rows), count, seed), count)
    nothing = np.zeros(len(names))
    return Ranker(tuple(names), trees, nothing, np.ones(len(names)), nothing, 0.0)


def _rows(
    features: NDArray[np.float64],
    labels: NDArray[np.bool_],
    names: Sequence[str],
    groups: NDArray[np.int64] | None,
    weights: NDArray[np.float64] | None,
) -> _Rows:
    if features.ndim != 2 or features.shape[1] != len(names) or labels.shape != features.shape[:1]:
        raise ShapeError(
            f"need (rows, {len(names)} names) features and a label each, got {features.shape} and {labels.shape}"
        )
    groups = np.arange(len(labels)) if groups is None else groups
    weights = np.ones(len(labels)) if weights is None else weights
    if groups.shape != labels.shape or weights.shape != labels.shape:
        raise ShapeError(f"need a group and a weight per row of {labels.shape}, got {groups.shape}, {weights.shape}")
    if np.isinf(features).any():
        raise InputError("need features that are finite or missing (nan), got an infinite one")
    if not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() <= 0:
        raise InputError("need weights that are finite, not negative and not all 0")
    counts = weights > 0
    features, labels, groups, weights = features[counts], labels[counts], groups[counts], weights[counts]
    clicks = int(labels.sum())
    if min(clicks, len(labels) - clicks) < LEAST:
        raise InputError(f"need at least {LEAST} rows with and {LEAST} without a click, got {clicks} of {len(labels)}")
    return _Rows(features.astype(np.float64), labels.astype(np.bool_), groups, weights / weights.mean())


def _split(rows: _Rows, parts: int, seed: int) -> list[NDArray[np.intp]]:
    """Return the rows of each part: groups whole, sizes and clicks about equal, whatever order the rows are in."""
    _, group_of = np.unique(rows.groups, return_inverse=True)
    sizes, clicks = np.bincount(group_of), np.bincount(group_of, weights=rows.clicked)
    shuffled = np.random.default_rng(seed).permutation(len(sizes))
    order = shuffled[np.lexsort((-sizes[shuffled], -clicks[shuffled]))]
    part_of_group = np.empty(len(sizes), np.intp)
    turns = np.arange(len(order))
    part_of_group[order] = np.where(turns // parts % 2, parts - 1 - turns % parts, turns % parts)  # there and back
    part_of = part_of_group[group_of]
    split = [np.flatnonzero(part_of == part) for part in range(parts)]
    for part in split:
        inside = int(rows.clicked[part].sum())
        if not len(part) or inside == rows.clicked.sum() or len(part) - inside == (~rows.clicked).sum():
            raise InputError(f"need groups that can be split into {parts} parts, got {len(sizes)} groups")
    return split


def _scale(features: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    known = ~np.isnan(features)
    count = np.maximum(known.sum(axis=0), 1)
    middle = np.where(known, features, 0.0).sum(axis=0) / count
    spread = np.sqrt((np.where(known, features - middle, 0.0) ** 2).sum(axis=0) / count)
    return middle, np.where(spread > 1e-12 * np.maximum(np.abs(middle), 1e-12), spread, 1.0)


@dataclass(frozen=True, slots=True)
class _Growth:
    """How large trees may get; decided once from all rows, so that parts are grown as the whole is."""

    most: int  # trees
    leaves: int
    rate: float
    shrinkage: float
    freedom: float  # of the trees' own sum in the regression: its penalty is divided by the square


def _growth(rows: _Rows) -> _Growth:
    clicks = int(rows.clicked.sum())
    rarer = min(clicks, len(rows.clicked) - clicks)
    if rarer < FEW:
        return _Growth(most=60, leaves=4, rate=0.05, shrinkage=10.0, freedom=3.0)
    return _Growth(most=150, leaves=int(np.clip(rarer // 150, 6, 31)), rate=0.1, shrinkage=1.0, freedom=30.0)


def _grow_parts(rows: _Rows, parts: list[NDArray[np.intp]], seed: int) -> list[Trees]:
    growth, count = _growth(rows), _best_count(rows, parts, seed)
    return [
        _parse(_boost(rows[_others(parts, number)], growth, count, seed + number), count)
        for number in range(len(parts))
    ]


def _best_count(rows: _Rows, parts: list[NDArray[np.intp]], seed: int) -> int:
    """Return how many trees foretell the parts best that they were not grown on."""
    growth = _growth(rows)
    most = growth.most
    curves = np.zeros(most)
    for number, part in enumerate(parts):
        curve: dict[str, Any] = {}
        _boost(rows[_others(parts, number)], growth, most, seed, held=rows[part], curve=curve)
        reached = np.array(curve["held"]["binary_logloss"])
        curves += len(part) * np.pad(reached, (0, most - len(reached)), mode="edge")
    return int(curves.argmin()) + 1


def _boost(
    rows: _Rows,
    growth: _Growth,
    count: int,
    seed: int,
    *,
    held: _Rows | None = None,
    curve: dict[str, Any] | None = None,
) -> Any:  # lightgbm.Booster
    try:
        import lightgbm
    except ModuleNotFoundError as error:
        raise _not_installed(error) from error
    settings = {
        "objective": "binary",
        "learning_rate": growth.rate,
        "num_leaves": growth.leaves,
        "min_data_in_leaf": 20,
        "lambda_l2": growth.shrinkage,
        "feature_fraction": 0.7,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }
    data = lightgbm.Dataset(rows.features, rows.clicked.astype(np.float64), weight=rows.weights)
    if held is None or curve is None:
        return lightgbm.train(settings, data, count)
    check = data.create_valid(held.features, held.clicked.astype(np.float64), weight=held.weights)
    return lightgbm.train(
        settings, data, count, valid_sets=[check], valid_names=["held"], callbacks=[lightgbm.record_evaluation(curve)]
    )


def _parse(booster: Any, count: int) -> Trees:
    """Turn LightGBM's trees into arrays; trees it left out because nothing was to split are leaves of weight 0."""
    roots: list[int] = []
    nodes: list[list[float]] = []  # feature, threshold, left, right, missing goes left, weight

    def add(node: dict[str, Any]) -> int:
        own = len(nodes)
        if "split_feature" not in node:
            nodes.append([0, 0.0, own, own, 0, node["leaf_value"]])
            return own
        threshold = node["threshold"]
        # Without missing values in training LightGBM takes a missing one for 0.
        missing_left = node["default_left"] if node["missing_type"] == "NaN" else threshold >= 0
        nodes.append([node["split_feature"], threshold, own, own, missing_left, 0.0])
        nodes[own][2] = add(node["left_child"])
        nodes[own][3] = add(node["right_child"])
        return own

    for tree in booster.dump_model()["tree_info"]:
        roots.append(add(tree["tree_structure"]))
    while len(roots) < count:
        roots.append(add({"leaf_value": 0.0}))
    table = np.array(nodes, np.float64)
    feature, left, right = (table[:, column].astype(np.intp) for column in (0, 2, 3))
    return Trees(np.array(roots, np.intp), feature, table[:, 1], left, right, table[:, 4] > 0, table[:, 5])


def _base(rows: _Rows) -> float:
    """Return the log odds of a click, where LightGBM's sums start."""
    share = float((rows.clicked * rows.weights).sum() / rows.weights.sum())
    return float(np.log(share / (1 - share)))


def _with_leaves(dense: NDArray[np.float64], leaves: NDArray[np.intp], nodes: int, scale: float) -> Any:
    """Return the dense columns beside one column per node, `scale` where the row reaches it (a SciPy matrix)."""
    if scale == 0:
        return dense
    from scipy import sparse

    starts = np.arange(len(leaves) + 1) * leaves.shape[1]
    one_hot = sparse.csr_matrix((np.full(leaves.size, scale), leaves.ravel(), starts), (len(leaves), nodes))
    return sparse.hstack((sparse.csr_matrix(dense), one_hot), format="csr")


def _held_loss(design: Any, rows: _Rows, held: list[NDArray[np.intp]], penalty: float) -> float:
    """Return the weighted log loss of each part under a regression on the others."""
    total = 0.0
    for number, part in enumerate(held):
        others = _others(held, number)
        weight, bias = _regress(design[others], rows[others], penalty)
        foretold = np.exp(-np.logaddexp(0.0, -(design[part] @ weight + bias)))
        total += float((log_losses(foretold, rows.clicked[part]) * rows.weights[part]).sum())
    return total / len(rows.clicked)


def _regress(design: Any, rows: _Rows, penalty: float) -> tuple[NDArray[np.float64], float]:
    try:
        from sklearn.linear_model import LogisticRegression
    except ModuleNotFoundError as error:
        raise _not_installed(error) from error
    fitted = LogisticRegression(C=penalty, max_iter=_STEPS).fit(design, rows.clicked, sample_weight=rows.weights)
    return np.asarray(fitted.coef_[0], np.float64), float(fitted.intercept_[0])


def _join(grown: list[Trees]) -> Trees:
    starts = np.cumsum([0, *(len(trees.feature) for trees in grown)])[:-1]
    return Trees(
        np.concatenate([trees.roots + start for trees, start in zip(grown, starts, strict=True)]),
        np.concatenate([trees.feature for trees in grown]),
        np.concatenate([trees.threshold for trees in grown]),
        np.concatenate([trees.left + start for trees, start in zip(grown, starts, strict=True)]),
        np.concatenate([trees.right + start for trees, start in zip(grown, starts, strict=True)]),
        np.concatenate([trees.missing_left for trees in grown]),
        np.concatenate([trees.weight for trees in grown]),
    )


def _no_trees() -> Trees:
    places, numbers = np.empty(0, np.intp), np.empty(0)
    return Trees(places, places, numbers, places, places, np.empty(0, np.bool_), numbers)


def _others(parts: list[NDArray[np.intp]], number: int) -> NDArray[np.intp]:
    return np.sort(np.concatenate([part for other, part in enumerate(parts) if other != number]))


def _not_installed(error: ModuleNotFoundError) -> InputError:
    return InputError(f"training needs {error.name}, which is not installed; run pip install 'sameitem[train]'")
