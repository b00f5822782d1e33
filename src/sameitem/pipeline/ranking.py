"""The quality-aware order of the first hits (article §03.2): what is known of them, the ranker's scores, the floor."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import SameItemError
from sameitem.engine.members import EntryHit
from sameitem.pipeline.evidence import gather
from sameitem.pipeline.experiment import Experiment, Mark, assigned, interleaved, running
from sameitem.pipeline.gallery import Gallery
from sameitem.pipeline.rankers import LOOKS
from sameitem.pipeline.same_item import Judgement
from sameitem.pipeline.shop import Shop
from sameitem.rerank.features import FEATURES, POSITION, Evidence, features_of
from sameitem.rerank.interleaving import BOTH
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
    experiment: str = ""  # id of the one that the search is part of; "" = none
    teams: str = ""  # of the first places of the order: whose item each is, as in `rerank.interleaving`

    def mark_of(self, rows: Sequence[int]) -> str:
        """Return what the click log keeps of the experiment beside a list of these rows; "" where there is none."""
        if not self.experiment:
            return ""
        team_of = dict(zip(self.order.tolist(), self.teams, strict=False))
        return Mark(self.experiment, "".join(team_of.get(row, BOTH) for row in rows)).as_text()

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
            if abs(effect) > 1e-9 and name != FEATURES[POSITION]  # which is the same for all
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
    searcher: str,
) -> Ranked:
    """Order hits by looks and quality together.

    A ranker that cannot be used costs nobody the answer: looks decide, the answer and the log say so.

    Args:
        shop: whose ranker is asked.
        gallery: that was searched.
        hits: best first by looks.
        judged: of the same hits.
        wanted: False: looks alone decide.
        record: the search goes into the click log, from which rankers learn and experiments are decided.
        user_id: who searches; "" = nobody knows.
        searcher: who or what is always the same for the pages of one search; "" = nobody knows. Experiments leave such
            searches out: all who send one photo would be dealt the same coins.
    """
    first = min(TOP, len(hits))
    of_rankers = running(shop.experiments_root, "ranker") if wanted and record and first else None
    if of_rankers is not None and searcher and assigned(of_rankers, user_id or searcher):
        return _interleaved(shop, gallery, hits, judged, of_rankers, user_id=user_id, searcher=searcher)
    version, ranker = _usable(shop, lambda: shop.active_ranker) if wanted else (LOOKS, None)
    if not first or (ranker is None and not record):
        return Ranked(np.arange(len(hits)), version, np.empty(0), None, None)
    evidence = gather(shop, gallery, hits[:first], judged[:first], user_id=user_id)
    order, quality = _order(shop, hits, judged, evidence, ranker)
    return Ranked(order, version, quality, evidence, ranker)


def _interleaved(
    shop: Shop,
    gallery: Gallery,
    hits: Sequence[EntryHit],
    judged: Sequence[Judgement],
    experiment: Experiment,
    *,
    user_id: str,
    searcher: str,
) -> Ranked:
    """Show what two rankers would, in one list; qualities are those of B, or of A where B is looks alone."""
    first = min(TOP, len(hits))
    evidence = gather(shop, gallery, hits[:first], judged[:first], user_id=user_id)
    sides = [_usable(shop, partial(str, version)) for version in (experiment.a, experiment.b)]
    if [version for version, _ in sides] != [experiment.a, experiment.b]:  # one cannot be used: the list tells nothing
        order, quality = _order(shop, hits, judged, evidence, None)
        return Ranked(order, LOOKS, quality, evidence, None)
    ordered = [_order(shop, hits, judged, evidence, ranker) for _, ranker in sides]
    mixed = interleaved(ordered[0][0][:first].tolist(), ordered[1][0][:first].tolist(), seed=searcher)
    order = np.concatenate([np.array(mixed.items, np.intp), np.arange(first, len(hits))])
    shown = 1 if sides[1][1] is not None else 0
    version = f"{experiment.a} + {experiment.b}"
    return Ranked(order, version, ordered[shown][1], evidence, sides[shown][1], experiment.id, mixed.teams)


def _order(
    shop: Shop,
    hits: Sequence[EntryHit],
    judged: Sequence[Judgement],
    evidence: Evidence,
    ranker: Ranker | None,
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the rows of hits, best first, and the ranker's scores of the first of them."""
    if ranker is None:
        return np.arange(len(hits)), np.empty(0)
    quality, settings = ranker.score(features_of(evidence)), shop.settings.rerank
    order = final_order(
        np.array([min(1.0, max(0.0, why.cosine)) for why in judged]),
        quality,
        [hit.image_id for hit in hits],
        beta=settings.visual_share,
        similarity_floor=settings.similarity_floor,
    )
    return order, quality


def _usable(shop: Shop, version_of: Callable[[], str]) -> tuple[str, Ranker | None]:
    try:
        version = version_of()
        return version, shop.ranker(version)
    except SameItemError as error:
        _log.error("a ranker cannot be used, looks alone decide: %s", error)
        return LOOKS, None
