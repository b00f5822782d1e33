"""Measure whether the gate keeps worse rankers out and lets better ones pass: planted ones, of known true worth.

python benchmarks/gate_rankers.py --work FOLDER [--searches N] [--seed N]

Lists of drawn products with drawn looks and qualities; simulated users look at a place as likely as its rank says and
click what they look at as likely as looks and quality of the product say. A ranker learns from such a log; worse ones
are made by perturbing it, better ones by repairing degraded ones, wholly or partly. The gate sees the newest quarter of
the clicks that the *live* order got; the truth is the expected number of clicks of each order on fresh lists, which is
computed, not drawn. Everything that this file measures is to be called simulated; `benchmarks/gate.py report` shows it.
"""

import argparse
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sameitem.clicks.log import Event, Search, Shown
from sameitem.core.records import ImageId, ProductId
from sameitem.core.settings import RerankSettings, load_settings
from sameitem.evaluation.orders import judge_order, looked_at
from sameitem.pipeline.rankers import LOOKS, RankerManifest, activate_ranker, add_ranker
from sameitem.pipeline.shop import Shop
from sameitem.rerank.features import COLUMNS, FEATURES, NUMBERS, Evidence, features_of, write_evidence
from sameitem.rerank.ranker import Ranker
from sameitem.rerank.training import train_ranker
from sameitem.upkeep.founding import found_shop
from sameitem.upkeep.ranking import ShownList, compare_rankers, new_ranks, shown_lists

PRODUCTS, LENGTH, USERS = 400, 20, 400
FRESH = 4000  # lists on which the truth is computed
BEGINS = 1.79e9  # seconds since 1970
RESULTS = "rankers.json"
GOOD = "good"

Perturb = Callable[[Ranker, np.random.Generator], Ranker]


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """What is sold, and how it tempts."""

    columns: dict[str, NDArray[np.float64]]  # of the evidence, per product
    appeal: NDArray[np.float64]  # (products,) log odds of a click beside looks


def draw_world(generator: np.random.Generator) -> World:
    """Draw products; what tempts is cheap, well rated, often sold and in stock."""
    columns = {name: np.full(PRODUCTS, np.nan) for name in COLUMNS}
    columns |= {
        "sales": np.round(generator.lognormal(3.5, 1.4, PRODUCTS)),
        "price": np.round(generator.lognormal(3.0, 0.7, PRODUCTS), 2),
        "rating": np.round(np.clip(generator.normal(4.2, 0.5, PRODUCTS), 1, 5), 1),
        "review_count": np.round(generator.lognormal(2.5, 1.0, PRODUCTS)),
        "in_stock": (generator.random(PRODUCTS) < 0.9).astype(np.float64),
        "seller_quality": np.round(generator.beta(6, 2, PRODUCTS), 2),
        "age_days": np.round(generator.uniform(0, 300, PRODUCTS)),
        "examined": np.zeros(PRODUCTS),
        "clicks": np.zeros(PRODUCTS),
        "carts": np.zeros(PRODUCTS),
        "purchases": np.zeros(PRODUCTS),
    }
    appeal = (
        0.5 * (np.log1p(columns["sales"]) - 3.5)
        - 0.8 * (np.log(columns["price"]) - 3.0)
        + 1.0 * (columns["rating"] - 4.2)
        + 1.2 * (columns["in_stock"] - 0.9)
        + 1.5 * (columns["seller_quality"] - 0.75)
    )
    return World(columns, appeal)


def draw_list(world: World, generator: np.random.Generator, number: int) -> tuple[ShownList, NDArray[np.float64]]:
    """Draw a list in the order of looks, and how likely each place is clicked once it is looked at."""
    products = generator.choice(PRODUCTS, LENGTH, replace=False)
    visual = np.round(np.sort(generator.uniform(0.6, 0.98, LENGTH))[::-1], 6)
    said = {name: column[products] for name, column in world.columns.items()}
    said |= {"visual": visual, "visual_rank": np.arange(1.0, LENGTH + 1), "same_item": visual**4}
    numbers = dict.fromkeys(NUMBERS, 0.05) | {
        "best_visual": float(visual[0]),
        "middle_price": float(np.median(said["price"])),
        "middle_rating": float(np.median(said["rating"])),
    }
    evidence = Evidence(**said, **numbers)
    odds = -2.4 + 6.0 * (visual - 0.8) + world.appeal[products]
    one = ShownList(
        at=BEGINS + 60.0 * number,
        user=f"u{generator.integers(USERS)}",
        category="tops",
        evidence=evidence,
        ranks=np.arange(1.0, LENGTH + 1),
        image_ids=products + 1,
        clicked=np.zeros(LENGTH, np.bool_),
    )
    return one, 1 / (1 + np.exp(-odds))


def shown_by(one: ShownList, ranker: Ranker | None, settings: RerankSettings) -> ShownList:
    """Return a list in the order that a ranker gives it."""
    return replace(one, ranks=new_ranks(one, ranker, settings))


