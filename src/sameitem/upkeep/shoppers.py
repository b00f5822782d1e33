"""Simulated shoppers: a test instrument for galleries whose identity is known and that have no traffic yet.

They search with photos, look down the list that the live index shows them, and click, now and then on the wrong thing.
Whatever is learned or plotted from their clicks is to be called simulated.
"""

import io
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageEnhance, ImageFilter

from sameitem.clicks.log import Event, EventType
from sameitem.clicks.pseudonyms import SIMULATED
from sameitem.core.errors import ConflictError, ImageError, InputError, NotFoundError
from sameitem.core.records import ContentHash, Pixels, ProductId
from sameitem.evaluation.evaluate import LabelledQuery
from sameitem.pipeline.online import Searcher, SearchRequest
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.work import Tell

SEARCH, EVENTS = "/v1/search", "/v1/events"
MARK = SIMULATED  # user and session ids begin with it, and so do their pseudonyms
_SMALLEST_PX = 96  # shortest side of an edited photo


@dataclass(frozen=True, slots=True)
class Habits:
    """How simulated shoppers behave. Places are looked at from the first down until they stop; shares are 0..1.

    Source: the dependent click model, F. Guo, C. Liu and Y. Wang (WSDM 2009); the numbers are ours, chosen to be noisy.
    """

    list_length: int = 20  # results asked for
    sessions_per_user: float = 8.0  # on average
    abandons: float = 0.1  # leaves without looking
    goes_on: float = 0.92  # looks at the next place; at the 20th: one in five
    goes_on_after_right: float = 0.5  # the same after a click on what was wanted
    clicks_right: float = 0.75  # clicks the wanted item where it is looked at
    clicks_wrong: float = 0.05  # clicks another item that is as alike as the most alike of the list
    score_spread: float = 0.1  # a score lower by so much makes a wrong click less likely by the factor e
    puts_in_cart: float = 0.1  # of the right clicks

    def __post_init__(self) -> None:
        shares = (
            self.abandons,
            self.goes_on,
            self.goes_on_after_right,
            self.clicks_right,
            self.clicks_wrong,
            self.puts_in_cart,
        )
        if not all(0 <= share <= 1 for share in shares):
            raise InputError(f"habits: need shares of 0 to 1, got {shares}", field="habits")
        if not (1 <= self.list_length <= 100 and self.sessions_per_user >= 1 and self.score_spread > 0):
            raise InputError(
                "habits: need a list_length of 1 to 100, sessions_per_user of at least 1 and a score_spread above 0, "
                f"got {self.list_length}, {self.sessions_per_user} and {self.score_spread}",
                field="habits",
            )


@dataclass(frozen=True, slots=True)
class Fraud:
    """A few users who search like the others and click nothing but promoted products, wherever these are shown.

    `clicks_share` is what they aim at; they make at most half of the searches, and look at long lists to get there.
    """

    promoted: frozenset[ProductId]
    users_share: float = 0.02
    clicks_share: float = 0.2
    list_length: int = 60

    def __post_init__(self) -> None:
        if not self.promoted or not (0 < self.users_share < 1 and 0 < self.clicks_share < 1):
            raise InputError("fraud: need promoted products, and shares between 0 and 1", field="fraud")


@dataclass(frozen=True, slots=True)
class Act:
    """Something a shopper does with a place of the list."""

    type: EventType
    rank: int  # from 1


