"""A ranker from the click log: learned from older searches, judged on newer ones, activated when it orders better."""

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module

import numpy as np
from numpy.typing import NDArray

from sameitem.clicks.log import CLICK_TYPES, Session
from sameitem.core.errors import ConflictError, InputError, RefusedError
from sameitem.core.settings import RerankSettings
from sameitem.engine.manifest import read_manifest
from sameitem.engine.versions import current
from sameitem.evaluation.gate import Judgement
from sameitem.evaluation.orders import OrderComparison, compare_orders, judge_order, looked_at, seen_clicks
from sameitem.evaluation.ranking import RankingReport, ShownRows, report
from sameitem.pipeline.generations import Generations
from sameitem.pipeline.rankers import (
    LOOKS,
    RankerManifest,
    activate_ranker,
    add_ranker,
    check_ranker_name,
    new_ranker_version,
    read_ranker_manifest,
)
from sameitem.pipeline.shop import Shop
from sameitem.rerank.features import FEATURES, Evidence, features_of, read_evidence
from sameitem.rerank.order import final_order
from sameitem.rerank.ranker import Ranker

HELD_OUT = 0.25  # newest share of the searches, which judges
LEAST_CLICKED = 200  # searches with a click that learning and judging together take
MOST = 100_000  # newest searches that are read
SEED = 6  # of resamples

Hear = Callable[[str, float], None]  # what is done, percent of it


@dataclass(frozen=True, slots=True, eq=False)
class ShownList:
    """A search as a ranker learns from it: places in the order in which they were shown."""

    at: float  # seconds since 1970
    user: str  # pseudonym; "" = nobody knows
    category: str  # top category of the photo
    evidence: Evidence
    ranks: NDArray[np.float64]  # from 1
    image_ids: NDArray[np.int64]
    clicked: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class RankerTrained:
    """A new ranker, and how it did on the searches that judge."""

    version: str
    metrics: dict[str, float]
    seconds: float


def train_ranker_version(shop: Shop, *, name: str, seed: int, hear: Hear) -> RankerTrained:
    """Learn a ranker from the older searches of the click log and keep it beside the active one.

    Args:
        shop: whose log it is.
        name: of the version; "" = by the time.
        seed: of everything drawn by chance.
        hear: is told how far it is.

    Raises:
        InputError: too few searches with a click, a name that cannot be one, or no training stack.
        ConflictError: the name is taken.
    """
    train_ranker = import_module("sameitem.rerank.training").train_ranker  # by name: serving must not load it
    version = name or new_ranker_version(datetime.now(UTC))
    check_ranker_name(version)
    if (shop.rankers_root / version).exists():
        raise ConflictError(f"ranker {version} exists and rankers never change; choose another --name")
    begun = time.monotonic()
    hear("read", 0.0)
    lists = shown_lists(shop)
    older, newer = split_by_time(lists)
    hear("train", 20.0)
    ranker = train_ranker(*_rows(older), FEATURES, seed=seed, groups=_groups(older))
    hear("judge", 90.0)
    found = measure(ranker, shop.ranker(shop.active_ranker), newer, shop.settings.rerank)
    comparison = compare_lists(newer, None, ranker, shop.settings.rerank)
    metrics: dict[str, float] = {"searches": len(newer), "clicks": found.whole.clicks_logged}
    metrics |= {name: round(interval.mean, 4) for name, interval in found.whole.measures.items()}
    metrics |= {"clicks_by_looks": round(comparison.before, 4), "clicks_ranked": round(comparison.after, 4)}
    live = current(shop.index_root)
    manifest = RankerManifest(
        version=version,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model_version=read_manifest(shop.index_root / live).model_version if live else "",
        searches=len(older),
        clicks=int(sum(one.clicked.sum() for one in older)),
        since=_iso(older[0].at),
        until=_iso(older[-1].at),
        metrics=metrics,
        report=found.as_json(),
    )
    add_ranker(shop.rankers_root, ranker, manifest)
    hear("judge", 100.0)
    return RankerTrained(version, metrics, round(time.monotonic() - begun, 1))


def compare_rankers(shop: Shop, before: str, after: str) -> OrderComparison:
    """Compare two orders on the newest searches, which neither learned from.

    Args:
        shop: whose log it is.
        before: a ranker version, or LOOKS.
        after: another one.

    Raises:
        NotFoundError: there is no such version.
        InputError, ConflictError: one cannot be used, or there are too few searches.
    """
    one, other = shop.ranker(before), shop.ranker(after)
    _, newer = split_by_time(shown_lists(shop))
    learned = [read_ranker_manifest(shop.rankers_root, name).until for name in (before, after) if name != LOOKS]
    known = max((datetime.fromisoformat(until).timestamp() for until in learned), default=0.0)
    fresh = [found for found in newer if found.at > known]
    return compare_lists(fresh, one, other, shop.settings.rerank)


def gate_ranker(shop: Shop, version: str) -> Judgement:
    """Say whether a ranker may follow the active one.

    Raises:
        NotFoundError, InputError, ConflictError: as of `compare_rankers`.
    """
    return judge_order(compare_rankers(shop, shop.active_ranker, version), shop.settings.gate)


def switch_ranker(shop: Shop, version: str, *, force: bool) -> Generations:
    """Make a ranker the active one where the gate lets it.

    Raises:
        NotFoundError: there is no such version.
        RefusedError: the gate said no; nothing was switched.
        InputError, ConflictError: it cannot be used, or there are too few searches to tell.
    """
    if not force and version not in (LOOKS, shop.active_ranker):
        judgement = gate_ranker(shop, version)
        if not judgement.passed:
            raise RefusedError(
                f"ranker {version} was not activated: {'; '.join(judgement.reasons)}. --force activates it all the same"
            )
    return activate_ranker(shop.rankers_root, version)


