import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sameitem.core.errors import ConflictError, InputError, NotFoundError
from sameitem.metrics.sequential import StopRule
from sameitem.pipeline.experiment import (
    CURRENT,
    Experiment,
    Mark,
    assigned,
    interleaved,
    read,
    read_mark,
    start,
    stop,
)
from sameitem.rerank.interleaving import team_draft

SOME = Experiment("x", "ranker", "", "r1", 0.3, 1.0, StopRule())


def begin(root: Path, a: str = "", b: str = "r1", share: float = 1.0) -> Experiment:
    return start(root, a=a, b=b, share=share, rule=StopRule(worth=0.1), at=1_700_000_000.0)


def test_what_was_started_is_read_as_it_was_until_it_is_stopped(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    started = begin(tmp_path)
    assert read(tmp_path) == started
    assert (started.a, started.b, started.rule.worth) == ("", "r1", 0.1)
    assert stop(tmp_path, at=1_700_000_100.0, result={"verdict": "go on"}) == started
    assert read(tmp_path) is None
    kept = json.loads((tmp_path / f"{started.id}.json").read_text())
    assert (kept["stopped_at"], kept["result"], kept["b"]) == (1_700_000_100.0, {"verdict": "go on"}, "r1")


def test_a_second_experiment_waits_for_the_end_of_the_first(tmp_path: Path) -> None:
    first = begin(tmp_path)
    with pytest.raises(ConflictError, match=first.id):
        begin(tmp_path, b="r2")
    stop(tmp_path, at=1_700_000_001.0, result={})
    assert begin(tmp_path, b="r2").id != first.id


def test_without_an_experiment_there_is_none_to_stop(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no experiment is running"):
        stop(tmp_path, at=1.0, result={})


@pytest.mark.parametrize("share", [0.0, 1.1, -1.0, float("nan")])
def test_an_impossible_share_is_refused(tmp_path: Path, share: float) -> None:
    with pytest.raises(InputError, match="share of users"):
        begin(tmp_path, share=share)
    assert read(tmp_path) is None


def test_a_ranker_is_not_compared_with_itself(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two different rankers"):
        begin(tmp_path, a="r1")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"format": 2}', b'{"format": 1, "id": "x"}', b'{"format": 1, "rule": 3}']
)
def test_a_damaged_file_is_said_to_be_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CURRENT).write_bytes(content)
    with pytest.raises(ConflictError, match="experiments/CURRENT"):
        read(tmp_path)


def test_so_many_users_take_part_as_the_share_says_and_always_the_same() -> None:
    users = [f"user-{number}" for number in range(20_000)]
    taking_part = [assigned(SOME, user) for user in users]
    assert np.mean(taking_part) == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / len(users)) ** 0.5)
    assert taking_part == [assigned(SOME, user) for user in users]
    assert all(assigned(replace(SOME, share=1.0), user) for user in users[:100])


def test_another_experiment_has_other_users() -> None:
    other = replace(SOME, id="y")
    same = np.mean([assigned(SOME, str(user)) == assigned(other, str(user)) for user in range(5000)])
    assert same == pytest.approx(0.3**2 + 0.7**2, abs=0.03)


@given(pair=st.integers(0, 8).flatmap(lambda n: st.tuples(*[st.permutations(range(n))] * 2)), seed=st.text(max_size=9))
def test_a_list_is_a_team_draft_that_its_seed_gives_again(pair: tuple[list[int], list[int]], seed: str) -> None:
    made = interleaved(*pair, seed)
    assert interleaved(*pair, seed) == made
    size = len(pair[0])
    every = [[bool(number >> bit & 1) for bit in range(size)] for number in range(2**size)]
    assert made in [team_draft(*pair, coins) for coins in every]


def test_seeds_throw_fair_coins() -> None:
    first = [interleaved([1, 2], [2, 1], f"search-{number}").teams[0] for number in range(4000)]
    assert first.count("A") / 4000 == pytest.approx(0.5, abs=4 * 0.5 / 4000**0.5)


def test_a_mark_is_read_as_it_was_written() -> None:
    mark = Mark("x", "AB-BA")
    assert mark.as_text() == '{"id":"x","teams":"AB-BA"}'
    assert read_mark(mark.as_text()) == mark
    assert read_mark("") is None
