"""Recall against speed of all engines as one SVG that needs nothing else; marks and names tell engines apart."""

import html
import math
from collections.abc import Sequence
from pathlib import Path

from sameitem.core.durable import write_whole
from sameitem.core.errors import InputError
from sameitem.evaluation.engine_bench import Bench, Point
from sameitem.evaluation.engine_peers import OURS

LOWEST = 0.8  # recall that is drawn
_FINEST = 5e-5  # the smallest miss that is told from none
_TICKS = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9999, 1.0)
_WIDTH, _HEIGHT = 1040, 640
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 200, 64, 58  # margins; names stand in the right one
_APART = 19  # between two names, pixels
_SHAPES = (  # paths around 0,0
    "M-4 -4H4V4H-4Z",
    "M0 -5.5L5 4H-5Z",
    "M0 5.5L5 -4H-5Z",
    "M0 -6L5 0L0 6L-5 0Z",
    "M-4.5 -4.5L4.5 4.5M-4.5 4.5L4.5 -4.5",
    "M-5.5 0H5.5M0 -5.5V5.5",
    "M-5 -5H5L-5 5H5Z",
    "M-5.5 0H5.5M0 -5.5V5.5M-4 -4L4 4M-4 4L4 -4",
    "M-3 -5.5H3V5.5H-3Z",
    "M-5.5 -3H5.5V3H-5.5Z",
)
_INKS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#7b3fb5", "#3b8ea5", "#a0522d", "#5f6b73", "#b3003c")
_OWN_SHAPE, _OWN_INK = "M-5.5 0A5.5 5.5 0 1 0 5.5 0A5.5 5.5 0 1 0 -5.5 0Z", "#000000"
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1b1f24; } .small { font-size: 12px; fill: #57606a; }
.title { font-size: 16px; font-weight: 600; } .grid { stroke: #d8dee4; fill: none; }
.front { fill: none; stroke-width: 1.6; } .own { stroke-width: 3; } .strong { font-weight: 700; }
.lead { fill: none; stroke: #8c959f; stroke-dasharray: 2 3; } .other { opacity: .3; }
"""


def write_plot(result: Bench, path: Path) -> None:
    """Draw recall@10 against single queries a second of processor time: every setting's mark, and each engine's front.

    Args:
        result: of a bench that timed the fronts.
        path: file to write.

    Raises:
        InputError: nothing to draw, or the file cannot be written.
    """
    drawn = plot(result.points, title=f"{result.rows:,} vectors of {result.dim}")
    try:
        write_whole(path, drawn.encode())
    except OSError as error:
        raise InputError(f"cannot write the plot {path}: {error.strerror}", field="plot") from error


def plot(points: Sequence[Point], *, title: str) -> str:
    """Return the SVG; settings below a recall of `LOWEST` are left out.

    Raises:
        InputError: no setting is left.
    """
    seen = [point for point in points if point.recall10 >= LOWEST]
    if not seen:
        raise InputError(f"no engine reached a recall@10 of {LOWEST:g}: nothing to draw")
    speeds = [point.qps_cpu_single for point in seen]
    low, high = math.log10(min(speeds)) - 0.05, math.log10(max(speeds)) + 0.05

    def x(recall: float) -> float:
        share = math.log(max(1 - recall, _FINEST) / (1 - LOWEST)) / math.log(_FINEST / (1 - LOWEST))
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(speed: float) -> float:
        return _HEIGHT - _BOTTOM - (math.log10(speed) - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = [f'<path class="grid" d="M{x(tick):.1f} {_TOP}V{bottom}"/>' for tick in _TICKS]
    parts += [
        f'<text class="small" x="{x(tick):.1f}" y="{bottom + 19}" text-anchor="middle">{tick:g}</text>'
        for tick in _TICKS
    ]
    for speed in _round_speeds(low, high):
        parts.append(f'<path class="grid" d="M{_LEFT} {y(speed):.1f}H{right}"/>')
        parts.append(f'<text class="small" x="{_LEFT - 8}" y="{y(speed) + 4:.1f}" text-anchor="end">{speed:,}</text>')
    names = sorted({point.name for point in seen}, key=lambda name: (name == OURS, name))  # ours is drawn on top
    ends: list[tuple[float, float, str]] = []
    for name in names:
        own = [point for point in seen if point.name == name]
        front = sorted((point for point in own if point.on_front), key=lambda point: point.recall10)
        shape, ink = _looks(name, names)
        others = [point for point in own if not point.on_front]
        parts += [_mark(shape, ink, x(p.recall10), y(p.qps_cpu_single), faded=True) for p in others]
        corners = " ".join(f"{x(p.recall10):.1f},{y(p.qps_cpu_single):.1f}" for p in front)
        parts.append(
            f'<polyline class="{"front own" if name == OURS else "front"}" stroke="{ink}" points="{corners}"/>'
        )
        parts += [_mark(shape, ink, x(p.recall10), y(p.qps_cpu_single), faded=False) for p in front]
        ends.append((y(front[-1].qps_cpu_single), x(front[-1].recall10), name))
    ends.sort()
    for (level, end, name), place in zip(ends, _apart([level for level, _, _ in ends]), strict=True):
        shape, ink = _looks(name, names)
        parts.append(f'<path class="lead" d="M{end + 8:.1f} {level:.1f}L{right + 24} {place:.1f}"/>')
        parts.append(_mark(shape, ink, right + 34, place, faded=False))
        strong = ' class="strong"' if name == OURS else ""
        parts.append(f'<text{strong} x="{right + 46}" y="{place + 4:.1f}">{html.escape(name)}</text>')
    below = "recall@10 (misses on a log scale)"
    about = "Every mark is a setting; a line joins those that no other of the same engine beats. Upper right is better."
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" role="img"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>'
        f'<text class="title" x="{_LEFT}" y="26">{html.escape(title)}: single queries a second of processor time</text>'
        f'<text class="small" x="{_LEFT}" y="46">{about}</text>{"".join(parts)}'
        f'<text x="{(_LEFT + right) / 2}" y="{_HEIGHT - 14}" text-anchor="middle">{below}</text>'
        "</svg>\n"
    )


def _round_speeds(low: float, high: float) -> list[int]:
    """Return 1, 2 and 5 times the powers of ten between two logarithms."""
    every = [size * 10**power for power in range(math.floor(low), math.ceil(high) + 1) for size in (1, 2, 5)]
    return [int(speed) for speed in every if speed >= 1 and low <= math.log10(speed) <= high]


def _looks(name: str, names: Sequence[str]) -> tuple[str, str]:
    """Return the shape and the ink of an engine."""
    if name == OURS:
        return _OWN_SHAPE, _OWN_INK
    place = sorted({*names} - {OURS}).index(name)
    return _SHAPES[place % len(_SHAPES)], _INKS[place % len(_INKS)]


def _mark(shape: str, ink: str, left: float, top: float, *, faded: bool) -> str:
    kind = f'class="other" fill="none" stroke="{ink}"' if faded else f'fill="{ink}" stroke="{ink}"'
    return f'<path {kind} d="{shape}" transform="translate({left:.1f} {top:.1f})"/>'


def _apart(levels: Sequence[float]) -> list[float]:
    """Return rising levels as near to the given rising ones as names allow that must not cover each other."""
    placed: list[float] = []
    for level in levels:
        placed.append(max(level, placed[-1] + _APART) if placed else max(level, _TOP))
    lowest = float(_HEIGHT - _BOTTOM)
    for place in reversed(range(len(placed))):
        placed[place] = min(placed[place], lowest)
        lowest = placed[place] - _APART
    return placed