def shown_lists(shop: Shop) -> list[ShownList]:
    """Return the newest searches of the log whose evidence was kept, oldest first; no user counts for too many."""
    found: deque[ShownList] = deque(maxlen=MOST)
    users: Counter[str] = Counter()
    most = shop.settings.mining.sessions_per_user
    for session in shop.clicks.sessions():
        if one := _shown_list(session):
            found.append(one)
    kept: list[ShownList] = []
    for one in reversed(found):  # of a busy user, the newest
        users[one.user] += 1
        if not one.user or users[one.user] <= most:
            kept.append(one)
    return kept[::-1]


def split_by_time(lists: list[ShownList]) -> tuple[list[ShownList], list[ShownList]]:
    """Return the older searches, which teach, and the newer ones, which judge.

    Raises:
        InputError: too few of them were clicked.
    """
    clicked = sum(bool(one.clicked.any()) for one in lists)
    if clicked < LEAST_CLICKED:
        raise InputError(
            f"{clicked:,} of {len(lists):,} searches whose evidence was kept have a click, a ranker takes "
            f"{LEAST_CLICKED}; wait for more clicks (imported logs do not count: they do not say what was known of the "
            "products then)"
        )
    first = round(len(lists) * (1 - HELD_OUT))
    return lists[:first], lists[first:]


def measure(ranker: Ranker, before: Ranker | None, lists: list[ShownList], settings: RerankSettings) -> RankingReport:
    """Return how well a ranker foretells the clicks of searches, and what its order would be worth.

    Args:
        ranker: the new one.
        before: the active one; None = looks alone.
        lists: of searches that it did not learn from.
        settings: what is made of looks and quality.

    Raises:
        InputError: no place was clicked, or every one.
    """
    features, clicked = _rows(lists)
    ranks = [new_ranks(one, ranker, settings).astype(np.int64) for one in lists]
    earlier = None if before is None else [new_ranks(one, before, settings).astype(np.int64) for one in lists]
    shown = np.concatenate([one.ranks for one in lists]).astype(np.int64)
    rows = ShownRows(
        query=_groups(lists),
        rank_shown=shown,
        clicked=clicked,
        visual=features[:, FEATURES.index("visual")],
        score_new=ranker.score(features),
        category=np.repeat([one.category for one in lists], [len(one.ranks) for one in lists]),
        score_old=None if before is None else before.score(features),
        rank_new=np.concatenate(ranks),
        rank_old=None if earlier is None else np.concatenate(earlier),
    )
    longest = max(int(shown.max()), *(len(one.ranks) for one in lists))
    return report(rows, looked_at(np.arange(1.0, longest + 1)))


def compare_lists(
    lists: list[ShownList], before: Ranker | None, after: Ranker | None, settings: RerankSettings
) -> OrderComparison:
    """Compare two orders on searches: what each would have got of the clicks that were made.

    Args:
        lists: of the log.
        before: None = by looks alone.
        after: likewise.
        settings: what is made of looks and quality.
    """
    gains = [
        np.array([seen_clicks(new_ranks(one, ranker, settings), one.ranks, one.clicked) for one in lists])
        for ranker in (before, after)
    ]
    users = {user: number for number, user in enumerate(sorted({one.user for one in lists if one.user}))}
    groups = np.array([users.get(one.user, len(users) + row) for row, one in enumerate(lists)], np.int64)
    return compare_orders(gains[0], gains[1], groups, np.random.default_rng(SEED))


def new_ranks(one: ShownList, ranker: Ranker | None, settings: RerankSettings) -> NDArray[np.float64]:
    """Return the rank (places,) that each place of a shown list gets by another ranker, from 1."""
    visual = one.evidence.visual
    by_looks = np.argsort(one.evidence.visual_rank, kind="stable")
    order = by_looks
    if ranker is not None:
        quality = ranker.score(features_of(one.evidence))
        chosen = final_order(
            visual[by_looks],
            quality[by_looks],
            one.image_ids[by_looks].tolist(),
            beta=settings.visual_share,
            similarity_floor=settings.similarity_floor,
        )
        order = by_looks[chosen]
    ranks = np.empty(len(order))
    ranks[order] = np.arange(1.0, len(order) + 1.0)
    return ranks


def _shown_list(session: Session) -> ShownList | None:
    search = session.search
    if not search.evidence:
        return None
    try:
        evidence = read_evidence(search.evidence)
    except InputError:  # of another release
        return None
    if len(evidence) != len(search.shown):
        return None
    dismissed = {event.product_id for event in session.events if event.type == "dismiss"}
    clicked = {event.product_id for event in session.events if event.type in CLICK_TYPES} - dismissed
    return ShownList(
        at=search.at,
        user=search.user_id,
        category=search.category_id,
        evidence=evidence,
        ranks=np.array([place.rank for place in search.shown], np.float64),
        image_ids=np.array([place.image_id for place in search.shown], np.int64),
        clicked=np.array([place.product_id in clicked for place in search.shown], np.bool_),
    )


def _rows(lists: list[ShownList]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    features = np.concatenate([features_of(one.evidence, one.ranks) for one in lists])
    return features, np.concatenate([one.clicked for one in lists])


def _groups(lists: list[ShownList]) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(lists)), [len(one.ranks) for one in lists])


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()
