"""Simulated shoppers: what they click, who they are, and what they send."""

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sameitem.core.errors import ConflictError, ImageError, InputError, UnavailableError
from sameitem.core.records import ProductId
from sameitem.upkeep.shoppers import (
    EVENTS,
    MARK,
    SEARCH,
    Errand,
    Fraud,
    Habits,
    Request,
    SimulationReport,
    browse,
    edited,
    simulate,
)

SURE = Habits(
    abandons=0, goes_on=1, goes_on_after_right=1, clicks_right=1, clicks_wrong=0, puts_in_cart=0, sessions_per_user=1
)
LIST = [ProductId(f"p{rank}") for rank in range(1, 21)]
ERRAND = Errand(b"photo", frozenset({ProductId("p3")}))


def silent(_step: str, _percent: float, _counts: Mapping[str, float]) -> None:
    pass


def clicks(habits: Habits, *, wanted: int, scores: Sequence[float], runs: int = 4000, seed: int = 0) -> Counter[int]:
    """Count by rank the clicks of many visits to one list."""
    generator = np.random.default_rng(seed)
    visits = (browse(LIST, scores, {LIST[wanted - 1]}, generator, habits) for _ in range(runs))
    return Counter(act.rank for acts in visits for act in acts if act.type == "click")


@dataclass
class FakeShop:
    """Answers every search with the same list and keeps what it was sent."""

    products: Sequence[str] = tuple(LIST)
    refuse: str = ""
    searches: list[Request] = field(default_factory=list)
    events: list[Mapping[str, Any]] = field(default_factory=list)

    def __call__(self, request: Request) -> Mapping[str, Any]:
        if request.path == SEARCH:
            self.searches.append(request)
            shown = self.products[: request.fields["num"]]
            results = [
                {"rank": rank, "product_id": product, "image_name": "main", "visual_score": 1 - rank / 100}
                for rank, product in enumerate(shown, 1)
            ]
            return {"search_id": f"s{len(self.searches)}", "results": results}
        assert request.path == EVENTS
        self.events += request.fields["events"]
        return {"refused": [{"reason": self.refuse}] if self.refuse else []}


def run(shop: FakeShop, sessions: int, habits: Habits = SURE, **options: Any) -> SimulationReport:
    generator = np.random.default_rng(options.pop("seed", 0))
    errands: Iterator[Errand] = options.pop("errands", repeat(ERRAND))
    return simulate(errands, shop, sessions=sessions, habits=habits, generator=generator, tell=silent, **options)


class TestAVisit:
    def test_clicks_what_is_wanted_and_nothing_else_without_noise(self) -> None:
        assert clicks(SURE, wanted=7, scores=[0.5] * 20, runs=50) == {7: 50}

    def test_leaves_some_wanted_items_unclicked(self) -> None:
        habits = Habits(goes_on=1, goes_on_after_right=1, clicks_right=0.75, clicks_wrong=0)
        assert clicks(habits, wanted=20, scores=[0.5] * 20)[20] == pytest.approx(3000, rel=0.05)

    def test_looks_at_a_place_the_more_rarely_the_lower_it_stands(self) -> None:
        habits = Habits(goes_on=0.92, clicks_right=1, clicks_wrong=0)
        for rank in (1, 5, 20):
            expected = 4000 * 0.92 ** (rank - 1)
            assert clicks(habits, wanted=rank, scores=[0.5] * 20)[rank] == pytest.approx(expected, rel=0.1)

    def test_is_likelier_to_click_wrongly_what_looks_more_alike(self) -> None:
        scores = [0.9, 0.8] + [0.0] * 18
        wrong = clicks(Habits(goes_on=1, clicks_wrong=0.4, score_spread=0.1), wanted=20, scores=scores)
        assert wrong[1] == pytest.approx(4000 * 0.4, rel=0.05)
        assert wrong[2] == pytest.approx(4000 * 0.4 / np.e, rel=0.1)
        assert sum(wrong[rank] for rank in range(3, 20)) < 60

    def test_puts_nothing_in_the_cart_that_it_did_not_click(self) -> None:
        generator = np.random.default_rng(0)
        habits = Habits(puts_in_cart=1)
        for _ in range(200):
            acts = browse(LIST, [0.5] * 20, {LIST[2]}, generator, habits)
            assert [act.rank for act in acts if act.type == "cart"] in ([], [3])
            assert {act.rank for act in acts if act.type == "cart"} <= {a.rank for a in acts if a.type == "click"}

    def test_of_an_empty_list_does_nothing(self) -> None:
        assert browse([], [], {LIST[0]}, np.random.default_rng(0), SURE) == ()

    def test_clicks_what_appeals_more_often(self) -> None:
        habits = replace(SURE, clicks_right=0.5)
        generator = np.random.default_rng(0)
        for times in (0.5, 1.0, 2.0):
            visits = [browse(LIST[:1], [0.5], {LIST[0]}, generator, habits, [times]) for _ in range(4000)]
            assert np.mean([len(acts) for acts in visits]) == pytest.approx(0.5 * times, abs=0.03)