def expected_clicks(
    fresh: list[tuple[ShownList, NDArray[np.float64]]], ranker: Ranker | None, settings: RerankSettings
) -> NDArray[np.float64]:
    """Return the expected clicks (lists,) of fresh lists in an order."""
    return np.array([(looked_at(new_ranks(one, ranker, settings)) * odds).sum() for one, odds in fresh])


def record(
    shop: Shop, world: World, ranker: Ranker | None, generator: np.random.Generator, *, first: int, count: int
) -> None:
    """Let users search, in lists of an order, and click."""
    for number in range(first, first + count):
        one, likely = draw_list(world, generator, number)
        one = shown_by(one, ranker, shop.settings.rerank)
        order = np.argsort(one.ranks)
        search_id, ids = f"s{number:06d}", one.image_ids[order]
        shown = tuple(
            Shown(place + 1, ProductId(f"P{image:04d}"), "main", ImageId(int(image)), 0.5)
            for place, image in enumerate(ids)
        )
        evidence = write_evidence(one.evidence.take(order))
        shop.clicks.record_search(
            Search(search_id, one.at, "", None, one.category, "i", "m", one.user, "", shown, "r", evidence)
        )
        looked = generator.random(LENGTH) < looked_at(np.arange(1.0, LENGTH + 1))
        clicked = np.flatnonzero(looked & (generator.random(LENGTH) < likely[order]))
        events = [
            Event(f"{search_id}-{place}", search_id, "click", shown[place].product_id, user_id=one.user, ts=one.at)
            for place in clicked
        ]
        if events:
            shop.clicks.record_events(events)


# ---------------------------------------------------------------------------------------------- planted rankers


def noisy(share: float) -> Perturb:
    """Put noise on every weight, in shares of their spread."""

    def perturb(ranker: Ranker, generator: np.random.Generator) -> Ranker:
        trees, leaf = ranker.trees, ranker.trees.weight != 0
        drawn = generator.standard_normal(len(trees.weight)) * leaf * trees.weight[leaf].std() if leaf.any() else 0.0
        dense = ranker.dense + share * ranker.dense.std() * generator.standard_normal(len(ranker.dense))
        return replace(ranker, trees=replace(trees, weight=trees.weight + share * drawn), dense=dense)

    return perturb


def scaled(by: float) -> Perturb:
    """Multiply every weight; below 0 the order is turned round."""
    return lambda ranker, _: replace(
        ranker, trees=replace(ranker.trees, weight=by * ranker.trees.weight), dense=by * ranker.dense
    )


def swapped(ranker: Ranker, generator: np.random.Generator) -> Ranker:
    """Read the features in a wrong order, as after a change that was not told to the ranker."""
    order = generator.permutation(len(ranker.names))
    trees = replace(ranker.trees, feature=order[ranker.trees.feature] * (ranker.trees.threshold != 0))
    return replace(ranker, trees=trees, dense=ranker.dense[order])


def between(bad: Ranker, good: Ranker, share: float) -> Ranker:
    """Return a ranker that lies between two of the same trees."""
    weight = (1 - share) * bad.trees.weight + share * good.trees.weight
    return replace(
        good,
        trees=replace(good.trees, weight=weight),
        dense=(1 - share) * bad.dense + share * good.dense,
        bias=(1 - share) * bad.bias + share * good.bias,
    )


def taught(lists: list[ShownList], seed: int, *, wrong: bool = False, count: int | None = None) -> Ranker:
    """Train a ranker on lists; `wrong`: with the clicks of all places mixed up; `count`: on so many lists alone."""
    used = lists[:count]
    features = np.concatenate([features_of(one.evidence, one.ranks) for one in used])
    clicked = np.concatenate([one.clicked for one in used])
    if wrong:
        clicked = np.random.default_rng(seed).permutation(clicked)
    groups = np.repeat(np.arange(len(used)), [len(one.ranks) for one in used])
    return train_ranker(features, clicked, FEATURES, seed=seed, groups=groups)


@dataclass(slots=True)
class Bench:
    """A log to learn from, a good ranker, and lists that tell the truth."""

    work: Path
    world: World
    seed: int
    searches: int
    lists: list[ShownList]
    good: Ranker
    fresh: list[tuple[ShownList, NDArray[np.float64]]]

    def rng(self, *about: int) -> np.random.Generator:
        """Return chance of this run."""
        return np.random.default_rng([self.seed, *about])