@dataclass(frozen=True, slots=True)
class Errand:
    """A photo to search with, and the products that show what is wanted."""

    photo: bytes
    wanted: frozenset[ProductId]


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent to the shop: to `SEARCH` a photo and its fields, to `EVENTS` the field `events`."""

    path: str
    fields: Mapping[str, Any]
    photo: bytes | None = None


Send = Callable[[Request], Mapping[str, Any]]  # returns the JSON of the answer; raises SameItemError
Appeal = Callable[[str, Sequence[ProductId]], Sequence[float]]  # user, products -> how much likelier each is clicked


@dataclass(frozen=True, slots=True)
class SimulationReport:
    """What simulated shoppers did. Everything learned from it is simulated, too."""

    sessions: int  # searches that were answered
    clicks: int  # places clicked
    right_clicks: int  # of these, on a product that was wanted
    wrong_clicks: int  # by honest shoppers
    fraud_clicks: int
    fraud_sessions: int
    without_click: int  # sessions
    abandoned: int  # of these, left without looking
    not_shown: int  # honest sessions whose list did not hold what was wanted
    users: int
    set_aside: int  # photos that the shop did not take
    reasons: Mapping[str, int]
    simulated: bool = True


def browse(
    products: Sequence[ProductId],
    scores: Sequence[float],
    wanted: Collection[ProductId],
    generator: Generator,
    habits: Habits,
    appeal: Sequence[float] | None = None,
) -> tuple[Act, ...]:
    """Return what one shopper does with a list, from the first place down.

    Args:
        products: what was shown, best first.
        scores: of each place, larger is more alike, 0..1.
        wanted: the products that show the item the shopper has.
        generator: chance.
        habits: how shoppers behave; abandoning is decided before.
        appeal: by which each product's chance of a click is multiplied; None = all appeal alike.
    """
    acts: list[Act] = []
    best = max(scores, default=0.0)
    liked = [1.0] * len(products) if appeal is None else appeal
    for rank, (product, score, times) in enumerate(zip(products, scores, liked, strict=True), 1):
        is_right = product in wanted
        alike = habits.clicks_wrong * np.exp((score - best) / habits.score_spread)
        clicks = generator.random() < times * (habits.clicks_right if is_right else alike)
        if clicks:
            acts.append(Act("click", rank))
            if is_right and generator.random() < habits.puts_in_cart:
                acts.append(Act("cart", rank))
        if generator.random() >= (habits.goes_on_after_right if clicks and is_right else habits.goes_on):
            break
    return tuple(acts)


def simulate(
    errands: Iterator[Errand],
    send: Send,
    *,
    sessions: int,
    habits: Habits,
    generator: Generator,
    fraud: Fraud | None = None,
    appeal: Appeal | None = None,
    tell: Tell,
) -> SimulationReport:
    """Send searches and clicks until so many searches were answered, or the errands have ended.

    Args:
        errands: one a search.
        send: sends a request to the shop.
        sessions: how many searches.
        habits: of the shoppers.
        generator: chance; with the same one, errands and answers, the same is done.
        fraud: users with other habits; None = all are honest.
        appeal: what honest users like besides what they look for; None = nothing.
        tell: is told how far it is.

    Raises:
        SameItemError: the shop did not answer, or refused an event; what was sent stays.
    """
    crowd = _Crowd.of(sessions, habits, fraud, generator)
    done: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    users: set[str] = set()
    while done["sessions"] < sessions and (errand := next(errands, None)) is not None:
        is_fraud = crowd.sends_fraud(done)
        user = crowd.draw(generator, is_fraud=is_fraud)
        length = fraud.list_length if fraud is not None and is_fraud else habits.list_length
        fields = {"num": length, "user_id": user, "session_id": f"{MARK}-{done['sessions']}-{user}"}
        try:
            answer = send(Request(SEARCH, fields, errand.photo))
        except (InputError, ImageError) as error:
            reasons[str(error)] += 1
            if reasons.total() > sessions:
                raise
            continue
        products = [ProductId(result["product_id"]) for result in answer["results"]]
        if is_fraud and fraud is not None:
            acts: tuple[Act, ...] = tuple(
                Act("click", rank) for rank, product in enumerate(products, 1) if product in fraud.promoted
            )
        elif generator.random() < habits.abandons:
            acts = ()
            done["abandoned"] += 1
        else:
            scores = [result["visual_score"] for result in answer["results"]]
            liked = None if appeal is None else appeal(user, products)
            acts = browse(products, scores, errand.wanted, generator, habits, liked)
        if acts:
            _send_events(send, answer, acts, user)
        users.add(user)
        _count(done, products, acts, errand, is_fraud=is_fraud)
        counts = {"searches": done["sessions"], "clicks": done["clicks"]}
        tell("simulated shoppers", 100 * done["sessions"] / sessions, counts)
    return SimulationReport(
        sessions=done["sessions"],
        clicks=done["clicks"],
        right_clicks=done["right_clicks"],
        wrong_clicks=done["wrong_clicks"],
        fraud_clicks=done["fraud_clicks"],
        fraud_sessions=done["fraud_sessions"],
        without_click=done["without_click"],
        abandoned=done["abandoned"],
        not_shown=done["not_shown"],
        users=len(users),
        set_aside=reasons.total(),
        reasons=dict(reasons),
    )


def _count(
    done: Counter[str], products: Sequence[ProductId], acts: Sequence[Act], errand: Errand, *, is_fraud: bool
) -> None:
    clicked = [products[act.rank - 1] for act in acts if act.type == "click"]
    right = sum(product in errand.wanted for product in clicked)
    done["sessions"] += 1
    done["clicks"] += len(clicked)
    done["right_clicks"] += right
    done["without_click"] += not clicked
    if is_fraud:
        done["fraud_sessions"] += 1
        done["fraud_clicks"] += len(clicked)
    else:
        done["wrong_clicks"] += len(clicked) - right
        done["not_shown"] += errand.wanted.isdisjoint(products)


def in_process(shop: Shop) -> Send:
    """Send to a shop in this process, by the calls that the HTTP doors make: for experiments without a server."""
    searcher = Searcher(shop)

    def send(request: Request) -> Mapping[str, Any]:
        if request.path != SEARCH:
            counts = shop.clicks.take_events([Event(**event) for event in request.fields["events"]])
            return {"refused": [{"reason": refused.reason} for refused in counts.refused]}
        answer = searcher.search(SearchRequest(photo=request.photo, **request.fields))
        results = [
            {
                "rank": result.rank,
                "product_id": result.product.product_id,
                "image_name": result.image.name,
                "visual_score": result.visual_score,
            }
            for result in answer.results
        ]
        return {"search_id": answer.search_id, "results": results}

    return send


def _send_events(send: Send, answer: Mapping[str, Any], acts: Sequence[Act], user: str) -> None:
    search_id, results = answer["search_id"], answer["results"]
    events = [
        {
            "event_id": f"{search_id}-{number}",
            "search_id": search_id,
            "type": act.type,
            "product_id": results[act.rank - 1]["product_id"],
            "image_name": results[act.rank - 1]["image_name"],
            "rank": results[act.rank - 1]["rank"],
            "user_id": user,
        }
        for number, act in enumerate(acts)
    ]
    stored = send(Request(EVENTS, {"events": events}))
    if stored["refused"]:
        raise ConflictError(f"the shop refused an event of its own list: {stored['refused'][0]['reason']}")


@dataclass(frozen=True, slots=True)
class _Crowd:
    """Who searches: honest users, and a few who are not."""

    honest: tuple[str, ...]
    frauds: tuple[str, ...]
    fraud: Fraud | None

    @classmethod
    def of(cls, sessions: int, habits: Habits, fraud: Fraud | None, generator: Generator) -> "_Crowd":
        count = max(1, round(sessions / habits.sessions_per_user))
        names = [f"{MARK}-{generator.integers(16**12):012x}" for _ in range(count + 1)]
        cheating = max(1, round(count * fraud.users_share)) if fraud else 0
        return cls(honest=tuple(names[cheating:]), frauds=tuple(names[:cheating]), fraud=fraud)

    def draw(self, generator: Generator, *, is_fraud: bool) -> str:
        users = self.frauds if is_fraud else self.honest
        return users[int(generator.integers(len(users)))]

    def sends_fraud(self, done: Counter[str]) -> bool:
        """Say whether the next search is a fraud's: as long as they have too few of the clicks so far."""
        if self.fraud is None or 2 * done["fraud_sessions"] >= done["sessions"]:
            return False
        return done["fraud_clicks"] < self.fraud.clicks_share * done["clicks"]


