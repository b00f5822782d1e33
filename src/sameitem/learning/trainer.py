"""Runs phases step by step: checkpoints that survive `kill -9`, exact resume, curves, early stop.

A checkpoint is one `.npz` file of arrays, written whole or not at all; nothing in it is unpickled. Where several
processes take the steps together, the first one writes and all of them read.
"""

import io
import json
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from sameitem.core.durable import write_whole
from sameitem.core.errors import ConflictError
from sameitem.features.model_folder import PAGE
from sameitem.learning import workers
from sameitem.learning.curves import write_page
from sameitem.learning.phases import Phase

Tell = Callable[[str, float, Mapping[str, float]], None]  # what is done, percent, numbers to show
CHECKPOINT, CURVES = "checkpoint.npz", "curves.jsonl"
PATIENCE = 3  # measurements without gain after which a phase that is judged ends
_BEST = "best/"  # prefix of the best state's names in a checkpoint


@dataclass(frozen=True, slots=True, eq=False)
class _Best:
    """The best state of a phase so far, and how many measurements have not gained since."""

    recall: float
    since: int
    state: Mapping[str, torch.Tensor]


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
            every: steps between two checkpoints, and between two measurements of a phase that is judged.
            tell: is told how far it is.
            deadline: by `clock`; when it is over, the phase ends and the later ones take one step each.
            clock: seconds.

        Raises:
            ConflictError: the folder holds a checkpoint of another run.
        """
        self._folder, self._every, self._tell = folder, every, tell
        self._deadline, self._clock = deadline, clock
        self._about, self._run = dict(run), json.dumps(dict(run), sort_keys=True, default=str)
        self._phase, self._step = 0, 0
        self._kept: dict[str, torch.Tensor] = {}
        self._best: _Best | None = None
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / CHECKPOINT).is_file():
            self._read()
        elif not workers.number():
            (folder / CURVES).unlink(missing_ok=True)  # of a run that was killed before its first checkpoint

    def take(self, phases: Sequence[Callable[[], Phase]], *, total_steps: int) -> None:
        """Take all phases.

        Args:
            phases: each makes its phase when its turn has come: what it starts from is what the one before left.
            total_steps: of all phases, to say how far it is.

        Raises:
            ConflictError: several processes do not agree on the weights.
        """
        done = 0
        for number, make in enumerate(phases):
            phase = make()
            if number < self._phase:  # its result comes with the checkpoint of a later phase, or is loaded below
                phase.load(self._of(number))
                done += phase.steps
                continue
            start, self._step = self._step, 0
            if start:
                phase.load(self._of(number))
            else:
                self._measure(phase)
            for step in range(start, phase.steps):
                began = self._clock()
                numbers = dict(phase.step(step))
                numbers["s"] = self._clock() - began
                is_last = step + 1 == phase.steps or self._is_over()
                if is_last or (step + 1) % self._every == 0:
                    numbers |= self._measure(phase)
                is_last = is_last or (self._best is not None and self._best.since >= PATIENCE)
                if not workers.number():
                    percent = 100 * (done + step + 1) / max(1, total_steps)
                    self._tell(phase.name, percent, {**numbers, "step": step + 1, "steps": phase.steps})
                    self._note(number, phase.name, step, numbers)
                if is_last:
                    break
                if (step + 1) % self._every == 0:
                    self._write(number, step + 1, phase)
            if self._best is not None:
                phase.load(self._best.state)
                self._best = None
            self._write(number + 1, 0, phase)
            done += phase.steps

    def _measure(self, phase: Phase) -> Mapping[str, float]:
        """Judge a phase as it is now; of equals the later is the best, as it has learned more."""
        found = phase.recall()
        if found is None:
            return {}
        recall, best = workers.agreed(found), self._best
        if best is None or recall >= best.recall:
            since = 0 if best is None or recall > best.recall else best.since + 1
            self._best = _Best(recall, since, {name: value.clone() for name, value in phase.state().items()})
        else:
            self._best = replace(best, since=best.since + 1)
        return {"recall": recall}

    def _is_over(self) -> bool:
        return self._deadline < float("inf") and bool(workers.agreed(self._clock() > self._deadline))

    def _of(self, number: int) -> Mapping[str, torch.Tensor]:
        prefix = f"{number}/"
        return {name.removeprefix(prefix): value for name, value in self._kept.items() if name.startswith(prefix)}

    def _note(self, number: int, name: str, step: int, numbers: Mapping[str, float]) -> None:
        line = {"phase": number, "name": name, "step": step, **{key: round(value, 6) for key, value in numbers.items()}}
        with (self._folder / CURVES).open("a") as stream:
            stream.write(json.dumps(line) + "\n")

    def _write(self, number: int, step: int, phase: Phase) -> None:
        if workers.count() > 1:
            digest = float(zlib.crc32(b"".join(value.numpy().tobytes() for value in phase.state().values())))
            if workers.agreed(digest) != digest:
                raise ConflictError("the processes have learned different weights; train on machines of one kind")
        if workers.number():
            return
        owner = number if step else number - 1  # the phase whose state this is
        self._kept = {name: value for name, value in self._kept.items() if not name.startswith((f"{owner}/", _BEST))}
        self._kept |= {f"{owner}/{name}": value.detach().clone() for name, value in phase.state().items()}
        said = {"at": np.array([number, step]), "run": np.array(self._run)}
        if self._best is not None:
            self._kept |= {f"{_BEST}{name}": value for name, value in self._best.state.items()}
            said["judged"] = np.array([self._best.recall, self._best.since])
        out = io.BytesIO()
        arrays = {name: value.numpy() for name, value in self._kept.items()}
        np.savez(out, **arrays, **said)  # type: ignore[arg-type]
        write_whole(self._folder / CHECKPOINT, out.getvalue())
        write_page(self._folder / CURVES, self._folder / PAGE, self._about)

    def _read(self) -> None:
        with np.load(self._folder / CHECKPOINT, allow_pickle=False) as kept:
            if str(kept["run"]) != self._run:
                raise ConflictError(
                    f"{self._folder} holds the checkpoint of another training: its triplets, start model, seed or "
                    "recipe are not these; start a new training, or delete the folder to begin this one anew"
                )
            self._phase, self._step = (int(value) for value in kept["at"])
            self._kept = {
                name: torch.from_numpy(kept[name]) for name in kept.files if name not in {"at", "run", "judged"}
            }
            if "judged" in kept.files:
                recall, since = (float(value) for value in kept["judged"])
                state = {n.removeprefix(_BEST): value for n, value in self._kept.items() if n.startswith(_BEST)}
                self._best = _Best(recall, int(since), state)
        if workers.number():
            return
        curves = self._folder / CURVES
        lines = [json.loads(line) for line in curves.read_text().splitlines() if line.endswith("}")]
        at = (self._phase, self._step)
        kept_lines = [line for line in lines if (line["phase"], line["step"]) < at]
        write_whole(curves, "".join(json.dumps(line) + "\n" for line in kept_lines).encode())
