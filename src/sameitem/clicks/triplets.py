"""From sessions to triplets: which clicks and which non-clicks can be trusted to teach what the same item is.

A click says "the same item" only where other evidence agrees, and so does a non-click for "another item"; what lies
between teaches nothing. Everything that a session holds is either used or counted under the reason why not.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sameitem.clicks.log import Session, Shown
from sameitem.core.errors import InputError, ShapeError
from sameitem.core.records import Box, ContentHash, ImageId, ProductId

CLICK_TYPES = frozenset({"click", "cart", "purchase"})
FEW_CLICKS = 5  # a list with fewer clicks is never "nearly all clicked": somebody may want all three lamps
_SLOTS = 1 << 22
_Key = tuple[ProductId, str]  # product id and image name


@dataclass(frozen=True, slots=True)
class Picture:
    """What is compared: a photo of the store, or the part of it inside a box."""

    content_hash: ContentHash
    box: Box | None = None  # pixels of the stored photo; None = the whole


class Distance(Protocol):
    """How far pictures are apart: smaller is more alike, NaN where that cannot be told."""

    def __call__(self, anchors: Sequence[Picture], others: Sequence[Picture], /) -> NDArray[np.float64]:
        """Return (anchors, others) distances."""


@dataclass(frozen=True, slots=True)
class MiningRules:
    """Whom and what to believe. Distances are those of the fused distance, 0..1."""

    same_item: float  # a clicked image at most this far from the photo shows the same item
    other_item: float  # an image at least this far from the photo and from every click shows another
    seen_after_click: int = 2  # places below the lowest click that count as seen
    clicked_share: float = 0.75  # a list of which more than this share of what was seen is clicked is not believed
    sessions_per_user: int = 50  # that may teach; further ones of the same user are left out
    triplets_per_session: int = 100  # the first in the order of the negatives' ranks
    triplets_per_pair: int = 100  # of the same positive and negative product, over all users

    def __post_init__(self) -> None:
        if not 0 <= self.same_item < self.other_item:
            raise InputError(
                f"need 0 <= same_item < other_item, got {self.same_item} and {self.other_item}; "
                "what lies between the two is used for nothing",
                field="same_item",
            )
        if not 0 < self.clicked_share <= 1:
            raise InputError(f"need a share above 0 and at most 1, got {self.clicked_share}", field="clicked_share")
        limits = (self.sessions_per_user, self.triplets_per_session, self.triplets_per_pair)
        if self.seen_after_click < 0 or min(limits) < 1 or self.triplets_per_pair >= np.iinfo(np.uint16).max:
            raise InputError(
                f"need seen_after_click >= 0, limits >= 1 and triplets_per_pair < 65535, got {self}", field="rules"
            )


@dataclass(frozen=True, slots=True)
class Triplet:
    """A photo, an image of the same item that was clicked, and one of another item that was seen and not clicked."""

    photo: Picture
    positive_id: ImageId
    positive: ContentHash
    negative_id: ImageId
    negative: ContentHash
    search_id: str
    user: str  # keyed hash of the user's id; "" = nobody knows
    weight: float  # 0..1; those of one session add up to 1, so that every query counts the same


@dataclass(frozen=True, slots=True)
class MiningReport:
    """What became of everything: each total is its `used` part plus the counts of its reasons."""

    sessions: int
    clicks: int  # places with a click, cart or purchase; several on one place count once
    non_clicks: int  # the other places of the lists
    used_sessions: int
    used_clicks: int
    used_non_clicks: int
    triplets: int
    dropped_sessions: Mapping[str, int]
    dropped_clicks: Mapping[str, int]
    dropped_non_clicks: Mapping[str, int]


@dataclass(slots=True)
class Tally:
    """Counts while a log is mined; `report` may be taken at any time."""

    sessions: Counter[str] = field(default_factory=Counter)  # by reason; "" = used
    clicks: Counter[str] = field(default_factory=Counter)
    non_clicks: Counter[str] = field(default_factory=Counter)
    triplets: int = 0

    def report(self) -> MiningReport:
        """Return the counts so far."""
        return MiningReport(
            sessions=self.sessions.total(),
            clicks=self.clicks.total(),
            non_clicks=self.non_clicks.total(),
            used_sessions=self.sessions[""],
            used_clicks=self.clicks[""],
            used_non_clicks=self.non_clicks[""],
            triplets=self.triplets,
            dropped_sessions=_reasons(self.sessions),
            dropped_clicks=_reasons(self.clicks),
            dropped_non_clicks=_reasons(self.non_clicks),
        )


def mine(
    sessions: Iterable[Session],
    distance: Distance,
    *,
    content_of: Callable[[Sequence[ImageId]], Mapping[ImageId, ContentHash]],
    rules: MiningRules,
    user_key: bytes,
    tally: Tally,
) -> Iterator[Triplet]:
    """Yield the triplets of a log, session by session, in the order of the sessions.

    Memory grows with the number of users that teach, not with the log. Of a session only what the user has seen
    counts: the places down to the lowest click and a few more. The limits per user and per pair of products keep a few
    accounts, or many that push one product, from teaching what they like; a session without user and session id has
    no user to count for.

    Args:
        sessions: oldest first, for the limits to fall on the same ones every time.
        distance: asked once a session: the photo and the clicked images against everything that was seen.
        content_of: content hashes of the images that are still in the catalogue.
        rules: whom and what to believe.
        user_key: secret of the shop, so that nobody can look users up by hashing their ids.
        tally: filled with what became of everything.

    Raises:
        ShapeError: `distance` returned another shape than it was asked for.

    Source: article §02.1; exposure and the limits are ours.
    """
    sessions_of: Counter[bytes] = Counter()
    pairs = _PairCounts()
    for session in sessions:
        user = _user(session, user_key)
        places = _Places.of(session, rules.seen_after_click)
        dropped = _unbelievable(session, places, rules)
        if not dropped and user and sessions_of[user] >= rules.sessions_per_user:
            dropped = "too many sessions of this user"
        if dropped:
            _drop(session, places, dropped, tally)
            continue
        found = _judge(session, places, distance, content_of, rules)
        chosen = _choose(found, pairs, rules)
        _count(places, found, chosen, tally)
        if chosen and user:
            sessions_of[user] += 1
        for positive, negative in chosen:
            yield Triplet(
                photo=_photo(session),
                positive_id=positive.image_id,
                positive=found.content[positive.image_id],
                negative_id=negative.image_id,
                negative=found.content[negative.image_id],
                search_id=session.search.search_id,
                user=user.hex(),
                weight=1 / len(chosen),
            )


# -- what the user saw and clicked


@dataclass(frozen=True, slots=True)
class _Places:
    """The places of a list by what the user did, each in the order of ranks."""

    clicked: tuple[Shown, ...]
    unclicked: tuple[Shown, ...]  # and seen
    unseen: int
    repeated: int  # places whose image stands higher in the list, too

    @classmethod
    def of(cls, session: Session, seen_after_click: int) -> "_Places":
        shown: dict[_Key, Shown] = {}
        for place in sorted(session.search.shown, key=lambda place: place.rank):
            shown.setdefault(_key(place), place)
        done = {(event.product_id, event.image_name) for event in session.events if event.type in CLICK_TYPES}
        places = list(shown.values())
        lowest = max((place.rank for place in places if _key(place) in done), default=None)
        seen = [place for place in places if lowest is not None and place.rank <= lowest + seen_after_click]
        return cls(
            clicked=tuple(place for place in seen if _key(place) in done),
            unclicked=tuple(place for place in seen if _key(place) not in done),
            unseen=len(places) - len(seen),
            repeated=len(session.search.shown) - len(places),
        )


def _unbelievable(session: Session, places: _Places, rules: MiningRules) -> str:
    """Return why a session as a whole teaches nothing; "" when it may."""
    clicks, seen = len(places.clicked), len(places.clicked) + len(places.unclicked)
    if not clicks:
        return "nothing clicked"
    if clicks >= FEW_CLICKS and clicks > rules.clicked_share * seen:
        return "nearly all clicked"
    return "" if session.search.photo_hash else "photo not kept"


def _photo(session: Session) -> Picture:
    return Picture(ContentHash(session.search.photo_hash), session.search.box)


def _key(place: Shown) -> _Key:
    return place.product_id, place.image_name


def _user(session: Session, key: bytes) -> bytes:
    search = session.search
    name = f"user {search.user_id}" if search.user_id else f"session {search.session_id}" if search.session_id else ""
    return hashlib.blake2b(name.encode(), key=key[:64], digest_size=8).digest() if name else b""


# -- what can be trusted


@dataclass(frozen=True, slots=True)
class _Judged:
    """The trusted places of a session, and why the others are not."""

    positives: tuple[Shown, ...]
    negatives: tuple[Shown, ...]
    content: Mapping[ImageId, ContentHash]
    doubts: Mapping[_Key, str]


def _judge(
    session: Session,
    places: _Places,
    distance: Distance,
    content_of: Callable[[Sequence[ImageId]], Mapping[ImageId, ContentHash]],
    rules: MiningRules,
) -> _Judged:
    content = content_of([place.image_id for place in (*places.clicked, *places.unclicked)])
    clicked = [place for place in places.clicked if place.image_id in content]
    known = [*clicked, *(place for place in places.unclicked if place.image_id in content)]
    pictures = [Picture(content[place.image_id]) for place in known]
    anchors = [_photo(session), *pictures[: len(clicked)]]
    apart = np.asarray(distance(anchors, pictures)) if known else np.empty((1, 0))
    if apart.shape != (len(anchors), len(pictures)):
        raise ShapeError(f"need distances of shape {(len(anchors), len(pictures))}, got {apart.shape}")
    columns = {_key(place): apart[:, column] for column, place in enumerate(known)}
    products = {place.product_id for place in places.clicked}
    doubts = {_key(place): _doubt_click(columns.get(_key(place)), rules) for place in places.clicked}
    for place in places.unclicked:
        column = columns.get(_key(place))
        if column is not None and len(clicked) < len(places.clicked):
            doubts[_key(place)] = "a clicked image has left the catalogue"
        elif place.product_id in products:
            doubts[_key(place)] = "product was clicked"
        else:
            doubts[_key(place)] = _doubt_non_click(column, rules)
    return _Judged(
        positives=tuple(place for place in places.clicked if not doubts[_key(place)]),
        negatives=tuple(place for place in places.unclicked if not doubts[_key(place)]),
        content=content,
        doubts=doubts,
    )


def _doubt_click(column: NDArray[np.float64] | None, rules: MiningRules) -> str:
    if column is None:
        return "left the catalogue"
    if math.isnan(column[0]):
        return "cannot be compared"
    return "" if column[0] <= rules.same_item else "too far from the photo"


def _doubt_non_click(column: NDArray[np.float64] | None, rules: MiningRules) -> str:
    if column is None:
        return "left the catalogue"
    if np.isnan(column).any():  # the one that is unknown may be the near one
        return "cannot be compared"
    return "" if column.min() >= rules.other_item else "may be the same item"


def _choose(found: _Judged, pairs: "_PairCounts", rules: MiningRules) -> list[tuple[Shown, Shown]]:
    """Return the pairs of a positive and a negative that the limits leave, the hardest negatives first."""
    chosen: list[tuple[Shown, Shown]] = []
    for negative in found.negatives:
        for positive in found.positives:
            if len(chosen) == rules.triplets_per_session:
                return chosen
            if pairs.admit(positive.product_id, negative.product_id, rules.triplets_per_pair):
                chosen.append((positive, negative))
    return chosen


class _PairCounts:
    """How often each pair of products was used, in 16 MiB however many there are.

    Two counters a pair, shared with others: the smaller one is never too small, so that a limit may be met early
    among millions of pairs, and never late.
    """

    def __init__(self) -> None:
        self._counts = np.zeros((2, _SLOTS), dtype=np.uint16)

    def admit(self, positive: ProductId, negative: ProductId, limit: int) -> bool:
        """Count a pair, unless it was counted `limit` times; say whether it was not."""
        digest = hashlib.blake2b(f"{len(positive)} {positive}{negative}".encode(), digest_size=8).digest()
        slots = [int.from_bytes(digest[:4], "big") % _SLOTS, int.from_bytes(digest[4:], "big") % _SLOTS]
        counts = self._counts[(0, 1), slots]
        least = counts.min()
        if least >= limit:
            return False
        self._counts[(0, 1), slots] = np.maximum(counts, least + 1)
        return True


# -- counts


def _drop(session: Session, places: _Places, reason: str, tally: Tally) -> None:
    tally.sessions[reason] += 1
    if places.clicked:
        tally.clicks[reason] += len(places.clicked)
    tally.non_clicks.update({reason: len(session.search.shown) - len(places.clicked)})


def _count(places: _Places, found: _Judged, chosen: Sequence[tuple[Shown, Shown]], tally: Tally) -> None:
    positives = {_key(positive) for positive, _ in chosen}
    negatives = {_key(negative) for _, negative in chosen}
    limited = "limit of triplets" if found.positives and found.negatives else ""
    for place in places.clicked:
        spare = limited or "no trusted non-click beside it"
        tally.clicks["" if _key(place) in positives else found.doubts[_key(place)] or spare] += 1
    for place in places.unclicked:
        spare = limited or "no trusted click beside it"
        tally.non_clicks["" if _key(place) in negatives else found.doubts[_key(place)] or spare] += 1
    tally.non_clicks.update({"not seen": places.unseen, "shown twice": places.repeated})
    if chosen:
        tally.sessions[""] += 1
    elif not found.positives:
        tally.sessions["no trusted click"] += 1
    else:
        tally.sessions[limited or "no trusted non-click"] += 1
    tally.triplets += len(chosen)


def _reasons(counts: Counter[str]) -> dict[str, int]:
    return {reason: count for reason, count in sorted(counts.items()) if reason and count}
