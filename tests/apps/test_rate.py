"""How much one caller may ask."""

from hypothesis import given
from hypothesis import strategies as st

from sameitem.apps.rate import Buckets


@given(
    per_minute=st.integers(1, 50), pauses=st.lists(st.sampled_from([0.0, 0.01, 0.5, 1.0, 3.0, 20.0, 90.0]), max_size=80)
)
def test_in_no_stretch_of_time_passes_more_than_a_full_bucket_and_what_flowed_in(
    per_minute: int, pauses: list[float]
) -> None:
    now, passed = 0.0, []
    buckets = Buckets(per_minute=per_minute, clock=lambda: now)
    for pause in pauses:
        now += pause
        wait_s = buckets.take("a")
        assert wait_s >= 0
        if not wait_s:
            passed.append(now)
    for first, begun in enumerate(passed):
        for last, ended in enumerate(passed[first:], start=first):
            assert last - first + 1 <= per_minute + (ended - begun) * per_minute / 60 + 1e-6


@given(per_minute=st.integers(1, 50), pauses=st.lists(st.floats(0, 30), max_size=40))
def test_who_waits_as_long_as_told_is_let_through(per_minute: int, pauses: list[float]) -> None:
    now = 0.0
    buckets = Buckets(per_minute=per_minute, clock=lambda: now)
    for pause in pauses:
        now += pause
        if wait_s := buckets.take("a"):
            assert buckets.wait_s("a") == wait_s
            now += wait_s + 1e-6
            assert buckets.take("a") == 0


@given(asked=st.lists(st.sampled_from("abc"), max_size=60))
def test_callers_do_not_take_from_each_other(asked: list[str]) -> None:
    together = Buckets(per_minute=5, clock=lambda: 0.0)
    alone = {caller: Buckets(per_minute=5, clock=lambda: 0.0) for caller in "abc"}
    for caller in asked:
        assert together.take(caller) == alone[caller].take(caller)


def test_asking_how_long_takes_nothing() -> None:
    buckets = Buckets(per_minute=1, clock=lambda: 0.0)
    assert [buckets.wait_s("a") for _ in range(5)] == [0] * 5
    assert buckets.take("a") == 0
    assert buckets.take("a") == 60


def test_no_crowd_of_callers_fills_the_memory() -> None:
    buckets = Buckets(per_minute=1, clock=lambda: 0.0, most=3)
    for caller in range(10):
        buckets.take(caller)
    assert len(buckets._left) == 3
    assert buckets.take(9) == 60  # the last ones are remembered
