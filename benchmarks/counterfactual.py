"""How near estimates from a log come to what another order, or another policy, really gets.

python benchmarks/counterfactual.py [--data FOLDER] [--seed 1]

First simulated (`click_models.py`), where the truth is known: how likely each rank is looked at, learned in several
ways, and the clicks of a better ranker from the log of another. Then, with FOLDER/ctr, on the public log of a shop that
two policies served (Open Bandit Dataset): each policy's click rate from the other one's log, beside its own.
"""

import argparse
import csv
import datetime
import gzip
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from click_models import ByPosition, FromTheTop, Rankers, Users
from sameitem.evaluation.counterfactual import Reals, examination, reordered, reweighted, swapped_ranks
from sameitem.metrics.intervals import Interval, bootstrap_interval
from sameitem.rerank.interleaving import team_drafts

QUERIES, CANDIDATES, PLACES = 2000, 30, 10
SEARCHES = (5_000, 20_000, 100_000)
GAIN = 0.1  # clicks that the better ranker gets more than the logged one, the worse one less
REPEATS = 10
BINS = 20  # of the logged ranker's score
TRUE = ByPosition()


def main() -> None:
    """Print the tables and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    started = time.process_time()
    parts = [ranks_table(options.seed), clicks_table(options.seed)]
    if options.data is not None:
        parts.append(shop_table(options.data / "ctr", options.seed))
    about = (
        f"`python benchmarks/counterfactual.py --data FOLDER --seed {options.seed}`, "
        f"{datetime.date.today().isoformat()}, {platform.machine()}, {os.cpu_count()} cores, NumPy {np.__version__}, "
        f"{time.process_time() - started:.0f} s of processor time."
    )
    print("\n\n".join((about, *parts)))


@dataclass(frozen=True, slots=True)
class Log:
    """Lists that were shown and clicked."""

    query: NDArray[np.intp]  # (searches,)
    items: NDArray[np.intp]  # (searches, places)
    clicked: NDArray[np.bool_]
    score: Reals  # (searches, places) of the ranker that was logged
    teams: NDArray[np.int8] | None = None  # where two rankers were interleaved

    def rows(self, group: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Return group, rank and click of each place whose group is not below 0."""
        rank = np.broadcast_to(np.arange(1, PLACES + 1), self.items.shape)
        kept = group >= 0
        return group[kept], rank[kept], self.clicked[kept]


def logged(rankers: Rankers, order: NDArray[np.intp], noise: float, users: Users, draw: Generator, count: int) -> Log:
    """Return so many searches of one ranker."""
    query = draw.integers(QUERIES, size=count)
    items = order[query, :PLACES]
    score = (rankers.utility + noise * rankers.noise_a)[query[:, None], items]
    return Log(query, items, users.click(rankers.attraction[query[:, None], items], draw), score)


def interleaved(
    rankers: Rankers, a: NDArray[np.intp], b: NDArray[np.intp], users: Users, draw: Generator, count: int
) -> Log:
    """Return so many searches of an experiment."""
    query = draw.integers(QUERIES, size=count)
    items, teams = team_drafts(a[query], b[query], draw.random((count, PLACES)) < 0.5, PLACES)
    score = (rankers.utility + rankers.noise_a)[query[:, None], items]
    return Log(query, items, users.click(rankers.attraction[query[:, None], items], draw), score, teams)


def by_rank(log: Log) -> Reals:
    """Click rates of the ranks, as if all were equally attractive."""
    rate = log.clicked.mean(axis=0)
    return np.asarray(rate / rate[0])


def by_score(log: Log) -> Reals:
    """Groups of equal score of the logged ranker."""
    edges = np.quantile(log.score, np.linspace(0, 1, BINS + 1)[1:-1])
    return examination(*log.rows(np.searchsorted(edges, log.score)), ranks=PLACES)


def by_repeats(log: Log) -> Reals:
    """Groups of the same query and item."""
    return examination(*log.rows(log.query[:, None] * CANDIDATES + log.items), ranks=PLACES)


