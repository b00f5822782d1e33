"""The final order: how alike and how good, with a floor under how alike (article §03.2)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import InputError, ShapeError
from sameitem.core.records import ImageId

TOP = 60  # hits that are reranked


def final_order(
    visual: NDArray[np.float64],
    quality: NDArray[np.float64],
    image_ids: Sequence[ImageId],
    *,
    beta: float,
    similarity_floor: float,
    top: int = TOP,
) -> NDArray[np.intp]:
    """Return the rows of the hits, best first, by `beta * visual + (1 - beta) * quality`; ties by image id.

    Of the first `top` hits, none that is less alike than `similarity_floor` times the most alike stands above one that
    reaches it. The others follow in the order in which they came.

    Args:
        visual: (hits,) 0..1 in the order of the fine ranking, which is best first.
        quality: (first `top` hits,) 0..1, the ranker's scores.
        image_ids: of the hits.
        beta: 0..1, share of the visual score.
        similarity_floor: 0..1; 0 lets quality decide alone, 1 holds the most alike above all others.
        top: at least 1.

    Raises:
        ShapeError: arrays that do not fit each other.
        InputError: a score or a share outside 0..1, or an image twice.

    Source: FORMULAS §5.
    """
    if top < 1:
        raise InputError(f"need a top of at least 1, got {top}", field="top")
    reranked = min(top, len(visual))
    if visual.ndim != 1 or quality.shape != (reranked,) or len(image_ids) != len(visual):
        raise ShapeError(
            f"need one visual score per hit and one quality for each of the first {top}, "
            f"got {visual.shape}, {quality.shape} and {len(image_ids)} image ids"
        )
    for name, share in (("beta", beta), ("similarity_floor", similarity_floor)):
        if not 0 <= share <= 1:
            raise InputError(f"need a {name} of 0 to 1, got {share}", field=name)
    if not all(((scores >= 0) & (scores <= 1)).all() for scores in (visual, quality)):
        raise InputError("need visual scores and qualities of 0 to 1")
    ids = np.asarray(image_ids, np.int64)
    if len(np.unique(ids)) != len(ids):
        raise InputError("need every image once")
    alike = visual[:reranked]
    mixed = beta * alike + (1 - beta) * quality
    below = alike < similarity_floor * alike.max(initial=0.0)
    first = np.lexsort((ids[:reranked], -mixed, below))
    return np.concatenate((first, np.arange(reranked, len(visual))))
