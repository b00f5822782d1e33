"""Which model is active, which index answers, and what a kill between the two leaves."""

import os
import random
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from galleries import CERTIFICATE, CREATED, draw, is_switching, write
from sameitem.core.errors import ConflictError, NotFoundError
from sameitem.engine.build import seal
from sameitem.engine.index import open_index
from sameitem.engine.manifest import MANIFEST, read_manifest, write_manifest
from sameitem.engine.versions import current, make_live, new_version, prune, stage, start_build
from sameitem.pipeline import generations
from sameitem.pipeline.generations import (
    ACTIVE,
    Generations,
    comparable_index,
    go_back,
    go_forward,
    kept_for_rollback,
    newest_index,
    read_generations,
)

START = "base-2"


class Roots:
    """The two folders of a shop that hold the state, and index versions of named models in them."""

    def __init__(self, folder: Path) -> None:
        self.models, self.index = folder / "models", folder / "index"
        self._made = 0

    def make(self, model: str, *, seq: int = 0, live: bool = False) -> str:
        self._made += 1
        version = new_version(CREATED + timedelta(seconds=self._made))
        built = start_build(self.index, version)
        write(built, draw(1, entries=3), version=version)
        seal(built, certificate=CERTIFICATE)
        write_manifest(built, replace(read_manifest(built), model_version=model, extra={"seq": seq}))
        stage(self.index, built)
        if live:
            make_live(self.index, version)
        return version

    def forward(self, version: str) -> Generations:
        return go_forward(self.models, self.index, version, start=START)

    def back(self, version: str) -> Generations:
        return go_back(self.models, self.index, version, start=START)

    @property
    def state(self) -> Generations:
        return read_generations(self.models, start=START)

    @property
    def answers(self) -> str:
        return read_manifest(self.index / str(current(self.index))).model_version


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    return Roots(tmp_path)


def test_a_shop_that_never_activated_a_model_uses_the_one_it_starts_with(roots: Roots) -> None:
    assert roots.state == Generations(START)
    assert not (roots.models / ACTIVE).exists()


def test_going_forward_makes_model_and_index_the_current_ones(roots: Roots) -> None:
    roots.make(START, live=True)
    new = roots.make("clicks-1")
    assert roots.forward(new) == roots.state == Generations("clicks-1", (START,))
    assert (current(roots.index), roots.answers) == (new, "clicks-1")


def test_activating_an_earlier_generation_again_puts_the_other_first_in_line(roots: Roots) -> None:
    for model in ("clicks-1", "clicks-2", "clicks-1"):
        roots.forward(roots.make(model))
    assert roots.state == Generations("clicks-1", ("clicks-2", START))


def test_going_back_steps_through_the_generations(roots: Roots) -> None:
    made = {model: roots.make(model) for model in (START, "clicks-1", "clicks-2")}
    for model in ("clicks-1", "clicks-2"):
        roots.forward(made[model])
    assert roots.back(made["clicks-1"]) == Generations("clicks-1", (START,))
    assert (roots.answers, roots.state.version) == ("clicks-1", "clicks-1")
    assert roots.back(made[START]) == Generations(START)
    assert roots.answers == START


def test_going_back_within_a_generation_leaves_the_model_as_it_is(roots: Roots) -> None:
    old = roots.make(START)
    roots.make(START, live=True)
    roots.back(old)
    assert current(roots.index) == old
    assert not (roots.models / ACTIVE).exists()


def test_an_index_that_is_not_there_changes_nothing(roots: Roots) -> None:
    live = roots.make(START, live=True)
    for switch in (roots.forward, roots.back):
        with pytest.raises(NotFoundError):
            switch("20260101-000000-0000")
    assert (current(roots.index), roots.state) == (live, Generations(START))


class TestTheIndexOfAModel:
    def test_is_the_live_one_for_the_live_model(self, roots: Roots) -> None:
        live = roots.make(START, seq=1, live=True)
        roots.make(START, seq=2)  # beside it
        assert comparable_index(roots.index, START) == live

    def test_is_the_newest_that_saw_as_much_of_the_catalogue_as_the_live_one(self, roots: Roots) -> None:
        roots.make("clicks-1", seq=9)
        newest = roots.make("clicks-1", seq=5)
        roots.make(START, seq=5, live=True)
        assert comparable_index(roots.index, "clicks-1") == newest

    def test_is_missing_where_it_saw_less_or_there_is_none(self, roots: Roots) -> None:
        roots.make("clicks-1", seq=4)
        roots.make(START, seq=5, live=True)
        assert comparable_index(roots.index, "clicks-1") is None
        assert comparable_index(roots.index, "clicks-2") is None

    def test_is_the_newest_before_anything_is_live(self, roots: Roots) -> None:
        made = roots.make("clicks-1", seq=4)
        assert comparable_index(roots.index, "clicks-1") == newest_index(roots.index, "clicks-1") == made


def test_pruning_keeps_the_newest_index_of_the_previous_generation(roots: Roots) -> None:
    old, kept = roots.make(START), roots.make(START)
    roots.forward(roots.make("clicks-1"))
    later = [roots.make("clicks-1", live=True) for _ in range(3)]
    besides = kept_for_rollback(roots.models, roots.index, start=START)
    assert besides == {kept}
    assert set(prune(roots.index, keep=2, besides=besides)) >= {old, later[0]}
    assert roots.back(kept) == Generations(START)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[]",
        '{"format": 2}',
        '{"format": 1}',
        '{"format": 1, "version": "../up"}',
        '{"format": 1, "version": 3}',
    ],
)
def test_a_damaged_state_is_refused_with_what_to_do(roots: Roots, content: str) -> None:
    roots.models.mkdir()
    (roots.models / ACTIVE).write_text(content)
    with pytest.raises(ConflictError, match=r"ACTIVE"):
        _ = roots.state