def by_swaps(log: Log) -> Reals:
    """Groups of pairs that a coin put one way or the other."""
    assert log.teams is not None
    letters = np.array(["A", "-", "B"])[log.teams + 1]
    known: dict[str, list[int]] = {}
    group = [known.setdefault(text, swapped_ranks(text)) for text in map("".join, letters.tolist())]
    upper = np.array(group)
    return examination(*log.rows(np.where(upper > 0, upper, -1)), ranks=PLACES)


WAYS: dict[str, Callable[[Log], Reals]] = {
    "click rate of the rank": by_rank,
    f"{BINS} groups of the logged ranker's score": by_score,
    "same query and item at several ranks": by_repeats,
    "swapped by the coins of an experiment": by_swaps,
}


def world(seed: int, users: Users, gain: float) -> tuple[Rankers, NDArray[np.intp], NDArray[np.intp]]:
    """Return queries, and the orders of the logged ranker and of one that gets so many more clicks."""
    rankers = Rankers.draw(np.random.default_rng(seed), queries=QUERIES, candidates=CANDIDATES, alike=0.5)
    noise, _ = rankers.better_b(users, PLACES, gain=gain)
    return rankers, *rankers.orders(1.0, noise)


def ranks_table(seed: int) -> str:
    """Return how far learned chances of being looked at are off, over repeated logs."""
    rankers, a, b = world(seed, TRUE, GAIN)
    truth = TRUE.examined(PLACES)
    made = [
        f"Chances of looking at ranks 1 to {PLACES}: mean error and mean size of the error over ranks, % of the truth "
        f"({REPEATS} logs each; of an experiment's log where two rankers were interleaved).",
        "",
        "| learned from | " + " | ".join(f"{count:,} searches" for count in SEARCHES) + " |",
        "|---|" + "---|" * len(SEARCHES),
    ]
    for name, way in WAYS.items():
        cells = []
        for count in SEARCHES:
            errors = []
            for repeat in range(REPEATS):
                draw = np.random.default_rng([seed, count, repeat])
                plain = way in (by_rank, by_score)
                log = (
                    logged(rankers, a, 1.0, TRUE, draw, count)
                    if plain
                    else interleaved(rankers, a, b, TRUE, draw, count)
                )
                errors.append(way(log)[1:] / truth[1:] - 1)
            cells.append(f"{100 * np.mean(errors):+.1f}, {100 * np.abs(errors).mean():.1f}")
        made.append(f"| {name} | " + " | ".join(cells) + " |")
    fixed = 1 / np.log2(np.arange(2, PLACES + 2))
    off = fixed[1:] / truth[1:] - 1
    made.append(f"| assumed: 1 / log2(rank + 1) | {100 * off.mean():+.1f}, {100 * np.abs(off).mean():.1f} |" + " |" * 2)
    return "\n".join(made)


def clicks_table(seed: int) -> str:
    """Return the estimated gains of other rankers from the log of one, over repeated logs."""
    count = SEARCHES[1]
    made = [
        f"Clicks that other rankers would get, from {count:,} searches of one ranker's order (the same {PLACES} places "
        "in another order), %: true gain, mean estimate, spread of the estimates, share of the 95 % intervals that lie "
        f"above 0, that hold the truth; effective clicks ({REPEATS} logs).",
        "",
        "| users | chances of looking | true gain | estimated | spread | above 0 | hold it | effective clicks |",
        "|---|---|---|---|---|---|---|---|",
    ]
    everybody: dict[str, Users] = {
        "by position": TRUE,
        "cascade, clicks again": FromTheTop(),
        "cascade, one click": FromTheTop(satisfied=1.0),
    }
    for title, users in everybody.items():
        for gain in (GAIN, 0.0, -GAIN):
            true, found = estimates(seed, users, gain, count)
            for name, results in found.items():
                gains = np.array([change.mean for change, _ in results])
                above = np.mean([change.low > 0 for change, _ in results])
                held = np.mean([change.low <= true <= change.high for change, _ in results])
                effective = np.mean([number for _, number in results])
                made.append(
                    f"| {title} | {name} | {100 * true:+.1f} | {100 * gains.mean():+.1f} | "
                    f"{100 * gains.std(ddof=1):.1f} | {100 * above:.0f} | {100 * held:.0f} | {effective:,.0f} |"
                )
    return "\n".join(made)


