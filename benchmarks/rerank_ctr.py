"""Compare the ranker (trees and regression) with the regression alone and the trees alone on public click data.

python benchmarks/rerank_ctr.py --data FOLDER [--only NAME] [--seed N] [--out FILE]

FOLDER holds `ctr/`. Ten-fold predictions over all rows of each set, folds by query where there are queries; every
choice (penalty, number of trees) is made inside the nine folds that train. Graded relevance of 2 or more is a positive.
"""

import argparse
import csv
import datetime
import gzip
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sameitem.metrics.intervals import Interval, bootstrap_interval, paired_interval, ratio_interval
from sameitem.metrics.ranking import auc, log_losses, ndcg_at, normalised_entropy
from sameitem.rerank.ranker import Ranker
from sameitem.rerank.training import train_linear, train_ranker, train_trees

FOLDS = 10
DRAWS = 1  # seed of the bootstrap
COMMON = 50  # rows that a value of a category must have for a column of its own
METHODS: dict[str, Callable[..., Ranker]] = {"LR": train_linear, "GBDT": train_trees, "GBDT+LR": train_ranker}
BOTH = "GBDT+LR"


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """One public set as the ranker takes it."""

    name: str
    names: Sequence[str]
    features: NDArray[np.float64]
    grades: NDArray[np.float64]  # (rows,) relevance, or 1 where it was clicked or bought
    positive: NDArray[np.bool_]
    queries: NDArray[np.int64]  # (rows,)
    is_graded: bool = False


def main() -> None:
    """Print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", choices=sorted(SETS))
    parser.add_argument("--seed", type=int, default=1, help="of the folds and of the training")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    started = time.monotonic()
    made = [
        "| set | rows | positives | method | NE | AUC | calibration | NDCG@10 | NE gain of GBDT+LR over it, % |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    served: list[str] = []
    for name, read in SETS.items():
        if options.only in (None, name):
            rows = read(options.data / "ctr")
            foretold = {method: out_of_fold(train, rows, options.seed) for method, train in METHODS.items()}
            made += [line(rows, method, foretold) for method in METHODS]
            served.append(cost(rows, options.seed))
            print("\n".join(made[-3:]), served[-1], sep="\n", flush=True)
    text = "\n".join((*made, "", *served))
    print(text)
    if options.out is not None:
        about = (
            f"`python benchmarks/rerank_ctr.py --data FOLDER`, {datetime.date.today().isoformat()}, "
            f"{platform.machine()}, {os.cpu_count()} cores, {time.monotonic() - started:.0f} s. Ten-fold predictions "
            f"over all rows, folds by query where there are queries, seed {options.seed}; bootstrap 95 % intervals, "
            "queries whole."
        )
        options.out.write_text(f"# The ranker on public click data\n\n{about}\n\n{text}\n", encoding="utf-8")


def out_of_fold(train: Callable[..., Ranker], rows: Rows, seed: int) -> NDArray[np.float64]:
    """Return each row's score by a ranker that saw nothing of the row's query."""
    _, query_of = np.unique(rows.queries, return_inverse=True)
    fold_of = np.random.default_rng(seed).permutation(query_of.max() + 1)[query_of] % FOLDS
    foretold = np.empty(len(rows.positive))
    for fold in range(FOLDS):
        known, asked = fold_of != fold, fold_of == fold
        ranker = train(
            rows.features[known], rows.positive[known], rows.names, groups=rows.queries[known], seed=seed + fold
        )
        foretold[asked] = ranker.score(rows.features[asked])
    return foretold


def line(rows: Rows, method: str, foretold: dict[str, NDArray[np.float64]]) -> str:
    """Return a row of the table."""
    score = foretold[method]
    losses = log_losses(score, rows.positive)
    better = log_losses(foretold[BOTH], rows.positive)
    draw = np.random.default_rng(DRAWS)
    share = rows.positive.mean()
    entropy = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    nothing = np.zeros(len(losses))
    entropies = paired_interval(nothing, losses / entropy, rows.queries, draw)
    left = ratio_interval(better, losses, rows.queries, draw)
    gain = "" if method == BOTH else _say(Interval(1 - left.mean, 1 - left.high, 1 - left.low), times=100, digits=2)
    calibration = ratio_interval(score, rows.positive.astype(np.float64), rows.queries, draw)
    assert np.isclose(entropies.mean, normalised_entropy(score, rows.positive))
    cells = [
        rows.name,
        str(len(losses)),
        str(int(rows.positive.sum())),
        method,
        _say(entropies, digits=4),
        _say(auc_interval(rows, score, draw)),
        _say(calibration),
        _say(bootstrap_interval(ndcg(rows, score), draw)) if rows.is_graded else "",
        gain,
    ]
    return "| " + " | ".join(cells) + " |"


def auc_interval(rows: Rows, score: NDArray[np.float64], draw: np.random.Generator, resamples: int = 300) -> Interval:
    """Return the AUC and its bootstrap 95 % interval, queries drawn whole."""
    _, query_of = np.unique(rows.queries, return_inverse=True)
    members = np.split(np.argsort(query_of, kind="stable"), np.cumsum(np.bincount(query_of))[:-1])
    values = []
    for _ in range(resamples):
        drawn = np.concatenate([members[query] for query in draw.integers(len(members), size=len(members))])
        values.append(auc(score[drawn], rows.positive[drawn]))
    low, high = np.quantile(values, (0.025, 0.975))
    return Interval(auc(score, rows.positive), float(low), float(high))


def ndcg(rows: Rows, score: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return NDCG@10 of each query that has something relevant; ties keep the order of the rows."""
    values = []
    for query in np.unique(rows.queries):
        inside = np.flatnonzero(rows.queries == query)
        if rows.grades[inside].any():
            order = inside[np.argsort(-score[inside], kind="stable")]
            values.append(ndcg_at(rows.grades[order][None], 10)[0])
    return np.array(values)


