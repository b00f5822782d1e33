import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from sameitem.core.errors import ConflictError  # noqa: E402
from sameitem.features.model_folder import PAGE  # noqa: E402
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

    def recall(self) -> None:
        return None

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
    assert curves(tmp_path / "halves") == curves(tmp_path / "whole")
    assert len(curves(tmp_path / "whole")) == 17


def curves(folder: Path) -> list[dict[str, float]]:
    """What was noted of each step, but for the seconds that it took."""
    lines = [json.loads(line) for line in (folder / CURVES).read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "s"} for line in lines]


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


class Judged(Walk):
    """A walk that is judged by given figures: at its start, after every fourth step and at its end."""

    def __init__(self, steps: int, shared: torch.Tensor, recalls: Sequence[float], *, fail_at: int = -1) -> None:
        super().__init__(steps, 1, shared, fail_at=fail_at)
        self._recalls, self._taken = recalls, 0

    def step(self, number: int) -> Mapping[str, float]:
        self._taken = number + 1
        return super().step(number)

    def recall(self) -> float:  # type: ignore[override]
        return self._recalls[-(-self._taken // 4)]


def judged(folder: Path, recalls: Sequence[float], *, steps: int = 40, fail_at: int = -1) -> tuple[float, int]:
    """Return where a judged walk ended and how many steps it took."""
    shared = torch.zeros(())
    trainer = Trainer(folder, run={}, every=4)
    trainer.take([lambda: Judged(steps, shared, recalls, fail_at=fail_at)], total_steps=steps)
    return float(shared), len(curves(folder))


def walked(steps: int) -> float:
    shared = torch.zeros(())
    walk = Walk(steps, 1, shared)
    for number in range(steps):
        walk.step(number)
    return float(shared)


@pytest.mark.parametrize(
    ("recalls", "best", "taken"),
    [
        ([0.1, 0.3, 0.2, 0.2, 0.2, 0.9, 0.9], 4, 16),  # three measurements without gain
        ([0.1, 0.3, 0.2, 0.2, 0.4, 0.1, 0.2, 0.3], 16, 28),  # a gain begins the count anew
        ([0.5, 0.5, 0.5, 0.5, 0.9], 12, 12),  # of equals the later, but none of them is a gain
        ([0.5, 0.1, 0.2, 0.3], 0, 12),  # nothing is better than the start
        ([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0], 40, 40),  # every step
    ],
)
def test_a_judged_phase_ends_early_and_with_its_best_state(
    tmp_path: Path, recalls: list[float], best: int, taken: int
) -> None:
    assert judged(tmp_path, recalls) == (walked(best), taken)


@pytest.mark.parametrize("fail_at", [2, 5, 9, 13, 15])
def test_a_judged_phase_that_was_killed_ends_where_it_would_have(tmp_path: Path, fail_at: int) -> None:
    recalls = [0.1, 0.3, 0.2, 0.3, 0.2, 0.9]
    with pytest.raises(KeyboardInterrupt):
        judged(tmp_path, recalls, fail_at=fail_at)
    assert judged(tmp_path, recalls) == (walked(12), 16)


def test_a_judged_phase_is_also_judged_after_its_last_step(tmp_path: Path) -> None:
    assert judged(tmp_path / "better", [0.1, 0.3, 0.9], steps=6) == (walked(6), 6)
    assert judged(tmp_path / "worse", [0.1, 0.3, 0.2], steps=6) == (walked(4), 6)


def test_the_page_of_curves_stands_beside_the_checkpoint(tmp_path: Path) -> None:
    run(tmp_path)
    assert "<svg" in (tmp_path / PAGE).read_text()
