"""Make a model's probabilities mean what they say: one temperature, fitted on labelled photos it was not trained on."""

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import InputError, ShapeError

TEMPERATURES = (1e-2, 1e2)  # smallest and largest that is tried
_HALVINGS = 60


def softmax(logits: NDArray[np.float64], temperature: float = 1.0) -> NDArray[np.float64]:
    """Turn logits (..., categories) into probabilities that sum to 1 along the last axis.

    Args:
        logits: finite; minus infinity stands for a category that is ruled out.
        temperature: above 0; larger is less sure.

    Raises:
        ShapeError: no categories.
        InputError: a temperature that is not a positive number, or logits of which none is finite.
    """
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ShapeError(f"need logits (..., categories) of at least one category, got {logits.shape}")
    if not 0 < temperature < np.inf:
        raise InputError(f"need a temperature above 0, got {temperature}")
    top = logits.max(axis=-1, keepdims=True)
    if not np.isfinite(top).all():
        raise InputError("need at least one finite logit per row and none that is not a number or plus infinity")
    weights = np.exp((logits.astype(np.float64) - top) / temperature)
    probabilities: NDArray[np.float64] = weights / weights.sum(axis=-1, keepdims=True)
    return probabilities


def temper(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Raise probabilities (..., categories) to the power 1 / temperature and make them sum to 1; a row of 0 stays 0.

    Raises:
        InputError: a temperature that is not a positive number, or a number that is negative or not finite.
    """
    if not 0 < temperature < np.inf:
        raise InputError(f"need a temperature above 0, got {temperature}")
    if not np.isfinite(probabilities).all() or (probabilities < 0).any():
        raise InputError("need probabilities that are finite and not negative")
    top = probabilities.max(axis=-1, keepdims=True)
    weights = (probabilities / np.where(top > 0, top, 1.0)) ** (1 / temperature)
    total = weights.sum(axis=-1, keepdims=True)
    tempered: NDArray[np.float64] = weights / np.where(total > 0, total, 1.0)
    return tempered


def log_loss(probabilities: NDArray[np.float64], truth: NDArray[np.int64], *, least: float = 1e-6) -> float:
    """Return the mean negative log probability of the true category, at least `least` each; 0 is perfect.

    Args:
        probabilities: (photos, categories)
        truth: (photos,) a column each.
        least: keeps one category that nobody voted for from deciding everything.
    """
    check_truth(probabilities, truth)
    return float(-np.log(np.maximum(probabilities[np.arange(len(truth)), truth], least)).mean())


def fit_temperature(logits: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """Find the temperature at which the softmax of the logits has the smallest log loss.

    The loss is convex in the inverse temperature, so its slope is halved in; the ends of TEMPERATURES hold where the
    logits are right, or wrong, without exception.

    Args:
        logits: (photos, categories), finite.
        truth: (photos,) a column each.

    Raises:
        ShapeError: arrays that do not fit each other.
        InputError: no photos, a category that does not exist, or a logit that is not finite.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2.
    """
    check_truth(logits, truth)
    if not np.isfinite(logits).all():
        raise InputError("need finite logits")
    true = logits[np.arange(len(truth)), truth].astype(np.float64)

    def slope(log_temperature: float) -> float:
        """Of the loss along the inverse temperature."""
        expected = (softmax(logits, float(np.exp(log_temperature))) * logits).sum(axis=1)
        return float((expected - true).mean())

    low, high = np.log(TEMPERATURES)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if slope(middle) > 0:  # less sure is better
            low = middle
        else:
            high = middle
    return float(np.exp((low + high) / 2))


def check_truth(scores: NDArray[np.float64], truth: NDArray[np.int64]) -> None:
    """Refuse scores (photos, categories) and true categories (photos,) that do not fit each other.

    Raises:
        ShapeError: arrays that do not fit each other.
        InputError: no photos, or a category that does not exist.
    """
    if scores.ndim != 2 or truth.shape != scores.shape[:1]:
        raise ShapeError(f"need one true category per row of scores, got {truth.shape} and {scores.shape}")
    if len(truth) == 0:
        raise InputError("need at least one labelled photo")
    if not 0 <= truth.min() <= truth.max() < scores.shape[1]:
        raise InputError(
            f"need true categories of 0 to {scores.shape[1] - 1}, got {int(truth.min())} to {int(truth.max())}"
        )