def open_shop(folder: Path) -> Shop:
    """Found and open a shop that holds a log and rankers, and sells nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    found_shop(folder)
    return Shop(folder, load_settings(folder, {"mining": {"sessions_per_user": 10_000}})[0])


def prepare(work: Path, *, searches: int, seed: int) -> Bench:
    """Let users click in lists by looks, and learn the good ranker from that."""
    world = draw_world(np.random.default_rng([seed, 0]))
    shop = open_shop(work / "by-looks")
    record(shop, world, None, np.random.default_rng([seed, 1]), first=0, count=searches)
    lists = shown_lists(shop)
    shop.close()
    truth = np.random.default_rng([seed, 2])
    fresh = [draw_list(world, truth, number) for number in range(FRESH)]
    return Bench(work, world, seed, searches, lists, taught(lists, seed), fresh)


def degraded(bench: Bench) -> dict[str, Ranker | None]:
    """Return what is live where better ones are planted; None = looks alone."""
    return {
        LOOKS: None,
        "noisy": noisy(3.0)(bench.good, bench.rng(3)),
        "turned": between(scaled(-1.0)(bench.good, bench.rng(3)), bench.good, 0.25),
    }


def planted(bench: Bench) -> Iterator[tuple[str, str, str, bool, Ranker]]:
    """Yield every planted ranker: name, kind, what is live, whether it is better."""
    good, few = bench.good, min(100, len(bench.lists))
    for share in (1.5, 2.5, 4.0):
        yield f"noise-{share:g}", "noise on the weights", GOOD, False, noisy(share)(good, bench.rng(4, int(share * 10)))
    yield "turned-round", "the order turned round", GOOD, False, scaled(-1.0)(good, bench.rng(4))
    yield "wrong-labels", "taught with wrong labels", GOOD, False, taught(bench.lists, bench.seed, wrong=True)
    for number in range(2):
        part = bench.lists[number * few :]
        found = taught(part, bench.seed + number, count=few)
        yield f"few-{number}", f"taught by {few} searches", GOOD, False, found
    for number in range(2):
        yield f"swapped-{number}", "features in a wrong order", GOOD, False, swapped(good, bench.rng(5, number))
    lost = replace(good, trees=replace(good.trees, weight=0.2 * good.trees.weight), dense=0.2 * good.dense)
    yield "faint", "weights of a fifth", GOOD, False, lost
    for live, bad in degraded(bench).items():
        shares = (0.5, 1.0) if bad is None else (0.4, 0.6, 0.8, 1.0)
        for share in shares:
            made = scaled(share)(good, bench.rng(6)) if bad is None else between(bad, good, share)
            yield f"{live}-repaired-{share:g}", "repaired", live, True, made


def manifest_of(version: str, bench: Bench) -> RankerManifest:
    """Describe a planted ranker, which learned from the first log."""
    return RankerManifest(version, "2026-11-26T00:00:00+00:00", "m", len(bench.lists), 1, _iso(0), _iso(bench.searches))


def _iso(number: int) -> str:
    return np.datetime_as_string(np.datetime64(int(BEGINS + 60 * number), "s")) + "+00:00"


def run(work: Path, *, searches: int, seed: int) -> None:
    """Let every planted ranker ask the gate, and measure what it is truly worth."""
    work.mkdir(parents=True, exist_ok=True)
    bench = prepare(work, searches=searches, seed=seed)
    lives = {GOOD: bench.good} | degraded(bench)
    settings = RerankSettings()
    truth = {name: expected_clicks(bench.fresh, ranker, settings) for name, ranker in lives.items()}
    print({name: round(float(clicks.mean()), 4) for name, clicks in truth.items()}, flush=True)
    shops: dict[str, Shop] = {}
    results = []
    for name, kind, live, is_better, ranker in planted(bench):
        begun = time.monotonic()
        if live not in shops:
            shop = shops[live] = open_shop(work / f"live-{live}")
            if (answers := lives[live]) is not None:
                add_ranker(shop.rankers_root, answers, manifest_of(f"live-{live}", bench))
                activate_ranker(shop.rankers_root, f"live-{live}")
            first = bench.searches + 1
            record(shop, bench.world, lives[live], bench.rng(7), first=first, count=bench.searches)
        shop = shops[live]
        add_ranker(shop.rankers_root, ranker, manifest_of(name, bench))
        asked = compare_rankers(shop, shop.active_ranker, name)
        judgement = judge_order(asked, shop.settings.gate)
        clicks = expected_clicks(bench.fresh, ranker, settings)
        change = (clicks - truth[live]).mean() / truth[live].mean()
        results.append(
            {
                "name": name,
                "kind": kind,
                "live": live,
                "is_better": is_better,
                "true_change": float(change),
                "gate_change": asked.delta.mean / asked.before,
                "gate_low": asked.delta.low / asked.before,
                "gate_high": asked.delta.high / asked.before,
                "searches": asked.searches,
                "users": asked.users,
                "passed": judgement.passed,
                "seconds": round(time.monotonic() - begun, 1),
            }
        )
        found: dict[str, Any] = results[-1]
        print(
            f"{name}: true {100 * change:+.1f} %, gate {100 * found['gate_change']:+.1f} "
            f"[{100 * found['gate_low']:+.1f}, {100 * found['gate_high']:+.1f}] % passed {found['passed']}",
            flush=True,
        )
    for shop in shops.values():
        shop.close()
    about = {"searches": searches, "seed": seed, "products": PRODUCTS, "length": LENGTH, "users": USERS}
    (work / RESULTS).write_text(json.dumps({"about": about, "rankers": results}, indent=1) + "\n")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--searches", type=int, default=4000, help="of each log")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    run(options.work, searches=options.searches, seed=options.seed)


if __name__ == "__main__":
    main()
