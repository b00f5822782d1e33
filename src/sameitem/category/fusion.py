"""Two opinions on a photo's category, the model's and the neighbours', made one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sameitem.category.calibration import check_truth, fit_temperature, log_loss, temper
from sameitem.core.errors import InputError, ShapeError

_LEAST = 1e-6  # of a probability whose logarithm is taken
ALPHAS = tuple(round(0.05 * step, 2) for step in range(21))  # tried by default: 0, 0.05 … 1


@dataclass(frozen=True, slots=True)
class Fusion:
    """How the two opinions are weighed; chosen on labelled photos that neither of them was made of."""

    alpha: float  # share of the model, 0..1
    sharpness: float  # lambda of the neighbours' weights
    temperature: float = 1.0  # of the fused probabilities: an average of two opinions is less sure than it could be


def fuse(
    model: NDArray[np.float64],
    knn: NDArray[np.float64],
    alpha: float,
    *,
    voted: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Weigh the model's probabilities and the neighbours' vote: `p = alpha * p_model + (1 - alpha) * p_knn`.

    A category that no reference image has cannot be voted for, so the vote says nothing about it: it keeps the model's
    probability, and only what the model leaves to the others is shared out (ours).

    Args:
        model: (categories,) or (photos, categories); a row sums to 1, or is all 0 where there is no opinion.
        knn: the same shape; likewise.
        alpha: share of the model, 0..1.
        voted: (categories,) which of them the reference set holds; None means all.

    Returns:
        The same shape. Where one row is all 0 the other counts alone; where both are, the result is.

    Raises:
        ShapeError: arrays of different shapes.
        InputError: an alpha outside 0..1, or a number that is negative or not finite.

    Source: article §01.2.
    """
    if model.ndim not in (1, 2) or model.shape != knn.shape:
        raise ShapeError(f"need two equal shapes, one or two axes, got {model.shape} and {knn.shape}")
    if not 0 <= alpha <= 1:
        raise InputError(f"need an alpha of 0..1, got {alpha}")
    if not all(np.isfinite(part).all() and (part >= 0).all() for part in (model, knn)):
        raise InputError("need probabilities that are finite and not negative")
    silent_model = ~model.any(axis=-1, keepdims=True)
    silent_knn = ~knn.any(axis=-1, keepdims=True)
    share = np.where(silent_model, 0.0, np.where(silent_knn, 1.0, alpha))
    if voted is None:
        fused: NDArray[np.float64] = share * model + (1 - share) * knn
        return fused
    if voted.shape != model.shape[-1:]:
        raise ShapeError(f"need one flag per category, got {voted.shape} for {model.shape}")
    left = 1 - np.where(voted, 0.0, model).sum(axis=-1, keepdims=True)
    fused = np.where(voted, share * model + (1 - share) * np.maximum(left, 0) * knn, model)
    return fused


def choose_alpha(
    model: NDArray[np.float64],
    knn: NDArray[np.float64],
    truth: NDArray[np.int64],
    grid: Sequence[float] = ALPHAS,
    *,
    voted: NDArray[np.bool_] | None = None,
) -> float:
    """Return the alpha of the grid whose fusion has the smallest log loss; ties go to the larger share of the model.

    The loss, not the accuracy: it moves with every photo, so that a few hundred are enough to choose by.

    Args:
        model: (photos, categories)
        knn: the same shape.
        truth: (photos,) a column each.
        grid: alphas to try.
        voted: as `fuse` takes it.

    Raises:
        ShapeError: arrays that do not fit each other.
        InputError: no photos, an empty grid, or an alpha outside 0..1.
    """
    return choose_fusion(model, {0.0: knn}, truth, grid, voted=voted).alpha


def choose_fusion(
    model: NDArray[np.float64],
    votes: Mapping[float, NDArray[np.float64]],
    truth: NDArray[np.int64],
    grid: Sequence[float] = ALPHAS,
    *,
    voted: NDArray[np.bool_] | None = None,
) -> Fusion:
    """Return the alpha, sharpness and temperature whose fusion has the smallest log loss; see `choose_alpha`.

    Args:
        model: (photos, categories)
        votes: the neighbours' votes, the same shape each, by the sharpness that weighed them.
        truth: (photos,) a column each.
        grid: alphas to try.
        voted: as `fuse` takes it.
    """
    check_truth(model, truth)
    if not grid or not votes:
        raise InputError("need at least one alpha and one sharpness to choose from")
    tried = []
    for sharpness, knn in votes.items():
        for alpha in grid:
            fused = fuse(model, knn, alpha, voted=voted)
            temperature = fit_temperature(np.log(np.maximum(fused, _LEAST)), truth)
            tried.append((log_loss(temper(fused, temperature), truth), -alpha, sharpness, temperature))
    _, negative, sharpness, temperature = min(tried)
    return Fusion(-negative, sharpness, temperature)