def test_a_folder_where_the_state_should_be_is_refused_too(roots: Roots) -> None:
    (roots.models / ACTIVE).mkdir(parents=True)
    with pytest.raises(ConflictError, match=r"models/ACTIVE is damaged \(Is a directory\); remove it") as refused:
        _ = roots.state
    assert str(roots.models) not in str(refused.value)


class TestADamagedIndexVersion:
    """Its manifest is cut off."""

    @staticmethod
    def damage(roots: Roots, version: str) -> None:
        (roots.index / version / MANIFEST).write_text("{")

    def test_is_passed_over_by_what_looks_for_the_newest_of_a_model(self, roots: Roots) -> None:
        older, broken = roots.make("clicks-1"), roots.make("clicks-1")
        self.damage(roots, broken)
        assert newest_index(roots.index, "clicks-1") == older

    def test_beside_it_a_switch_and_pruning_go_on(self, roots: Roots) -> None:
        kept = roots.make(START, live=True)
        broken = roots.make(START)
        roots.forward(roots.make("clicks-1"))
        self.damage(roots, broken)
        assert kept_for_rollback(roots.models, roots.index, start=START) == {kept}
        assert roots.back(kept) == Generations(START)

    def test_that_is_live_leaves_nothing_to_compare_with(self, roots: Roots) -> None:
        roots.make("clicks-1")
        self.damage(roots, roots.make(START, live=True))
        assert comparable_index(roots.index, "clicks-1") is None


def test_a_switch_holds_the_lock_so_that_no_build_publishes_or_clears_away_meanwhile(
    roots: Roots, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = roots.make(START, live=True), roots.make("clicks-1")
    seen: list[bool] = []

    def look(index_root: Path, version: str) -> None:
        seen.append(is_switching(index_root))
        make_live(index_root, version)

    monkeypatch.setattr(generations, "make_live", look)
    roots.forward(new)
    roots.back(old)
    assert (seen, is_switching(roots.index)) == ([True, True], False)


class TestAKillBetweenTheTwoFiles:
    """The second of the two writes never happens."""

    def test_going_forward_leaves_the_old_index_answering_and_the_same_call_finishes(
        self, roots: Roots, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        roots.make(START, live=True)
        new = roots.make("clicks-1")
        with monkeypatch.context() as patched:
            patched.setattr(generations, "make_live", interrupt)
            with pytest.raises(KeyboardInterrupt):
                roots.forward(new)
        assert (roots.answers, roots.state.version) == (START, "clicks-1")  # the next build makes the same switch
        assert roots.forward(new) == Generations("clicks-1", (START,))
        assert roots.answers == "clicks-1"

    def test_going_forward_can_be_taken_back_as_if_it_had_happened(
        self, roots: Roots, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old = roots.make(START, live=True)
        new = roots.make("clicks-1")
        with monkeypatch.context() as patched:
            patched.setattr(generations, "make_live", interrupt)
            with pytest.raises(KeyboardInterrupt):
                roots.forward(new)
        assert roots.back(old) == roots.state == Generations(START)
        assert roots.answers == START

    def test_going_back_leaves_the_old_index_answering_and_the_same_call_finishes(
        self, roots: Roots, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old = roots.make(START, live=True)
        roots.forward(roots.make("clicks-1"))
        with monkeypatch.context() as patched:
            patched.setattr(generations, "write_whole", interrupt)
            with pytest.raises(KeyboardInterrupt):
                roots.back(old)
        assert roots.answers == START
        assert roots.state.previous == (START,)  # so that a rollback still aims at it
        assert roots.back(old) == Generations(START)


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


SWITCHER = """
import sys
from pathlib import Path
from sameitem.pipeline.generations import go_back, go_forward
models, index, old, new = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
go_forward(models, index, new, start="base-2")  # the first opening of an index loads what was compiled
go_back(models, index, old, start="base-2")
print("ready", flush=True)
while True:
    go_forward(models, index, new, start="base-2")
    go_back(models, index, old, start="base-2")
"""


@pytest.mark.slow
def test_a_switch_killed_at_any_moment_leaves_a_whole_index_and_a_known_model(roots: Roots) -> None:
    """SAMEITEM_TEST_KILLS sets how often."""
    old, new = roots.make(START, live=True), roots.make("clicks-1")
    moments = random.Random(3)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    command = [sys.executable, "-c", SWITCHER, str(roots.models), str(roots.index), old, new]
    states = set()
    for _ in range(int(os.environ.get("SAMEITEM_TEST_KILLS", "20"))):
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as switcher:
            assert switcher.stdout is not None
            assert switcher.stdout.readline() == "ready\n"
            try:
                switcher.wait(moments.uniform(0.0, 0.05))
            except subprocess.TimeoutExpired:
                switcher.kill()
        assert switcher.returncode == -9
        open_index(roots.index / str(current(roots.index)), verify=True)
        state, answers = roots.state, roots.answers
        states.add((answers, state.version))
        assert state in (Generations(START), Generations("clicks-1", (START,)))
        assert answers == START or state.version == "clicks-1"  # what answers is active, or first in line
    assert len(states) > 1
    assert roots.back(old) == Generations(START)
    assert roots.answers == START
