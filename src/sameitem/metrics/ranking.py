"""How well scores foretell clicks and order what is shown: pure NumPy.

A row is one thing that was shown: its probability (or score), and whether it was clicked. Weights, intervals and which
rows belong to one query are left to the caller (`intervals`).
"""

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import InputError, ShapeError

_LEAST = 1e-12  # of a probability whose logarithm is taken


def log_losses(probabilities: NDArray[np.float64], clicked: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return each row's negative log probability of what happened; their mean is the log loss, 0 is best.

    Args:
        probabilities: (rows,) of a click, 0..1.
        clicked: (rows,)

    Raises:
        ShapeError: arrays of different lengths.
        InputError: no rows, or a probability outside 0..1.
    """
    _check(probabilities, clicked)
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise InputError("need probabilities of 0 to 1")
    happened = np.where(clicked, probabilities, 1 - probabilities)
    return np.asarray(-np.log(np.maximum(happened, _LEAST)))


def normalised_entropy(probabilities: NDArray[np.float64], clicked: NDArray[np.bool_]) -> float:
    """Return the log loss divided by that of always saying the share of clicks; smaller is better, 1 says nothing.

    Raises:
        ShapeError, InputError: as for `log_losses`.
        InputError: all rows clicked, or none.

    Source: He et al., Practical Lessons from Predicting Clicks on Ads at Facebook, ADKDD 2014, equation 1.
    """
    losses = log_losses(probabilities, clicked)
    _need_both(clicked)
    share = clicked.mean()
    return float(losses.mean() / -(share * np.log(share) + (1 - share) * np.log(1 - share)))


def auc(scores: NDArray[np.float64], clicked: NDArray[np.bool_]) -> float:
    """Return the share of pairs (clicked, not clicked) in which the clicked row has the larger score; a tie is half.

    Args:
        scores: (rows,) larger is better; any finite numbers.
        clicked: (rows,)

    Raises:
        ShapeError: arrays of different lengths.
        InputError: a score that is not finite, or all rows clicked, or none.

    Source: Fawcett, An introduction to ROC analysis, Pattern Recognition Letters 2006, section 7 (Mann-Whitney form).
    """
    _check(scores, clicked)
    if not np.isfinite(scores).all():
        raise InputError("need finite scores")
    _need_both(clicked)
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    below = np.cumsum(count) - count
    rank = below + (count - 1) / 2  # of each different score: rows below it, and half of the others that share it
    clicks = int(clicked.sum())
    above = rank[place[clicked]].sum() - clicks * (clicks - 1) / 2
    return float(above / (clicks * (len(clicked) - clicks)))


def calibration_ratio(probabilities: NDArray[np.float64], clicked: NDArray[np.bool_]) -> float:
    """Return how many clicks were foretold for each that came; 1 is right, larger is too hopeful.

    Raises:
        ShapeError: arrays of different lengths.
        InputError: no clicks.

    Source: He et al., ADKDD 2014, section 2.
    """
    _check(probabilities, clicked)
    if not clicked.any():
        raise InputError("need at least one click")
    return float(probabilities.sum() / clicked.sum())


def ndcg_at(grades: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Return each query's normalised discounted gain of the first k: 1 is the best order of its hits.

    A query of which nothing is relevant has 0: leave it out of averages.

    Args:
        grades: (queries, depth) relevance of each hit, best hit first, 0 = irrelevant; shorter lists end with zeros.
        k: at least 1; a shorter list counts as it is.

    Raises:
        ShapeError: not a matrix.
        InputError: k below 1, or a grade that is negative or not finite.

    Source: Burges et al., Learning to Rank using Gradient Descent, ICML 2005, section 6: gain 2^grade - 1.
    """
    if grades.ndim != 2:
        raise ShapeError(f"need (queries, depth) of grades, got {grades.shape}")
    if k < 1:
        raise InputError(f"need k >= 1, got {k}")
    if not np.isfinite(grades).all() or (grades < 0).any():
        raise InputError("need grades that are finite and not negative")
    gains = np.exp2(grades) - 1
    ideal = -np.sort(-gains, axis=1)
    discount = 1 / np.log2(np.arange(2, min(k, grades.shape[1]) + 2))
    best = (ideal[:, :k] * discount).sum(axis=1)
    return np.asarray(np.divide((gains[:, :k] * discount).sum(axis=1), best, out=np.zeros(len(best)), where=best > 0))


def _check(scores: NDArray[np.float64], clicked: NDArray[np.bool_]) -> None:
    if scores.ndim != 1 or scores.shape != clicked.shape or clicked.dtype != np.bool_:
        raise ShapeError(
            f"need one score and one truth value per row, got {scores.shape} and {clicked.shape} {clicked.dtype}"
        )
    if len(scores) == 0:
        raise InputError("need at least one row")


def _need_both(clicked: NDArray[np.bool_]) -> None:
    if clicked.all() or not clicked.any():
        raise InputError(f"need rows with and without a click, got {int(clicked.sum())} clicks in {len(clicked)} rows")
