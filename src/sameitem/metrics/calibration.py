"""Whether probabilities mean what they say."""

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import InputError, ShapeError


def expected_calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_], *, bins: int = 15) -> float:
    """Return the mean gap between how sure the answers were and how often they were right; 0 is perfect, 1 the worst.

    Args:
        confidence: (answers,) 0..1.
        right: (answers,)
        bins: of equal width.

    Raises:
        ShapeError: arrays of different lengths.
        InputError: no answers, or a confidence outside 0..1.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3.
    """
    if confidence.ndim != 1 or confidence.shape != right.shape:
        raise ShapeError(f"need one confidence per answer, got {confidence.shape} and {right.shape}")
    if len(confidence) == 0 or not ((confidence >= 0) & (confidence <= 1)).all():
        raise InputError("need at least one answer, and confidences of 0 to 1")
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    sure = np.bincount(place, weights=confidence, minlength=bins)
    true = np.bincount(place, weights=right.astype(np.float64), minlength=bins)
    return float(np.abs(sure - true).sum() / len(confidence))
