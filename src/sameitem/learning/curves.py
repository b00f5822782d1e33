"""The curves of a training as one HTML page that needs nothing else: how well, how fast, with which settings."""

import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sameitem.core.durable import write_whole

_ABOUT = {  # what each figure says, in the order of the page
    "loss": "Loss",
    "active": "Active share of the trusted triplets",
    "area": "Area of the rectangle, share of the photo",
    "moved": "Distance from the start feature, 1 - cosine",
    "recall": "Validating photos that find their image first; of rectangles: mean probability that they do",
    "certainty": "Log probability of the right image, crop by the predicted rectangle",
    "best": "Log probability of the right image, best crop found",
    "judge_loss": "Loss of the judge",
    "speed": "Photos a second",
}
_PHASES = {
    "mask": "Rectangle through the soft mask",
    "search": "Rectangle by judging crops",
    "fit": "Predicting the best rectangles",
    "real": "Rectangle on real photos",
    "feature": "Feature on the crops",
}
_WIDTH, _HEIGHT = 460, 210  # of a chart, pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 12, 26  # margins inside it
_POINTS = 400  # of a drawn curve, at most
_FEW = 12  # points up to which each is marked
_SMOOTH = 25  # the thick curve is a mean over this part of the points
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #1b1f24; }
h2 { margin: 2.2rem 0 .3rem; } .note { color: #57606a; margin: .2rem 0; }
.charts { display: flex; flex-wrap: wrap; gap: 1.2rem 1.6rem; margin-top: .8rem; }
figure { margin: 0; width: 460px; max-width: 100%; } figcaption { font-weight: 600; }
figcaption small { display: block; font-weight: 400; color: #57606a; font-variant-numeric: tabular-nums; }
svg { display: block; width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: #57606a; }
.frame { stroke: #d8dee4; fill: none; } .round { stroke: #8c959f; stroke-dasharray: 2 3; }
.raw { stroke: #afb8c1; stroke-width: 1; fill: none; } .mean { stroke: #1b1f24; stroke-width: 2; fill: none; }
circle { fill: #1b1f24; } td { padding: .15rem 1.2rem .15rem 0; vertical-align: top; overflow-wrap: anywhere; }
"""


@dataclass(slots=True)
class _Section:
    """The steps of one kind of phase: its rounds one after the other."""

    rounds: list[int] = field(default_factory=list)  # number of the phase of each
    steps: int = 0
    figures: dict[str, list[float]] = field(default_factory=dict)  # of the steps that have it
    starts: dict[str, list[int]] = field(default_factory=dict)  # place of each round's first value


def write_page(curves: Path, out: Path, about: Mapping[str, object]) -> None:
    """Draw the curves of a training; a page that stands there already is replaced.

    Args:
        curves: what `Trainer` notes: a JSON object a step; a line that a kill cut off is passed over.
        out: HTML file.
        about: settings of the run, by name; a mapping among them is spread.
    """
    sections: dict[str, _Section] = {}
    for line in curves.read_text(encoding="utf-8").splitlines() if curves.is_file() else []:
        if not line.endswith("}"):
            continue
        noted = json.loads(line)
        section = sections.setdefault(noted.pop("name").split()[0], _Section())
        if (number := noted.pop("phase")) not in section.rounds:
            section.rounds.append(number)
        if (seconds := noted.pop("s", 0)) and "photos" in noted:
            noted["speed"] = noted["photos"] / seconds
        for name, value in noted.items():
            if name not in ("step", "photos") and math.isfinite(value):
                values, starts = section.figures.setdefault(name, []), section.starts.setdefault(name, [])
                starts += [len(values)] * (len(section.rounds) - len(starts))
                values.append(value)
        section.steps += 1
    parts = [
        "<!doctype html>",
        "<html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>Curves of a training</title><style>{_STYLE}</style>",
        "<h1>Curves of a training</h1>",
        f"<p class=note>{sum(section.steps for section in sections.values()):,} steps. Thin: each step. Thick: mean "
        f"over a part of 1 / {_SMOOTH}. Dotted: a new round begins. Captions: mean of the first and of the last tenth. "
        "A curve has the steps that measure it.</p>",
        *(part for name, section in sections.items() for part in _drawn(name, section)),
        "<h2>Settings</h2><table>",
        *(f"<tr><td>{_text(name)}<td>{_text(value)}" for name, value in _spread(about)),
        "</table></html>\n",
    ]
    write_whole(out, "\n".join(parts).encode())


def _drawn(name: str, section: _Section) -> list[str]:
    rounds = f", {len(section.rounds)} rounds" if len(section.rounds) > 1 else ""
    parts = [f"<h2>{_text(_PHASES.get(name, name))}</h2><p class=note>{section.steps:,} steps{rounds}.</p>"]
    order = [*_ABOUT, *sorted(section.figures.keys() - _ABOUT.keys())]
    charts = [
        _chart(_ABOUT.get(key, key), section.figures[key], section.starts[key])
        for key in order
        if key in section.figures
    ]
    return [*parts, "<div class=charts>", *charts, "</div>"]


def _chart(title: str, drawn: Sequence[float], starts: Sequence[int]) -> str:
    values = np.array(drawn, np.float64)
    low, high, ticks = _scale(float(values.min()), float(values.max()))
    last = max(1, len(values) - 1)

    def x(place: float) -> float:
        return _LEFT + place / last * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    def line(kind: str, heights: NDArray[np.float64]) -> str:
        thinned = range(0, len(heights), -(-len(heights) // _POINTS))
        corners = " ".join(f"{x(place):.1f},{y(heights[place]):.1f}" for place in thinned)
        return f"<polyline class={kind} points='{corners}'/>"

    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    bottom, tenth = _HEIGHT - _BOTTOM, max(1, len(values) // 10)
    summary = f"{_number(values[:tenth].mean())} to {_number(values[-tenth:].mean())}"
    marks = [f"<path class=frame d='M{_LEFT} {y(t):.1f}H{_WIDTH - _RIGHT}'/>" for t in ticks]
    marks += [f"<text x={_LEFT - 6} y={y(t) + 4:.1f} text-anchor=end>{t:.{digits}f}</text>" for t in ticks]
    marks += [f"<path class=round d='M{x(start):.1f} {_TOP}V{bottom}'/>" for start in starts[1:]]
    marks += [
        f"<text x={x(place):.1f} y={_HEIGHT - 8} text-anchor={anchor}>{text}</text>"
        for place, anchor, text in ((0, "start", "1"), (last, "end", f"{len(values):,}"))
    ]
    if len(values) > _FEW:
        marks += [line("raw", values), line("mean", _smoothed(values))]
    else:
        marks += [line("mean", values)]
        marks += [f"<circle cx={x(a):.1f} cy={y(v):.1f} r=3 />" for a, v in enumerate(values)]
    return (
        f"<figure><figcaption>{_text(title)}<small>{summary}</small></figcaption>"
        f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role=img aria-label='{_text(title)}: {summary}'>{''.join(marks)}</svg>"
        "</figure>"
    )


def _scale(low: float, high: float) -> tuple[float, float, list[float]]:
    """Return a range of round numbers that holds both values, and three to six ticks in it."""
    wide = max(high - low, 1e-3 * max(abs(low), abs(high)), 1e-6)
    rough = wide / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * size for size in (1, 2, 5, 10) if unit * size >= rough * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step)
    last = max(last, first + 1)
    return first * step, last * step, [step * place for place in range(first, last + 1)]


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean around each value, over fewer of them at the ends."""
    half = max(1, len(values) // (2 * _SMOOTH))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    starts, ends = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))


def _spread(about: Mapping[str, object]) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for name, value in about.items():
        found += _spread(value) if isinstance(value, Mapping) else [(name, value)]
    return found


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) >= 5e-7 else "0"


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)