class TestASimulation:
    def test_counts_what_it_sent(self) -> None:
        shop = FakeShop()
        report = run(shop, 400, Habits(clicks_wrong=0.2, puts_in_cart=0.5))
        clicked = [event for event in shop.events if event["type"] == "click"]
        assert (report.sessions, report.clicks) == (len(shop.searches), len(clicked)) == (400, report.clicks)
        assert report.right_clicks == sum(event["product_id"] == "p3" for event in clicked)
        assert report.clicks == report.right_clicks + report.wrong_clicks
        assert report.without_click == 400 - len({event["search_id"] for event in clicked})
        assert 0 < report.abandoned <= report.without_click
        assert report.simulated

    def test_gives_every_event_an_id_of_its_own_and_the_place_that_was_shown(self) -> None:
        shop = FakeShop()
        run(shop, 200, Habits(clicks_wrong=0.3, goes_on=1))
        ids = [event["event_id"] for event in shop.events]
        assert len(set(ids)) == len(ids)
        assert all(event["product_id"] == f"p{event['rank']}" for event in shop.events)

    def test_has_users_that_come_back_and_say_that_they_are_simulated(self) -> None:
        shop = FakeShop()
        report = run(shop, 400, Habits(sessions_per_user=8))
        users = {request.fields["user_id"] for request in shop.searches}
        assert report.users == len(users) == pytest.approx(50, abs=5)
        assert all(user.startswith(MARK) for user in users)
        assert all(event["user_id"] in users for event in shop.events)

    def test_does_the_same_with_the_same_seed_and_something_else_with_another(self) -> None:
        sent = []
        for seed in (1, 1, 2):
            shop = FakeShop()
            run(shop, 50, Habits(clicks_wrong=0.3), seed=seed)
            sent.append(shop.events)
        assert sent[0] == sent[1] != sent[2]

    def test_sets_photos_aside_that_the_shop_does_not_take(self) -> None:
        shop = FakeShop()

        def picky(request: Request) -> Mapping[str, Any]:
            if request.photo == b"bad":
                raise ImageError("not an image")
            return shop(request)

        errands = iter([Errand(b"bad", frozenset()), ERRAND, ERRAND])
        report = simulate(errands, picky, sessions=5, habits=SURE, generator=np.random.default_rng(0), tell=silent)
        assert (report.sessions, report.set_aside, dict(report.reasons)) == (2, 1, {"not an image": 1})

    def test_ends_when_the_shop_takes_no_photo_at_all(self) -> None:
        def refuse(_request: Request) -> Mapping[str, Any]:
            raise InputError("no")

        with pytest.raises(InputError):
            simulate(repeat(ERRAND), refuse, sessions=3, habits=SURE, generator=np.random.default_rng(0), tell=silent)

    def test_ends_when_the_shop_does_not_answer_or_refuses_an_event(self) -> None:
        def gone(_request: Request) -> Mapping[str, Any]:
            raise UnavailableError("gone")

        with pytest.raises(UnavailableError):
            simulate(repeat(ERRAND), gone, sessions=3, habits=SURE, generator=np.random.default_rng(0), tell=silent)
        with pytest.raises(ConflictError, match="too late"):
            run(FakeShop(refuse="too late"), 1)


class TestFraud:
    def test_of_few_users_makes_the_share_of_clicks_it_aims_at_and_only_on_promoted_products(self) -> None:
        shop = FakeShop(products=[f"p{rank}" for rank in range(1, 61)])
        promoted = frozenset({ProductId("p9"), ProductId("p50")})
        fraud = Fraud(promoted, users_share=0.02, clicks_share=0.2)
        report = run(shop, 2000, Habits(clicks_wrong=0.02), fraud=fraud)
        by_user: dict[str, set[str]] = {}
        for event in shop.events:
            by_user.setdefault(event["user_id"], set()).add(event["product_id"])
        length = {request.fields["user_id"] for request in shop.searches if request.fields["num"] == 60}
        assert len(length) == pytest.approx(0.02 * report.users, abs=1)
        assert set().union(*(by_user[user] for user in length)) == promoted
        assert report.fraud_clicks == pytest.approx(0.2 * report.clicks, rel=0.02)

    def test_that_is_shown_nothing_promoted_leaves_half_of_the_searches_to_others(self) -> None:
        report = run(FakeShop(), 100, fraud=Fraud(frozenset({ProductId("elsewhere")})))
        assert (report.fraud_clicks, report.fraud_sessions) == (0, 50)


@pytest.mark.parametrize(
    "wrong", [{"abandons": 1.1}, {"clicks_right": -0.1}, {"list_length": 0}, {"score_spread": 0.0}]
)
def test_habits_that_nobody_can_have_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Habits(**wrong)


def test_fraud_without_a_promoted_product_is_refused() -> None:
    with pytest.raises(InputError):
        Fraud(frozenset())


@pytest.mark.parametrize("size", [(40, 60), (300, 90)])
def test_an_edited_photo_is_another_picture_large_enough_for_the_intake(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    photos = [edited(pixels, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert photos[0] == photos[1] != photos[2]
    with Image.open(io.BytesIO(photos[0])) as image:
        assert min(image.size) >= 90
