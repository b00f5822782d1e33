"""How well boxes fit: pure NumPy, larger is better."""

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import InputError, ShapeError


def iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the intersection over union of each pair of boxes, 0..1; 1 is the same box.

    Args:
        a: (boxes, 4) left, top, right, bottom; a box without area overlaps nothing.
        b: the same shape; or (1, 4) for one box against many.

    Raises:
        ShapeError: not boxes, or numbers of them that do not fit.
        InputError: a side that is not a finite number.

    Source: Everingham et al., The PASCAL Visual Object Classes Challenge, IJCV 2010, equation 4.
    """
    shapes = (a.shape, b.shape)
    if a.ndim != 2 or b.ndim != 2 or {a.shape[1], b.shape[1]} != {4} or len({len(a), len(b)} - {1}) > 1:
        raise ShapeError(f"need (boxes, 4) twice, or one of them (1, 4), got {shapes[0]} and {shapes[1]}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError("need boxes of finite numbers")
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    both = np.clip(high - low, 0, None).prod(axis=1)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1) for boxes in (a, b)]
    union = areas[0] + areas[1] - both
    return np.asarray(np.divide(both, union, out=np.zeros(np.shape(union)), where=union > 0))
