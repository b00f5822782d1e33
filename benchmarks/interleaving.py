"""How many searches it takes to find a ranker that gets 2 % more clicks: team draft beside a split of the users.

python benchmarks/interleaving.py [--experiments 200] [--seed 1] [--plot FILE.svg]

Simulated: users of known habits, rankers of known worth (`click_models.py`). For each pair of habits and rankers so
many experiments between two equal rankers, and so many with B 2 % better in expected clicks a search, each run by the
library (`rerank.interleaving`, `metrics.sequential`) until it says how it ends.
"""

import argparse
import datetime
import math
import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from click_models import ByPosition, FromTheTop, Rankers, Users
from sameitem.metrics.sequential import Plan, StopRule, Trial, add_all, chances, plan, preference, shortest_plan
from sameitem.rerank.interleaving import team_drafts, winners

QUERIES, CANDIDATES, PLACES = 2000, 30, 10
GAIN = 0.02
RULE = StopRule()
BLOCK = 20_000  # searches drawn at once
USERS: dict[str, Users] = {
    "by position": ByPosition(),
    "cascade, clicks again": FromTheTop(),
    "cascade, one click": FromTheTop(goes_on=0.85, satisfied=1.0),
}
ALIKE = {"strangers": 0.0, "relatives": 0.5, "siblings": 0.9}  # correlation of the two rankers' errors
Wins = Iterator[NDArray[np.int8]]


