"""The table and the plot of simulated months.

python benchmarks/month_report.py ARM.json ... [--out benchmarks/month]

Writes OUT.md and OUT.svg. Seeds are averaged; intervals are 95 % bootstrap intervals, of recall over designs (the
photos of a design are drawn together), of clicks over searches. Arms of a seed see the same photos in the same order.
"""

import argparse
import json
import platform
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from month_world import TESTS
from sameitem.metrics.intervals import Interval, bootstrap_interval, paired_interval

LATE = 6  # last days that are compared
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _PANEL, _GAP = 860, 560, 52, 96, 34, 220, 62
_LOOKS = {"none": ("#57606a", "6 4", "circle"), "loop": ("#0550ae", "", "square"), "ranker": ("#953800", "2 3", "up")}

Days = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Month:
    """What one arm of one seed did, day by day."""

    arm: str
    seed: int
    days: Days

    def found(self, day: int, when: str = "evening") -> NDArray[np.float64]:
        """Return for each test photo of a day whether what it shows was first."""
        return np.array(list(self.days[day][when]["right"]), np.float64)

    def looked_for(self, day: int) -> NDArray[np.bool_]:
        """Return whether shoppers look for what each test photo shows."""
        return np.array(list(self.days[day]["evening"]["looked_for"])) == "1"

    def right(self, day: int) -> NDArray[np.float64]:
        """Return for each search of a day whether something wanted was clicked."""
        return np.array(self.days[day]["right"], np.float64) > 0

    def clicks(self, day: int) -> NDArray[np.float64]:
        """Return the clicks of each search of a day."""
        return np.array(self.days[day]["clicks"], np.float64)


def read(files: Sequence[Path]) -> list[Month]:
    """Read what arms wrote; all are cut to the days that every one has."""
    told = [json.loads(file.read_text()) for file in files]
    count = min(len(one["days"]) for one in told)
    return [Month(one["arm"], one["seed"], one["days"][:count]) for one in told]


def by_arm(months: Sequence[Month]) -> dict[str, list[Month]]:
    """Return the months of each arm, by seed."""
    arms: dict[str, list[Month]] = defaultdict(list)
    for month in sorted(months, key=lambda month: (list(_LOOKS).index(month.arm), month.seed)):
        arms[month.arm].append(month)
    return dict(arms)


def recall(months: Sequence[Month], day: int) -> Interval:
    """Return Recall@1 of an evening, over the seeds."""
    values = np.concatenate([month.found(day) for month in months])
    groups = _designs([len(month.found(day)) for month in months])
    return paired_interval(np.zeros_like(values), values, groups, np.random.default_rng(day))


