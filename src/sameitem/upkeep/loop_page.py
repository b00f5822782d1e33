"""A loop's report as one HTML page that needs nothing else: what changed, by how much, and why it was published or not.

It shows figures and names of versions only: nothing that a user sent, so that nothing has to be erased from it.
"""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sameitem.upkeep.loop_report import LoopReport, Step, Verdict

_CHANGES = {"recall@1": "change, points", "recall@10": "among ten", "mrr": "reciprocal rank"}
_CANARY = {  # figure: what it says, and how it is written
    "self_found": ("Catalogue images that find themselves first", "share"),
    "good": ("Photos with a good match", "share"),
    "in_category": ("Photos whose first hit is of the expected category", "share"),
    "ms": ("Median time of a search", "ms"),
}
_WIDTH, _HEIGHT = 620, 190  # of a chart, pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 64, 14, 30  # margins inside it
_ROWS = 30  # loops in the table of the history
_LEAST_SPAN = 0.02  # of a chart's axis: two points, so that noise does not fill the height
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1b1f24; }
h1 { margin-bottom: .2rem; } h2 { margin: 2.4rem 0 .4rem; } .note { color: #57606a; margin: .3rem 0; max-width: 46rem; }
.verdict { border: 2px solid #1b1f24; border-radius: 6px; padding: .7rem 1rem; max-width: 46rem; }
.verdict b { display: block; font-size: 1.2rem; } .warning { border-left: 4px double #1b1f24; padding-left: .8rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; white-space: nowrap; color: #57606a; padding-bottom: .3rem; }
th, td { padding: .3rem .9rem .3rem 0; text-align: right; border-bottom: 1px solid #d8dee4; vertical-align: top; }
th { font-weight: 600; white-space: nowrap; } th:first-child, td:first-child, .text { text-align: left; }
.tight td { white-space: nowrap; } td small { color: #57606a; white-space: nowrap; }
figure { margin: 1rem 0; max-width: 620px; }
figcaption { font-weight: 600; } figcaption small { display: block; font-weight: 400; color: #57606a; }
svg { display: block; width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: #57606a; }
.frame { stroke: #d8dee4; fill: none; } .line { stroke: #1b1f24; stroke-width: 1.5; fill: none; }
.bar { stroke: #57606a; stroke-width: 1; } .new { fill: #1b1f24; stroke: #1b1f24; }
.kept { fill: #fff; stroke: #1b1f24; stroke-width: 1.5; }
"""


@dataclass(frozen=True, slots=True)
class _Point:
    """One loop in a chart."""

    loop: str
    value: float
    low: float
    high: float
    is_new: bool  # something was published


def page_of(report: LoopReport, earlier: Sequence[LoopReport]) -> str:
    """Return the page of a loop.

    Args:
        report: of this loop.
        earlier: reports of those before it, newest first.
    """
    history = [*reversed(earlier), report]
    parts = [
        "<!doctype html>",
        "<html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>Loop {_text(report.id)}</title><style>{_STYLE}</style>",
        f"<h1>Loop {_text(report.id)}</h1>",
        f"<p class=note>Began {_text(report.started)}, took {_duration(report.seconds)}.</p>",
        f"<p class=verdict><b>{'Published' if report.published else 'Nothing published'}</b>"
        f"{_text(_sentence(report.reason))}</p>",
        *(f"<p class=warning><b>Warning.</b> {_text(warning)}</p>" for warning in report.warnings),
        *_what_is_live(report),
        *(_model(report.embedding) if report.embedding else []),
        *(_ranker(report.ranker) if report.ranker else []),
        *_steps(report.steps),
        *_history(history),
        "</html>\n",
    ]
    return "\n".join(parts)


def _what_is_live(report: LoopReport) -> list[str]:
    traffic, changed = report.traffic, report.embedding if report.embedding and report.embedding.published else None
    ranked = report.ranker if report.ranker and report.ranker.published else None
    rate = "-"
    if traffic["click_through"] is not None:
        rate = f"{traffic['click_through']:.1%} <small>[{traffic['low']:.1%}, {traffic['high']:.1%}]</small>"
    rows = [
        ("Model", f"{_text(changed.before)} → {_text(changed.version)}" if changed else _name(report.live["model"])),
        ("Index", _name(report.live["index"])),
        ("Ranker", f"{_name(ranked.before)} → {_text(ranked.version)}" if ranked else _name(report.live["ranker"])),
        ("Searches since the loop before", f"{traffic['searches']:,}"),
        ("of them clicked", f"{traffic['clicked']:,}"),
        ("Click-through", rate),
    ]
    body = "".join(f"<tr><td>{name}<td class=text>{value}" for name, value in rows)
    return ["<h2>What is live now</h2>", f"<table>{body}</table>"]


# ---- the model ----


def _model(verdict: Verdict) -> list[str]:
    parts = [
        "<h2>The new model</h2>",
        f"<p>{_text(verdict.version)}, trained from {_text(verdict.before)}: {_decided(verdict)}.</p>",
    ]
    if verdict.gate:
        parts += _gate(verdict.gate)
    if verdict.canary:
        parts += _canary(verdict.canary)
    return [*parts, _figures("What the training measured", verdict.metrics)]


def _decided(verdict: Verdict) -> str:
    return "published" if verdict.published else "kept out; its folder stays for a while, to be looked at"


def _gate(gate: Mapping[str, Any]) -> list[str]:
    comparison = gate.get("comparison")
    if not comparison:
        return []
    rows = "".join(_gate_row(name, part) for name, part in [("all", comparison), *comparison["slices"].items()])
    heads = ("", "queries", "products", "first, before", "after", *_CHANGES.values(), "")
    table = f"<table class=tight><tr>{''.join(f'<th>{head}' for head in heads)}{rows}</table>"
    skipped = [
        (comparison["left_out"], "whose product only one of the two galleries has"),
        (comparison["failed"], "whose photo could not be used"),
    ]
    notes = [f"Left out: {count:,} queries {why}." for count, why in skipped if count]
    if gate["not_judged"]:
        notes.append(f"Not judged, of too few products: {', '.join(gate['not_judged'])}.")
    return [
        "<h3>The gate</h3>",
        "<p class=note>Photos that training never saw are searched with in the live index and in the new model's; how "
        "often the right product comes first (recall@1) decides. Changes are in points, of recall@1, of the right "
        "product among the first ten, and of the reciprocal rank; brackets are 95 % intervals, products drawn as a "
        "whole. What a search ended with counts as right; users can only click what the live model showed them, so "
        "that a new model is measured too low rather than too high.</p>",
        f"<div class=wide>{table}</div>",
        f"<p>First hit became right for {comparison['wins']:,} queries and wrong for {comparison['losses']:,}.</p>",
        *(f"<p class=note>{_text(note)}</p>" for note in notes),
    ]


def _gate_row(name: str, part: Mapping[str, Any]) -> str:
    first = part["measures"]["recall@1"]
    changes = "".join(f"<td>{_change(part['delta'][measure])}" for measure in _CHANGES)
    return (
        f"<tr><td>{_text(name)}<td>{part['queries']:,}<td>{part['products']:,}<td>{first['before']:.3f}"
        f"<td>{first['after']:.3f}{changes}<td class=text>{_text(part['verdict'])}"
    )


def _change(delta: Mapping[str, float]) -> str:
    return f"{100 * delta['mean']:+.1f} <small>[{100 * delta['low']:+.1f}, {100 * delta['high']:+.1f}]</small>"


def _canary(canary: Mapping[str, Any]) -> list[str]:
    before, after = canary["before"], canary["after"]
    rows = "".join(
        f"<tr><td>{about}<td>{_written(before[name] if before else None, unit)}<td>{_written(after[name], unit)}"
        for name, (about, unit) in _CANARY.items()
    )
    errors = [*(before["errors"] if before else ()), *after["errors"]]
    return [
        "<h3>The canary</h3>",
        f"<p class=note>{after['photos']:,} photos of the newest searches and {after['images']:,} catalogue images, "
        f"searched with in both versions: {'passed' if canary['passed'] else 'failed'}.</p>",
        f"<table><tr><th><th>live before<th>new{rows}</table>",
        *(f"<p class=warning>{_text(error)}</p>" for error in errors),
    ]


def _written(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{value:.1%}" if unit == "share" else f"{value:.0f} {unit}"


# ---- the ranker, the steps ----


def _ranker(verdict: Verdict) -> list[str]:
    return [
        "<h2>The new ranker</h2>",
        f"<p>{_text(verdict.version)}, beside {_name(verdict.before)}: {_decided(verdict)}. "
        f"{_text(_sentence(verdict.reason))}</p>",
        _figures("What was measured", verdict.metrics),
    ]


def _steps(steps: Sequence[Step]) -> list[str]:
    rows = "".join(
        f"<tr><td>{_text(step.name)}<td class=text>{step.state}<td>{step.seconds:,.1f}"
        f"<td class=text>{_text(_sentence(step.reason) or _listed(step.figures))}"
        for step in steps
    )
    heads = "<th>step<th class=text>what became of it<th>seconds<th class=text>"
    return ["<h2>Steps</h2>", f"<div class=wide><table><tr>{heads}{rows}</table></div>"]


def _figures(title: str, figures: Mapping[str, Any]) -> str:
    if not figures:
        return ""
    rows = "".join(f"<tr><td>{_text(name)}<td>{_text(_number(value))}" for name, value in _flat(figures))
    return f"<table><caption>{title}</caption>{rows}</table>"


def _listed(figures: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in _flat(figures))


def _flat(figures: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, value in figures.items():
        pairs += _flat(value, f"{before}{name} ") if isinstance(value, Mapping) else [(f"{before}{name}", value)]
    return pairs


def _number(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# ---- how it went over the loops ----


def _history(history: Sequence[LoopReport]) -> list[str]:
    recall = [point for report in history if (point := _recall(report)) is not None]
    clicks = [
        _Point(r.id, r.traffic["click_through"], r.traffic["low"], r.traffic["high"], r.published)
        for r in history
        if r.traffic["click_through"] is not None
    ]
    rows = "".join(map(_history_row, reversed(history[-_ROWS:])))
    heads = "".join(f"<th>{head}" for head in ("loop", "", "recall@1 of what was live after it", "click-through", "s"))
    return [
        "<h2>The loops so far</h2>",
        _chart(
            "Right product first, in what was live after the loop",
            "On the gate's queries of that day, which are other ones every day: compare neighbours, not ends.",
            recall,
        ),
        _chart("Click-through: searches with a click", "Of the searches since the loop before.", clicks),
        f"<div class=wide><table><tr>{heads}{rows}</table></div>",
    ]


def _recall(report: LoopReport) -> _Point | None:
    gate = report.embedding.gate if report.embedding else None
    if report.embedding is None or not gate or not gate.get("comparison"):
        return None
    value = gate["comparison"]["measures"]["recall@1"]["after" if report.embedding.published else "before"]
    return _Point(report.id, value, value, value, report.embedding.published)


def _history_row(report: LoopReport) -> str:
    recall, rate = _recall(report), report.traffic["click_through"]
    return (
        f"<tr><td>{_text(report.id)}<td class=text>{'published' if report.published else 'kept'}"
        f"<td>{'-' if recall is None else f'{recall.value:.3f}'}<td>{'-' if rate is None else f'{rate:.1%}'}"
        f"<td>{report.seconds:,.0f}"
    )


def _chart(title: str, about: str, points: Sequence[_Point]) -> str:
    if len(points) < 2:
        return ""
    low, high = min(point.low for point in points), max(point.high for point in points)
    spare = max(0.0, _LEAST_SPAN - (high - low)) / 2 + 0.05 * (high - low)
    low, high = max(0.0, low - spare), min(1.0, high + spare)

    def x(place: int) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * place / (len(points) - 1)

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - value) / (high - low)

    path = " ".join(f"{x(place):.1f},{y(point.value):.1f}" for place, point in enumerate(points))
    bars = "".join(
        f"<line class=bar x1={x(place):.1f} x2={x(place):.1f} y1={y(point.low):.1f} y2={y(point.high):.1f} />"
        for place, point in enumerate(points)
        if point.high > point.low
    )
    marks = "".join(
        f"<circle class={'new' if point.is_new else 'kept'} cx={x(place):.1f} cy={y(point.value):.1f} r=3.5>"
        f"<title>{_text(point.loop)}: {point.value:.1%}</title></circle>"
        for place, point in enumerate(points)
    )
    last = points[-1]
    labels = "".join(
        f"<text x={_LEFT - 6} y={y(value) + 4:.1f} text-anchor=end>{_percent(value, high - low)}</text>"
        for value in (low, high)
    )
    ends = "".join(
        f"<text x={x(place):.1f} y={_HEIGHT - 8} text-anchor={anchor}>{_text(points[place].loop[:8])}</text>"
        for place, anchor in ((0, "start"), (len(points) - 1, "end"))
    )
    said = f"{title}: from {points[0].value:.1%} to {last.value:.1%} over {len(points)} loops."
    return (
        f"<figure><figcaption>{title}<small>{about} Filled: something was published. Open: nothing was.</small>"
        f"</figcaption><svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role=img aria-label='{_text(said)}'>"
        f"<rect class=frame x={_LEFT} y={_TOP} width={_WIDTH - _LEFT - _RIGHT} height={_HEIGHT - _TOP - _BOTTOM} />"
        f"{bars}<polyline class=line points='{path}' />{marks}{labels}{ends}"
        f"<text x={x(len(points) - 1) + 9:.1f} y={y(last.value) + 4:.1f}>{last.value:.1%}</text></svg></figure>"
    )


def _percent(value: float, span: float) -> str:
    return f"{value:.{0 if span > 0.1 or math.isclose(span, 0) else 1}%}"


def _name(version: str | None) -> str:
    return _text(version) if version else "none"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _duration(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} minutes"


def _text(value: str) -> str:
    return html.escape(str(value), quote=True)
