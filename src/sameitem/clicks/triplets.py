"""From sessions to triplets: which clicks and which non-clicks can be trusted to teach what the same item is.

A click says "the same item" unless other evidence speaks against it, and so does a non-click for "another item".
Everything that a session holds is either used or counted under the reason why not.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sameitem.clicks.held_out import is_held_out
from sameitem.clicks.log import CLICK_TYPES, Search, Session, Shown
from sameitem.core.errors import InputError, ShapeError
from sameitem.core.records import Box, ContentHash, ImageId, ProductId

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
class Distances:
    """How far the pictures of a session are apart; kinds of pairs differ in scale, and in what a look is worth.

    Pictures made alike, as a shop's are, look nearer to each other than any user's photo looks to them.
    """

    to_clicked: Distance  # of the photo to clicked images; may look closer than the others do
    to_others: Distance  # of the photo to images that were seen and not clicked
    between_images: Distance  # of clicked images to those


@dataclass(frozen=True, slots=True)
class MiningRules:
    """Whom and what to believe. Distances are those of the fused distance, 0..1.

    Between the thresholds a place is what the user made of it where `other_item` is the smaller one (the default:
    docs/decisions/0007-mining-thresholds.md says why), and teaches nothing where it is the larger one.
    """

    same_item: float  # a clicked image at most this far from the photo shows the same item
    other_item: float  # an image at least this far from the photo and from every click shows another
    seen_after_click: int = 2  # places below the lowest click that count as seen
    clicked_share: float = 0.75  # a list of which more than this share of what was seen is clicked is not believed
    sessions_per_user: int = 50  # that may teach; further ones of the same user are left out
    triplets_per_session: int = 100  # the first in the order of the negatives' ranks
    triplets_per_pair: int = 100  # of the same positive and negative product, over all users

    def __post_init__(self) -> None:
        for name in ("same_item", "other_item"):
            if not getattr(self, name) >= 0:  # NaN, too
                raise InputError(f"need {name} >= 0, got {getattr(self, name)}", field=name)
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
    user: str  # pseudonym of the user, else of the session; "" = nobody knows
    weight: float  # 0..1; those of one session add up to 1, so that every query counts the same


@dataclass(frozen=True, slots=True)
class MiningReport:
    """What became of everything: each total is its `used` part plus the counts of its reasons."""

    sessions: int
    clicks: int  # places with a click, cart or purchase and no dismissal; several on one place count once
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
    distances: Distances,
    *,
    pictures_of: Callable[[Sequence[ImageId]], Mapping[ImageId, Picture]],
    rules: MiningRules,
    tally: Tally,
) -> Iterator[Triplet]:
    """Yield the triplets of a log, session by session, in the order of the sessions.

    Memory grows with the number of users that teach, not with the log. Of a session only what the user has seen
    counts: the places down to the lowest click and a few more. The limits per user and per pair of products keep a few
    accounts, or many that push one product, from teaching what they like; a session without user and session id has
    no user to count for.

    Args:
        sessions: oldest first, for the limits to fall on the same ones every time.
        distances: each asked once a session.
        pictures_of: the images that are still in the catalogue, each with the box that the shop gave.
        rules: whom and what to believe.
        tally: filled with what became of everything.

    Raises:
        ShapeError: a distance returned another shape than it was asked for.

    Source: article §02.1; exposure and the limits are ours.
    """
    sessions_of: Counter[str] = Counter()
    pairs = _PairCounts()
    for session in sessions:
        user = session.search.user_id or session.search.session_id
        places = _Places.of(session, rules.seen_after_click)
        dropped = _unbelievable(session, places, rules)
        if not dropped and user and sessions_of[user] >= rules.sessions_per_user:
            dropped = "too many sessions of this user"
        if dropped:
            _drop(session, places, dropped, tally)
            continue
        found = _judge(session, places, distances, pictures_of, rules)
        chosen = _choose(found, pairs, rules)
        _count(places, found, chosen, tally)
        if chosen and user:
            sessions_of[user] += 1
        for positive, negative in chosen:
            yield Triplet(
                photo=photo_of(session.search),
                positive_id=positive.image_id,
                positive=found.content[positive.image_id],
                negative_id=negative.image_id,
                negative=found.content[negative.image_id],
                search_id=session.search.search_id,
                user=user,
                weight=1 / len(chosen),
            )


def photo_of(search: Search) -> Picture:
    """Return what was searched with; its content hash is empty where the photo was not kept."""
    return Picture(ContentHash(search.photo_hash), search.box)


def compared(session: Session, rules: MiningRules) -> tuple[Shown, ...]:
    """Return the places whose images mining compares with the photo; none where the session teaches nothing."""
    places = _Places.of(session, rules.seen_after_click)
    return () if _unbelievable(session, places, rules) else (*places.clicked, *places.unclicked)


# -- what the user saw and clicked


@dataclass(frozen=True, slots=True)
class _Places:
    """The places of a list by what the user did, each in the order of ranks."""

    clicked: tuple[Shown, ...]  # and not dismissed
    unclicked: tuple[Shown, ...]  # and seen
    unseen: int
    repeated: int  # places whose image stands higher in the list, too

    @classmethod
    def of(cls, session: Session, seen_after_click: int) -> "_Places":
        shown: dict[_Key, Shown] = {}
        for place in sorted(session.search.shown, key=lambda place: place.rank):
            shown.setdefault(_key(place), place)
        done = {(event.product_id, event.image_name) for event in session.events if event.type in CLICK_TYPES}
        dismissed = {(event.product_id, event.image_name) for event in session.events if event.type == "dismiss"}
        places = list(shown.values())
        lowest = max((place.rank for place in places if _key(place) in done), default=None)
        meant = done - dismissed
        seen = [place for place in places if lowest is not None and place.rank <= lowest + seen_after_click]
        return cls(
            clicked=tuple(place for place in seen if _key(place) in meant),
            unclicked=tuple(place for place in seen if _key(place) not in meant),
            unseen=len(places) - len(seen),
            repeated=len(session.search.shown) - len(places),
        )


def _unbelievable(session: Session, places: _Places, rules: MiningRules) -> str:
    """Return why a session as a whole teaches nothing; "" when it may."""
    if is_held_out(session.search.photo_hash or session.search.search_id):
        return "held out to compare models"
    clicks, seen = len(places.clicked), len(places.clicked) + len(places.unclicked)
    if not clicks:
        return "nothing clicked"
    if clicks >= FEW_CLICKS and clicks > rules.clicked_share * seen:
        return "nearly all clicked"
    return "" if session.search.photo_hash else "photo not kept"


def _key(place: Shown) -> _Key:
    return place.product_id, place.image_name


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
    distances: Distances,
    pictures_of: Callable[[Sequence[ImageId]], Mapping[ImageId, Picture]],
    rules: MiningRules,
) -> _Judged:
    listed = pictures_of([place.image_id for place in (*places.clicked, *places.unclicked)])
    clicked = [place for place in places.clicked if place.image_id in listed]
    others = [place for place in places.unclicked if place.image_id in listed]
    photo = [photo_of(session.search)]
    ours, theirs = ([listed[place.image_id] for place in part] for part in (clicked, others))
    from_photo = _apart(distances.to_clicked, photo, ours)
    from_all = np.concatenate(
        [_apart(distances.to_others, photo, theirs), _apart(distances.between_images, ours, theirs)]
    )
    columns = {_key(place): from_photo[:, column] for column, place in enumerate(clicked)}
    columns |= {_key(place): from_all[:, column] for column, place in enumerate(others)}
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
        content={image_id: picture.content_hash for image_id, picture in listed.items()},
        doubts=doubts,
    )


def _apart(distance: Distance, anchors: Sequence[Picture], pictures: Sequence[Picture]) -> NDArray[np.float64]:
    shape = (len(anchors), len(pictures))
    apart = np.asarray(distance(anchors, pictures)) if anchors and pictures else np.empty(shape)
    if apart.shape != shape:
        raise ShapeError(f"need distances of shape {shape}, got {apart.shape}")
    return apart


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
