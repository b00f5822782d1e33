"""Runs phases step by step: checkpoints that survive `kill -9`, exact resume, curves, early stop.

A checkpoint is one `.npz` file of arrays, written whole or not at all; nothing in it is unpickled.
"""

import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from sameitem.core.durable import write_whole
from sameitem.core.errors import ConflictError
from sameitem.learning.phases import Phase

Tell = Callable[[str, float, Mapping[str, float]], None]  # what is done, percent, numbers to show
CHECKPOINT, CURVES = "checkpoint.npz", "curves.jsonl"


class Trainer:
    """Takes the steps of phases one after the other, and remembers where it is."""

    def __init__(
        self,
        folder: Path,
        *,
        run: Mapping[str, object],
        every: int = 50,
        tell: Tell = lambda _what, _percent, _numbers: None,
        deadline: float = float("inf"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open a run.

        Args:
            folder: for checkpoint and curves.
            run: what makes two runs the same (seed, recipe, data); a checkpoint of another run is refused.
            every: steps between two checkpoints.
            tell: is told how far it is.
            deadline: by `clock`; when it is over, the phase ends and the later ones take one step each.
            clock: seconds.

        Raises:
            ConflictError: the folder holds a checkpoint of another run.
        """
        self._folder, self._every, self._tell = folder, every, tell
        self._deadline, self._clock = deadline, clock
        self._run = json.dumps(dict(run), sort_keys=True, default=str)
        self._phase, self._step = 0, 0
        self._kept: dict[str, torch.Tensor] = {}
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / CHECKPOINT).is_file():
            self._read()
        else:
            (folder / CURVES).unlink(missing_ok=True)  # of a run that was killed before its first checkpoint

    def take(self, phases: Sequence[Callable[[], Phase]], *, total_steps: int) -> None:
        """Take all phases.

        Args:
            phases: each makes its phase when its turn has come: what it starts from is what the one before left.
            total_steps: of all phases, to say how far it is.
        """
        done = 0
        for number, make in enumerate(phases):
            phase = make()
            if number < self._phase:  # its result comes with the checkpoint of a later phase, or is loaded below
                phase.load(self._of(number))
                done += phase.steps
                continue
            if self._step and number == self._phase:
                phase.load(self._of(number))
            start = self._step
            for step in range(start, phase.steps):
                began = self._clock()
                numbers = phase.step(step)
                self._tell(
                    phase.name, 100 * (done + step + 1) / max(1, total_steps), {**numbers, "s": self._clock() - began}
                )
                self._note(number, phase.name, step, numbers)
                if (step + 1) % self._every == 0:
                    self._write(number, step + 1, phase)
                if self._clock() > self._deadline:
                    break
            self._write(number + 1, 0, phase)
            done += phase.steps

    def _of(self, number: int) -> Mapping[str, torch.Tensor]:
        prefix = f"{number}/"
        return {name.removeprefix(prefix): value for name, value in self._kept.items() if name.startswith(prefix)}

    def _note(self, number: int, name: str, step: int, numbers: Mapping[str, float]) -> None:
        line = {"phase": number, "name": name, "step": step, **{key: round(value, 6) for key, value in numbers.items()}}
        with (self._folder / CURVES).open("a") as stream:
            stream.write(json.dumps(line) + "\n")

    def _write(self, number: int, step: int, phase: Phase) -> None:
        owner = number if step else number - 1  # the phase whose state this is
        self._kept = {name: value for name, value in self._kept.items() if not name.startswith(f"{owner}/")}
        self._kept |= {f"{owner}/{name}": value.detach().clone() for name, value in phase.state().items()}
        out = io.BytesIO()
        arrays = {name: value.numpy() for name, value in self._kept.items()}
        np.savez(out, **arrays, **{"at": np.array([number, step]), "run": np.array(self._run)})  # type: ignore[arg-type]
        write_whole(self._folder / CHECKPOINT, out.getvalue())
        self._phase, self._step = number, 0 if step == 0 else self._step

    def _read(self) -> None:
        with np.load(self._folder / CHECKPOINT, allow_pickle=False) as kept:
            if str(kept["run"]) != self._run:
                raise ConflictError(
                    f"{self._folder.name} holds the checkpoint of another training (other data, seed or settings); "
                    "give another folder, or delete it to start anew"
                )
            self._phase, self._step = (int(value) for value in kept["at"])
            self._kept = {name: torch.from_numpy(kept[name]) for name in kept.files if name not in {"at", "run"}}
        curves = self._folder / CURVES
        lines = [json.loads(line) for line in curves.read_text().splitlines() if line.endswith("}")]
        at = (self._phase, self._step)
        kept_lines = [line for line in lines if (line["phase"], line["step"]) < at]
        write_whole(curves, "".join(json.dumps(line) + "\n" for line in kept_lines).encode())