def estimates(
    seed: int, users: Users, gain: float, count: int
) -> tuple[float, dict[str, list[tuple[Interval, float]]]]:
    """Return what another ranker really gains, and what is estimated with several chances of looking."""
    rankers, a, b = world(seed, users, gain)
    shown = a[:, :PLACES]
    places = np.empty_like(a)
    np.put_along_axis(places, b, np.broadcast_to(np.arange(CANDIDATES), b.shape), axis=1)
    new = np.argsort(np.argsort(np.take_along_axis(places, shown, axis=1), axis=1), axis=1)
    attraction = np.take_along_axis(rankers.attraction, shown, axis=1)
    reordered_attraction = np.take_along_axis(attraction, np.argsort(new, axis=1), axis=1)
    true = users.expected(reordered_attraction).mean() / users.expected(attraction).mean() - 1
    found: dict[str, list[tuple[Interval, float]]] = {}
    for repeat in range(REPEATS):
        draw = np.random.default_rng([seed, repeat])
        log = logged(rankers, a, 1.0, users, draw, count)
        mixed = interleaved(rankers, a, b, users, draw, count)
        chances = {
            "click rate of the rank": by_rank(log),
            "assumed: 1 / log2(rank + 1)": 1 / np.log2(np.arange(2, PLACES + 2)),
            f"{BINS} groups of the score": by_score(log),
            "swapped by coins": by_swaps(mixed),
        }
        if users is TRUE:
            chances["true"] = TRUE.examined(PLACES)
        number = np.repeat(np.arange(count), PLACES)
        rank = np.tile(np.arange(1, PLACES + 1), count)
        for name, examined in chances.items():
            order = new[log.query].ravel() + 1
            got = reordered(number, rank, order, log.clicked.ravel(), examined, draw, resamples=200)
            found.setdefault(name, []).append((got.change, got.effective))
    return float(true), found


def shop_table(folder: Path, seed: int) -> str:
    """Return each policy's click rate from its own log and from the other one's."""
    logs = {policy: read_policy(folder / f"obd_{policy}_men.csv.gz") for policy in ("random", "bts")}
    items = 1 + max(int(item.max()) for item, *_ in logs.values())
    draw = np.random.default_rng(seed)
    made = [
        "Click rates in % of impressions (Open Bandit Dataset, men, 10,000 impressions each).",
        "",
        "| policy | its own log | the other's, IPS | the other's, SNIPS | effective clicks | warning |",
        "|---|---|---|---|---|---|",
    ]
    for policy, other in (("random", "bts"), ("bts", "random")):
        item, position, click, chance = logs[other]
        if policy == "random":
            wanted = np.full(len(item), 1 / items)
        else:  # its chances for the other's choices are not logged: how often it chose each item at the position
            own_item, own_position, *_ = logs[policy]
            chosen = np.zeros((items, 4))
            np.add.at(chosen, (own_item, own_position), 1.0)
            wanted = (chosen / chosen.sum(axis=0).clip(min=1))[item, position]
        ips, snips = reweighted(click, wanted / chance, np.arange(len(item)), draw)
        own = bootstrap_interval(logs[policy][2], draw)
        made.append(
            f"| {policy} | {_percent(own)} | {_percent(ips.value)} | {_percent(snips)} | {ips.effective:.0f} of "
            f"{int(click.sum())} | {ips.warning or 'none'} |"
        )
    return "\n".join(made)


def read_policy(file: Path) -> tuple[NDArray[np.intp], NDArray[np.intp], Reals, Reals]:
    """Return item, position, click and logged chance of each impression."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    item, position = (np.array([int(row[name]) for row in rows]) for name in ("item_id", "position"))
    click, chance = (np.array([float(row[name]) for row in rows]) for name in ("click", "propensity_score"))
    return item, position, click, chance


def _percent(interval: Interval) -> str:
    return f"{100 * interval.mean:.2f} ({100 * interval.low:.2f}-{100 * interval.high:.2f})"


if __name__ == "__main__":
    main()
