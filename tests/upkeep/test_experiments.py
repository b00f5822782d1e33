import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from drawn_rankers import add_drawn
from sameitem.clicks.log import Event, EventType, Search, Session, Shown
from sameitem.core.errors import ConflictError, NotFoundError
from sameitem.core.records import ImageId, ProductId
from sameitem.metrics.sequential import StopRule, plan
from sameitem.pipeline.experiment import Experiment, Mark, read
from sameitem.upkeep.experiments import (
    PER_USER,
    SETTLES_S,
    show_experiment,
    standing,
    start_experiment,
    stop_experiment,
)
from shops import open_shop

RULE = StopRule(worth=0.4)
RUNNING = Experiment("now", "ranker", "looks", "r1", 1.0, 0.0, RULE)
LATER = 1e9 + 2 * SETTLES_S


def session(
    name: int,
    teams: str,
    clicked: Sequence[int],
    *,
    experiment: str = "now",
    first_rank: int = 1,
    kinds: Sequence[EventType] = ("click",),
    at: float = 1e9,
    user: str | None = None,
) -> Session:
    """Return a search with clicks on places of its list, from 0."""
    shown = tuple(
        Shown(first_rank + place, ProductId(f"p{place}"), "0.jpg", ImageId(place), 0.5) for place in range(len(teams))
    )
    mark = Mark(experiment, teams).as_text() if experiment else ""
    who = f"u{name}" if user is None else user
    search = Search(f"s{name}", at, "", None, "", "i", "m", who, "", shown, experiment=mark)
    events = tuple(
        Event(f"e{name}-{number}-{place}", search.search_id, kind, shown[place].product_id, "0.jpg", shown[place].rank)
        for place in clicked
        for number, kind in enumerate(kinds)
    )
    return Session(search, events)


def test_searches_are_credited_to_the_team_of_what_was_clicked() -> None:
    sessions = [
        session(0, "-AB", [1]),
        session(1, "-BA", [1]),
        session(2, "-BA", [1, 2]),
        session(3, "-AB", [0]),
        session(4, "AB-", []),
        session(5, "AB-", [1], first_rank=21),
    ]
    stands = standing(RUNNING, sessions, now=LATER)
    assert (stands.trial.a_wins, stands.trial.b_wins, stands.trial.ties, stands.searches) == (1, 2, 3, 6)


def test_a_click_that_was_taken_back_credits_nobody() -> None:
    assert standing(RUNNING, [session(0, "AB", [0], kinds=("click", "dismiss"))], now=LATER).trial.ties == 1


def test_clicks_on_one_place_count_once() -> None:
    assert standing(RUNNING, [session(0, "ABAB", [0, 1, 3], kinds=("click", "cart"))], now=LATER).trial.b_wins == 1


def test_searches_outside_the_experiment_say_nothing() -> None:
    others = [session(0, "AB", [0], experiment=""), session(1, "AB", [0], experiment="before")]
    assert standing(RUNNING, others, now=LATER).searches == 0


def test_a_search_counts_when_no_more_clicks_are_to_be_expected() -> None:
    young = session(0, "AB", [0], at=1e9)
    assert standing(RUNNING, [young], now=1e9 + SETTLES_S / 2).waiting == 1
    assert standing(RUNNING, [young], now=1e9 + SETTLES_S).trial.a_wins == 1


def test_one_user_cannot_decide() -> None:
    many = [session(number, "AB", [1], user="eager") for number in range(PER_USER + 7)]
    stands = standing(replace(RUNNING, rule=StopRule()), many, now=LATER)
    assert (stands.trial.b_wins, stands.over_the_limit) == (PER_USER, 7)


@pytest.mark.parametrize(("clicked", "verdict"), [(0, "a better"), (1, "b better")])
def test_an_experiment_ends_with_the_better_one(clicked: int, verdict: str) -> None:
    sessions = [session(number, "AB", [clicked]) for number in range(3000)]
    stands = standing(RUNNING, sessions, now=LATER)
    assert stands.trial.verdict == verdict
    assert stands.searches in plan(RULE).decided


def test_an_experiment_of_equals_ends_too() -> None:
    sessions = [session(number, "AB", [number % 2]) for number in range(3000)]
    assert standing(RUNNING, sessions, now=LATER).trial.verdict == "no difference worth finding"


class TestOfAShop:
    """From the start to the end, through the files and the click log of a shop."""

    def test_stands_as_its_log_says_and_is_kept_when_it_ends(self, tmp_path: Path) -> None:
        shop = open_shop(tmp_path / "shop")
        add_drawn(shop.rankers_root, "r1")
        started = start_experiment(shop, "looks", "r1", share=0.5, rule=RULE, now=1e9)
        for number in range(40):
            part = session(number, "AB", [1], experiment=started.id, at=1e9 + number)
            shop.clicks.record_search(part.search)
            shop.clicks.record_events([replace(event, ts=1e9 + number) for event in part.events])
        stands = show_experiment(shop, now=LATER)
        assert (stands.trial.b_wins, stands.trial.verdict) == (plan(RULE).decided[stands.trial.looks - 1], "b better")
        assert stop_experiment(shop, now=LATER) == stands
        kept = json.loads((shop.folder / "experiments" / f"{started.id}.json").read_text())
        assert kept["result"] == json.loads(json.dumps(stands.as_json()))
        assert read(shop.folder / "experiments") is None
        shop.close()

    def test_needs_rankers_that_are_there(self, tmp_path: Path) -> None:
        shop = open_shop(tmp_path / "shop")
        with pytest.raises(NotFoundError, match="no ranker 'r9'"):
            start_experiment(shop, "looks", "r9", share=1.0, rule=RULE, now=1e9)
        with pytest.raises(NotFoundError, match="no experiment is running"):
            show_experiment(shop, now=1e9)

    def test_is_the_only_one(self, tmp_path: Path) -> None:
        shop = open_shop(tmp_path / "shop")
        add_drawn(shop.rankers_root, "r1")
        start_experiment(shop, "r1", "looks", share=1.0, rule=RULE, now=1e9)
        with pytest.raises(ConflictError, match="is running"):
            start_experiment(shop, "looks", "r1", share=1.0, rule=RULE, now=1e9)