# ---- what they search with ----


def photo_errands(queries: Sequence[LabelledQuery], generator: Generator) -> Iterator[Errand]:
    """Yield labelled photos for ever, each once in a random order before any comes again.

    Raises:
        NotFoundError: a photo's file is missing.
    """
    if not queries:
        raise InputError("need at least one photo to search with, got none", field="photos")
    while True:
        for row in generator.permutation(len(queries)):
            query = queries[int(row)]
            if not query.image.is_file():
                raise NotFoundError(f"no photo {query.image}")
            yield Errand(query.image.read_bytes(), frozenset({query.product_id}))


def edited_errands(shop: Shop, generator: Generator, *, most: int) -> Iterator[Errand]:
    """Yield edited catalogue photos for ever, drawn from at most so many images of the catalogue.

    A product is wanted together with every other that lists the same photo.

    Raises:
        NotFoundError: the catalogue has no image.
    """
    total = shop.catalogue.counts().images
    if not total:
        raise NotFoundError("the catalogue has no image to search with; run `sameitem import FILE`, or give --photos")
    rows = set(generator.choice(total, min(total, most), replace=False).tolist())
    listed: dict[ContentHash, set[ProductId]] = {}
    images = (image for batch in shop.catalogue.scan() for image, _ in batch)
    for row, image in enumerate(islice(images, total)):
        if row in rows:
            listed.setdefault(image.content_hash, set())
    for batch in shop.catalogue.scan():
        for image, _ in batch:
            if image.content_hash in listed:
                listed[image.content_hash].add(image.product_id)
    hashes = sorted(listed)
    while True:
        for row in generator.permutation(len(hashes)):
            pixels = shop.photos.pixels(hashes[int(row)])
            yield Errand(edited(pixels, generator), frozenset(listed[hashes[int(row)]]))


def edited(pixels: Pixels, generator: Generator) -> bytes:
    """Return a JPEG as a phone might have taken it of the picture: cropped, slanted, in another light, blurred.

    Much easier than real users' photos: nothing stands around the item.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels))
    zoom = max(1.0, _SMALLEST_PX / min(image.size))
    width, height = (max(1, round(side * zoom)) for side in image.size)
    keeps = generator.uniform(0.75, 1.0, 2)
    left, top = generator.uniform(0, 1 - keeps)
    corners = np.array([[0, 0], [0, 1], [1, 1], [1, 0]]) * keeps + [left, top]  # of QUAD: down, right, up
    corners = np.clip(corners + generator.uniform(-0.06, 0.06, (4, 2)), 0, 1) * image.size
    slanted = image.transform((width, height), Image.Transform.QUAD, corners.ravel().tolist(), Image.Resampling.BICUBIC)
    for change in (ImageEnhance.Brightness, ImageEnhance.Color, ImageEnhance.Contrast):
        slanted = change(slanted).enhance(float(generator.uniform(0.7, 1.25)))
    blurred = slanted.filter(ImageFilter.GaussianBlur(float(generator.uniform(0, 1.5))))
    out = io.BytesIO()
    blurred.save(out, "JPEG", quality=int(generator.integers(55, 90)))
    return out.getvalue()
