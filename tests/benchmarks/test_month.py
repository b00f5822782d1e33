"""The simulated month: its world, what its users like, and the figures that are made of its days."""

import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import integers

import month
import month_report
import month_world
from month import APPEALS, World, read_world
from month_report import LATE, Month, late_clicks, late_recall, over_days, page, plot, switches
from month_world import GATE, SHOPPER, TEST, TESTS, Plan, designs_of, draw_world, photos_of
from sameitem.core.records import ProductId

SMALL = Plan(3, days=2, a_day=6, history=12, designs=6)


@given(seed=integers(0, 999), days=integers(1, 6), more=integers(1, 5))
def test_a_longer_month_goes_on_where_a_shorter_one_ended(seed: int, days: int, more: int) -> None:
    short, long = (Plan(seed, days=count, a_day=9, history=20, designs=12) for count in (days, days + more))
    assert designs_of(long)[: len(designs_of(short))] == designs_of(short)
    assert set(photos_of(short)) <= set(photos_of(long))


@given(seed=integers(0, 999))
def test_shoppers_photograph_what_is_sold_and_no_photo_has_two_uses(seed: int) -> None:
    plan = replace(SMALL, seed=seed, designs=30)
    designs, photos = designs_of(plan), photos_of(plan)
    assert len({photo.image for photo in photos}) == len(photos)
    for photo in photos:
        design = designs[photo.design]
        assert photo.day >= design.day
        assert photo.use != SHOPPER or design.is_wanted
        assert photo.use != GATE or design.sellers == 1
    a_day = Counter(photo.day for photo in photos if photo.use == SHOPPER)
    assert a_day == {0: plan.history, **{day: plan.a_day for day in range(1, plan.days + 1)}}
    assert Counter(photo.design for photo in photos if photo.use == TEST) == {one.number: TESTS for one in designs}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return read_world(tmp_path_factory.mktemp("world"), SMALL, workers=1)


def test_the_same_plan_draws_the_same_bytes_and_what_is_there_stays(world: World, tmp_path: Path) -> None:
    draw_world(tmp_path, replace(SMALL, days=1), workers=1, tell=lambda *_: None)
    first = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.jpg")}
    draw_world(tmp_path, SMALL, workers=1, tell=lambda *_: None)
    assert all(file.stat().st_mtime_ns == time for file, time in first.items())
    for file in world.folder.rglob("*.jpg"):
        assert (tmp_path / file.relative_to(world.folder)).read_bytes() == file.read_bytes()
    for name in (month_world.CATALOGUE, month_world.PHOTOS, month_world.GATE_QUERIES):
        assert (tmp_path / name).read_bytes() == (world.folder / name).read_bytes()


def test_a_day_brings_its_products_its_errands_and_more_tests(world: World) -> None:
    listed = []
    for day in range(SMALL.days + 1):
        with world.feed(day).open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert {row["product_id"] for row in rows} == {
            name for design in world.designs if design.day == day for name in design.products
        }
        listed += rows
        assert len(list(world.errands(day))) == (SMALL.a_day if day else SMALL.history)
    assert len(listed) == len(world.rows)
    counts = [len(world.tests(day)) for day in range(SMALL.days + 1)]
    assert counts == sorted(set(counts))
    assert world.tests(1)[: counts[0]] == world.tests(0)


def test_users_like_products_by_their_day_and_their_own_taste(world: World) -> None:
    products = [ProductId(row["product_id"]) for row in world.rows]
    one, again, other, later = (
        world.appeal(day)(user, products) for day, user in ((1, "a"), (1, "a"), (1, "b"), (20, "a"))
    )
    assert one == again
    assert one not in (other, later)
    assert APPEALS[0] <= min(one) < max(one) <= APPEALS[1]


def drawn_month(arm: str, seed: int, found: float, *, days: int = 8, switch: int | None = None) -> Month:
    """A month whose evenings find a share of the photos, drawn anew each day."""
    generator = np.random.default_rng([seed, len(arm)])
    told = []
    for day in range(1, days + 1):
        count = 40 + 4 * day
        evening = {
            "model": "after" if switch is not None and day >= switch else "before",
            "right": "".join("1" if generator.random() < found else "0" for _ in range(count)),
            "looked_for": "".join(str(int(row // TESTS % 4 > 0)) for row in range(count)),
        }
        morning = {**evening, "model": "before", "right": "0" * count} if day == switch else evening
        clicks = generator.integers(0, 3, 25)
        told.append(
            {
                "day": day,
                "right": np.minimum(clicks, 1).tolist(),
                "clicks": clicks.tolist(),
                "morning": morning,
                "evening": evening,
                "seconds": {"measure": 9.0, **({} if arm == "none" else {"learn": 10.0 * day, "learn cpu": 8.0 * day})},
            }
        )
    return Month(arm, seed, told)


def test_the_figures_of_the_last_days_are_means_of_differences() -> None:
    loop, none = ([drawn_month(arm, seed, share) for seed in (1, 2)] for arm, share in (("loop", 0.8), ("none", 0.4)))
    found = late_recall(loop, none, lambda month, day: month.looked_for(day))
    photos = []
    for one, other in zip(loop, none, strict=True):
        first = len(one.days) - LATE
        kept = one.looked_for(first)
        count = len(kept)
        days = range(first, len(one.days))
        apart = [one.found(day)[:count][kept] - other.found(day)[:count][kept] for day in days]
        photos.append(np.mean(apart, axis=0))
    assert found.mean == pytest.approx(np.concatenate(photos).mean())
    assert found.low < found.mean < found.high
    clicks = late_clicks(loop, none, lambda month, day: month.clicks(day))
    each = [one.clicks(day) - other.clicks(day) for one, other in zip(loop, none, strict=True) for day in range(2, 8)]
    assert clicks.mean == pytest.approx(np.concatenate(each).mean())
    assert over_days(loop, none, lambda month, day: month.clicks(day)).mean == pytest.approx(clicks.mean)


def test_the_page_says_that_it_is_simulated_and_names_every_switch() -> None:
    months = [drawn_month("loop", 1, 0.8, switch=3), drawn_month("none", 1, 0.4), drawn_month("ranker", 1, 0.4)]
    ((seed, day, change),) = switches(months)
    assert (seed, day) == (1, 3)
    assert change.mean == pytest.approx(months[0].found(2).mean())
    text, drawing = page(months, "month.svg"), plot(months)
    assert "Every click is simulated" in text
    assert "went live on 1 of 8 evenings" in text
    assert "fell beyond its interval on 0" in text
    assert "An evening of the arm loop: 45 s at the median, 80 s at most; 36 and 64 s of one" in text
    assert "the arm none:" not in text
    assert sum(line.startswith(f"| {number} |") for number in range(1, 9) for line in text.splitlines()) == 8
    assert "simulated" in drawing
    for arm in ("loop", "none", "ranker"):
        assert f">{arm} 0." in drawing


def test_arms_are_cut_to_the_days_that_all_have(tmp_path: Path) -> None:
    files = []
    for arm, days in (("none", 8), ("loop", 7)):
        files.append(tmp_path / f"{arm}.json")
        told = {"arm": arm, "seed": 1, "days": drawn_month(arm, 1, 0.5, days=days).days}
        files[-1].write_text(json.dumps(told))
    assert [len(one.days) for one in month_report.read(files)] == [7, 7]


def test_every_arm_has_something_to_do_in_the_evening_or_nothing() -> None:
    assert set(month.LEARN) == set(month.ARMS) == set(month_report._LOOKS)