def main() -> None:
    """Run everything, print the tables and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiments", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", type=Path, help="SVG to write")
    options = parser.parse_args()
    started = time.process_time()
    rows = []
    for name, users in USERS.items():
        for relation, alike in ALIKE.items():
            rows.append({"users": name, "rankers": relation, **pair(users, alike, options.experiments, options.seed)})
            print(f"{name}, {relation}: done", file=sys.stderr)
    rules = stop_rules()
    about = (
        f"`python benchmarks/interleaving.py --experiments {options.experiments} --seed {options.seed}`, "
        f"{datetime.date.today().isoformat()}, {platform.machine()}, {os.cpu_count()} cores (one used), NumPy "
        f"{np.__version__}, {time.process_time() - started:.0f} s of processor time."
    )
    print(f"{about}\n\n{tables(rows)}\n\n{rules}")
    if options.plot is not None:
        options.plot.write_text(plot(rows), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class World:
    """Searches with two orders, and who clicks in them."""

    attraction: NDArray[np.float64]
    a: NDArray[np.intp]
    b: NDArray[np.intp]
    users: Users
    is_dealt: bool = False  # both orders are one ranker's: whose is whose is thrown for each search

    def interleaved(self, draw: Generator, count: int) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
        """Return the teams of so many searches' places, and which were clicked."""
        query = draw.integers(len(self.a), size=count)
        items, teams = team_drafts(self.a[query], self.b[query], draw.random((count, -(-PLACES // 2))) < 0.5, PLACES)
        if self.is_dealt:
            teams = teams * np.where(draw.random(count) < 0.5, 1, -1).astype(np.int8)[:, None]
        return teams, self.users.click(self.attraction[query[:, None], items], draw)

    def wins(self, draw: Generator) -> Wins:
        """Yield who won, search after search, for ever."""
        while True:
            yield winners(*self.interleaved(draw, BLOCK))

    def clicks(self, draw: Generator, order: NDArray[np.intp], count: int) -> NDArray[np.int64]:
        """Return the clicks of searches that show one order."""
        query = draw.integers(len(order), size=count)
        shown = self.attraction[query[:, None], order[query, :PLACES]]
        return np.asarray(self.users.click(shown, draw).sum(axis=1))


def pair(users: Users, alike: float, experiments: int, seed: int) -> dict[str, Any]:
    """Return what experiments between two equal rankers, and with a better one, came to."""
    draw = np.random.default_rng([seed, round(100 * alike), list(USERS.values()).index(users)])
    rankers = Rankers.draw(draw, queries=QUERIES, candidates=CANDIDATES, alike=alike)
    noise, ratio = rankers.better_b(users, PLACES, gain=GAIN)
    same_noise, same_ratio = rankers.better_b(users, PLACES, gain=0.0)
    better = World(rankers.attraction, *rankers.orders(1.0, noise), users)
    dealt = World(rankers.attraction, *rankers.orders(1.0, same_noise), users, is_dealt=True)
    equal = World(rankers.attraction, *rankers.orders(1.0, same_noise), users)
    teams, clicked = better.interleaved(draw, 400_000)
    won = winners(teams, clicked)
    of_equal = winners(*equal.interleaved(draw, 1_000_000))
    leaning = float(of_equal.sum() / np.count_nonzero(of_equal))
    wrong = chances(plan(RULE), leaning)
    return {
        "ratio": ratio,
        "clicks_a": rankers.worth(better.a, users, PLACES),
        "places_without_team": float((teams == 0).mean()),
        "decided_share": float((won != 0).mean()),
        "preference": float(won.sum() / np.count_nonzero(won)),
        **{f"fixed_{name}": _fixed(credit) for name, credit in credits(teams, clicked, draw).items()},
        "same": run(dealt, draw, experiments),
        "equal_ratio": same_ratio,
        "equal": {"preference": leaning, "one_better": wrong.a_better + wrong.b_better},
        "better": run(better, draw, experiments),
        "split": split(better, draw, experiments),
    }


def credits(teams: NDArray[np.int8], clicked: NDArray[np.bool_], draw: Generator) -> dict[str, NDArray[np.float64]]:
    """Return what each search says for B by several ways of counting."""
    thrown = np.where(teams == 0, np.where(draw.random(teams.shape) < 0.5, 1, -1), teams)
    return {
        "winner": winners(teams, clicked).astype(np.float64),
        "clicks": (teams * clicked).sum(axis=1).astype(np.float64),
        "thrown": np.sign((thrown * clicked).sum(axis=1)).astype(np.float64),  # agreed places get a team by a coin
    }


def _fixed(credit: NDArray[np.float64]) -> int:
    """Return how many searches a test of the mean takes that looks once, at the rule's alpha and power."""
    return round((_z() * credit.std() / credit.mean()) ** 2)


def _z() -> float:
    normal = NormalDist()
    return normal.inv_cdf(1 - RULE.alpha / 2) + normal.inv_cdf(RULE.power)


def run(world: World, draw: Generator, experiments: int) -> dict[str, Any]:
    """Run experiments one after the other on an endless stream of searches."""
    ends: dict[str, int] = {}
    sessions, held, true = [], 0, []
    stream, rest = world.wins(draw), np.empty(0, np.int8)
    for _ in range(experiments):
        trial = Trial()
        while trial.verdict == "go on":
            if not len(rest):
                rest = next(stream)
            before = trial.sessions
            trial = add_all(trial, RULE, rest)
            rest = rest[trial.sessions - before :]
        ends[trial.verdict] = ends.get(trial.verdict, 0) + 1
        sessions.append(trial.sessions)
        true.append(preference(trial, RULE))
    if world.is_dealt:
        held = sum(interval.low <= 0 <= interval.high for interval in true)
    counts = np.array(sessions)
    return {
        "experiments": experiments,
        "ends": ends,
        "a_better": wilson(ends.get("a better", 0), experiments),
        "b_better": wilson(ends.get("b better", 0), experiments),
        "one_better": wilson(ends.get("a better", 0) + ends.get("b better", 0), experiments),
        "median": float(np.median(counts)),
        "p90": float(np.quantile(counts, 0.9)),
        "mean": float(counts.mean()),
        "found": float(np.mean([interval.mean for interval in true])),
        **({"interval_holds_0": held / experiments} if world.is_dealt else {}),
        "sessions": sorted(counts.tolist()),
    }


def split(world: World, draw: Generator, experiments: int) -> dict[str, Any]:
    """Return how a split of the users does: half see A's list, half B's, clicks a search are compared.

    `fixed` is what one look takes at the same alpha and power, by the variances of a large sample; `measured` the
    share of experiments of that size that find B. The looks of our rule would save such a test the same share.
    """
    a, b = (world.clicks(draw, order, 1_000_000) for order in (world.a, world.b))
    gain = world.users.expected(np.take_along_axis(world.attraction, world.b[:, :PLACES], axis=1)).mean()
    gain -= world.users.expected(np.take_along_axis(world.attraction, world.a[:, :PLACES], axis=1)).mean()
    each = math.ceil(_z() ** 2 * (a.var() + b.var()) / gain**2)
    found, limit = 0, NormalDist().inv_cdf(1 - RULE.alpha / 2)
    for _ in range(experiments):
        one, other = world.clicks(draw, world.a, each), world.clicks(draw, world.b, each)
        found += (other.mean() - one.mean()) / math.sqrt((one.var() + other.var()) / each) > limit
    saved = chances(plan(RULE), RULE.worth).decided / plan(StopRule(RULE.alpha, RULE.power, RULE.worth, 1)).most
    return {"fixed": 2 * each, "with_looks": round(2 * each * saved), "measured": wilson(found, experiments)}


def wilson(hits: int, of: int) -> dict[str, float]:
    """Return a share and its 95 % interval (Wilson, 1927)."""
    z = NormalDist().inv_cdf(0.975)
    middle, wide = (hits + z * z / 2) / (of + z * z), z * math.sqrt(hits * (of - hits) / of + z * z / 4) / (of + z * z)
    return {"share": hits / of, "low": max(0.0, middle - wide), "high": min(1.0, middle + wide)}


# ---- stop rules side by side, without simulation ----


def stop_rules() -> str:
    """Return a table of stop rules, each as long as it takes for the rule's power; chances are added up exactly."""
    made = [
        "| rule | wrong verdicts between equals | power | most | equals | worth finding | twice that | five times |",
        "|---|---|---|---|---|---|---|---|",
    ]
    candidates = {
        "one look": plan(StopRule(RULE.alpha, RULE.power, RULE.worth, 1)),
        "O'Brien-Fleming spending": shortest_plan(RULE, _obrien_fleming),
        "alpha t^3": shortest_plan(RULE, lambda share: RULE.alpha * share**3),
        "alpha t^2 (ours)": plan(RULE),
        "alpha t": shortest_plan(RULE, lambda share: RULE.alpha * share),
        "Pocock spending": shortest_plan(RULE, _pocock),
        "always valid (mixture of likelihood ratios), looked at all the time": _always_valid(),
        "the bound of one look at each of 10 looks (wrong)": _peeking(),
    }
    for name, rule_plan in candidates.items():
        equal, worth, twice, five = (chances(rule_plan, times * RULE.worth) for times in (0, 1, 2, 5))
        made.append(
            f"| {name} | {100 * (equal.a_better + equal.b_better):.1f} % | {100 * worth.b_better:.1f} % | "
            f"{rule_plan.most:,} | {equal.decided:,.0f} | {worth.decided:,.0f} | {twice.decided:,.0f} | "
            f"{five.decided:,.0f} |"
        )
    return "\n".join(made)


def _obrien_fleming(share: float) -> float:
    normal = NormalDist()
    return 4 * (1 - normal.cdf(normal.inv_cdf(1 - RULE.alpha / 4) / math.sqrt(share)))


def _pocock(share: float) -> float:
    return RULE.alpha * math.log(1 + (math.e - 1) * share)


def _peeking() -> Plan:
    once = plan(StopRule(RULE.alpha, RULE.power, RULE.worth, 1))
    decided = tuple(math.ceil(once.most * look / 10) for look in range(1, 11))
    bounds = tuple(math.ceil(NormalDist().inv_cdf(1 - RULE.alpha / 2) * math.sqrt(count)) for count in decided)
    return Plan(decided, bounds, (*(-1,) * 9, bounds[-1] - 1))


def _always_valid() -> Plan:
    """Return the ends of Robbins' mixture: a lead at which the beta-mixed likelihood ratio passes 1 / alpha.

    The prior has the spread of a preference worth finding. Source: Johari et al., Peeking at A/B tests, KDD 2017.
    """
    strength = 1 / (2 * RULE.worth**2)  # under beta(s, s) a preference has the variance 1 / (2 s + 1)

    def ratio(count: int, lead: int) -> float:
        wins = (count + lead) / 2
        prior = 2 * math.lgamma(strength) - math.lgamma(2 * strength)
        after = math.lgamma(strength + wins) + math.lgamma(strength + count - wins) - math.lgamma(2 * strength + count)
        return after - prior + count * math.log(2)

    def bound(count: int) -> int:
        low, high = 0, count + 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if ratio(count, middle) >= -math.log(RULE.alpha) else (middle, high)
        return high

    most = int((_z() / RULE.worth) ** 2)
    while True:
        decided = tuple(range(20, most, 20))  # every twentieth: the chances in between are nearly the same
        bounds = tuple(map(bound, decided))
        found = Plan(decided, bounds, (*(-1,) * (len(decided) - 1), bounds[-1] - 1))
        if chances(found, RULE.worth).b_better >= RULE.power:
            return found
        most = int(most * 1.05)


# ---- tables and plot ----


def tables(rows: list[dict[str, Any]]) -> str:
    """Return the results as Markdown."""
    made = [
        "| users | rankers | clicks of B / A | agreed places | decided | preference | power | searches: median | p90 "
        "| mean | split, one look | its power | split, same looks | split / ours |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        better, halves = row["better"], row["split"]
        made.append(
            f"| {row['users']} | {row['rankers']} | {row['ratio']:.5f} | {row['places_without_team']:.2f} | "
            f"{row['decided_share']:.2f} | {100 * row['preference']:.1f} | {_share(better['b_better'])} | "
            f"{better['median']:,.0f} | {better['p90']:,.0f} | {better['mean']:,.0f} | {halves['fixed']:,} | "
            f"{_share(halves['measured'])} | {halves['with_looks']:,} | {halves['with_looks'] / better['mean']:.1f} |"
        )
    made += [
        "",
        "| users | rankers | wrong, one ranker | searches: median | p90 | mean | interval holds 0 "
        "| two rankers, clicks of B / A | preference | wrong |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        same, equal = row["same"], row["equal"]
        made.append(
            f"| {row['users']} | {row['rankers']} | {_share(same['one_better'])} | {same['median']:,.0f} | "
            f"{same['p90']:,.0f} | {same['mean']:,.0f} | {100 * same['interval_holds_0']:.1f} % | "
            f"{row['equal_ratio']:.5f} | {100 * equal['preference']:+.2f} | {100 * equal['one_better']:.1f} |"
        )
    made += [
        "",
        "| users | rankers | winner of the search | clicks counted | agreed places credited by a coin |",
        "|---|---|---|---|---|",
    ]
    made += [
        f"| {row['users']} | {row['rankers']} | {row['fixed_winner']:,} | {row['fixed_clicks']:,} | "
        f"{row['fixed_thrown']:,} |"
        for row in rows
    ]
    return "\n".join(made)


def _share(interval: dict[str, float]) -> str:
    return f"{100 * interval['share']:.1f} ({100 * interval['low']:.1f}-{100 * interval['high']:.1f})"


WIDTH, ROW, LEFT, RIGHT, TOP = 980, 34, 250, 40, 96


def plot(rows: list[dict[str, Any]]) -> str:
    """Return an SVG: searches until B is found, of every experiment, beside what a split takes."""
    ticks = [3_000, 10_000, 30_000, 100_000]
    low, high = math.log10(2_000), math.log10(140_000)
    height = TOP + ROW * len(rows) + 60

    def x(count: float) -> float:
        return LEFT + (math.log10(count) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    parts = [f'<path class="grid" d="M{x(tick):.1f} {TOP - 8}V{height - 44}"/>' for tick in ticks]
    parts += [
        f'<text class="small" x="{x(tick):.1f}" y="{height - 26}" text-anchor="middle">{tick:,}</text>'
        for tick in ticks
    ]
    for number, row in enumerate(rows):
        level = TOP + ROW * number + ROW / 2
        counts = np.array(row["better"]["sessions"])
        first, lower, middle, upper, last = np.quantile(counts, (0, 0.1, 0.5, 0.9, 1))
        parts.append(
            f'<text x="{LEFT - 12}" y="{level + 4:.0f}" text-anchor="end">{row["users"]}, {row["rankers"]}</text>'
        )
        parts.append(f'<path class="line" d="M{x(first):.1f} {level}H{x(last):.1f}"/>')
        parts.append(f'<path class="box" d="M{x(lower):.1f} {level - 6}H{x(upper):.1f}V{level + 6}H{x(lower):.1f}Z"/>')
        parts.append(f'<path class="middle" d="M{x(middle):.1f} {level - 9}V{level + 9}"/>')
        for name, shape in (("with_looks", "M-5 0L0 -6L5 0L0 6Z"), ("fixed", "M-5 -5L5 5M-5 5L5 -5")):
            parts.append(
                f'<path class="{name}" d="{shape}" transform="translate({x(row["split"][name]):.1f} {level})"/>'
            )
    style = (
        "text{font:13px system-ui,sans-serif;fill:#1b1f24}.small{font-size:12px;fill:#57606a}"
        ".title{font-size:16px;font-weight:600}.grid{stroke:#d8dee4;fill:none}.line{stroke:#1b1f24}"
        ".box{fill:#cfe3f5;stroke:#1b1f24}.middle{stroke:#1b1f24;stroke-width:3}"
        ".with_looks{fill:#d55e00;stroke:#d55e00}.fixed{stroke:#d55e00;stroke-width:2}"
    )
    legend = (
        "Interleaving: line = all experiments, box = 10 to 90 %, bar = median.",
        "Split of the users, same power: diamond = with as many looks, on average; cross = with one look.",
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img">'
        f"<title>Searches until a ranker with 2 % more clicks is found</title><style>{style}</style>"
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
        f'<text class="title" x="20" y="28">Searches until a ranker with 2 % more clicks is found (simulated)</text>'
        f'<text class="small" x="20" y="48">{legend[0]}</text><text class="small" x="20" y="66">{legend[1]}</text>'
        f"{''.join(parts)}"
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{height - 6}" text-anchor="middle">searches</text></svg>\n'
    )


if __name__ == "__main__":
    main()
