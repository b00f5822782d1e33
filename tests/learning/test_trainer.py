import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from sameitem.core.errors import ConflictError  # noqa: E402
from sameitem.learning.trainer import CHECKPOINT, CURVES, Trainer  # noqa: E402


class Walk:
    """A phase whose steps are random by their number, and which fails when it is told to."""

    name = "walk"

    def __init__(self, steps: int, seed: int, shared: torch.Tensor, *, fail_at: int = -1) -> None:
        self.steps, self._seed, self._at, self._fail_at = steps, seed, shared, fail_at
        self._speed = torch.zeros(())

    def step(self, number: int) -> Mapping[str, float]:
        if number == self._fail_at:
            raise KeyboardInterrupt
        self._speed = 0.9 * self._speed + float(np.random.default_rng([self._seed, number]).standard_normal())
        self._at += self._speed
        return {"at": float(self._at)}

    def state(self) -> dict[str, torch.Tensor]:
        return {"at": self._at, "speed": self._speed}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        self._at.copy_(state["at"])
        self._speed = state["speed"].clone()


def run(folder: Path, *, fail: tuple[int, int] = (-1, -1), seed: int = 0) -> float:
    shared = torch.zeros(())
    trainer = Trainer(folder, run={"seed": seed}, every=4)
    phases = [
        lambda: Walk(10, 1, shared, fail_at=fail[1] if fail[0] == 0 else -1),
        lambda: Walk(7, 2, shared, fail_at=fail[1] if fail[0] == 1 else -1),
    ]
    trainer.take(phases, total_steps=17)
    return float(shared)


@pytest.mark.parametrize("fail", [(0, 0), (0, 3), (0, 4), (0, 9), (1, 0), (1, 3), (1, 6)])
def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(tmp_path: Path, fail: tuple[int, int]) -> None:
    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "halves", fail=fail)
    assert run(tmp_path / "halves") == whole
    lines = (tmp_path / "halves" / CURVES).read_text()
    assert lines == (tmp_path / "whole" / CURVES).read_text()
    assert len([json.loads(line) for line in lines.splitlines()]) == 17


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    first = run(tmp_path)
    assert run(tmp_path, fail=(1, 2)) == first


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(ConflictError, match="another training"):
        run(tmp_path, seed=1)


def test_a_deadline_ends_the_phases_early(tmp_path: Path) -> None:
    now = iter(range(1000))
    shared = torch.zeros(())
    trainer = Trainer(tmp_path, run={}, deadline=6.0, clock=lambda: float(next(now)))
    trainer.take([lambda: Walk(50, 1, shared), lambda: Walk(50, 2, shared)], total_steps=100)
    steps = [json.loads(line)["phase"] for line in (tmp_path / CURVES).read_text().splitlines()]
    assert 1 < steps.count(0) < 10
    assert steps.count(1) == 1
    assert (tmp_path / CHECKPOINT).is_file()
