from dataclasses import asdict
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sameitem.core.errors import InputError
from sameitem.metrics.sequential import (
    Plan,
    StopRule,
    Trial,
    add,
    add_all,
    chances,
    plan,
    preference,
    spending_bounds,
)

SHORT = StopRule(worth=0.2)


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("worth", [0.02, 0.1, 0.4])
@pytest.mark.parametrize("looks", [1, 4, 25])
def test_a_plan_keeps_its_rule_and_is_no_longer_than_it_must(alpha: float, worth: float, looks: int) -> None:
    rule = StopRule(alpha=alpha, power=0.8, worth=worth, looks=looks)
    found = plan(rule)
    equal = chances(Plan(found.decided, found.bounds, (-1,) * looks), 0.0)
    assert equal.a_better + equal.b_better <= alpha  # also for who goes on where nothing seems to be found
    assert chances(found, worth).b_better >= 0.8
    assert chances(found, -worth).a_better == pytest.approx(chances(found, worth).b_better)
    classical = plan(StopRule(alpha=alpha, power=0.8, worth=worth, looks=1))
    assert found.most <= 1.25 * classical.most + 10


def test_the_chances_of_a_plan_are_those_of_all_its_walks() -> None:
    steps = Plan((3, 6, 9), (3, 4, 3), (-1, 0, 2))
    ends = {"a": 0.0, "b": 0.0, "decided": 0.0}
    for walk in product((1, -1), repeat=9):
        likely = 0.6 ** walk.count(1) * 0.4 ** walk.count(-1)
        for count, bound, futile in zip(steps.decided, steps.bounds, steps.futile, strict=True):
            lead = sum(walk[:count])
            if abs(lead) >= bound or abs(lead) <= futile:
                ends["decided"] += count * likely
                ends["a"] += likely * (lead <= -bound)
                ends["b"] += likely * (lead >= bound)
                break
    found = chances(steps, 0.2)
    assert (found.a_better, found.b_better, found.decided) == pytest.approx((ends["a"], ends["b"], ends["decided"]))


def test_bounds_spend_no_more_than_they_may_and_one_win_less_would() -> None:
    decided, spent = (20, 40, 60), (0.01, 0.03, 0.05)
    bounds = spending_bounds(decided, spent)

    def used(bounds: tuple[int, ...]) -> list[float]:
        steps = [chances(Plan(decided[:n], bounds[:n], (-1,) * n), 0.0) for n in (1, 2, 3)]
        return [step.a_better + step.b_better for step in steps]

    assert all(now <= allowed for now, allowed in zip(used(bounds), spent, strict=True))
    for look in range(3):
        lower = tuple(bound - 2 * (place == look) for place, bound in enumerate(bounds))
        assert used(lower)[look] > spent[look]


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 9999), share=st.sampled_from([0.4, 0.5, 0.62]), cuts=st.lists(st.integers(0, 900)))
def test_sessions_taken_in_together_end_as_they_do_one_by_one(seed: int, share: float, cuts: list[int]) -> None:
    draw = np.random.default_rng(seed)
    wins = np.where(draw.random(900) < 0.4, 0, np.where(draw.random(900) < share, 1, -1)).astype(np.int8)
    single = Trial()
    for win in wins:
        single = add(single, SHORT, {1: "B", -1: "A", 0: ""}[int(win)])
    assert add_all(Trial(), SHORT, wins) == single
    parts = Trial()
    for part in np.split(wins, sorted(cuts)):
        parts = add_all(Trial(**asdict(parts)), SHORT, part)  # as another process reads it
    assert parts == single


def test_a_trial_ends_at_the_bound_of_a_look_and_changes_no_more() -> None:
    steps = plan(SHORT)
    even = np.tile(np.array([1, -1], np.int8), steps.decided[0])[: steps.decided[0]]
    first = add_all(Trial(), SHORT, even)
    assert (first.looks, first.verdict) == (1, "go on")
    sure = add_all(Trial(), SHORT, np.ones(steps.decided[1], np.int8))
    assert sure.verdict == "b better"
    assert add(sure, SHORT, "A") == sure
    assert add_all(Trial(), SHORT, -np.ones(steps.decided[1], np.int8)).verdict == "a better"


def test_a_trial_without_a_lead_ends_before_the_last_session() -> None:
    ended = add_all(Trial(), SHORT, np.tile(np.array([1, -1], np.int8), 500))
    assert ended.verdict == "no difference worth finding"
    assert ended.decided < plan(SHORT).most


def test_ties_bring_no_trial_nearer_to_its_end() -> None:
    tied = add_all(Trial(), SHORT, np.zeros(10_000, np.int8))
    assert tied == Trial(ties=10_000)
    assert preference(tied, SHORT).low == -1


@pytest.mark.parametrize("true", [0.0, 0.1, 0.25])
def test_the_interval_holds_the_true_preference_at_the_end_of_nearly_all_trials(true: float) -> None:
    draw, held = np.random.default_rng(5), 0
    for _ in range(1000):
        wins = np.where(draw.random(plan(SHORT).most) < (1 + true) / 2, 1, -1).astype(np.int8)
        interval = preference(add_all(Trial(), SHORT, wins), SHORT)
        held += interval.low <= true <= interval.high
    assert held >= 950 - 2 * 7  # two standard deviations


def test_the_interval_of_a_trial_that_found_a_winner_leaves_out_0() -> None:
    won = add_all(Trial(), SHORT, np.ones(1000, np.int8))
    assert preference(won, SHORT).low > 0


@pytest.mark.parametrize(
    "wrong", [{"alpha": 0.0}, {"power": 1.0}, {"worth": 0.0}, {"worth": float("nan")}, {"looks": 0}]
)
def test_a_rule_that_cannot_be_kept_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="need"):
        StopRule(**wrong)  # type: ignore[arg-type]


def test_a_preference_that_takes_forever_to_find_is_refused() -> None:
    with pytest.raises(InputError, match="larger worth"):
        plan(StopRule(worth=1e-4))


def test_an_unknown_winner_is_refused() -> None:
    with pytest.raises(InputError, match="as the winner"):
        add(Trial(), SHORT, "C")
