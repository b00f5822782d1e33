"""The figures of a training as they come, each with a small curve of its phase so far."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from rich.table import Table

_BARS = "▁▂▃▄▅▆▇█"
_CELLS = 40  # of a curve
_HUGE = 1e300  # neither NaN nor infinity is below it, and the difference of two that are is a number


class CurvesView:
    """Keeps the figures of the phase that a training is in; rich draws it as a table, empty before the first step."""

    def __init__(self) -> None:
        self._phase = ""
        self._known: dict[str, list[float]] = {}

    def note(self, phase: str, figures: Mapping[str, float], *, brief: bool = False) -> str:
        """Keep the figures of a step and return them as a line.

        Args:
            phase: of the training; a new one begins new curves.
            figures: by name; `step` of `steps`, `s` and `photos` (seconds and photos of the step) are said, not drawn.
            brief: leave out of the line what is drawn.
        """
        if phase != self._phase:
            self._phase, self._known = phase, {}
        drawn = {name: value for name, value in figures.items() if name not in ("step", "steps", "s", "photos")}
        for name, value in drawn.items():
            self._known.setdefault(name, []).append(value)
        said = [f"step {figures['step']:,.0f} of {figures['steps']:,.0f}"] if "steps" in figures else []
        if not brief:
            said += [f"{name} {value:.3g}" for name, value in drawn.items()]
        if figures.get("s") and figures.get("photos"):
            said.append(f"{figures['photos'] / figures['s']:,.0f} photos/s")
        return "  ".join(said)

    def __rich__(self) -> Table:
        """Return the figures with their curves."""
        table = Table.grid(padding=(0, 2))
        for name, values in self._known.items():
            table.add_row(name, sparkline(values), f"{values[-1]:.3g}")
        return table


def sparkline(values: Sequence[float]) -> str:
    """Draw values as a row of bars from the smallest to the largest, the means of neighbours where there are many.

    A mean that no bar can show, of a training that went astray, leaves a gap.
    """
    cells = min(_CELLS, len(values))
    edges = [place * len(values) // cells for place in range(cells + 1)]
    means = [sum(values[start:end]) / (end - start) for start, end in pairwise(edges)]
    drawn = [mean for mean in means if abs(mean) < _HUGE]
    low, span = min(drawn, default=0.0), (max(drawn, default=0.0) - min(drawn, default=0.0)) or 1.0
    return "".join(_BARS[round((mean - low) / span * (len(_BARS) - 1))] if abs(mean) < _HUGE else " " for mean in means)
