"""A photo's category from two opinions: the model's probabilities and the vote of the reference set (article §01.2)."""

from collections.abc import Collection, Mapping, Sequence
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
    unlabelled: float,
    alpha: float,
    temperature: float,
) -> Prediction:
    """Make one opinion of the model's and the vote's.

    A category that the model does not know keeps its share of the vote, and one that cannot be voted for the model's
    probability; only the rest is weighed. What cannot be voted for may not be in the shop at all, so the model is
    believed there only as far as there are products whose category nobody told.

    Args:
        model: top category ids and their probabilities, which sum to 1; empty where the model has no categories.
        vote: the same of the reference set; empty where there is none.
        votable: top category ids that the reference set holds.
        unlabelled: share of the shop's products whose category nobody told, 0..1.
        alpha: share of the model, 0..1.
        temperature: of the fused probabilities; below 1, because an average of two opinions is less sure than it could
            be.

    Source: article §01.2, FORMULAS §3.
    """
    voted = dict(vote)
    said = _in_the_shop(dict(model), {*votable, *voted}, unlabelled) if voted else dict(model)
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
        model=max(model, key=lambda opinion: opinion[1], default=("", 0.0))[0],
        knn=max(voted, key=voted.__getitem__, default=""),
    )


def _in_the_shop(said: Mapping[str, float], votable: Collection[str], unlabelled: float) -> Mapping[str, float]:
    """Return what the model says of the categories that the shop can have; empty where that is nothing."""
    likely = {top: share if top in votable else share * unlabelled for top, share in said.items()}
    total = sum(likely.values())
    return {top: share / total for top, share in likely.items()} if total > 0 else {}