def cost(rows: Rows, seed: int) -> str:
    """Return what scoring 60 candidates costs with the ranker of all rows."""
    ranker = train_ranker(rows.features, rows.positive, rows.names, groups=rows.queries, seed=seed)
    times = []
    for _ in range(50):
        began = time.perf_counter()
        ranker.score(rows.features[:60])
        times.append(time.perf_counter() - began)
    return (
        f"{rows.name}: 60 candidates in {1000 * float(np.median(times)):.2f} ms (median of 50; "
        f"{len(ranker.trees.roots)} trees, {len(ranker.trees.feature)} nodes, {len(rows.names)} features)"
    )


def shoppers(folder: Path) -> Rows:
    """Return shop sessions, bought or not."""
    with gzip.open(folder / "online_shoppers.csv.gz", "rt", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    categories = ("Month", "OperatingSystems", "Browser", "Region", "TrafficType", "VisitorType", "Weekend")
    numbers = [name for name in table[0] if name not in (*categories, "Revenue")]
    columns = {name: np.array([float(row[name]) for row in table]) for name in numbers}
    for name in categories:
        columns |= one_hot(name, [row[name] for row in table])
    bought = np.array([row["Revenue"] == "TRUE" for row in table])
    return _made("shop sessions, purchase", columns, bought.astype(np.float64), np.arange(len(table)))


def impressions(folder: Path) -> Rows:
    """Return impressions of two policies, clicked or not; each is its own query, for there are no sessions."""
    with (folder / "obd_men_items.csv").open(encoding="utf-8") as items:
        item_of = {row["item_id"]: row for row in csv.DictReader(items)}
    table = []
    for policy in ("random", "bts"):
        with gzip.open(folder / f"obd_{policy}_men.csv.gz", "rt", encoding="utf-8") as file:
            table += [row | {"policy": policy} for row in csv.DictReader(file)]
    shown = [item_of[row["item_id"]] for row in table]
    columns = {
        "item_feature_0": np.array([float(item["item_feature_0"]) for item in shown]),
        "affinity": np.array([float(row[f"user-item_affinity_{row['item_id']}"]) for row in table]),
        "hour": np.array([float(row["timestamp"][11:13]) for row in table]),
    }
    for name in ("position", "item_id", "policy", *(f"user_feature_{number}" for number in range(4))):
        columns |= one_hot(name, [row[name] for row in table])
    for name in ("item_feature_1", "item_feature_2", "item_feature_3"):
        columns |= one_hot(name, [item[name] for item in shown])
    clicked = np.array([row["click"] == "1" for row in table])
    return _made("impressions, click", columns, clicked.astype(np.float64), np.arange(len(table)))


def graded(folder: Path) -> Rows:
    """Return documents of queries with graded relevance."""
    with gzip.open(folder / "lambdarank_rank.train.gz", "rt", encoding="utf-8") as file:
        lines = [line.split() for line in file]
    with gzip.open(folder / "lambdarank_rank.train.query.gz", "rt", encoding="utf-8") as file:
        sizes = [int(line) for line in file]
    table = np.zeros((len(lines), 301))
    for row, (_, *pairs) in enumerate(lines):
        for pair in pairs:
            column, value = pair.split(":")
            table[row, int(column)] = float(value)
    columns = {f"feature {column}": table[:, column] for column in np.flatnonzero(table.any(axis=0))}
    grades = np.array([float(first) for first, *_ in lines])
    return _made("graded relevance", columns, grades, np.repeat(np.arange(len(sizes)), sizes), is_graded=True)


def one_hot(name: str, values: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Return a column of 0 and 1 for each common value."""
    known, place, count = np.unique(values, return_inverse=True, return_counts=True)
    common = np.flatnonzero((count >= COMMON) & (count <= len(values) - COMMON))
    return {f"{name} {known[value]}": (place == value).astype(np.float64) for value in common}


def _made(
    name: str,
    columns: dict[str, NDArray[np.float64]],
    grades: NDArray[np.float64],
    queries: NDArray[np.int64],
    *,
    is_graded: bool = False,
) -> Rows:
    positive = grades >= (2 if is_graded else 1)
    return Rows(name, list(columns), np.column_stack(list(columns.values())), grades, positive, queries, is_graded)


def _say(interval: Interval, *, times: float = 1, digits: int = 3) -> str:
    middle, low, high = (f"{times * number:.{digits}f}" for number in (interval.mean, interval.low, interval.high))
    return f"{middle} ({low} to {high})"


SETS = {"shoppers": shoppers, "graded": graded, "impressions": impressions}

if __name__ == "__main__":
    main()