def _designs(counts: Sequence[int]) -> NDArray[np.int64]:
    """Number the designs of test photos, those of each seed for themselves."""
    return np.concatenate([np.arange(count) // TESTS + 100_000 * seed for seed, count in enumerate(counts)])


def late_recall(months: Sequence[Month], others: Sequence[Month], which: Callable[[Month, int], Any]) -> Interval:
    """Return how much more one arm finds than another over the last days: each photo averaged over the days."""
    before, after, groups = [], [], []
    for seed, (month, other) in enumerate(zip(months, others, strict=True)):
        days = range(len(month.days) - LATE, len(month.days))
        kept = np.flatnonzero(which(month, days[0]))
        for values, of in ((after, month), (before, other)):
            values.append(np.mean([of.found(day)[kept] for day in days], axis=0))
        groups.append(kept // TESTS + 100_000 * seed)
    ends = (np.concatenate(parts) for parts in (before, after, groups))
    return paired_interval(*ends, np.random.default_rng(1))


def late_clicks(months: Sequence[Month], others: Sequence[Month], of: Callable[[Month, int], NDArray[Any]]) -> Interval:
    """Return how much more one arm has of something per search than another over the last days, search by search."""
    pairs = [
        of(month, day).astype(np.float64) - of(other, day)
        for month, other in zip(months, others, strict=True)
        for day in range(len(month.days) - LATE, len(month.days))
    ]
    return bootstrap_interval(np.concatenate(pairs), np.random.default_rng(2))


def over_days(
    months: Sequence[Month], others: Sequence[Month], of: Callable[[Month, int], NDArray[np.float64]]
) -> Interval:
    """Return the same as a mean over days: how far it holds for days like these."""
    each = [
        of(month, day).mean() - of(other, day).mean()
        for month, other in zip(months, others, strict=True)
        for day in range(len(month.days) - LATE, len(month.days))
    ]
    return bootstrap_interval(np.array(each), np.random.default_rng(3))


def switches(months: Sequence[Month]) -> list[tuple[int, int, Interval]]:
    """Return seed, day and change of recall of every day on which another model went live."""
    found = []
    for month in months:
        for day, about in enumerate(month.days):
            if about["morning"]["model"] != about["evening"]["model"]:
                before, after = month.found(day, "morning"), month.found(day)
                change = paired_interval(before, after, _designs([len(before)]), np.random.default_rng(day))
                found.append((month.seed, int(about["day"]), change))
    return found


# ---- the page ----


def page(months: Sequence[Month], image: str) -> str:
    """Return the Markdown."""
    arms = by_arm(months)
    days, seeds = len(months[0].days), sorted({month.seed for month in months})
    made = f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, Python {platform.python_version()}"
    lines = [
        "# A simulated month",
        "",
        f"`benchmarks/month.py`, {made}. Every click is simulated: products, photos and shoppers are drawn "
        f"([month_world.py](month_world.py)), {days} days, seeds {', '.join(map(str, seeds))}; "
        f"{len(months[0].days[0]['right'])} searches a day. Recall@1: photos that no shopper searched with, asked in "
        "the evening; right is any offer of the design. Right clicks: share of the day's searches with a click on such "
        "an offer. Intervals are 95 % bootstrap intervals.",
        "",
        f"![Recall and clicks per day, simulated]({image})",
        "",
    ]
    lines += _late_table(arms)
    lines += _switch_lines(arms)
    lines += _time_lines(arms)
    lines += _day_table(arms, days)
    return "\n".join(lines) + "\n"


def _late_table(arms: Mapping[str, list[Month]]) -> list[str]:
    if "none" not in arms:
        return []
    lines = [
        f"| last {LATE} days, against none | Recall@1 | of designs looked for | of designs never looked for "
        "| right clicks | searches with a click | clicks a search | right clicks, over days |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arm in arms:
        if arm != "none":
            pair = (arms[arm], arms["none"])
            cells = [
                late_recall(*pair, lambda month, day: np.ones_like(month.looked_for(day))),
                late_recall(*pair, lambda month, day: month.looked_for(day)),
                late_recall(*pair, lambda month, day: ~month.looked_for(day)),
                late_clicks(*pair, lambda month, day: month.right(day)),
                late_clicks(*pair, lambda month, day: month.clicks(day) > 0),
                late_clicks(*pair, lambda month, day: month.clicks(day)),
                over_days(*pair, lambda month, day: month.right(day)),
            ]
            lines.append(
                f"| {arm} | " + " | ".join(f"{c.mean:+.3f} ({c.low:+.3f} to {c.high:+.3f})" for c in cells) + " |"
            )
    return [*lines, ""]


def _switch_lines(arms: Mapping[str, list[Month]]) -> list[str]:
    found = switches(arms.get("loop", []))
    if not found:
        return []
    worse = [one for one in found if one[2].high < 0]
    lowest = min(found, key=lambda one: one[2].mean)
    total = sum(len(month.days) for month in arms["loop"])
    return [
        f"A new model went live on {len(found)} of {total} evenings. Recall@1 fell beyond its interval on {len(worse)} "
        f"of them; the least change was {lowest[2].mean:+.3f} ({lowest[2].low:+.3f} to {lowest[2].high:+.3f}), seed "
        f"{lowest[0]}, day {lowest[1]}.",
        "",
    ]


def _time_lines(arms: Mapping[str, list[Month]]) -> list[str]:
    lines = []
    for arm, months in arms.items():
        evenings = [day["seconds"] for month in months for day in month.days if "learn" in day["seconds"]]
        if evenings:
            wall, work = (np.array([evening[name] for evening in evenings]) for name in ("learn", "learn cpu"))
            lines.append(
                f"An evening of the arm {arm}: {np.median(wall):.0f} s at the median, {wall.max():.0f} s at most; "
                f"{np.median(work):.0f} and {work.max():.0f} s of one processor core."
            )
    return [*lines, ""] if lines else []


def _day_table(arms: Mapping[str, list[Month]], days: int) -> list[str]:
    heads = [f"{arm}: {what}" for arm in arms for what in ("Recall@1", "right clicks", "clicks a search")]
    lines = [f"| day | {' | '.join(heads)} | new models |", "|---" * (len(heads) + 2) + "|"]
    fresh = defaultdict(int)
    for _, day, _ in switches(arms.get("loop", [])):
        fresh[day] += 1
    for day in range(days):
        cells = []
        for months in arms.values():
            found = recall(months, day)
            cells.append(f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})")
            cells.append(f"{np.mean([month.right(day).mean() for month in months]):.3f}")
            cells.append(f"{np.mean([month.clicks(day).mean() for month in months]):.2f}")
        lines.append(f"| {day + 1} | {' | '.join(cells)} | {fresh[day + 1] or ''} |")
    return lines


# ---- the plot ----


def plot(months: Sequence[Month]) -> str:
    """Return the SVG: recall above, right clicks below, a line per arm with its name at the end."""
    arms, days = by_arm(months), len(months[0].days)
    panels = (
        ("Recall@1 of photos never searched with, simulated", lambda part, day: recall(part, day)),
        (
            "share of searches with a right click, simulated (mean of three days)",
            lambda part, day: _three_days(part, day),
        ),
    )
    drawn = [
        _panel(title, of, arms, days, _TOP + number * (_PANEL + _GAP)) for number, (title, of) in enumerate(panels)
    ]
    title = escape("Simulated month: recall and right clicks per day")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">\n'
        "<style>svg { background: #fff; } text { font: 12px system-ui, sans-serif; fill: #424a53; }</style>\n"
        + "\n".join(drawn)
        + "\n</svg>\n"
    )


def _three_days(months: Sequence[Month], day: int) -> Interval:
    near = range(max(0, day - 1), min(len(months[0].days), day + 2))
    return bootstrap_interval(
        np.concatenate([month.right(one) for month in months for one in near]).astype(np.float64),
        np.random.default_rng(day),
        resamples=300,
    )


def _panel(
    title: str,
    of: Callable[[Sequence[Month], int], Interval],
    arms: Mapping[str, list[Month]],
    days: int,
    top: float,
) -> str:
    values = {arm: [of(months, day) for day in range(days)] for arm, months in arms.items()}
    low = np.floor(10 * min(v.low for part in values.values() for v in part)) / 10
    high = np.ceil(10 * max(v.high for part in values.values() for v in part)) / 10
    across = (_WIDTH - _LEFT - _RIGHT) / max(1, days - 1)

    def x(day: int) -> float:
        return _LEFT + day * across

    def y(value: float) -> float:
        return top + _PANEL * (high - value) / (high - low)

    marks = [f'<text x="{_LEFT}" y="{top - 12}" font-weight="600">{escape(title)}</text>']
    for step in np.arange(low, high + 0.01, 0.1):
        marks.append(f'<path d="M{_LEFT} {y(step):.1f}H{x(days - 1):.1f}" stroke="#d0d7de"/>')
        marks.append(f'<text x="{_LEFT - 8}" y="{y(step) + 4:.1f}" text-anchor="end">{step:.1f}</text>')
    marks += [
        f'<text x="{x(day):.1f}" y="{top + _PANEL + 18}" text-anchor="middle">{day + 1}</text>'
        for day in range(days)
        if day == 0 or (day + 1) % 5 == 0
    ]
    marks.append(f'<text x="{x(days - 1) + 14:.1f}" y="{top + _PANEL + 18}">day</text>')
    ends = _apart({arm: y(part[-1].mean) for arm, part in values.items()})
    for arm, part in values.items():
        colour, dashes, _ = _LOOKS[arm]
        upper = " ".join(f"{x(day):.1f},{y(v.high):.1f}" for day, v in enumerate(part))
        lower = " ".join(f"{x(day):.1f},{y(part[day].low):.1f}" for day in reversed(range(days)))
        line = " ".join(f"{x(day):.1f},{y(v.mean):.1f}" for day, v in enumerate(part))
        marks.append(f'<polygon points="{upper} {lower}" fill="{colour}" opacity="0.12"/>')
        marks.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"/>'
        )
        marks += [_marker(arm, x(day), y(v.mean)) for day, v in enumerate(part) if day % 3 == 0 or day == days - 1]
        marks.append(
            f'<text x="{x(days - 1) + 12:.1f}" y="{ends[arm] + 4:.1f}" style="fill:{colour};font-weight:600">{arm} '
            f"{part[-1].mean:.2f}</text>"
        )
    return "\n".join(marks)


def _apart(places: Mapping[str, float], least: float = 15) -> dict[str, float]:
    """Move labels down so that none lies over another."""
    moved: dict[str, float] = {}
    last = -np.inf
    for name, place in sorted(places.items(), key=lambda item: item[1]):
        last = moved[name] = max(place, last + least)
    return moved


def _marker(arm: str, x: float, y: float) -> str:
    colour, _, shape = _LOOKS[arm]
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="#fff" stroke="{colour}" stroke-width="1.5"/>'
    if shape == "square":
        return f'<rect x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7" fill="{colour}"/>'
    return f'<path d="M{x:.1f} {y - 4.5:.1f}l4.5 8h-9z" fill="{colour}"/>'


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("month"))
    given = parser.parse_args()
    months = read(given.files)
    given.out.with_suffix(".svg").write_text(plot(months))
    given.out.with_suffix(".md").write_text(page(months, given.out.with_suffix(".svg").name))


if __name__ == "__main__":
    main()
