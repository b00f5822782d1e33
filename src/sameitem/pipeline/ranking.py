"""The quality-aware order of the first hits (article §03.2): what is known of them, the ranker's scores, the floor."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import SameItemError
from sameitem.engine.members import EntryHit
from sameitem.pipeline.evidence import gather
from sameitem.pipeline.gallery import Gallery
from sameitem.pipeline.rankers import LOOKS
from sameitem.pipeline.same_item import Judgement
from sameitem.pipeline.shop import Shop
from sameitem.rerank.features import FEATURES, Evidence, features_of
from sameitem.rerank.order import TOP, final_order
from sameitem.rerank.ranker import Ranker, effects

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Effect:
    """What one feature does to a ranker's score."""

    feature: str
    value: float | None  # None = nobody said
    effect: float  # change of the log odds against the feature's usual value; above 0 it raises


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """In which order hits are shown, and why."""

    order: NDArray[np.intp]  # rows of the hits as they came
    version: str  # of the ranker, LOOKS where looks alone decided
    quality: NDArray[np.float64]  # of the first hits as they came, 0..1; empty without a ranker
    evidence: Evidence | None  # of the first hits as they came; None: nobody needed it
    ranker: Ranker | None

    def quality_of(self, row: int) -> float | None:
        """Return the ranker's score of a hit, 0..1; None where it has none."""
        return float(self.quality[row]) if row < len(self.quality) else None

    def effects_of(self, row: int) -> tuple[Effect, ...]:
        """Return what each feature does to a hit's score, the largest first; those that do nothing are left out."""
        if self.ranker is None or self.evidence is None or row >= len(self.quality):
            return ()
        features = features_of(self.evidence.take([row]))
        found = zip(FEATURES, features[0], effects(self.ranker, features)[0], strict=True)
        said = [
            Effect(name, None if np.isnan(value) else float(value), float(effect))
            for name, value, effect in found
            if abs(effect) > 1e-9
        ]
        return tuple(sorted(said, key=lambda one: -abs(one.effect)))


def rank(
    shop: Shop,
    gallery: Gallery,
    hits: Sequence[EntryHit],
    judged: Sequence[Judgement],
    *,
    wanted: bool,
    record: bool,
    user_id: str,
) -> Ranked:
    """Order hits by looks and quality together.

    A ranker that cannot be used costs nobody the answer: looks decide, the answer and the log say so.

    Args:
        shop: whose ranker is asked.
        gallery: that was searched.
        hits: best first by looks.
        judged: of the same hits.
        wanted: False: looks alone decide.
        record: the search goes into the click log, from which rankers learn.
        user_id: who searches; "" = nobody knows.
    """
    version, ranker = _ranker(shop) if wanted else (LOOKS, None)
    first = min(TOP, len(hits))
    as_came = np.arange(len(hits))
    if not first or (ranker is None and not record):
        return Ranked(as_came, version, np.empty(0), None, None)
    evidence = gather(shop, gallery, hits[:first], judged[:first], user_id=user_id)
    if ranker is None:
        return Ranked(as_came, version, np.empty(0), evidence, None)
    quality = ranker.score(features_of(evidence))
    order = order_of(shop, hits, judged, quality)
    return Ranked(order, version, quality, evidence, ranker)


def order_of(
    shop: Shop, hits: Sequence[EntryHit], judged: Sequence[Judgement], quality: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Return the rows of hits, best first, by what the settings make of looks and quality."""
    settings = shop.settings.rerank
    return final_order(
        np.array([min(1.0, max(0.0, why.cosine)) for why in judged]),
        quality,
        [hit.image_id for hit in hits],
        beta=settings.visual_share,
        similarity_floor=settings.similarity_floor,
    )


def _ranker(shop: Shop) -> tuple[str, Ranker | None]:
    try:
        version = shop.active_ranker
        return version, shop.ranker(version)
    except SameItemError as error:
        _log.error("the active ranker cannot be used, looks alone decide: %s", error)
        return LOOKS, None
