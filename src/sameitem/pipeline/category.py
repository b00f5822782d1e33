"""A photo's category from two opinions: the model's probabilities and the vote of the reference set (article §01.2)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sameitem.category.calibration import temper
from sameitem.category.fusion import fuse
from sameitem.category.routing import route
from sameitem.category.vote import ranking

FUSED, MODEL, KNN, NONE = "fused", "model", "knn", "none"
Opinion = tuple[str, float]  # a top category id and its share of the probability


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What a photo shows, in the words of the taxonomy; row i of the array is `tops[i]`."""

    source: str  # "fused", "model", "knn" (vote over the reference set) or "none" (nothing could tell)
    tops: tuple[str, ...]  # top category ids
    probabilities: NDArray[np.float64]  # (tops,) sums to 1
    model: str = ""  # what the model alone says, "" where it has no categories
    knn: str = ""  # what the vote alone says, "" where there is no reference set

    def ranked(self) -> list[Opinion]:
        """Return the categories that have any probability, best first."""
        return [(self.tops[row], float(self.probabilities[row])) for row in ranking(self.probabilities)]

    def routed(self, mass: float) -> tuple[str, ...]:
        """Return the fewest categories that hold a share of the probability, best first; none where nothing told."""
        return tuple(self.tops[row] for row in route(self.probabilities, mass)) if self.tops else ()


def predict_category(
    model: Sequence[Opinion],
    vote: Sequence[Opinion],
    *,
    votable: Collection[str],
    alpha: float,
    temperature: float,
) -> Prediction:
    """Make one opinion of the model's and the vote's.

    A category that the model does not know keeps its share of the vote, and one that cannot be voted for the model's
    probability; only the rest is weighed.

    Args:
        model: top category ids and their probabilities, which sum to 1; empty where the model has no categories.
        vote: the same of the reference set; empty where there is none.
        votable: top category ids that the reference set holds.
        alpha: share of the model, 0..1.
        temperature: of the fused probabilities; below 1, because an average of two opinions is less sure than it could
            be.

    Source: article §01.2, FORMULAS §3.
    """
    said, voted = dict(model), dict(vote)
    tops = tuple(dict.fromkeys([*said, *voted]))
    if not tops:
        return Prediction(NONE, (), np.empty(0))
    knn = np.array([voted.get(top, 0.0) for top in tops])
    unknown = np.array([0.0 if top in said else voted[top] for top in tops])
    own = np.array([said.get(top, 0.0) for top in tops])
    probabilities = knn
    if said:
        can_be_voted = np.array([top in votable or top in voted for top in tops])
        probabilities = fuse((1 - unknown.sum()) * own + unknown, knn, alpha, voted=can_be_voted if voted else None)
    return Prediction(
        source=FUSED if said and voted else MODEL if said else KNN,
        tops=tops,
        probabilities=temper(probabilities, temperature) if said and voted else probabilities,
        model=max(said, key=said.__getitem__, default=""),
        knn=max(voted, key=voted.__getitem__, default=""),
    )
