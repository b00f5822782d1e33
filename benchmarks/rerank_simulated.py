"""Does the final order serve users better than looks? On simulated sessions, whose utility is known.

python benchmarks/rerank_simulated.py [--searches N] [--seed N] [--out FILE]

Everything here is simulated. A search has 60 candidates: a few listings of the wanted item by different sellers, and
others that are less and less alike. What a user would do with a candidate depends on whether it is the item, how alike
it is, its price against the list, sales, rating, stock, seller and the user's own taste, some of it together. The log
shows the first 20 by looks; a place is looked at as its rank says. A ranker learns from older searches through the same
evidence, features and functions as in a shop; on newer ones the order of all 60 is judged by the true utility.
"""

import argparse
import datetime
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from sameitem.core.settings import RerankSettings
from sameitem.evaluation.orders import looked_at
from sameitem.metrics.intervals import bootstrap_interval, paired_interval
from sameitem.metrics.ranking import ndcg_at
from sameitem.rerank.features import FEATURES, Evidence, features_of, rounded
from sameitem.rerank.order import TOP, final_order
from sameitem.rerank.ranker import Ranker
from sameitem.rerank.training import train_linear, train_ranker, train_trees

SHOWN = 20
METHODS = {"LR": train_linear, "GBDT": train_trees, "GBDT+LR": train_ranker}


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A search: what is known of its candidates, which show the item, and how likely a user takes each once seen."""

    evidence: Evidence
    same: NDArray[np.bool_]
    utility: NDArray[np.float64]


def main() -> None:
    """Draw, train, judge; print the tables and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--searches", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    generator = np.random.default_rng(options.seed)
    drawn = [draw(generator) for _ in range(options.searches)]
    older, newer = drawn[: len(drawn) * 2 // 3], drawn[len(drawn) * 2 // 3 :]
    features, clicked, groups = shown_to_users(older, generator)
    rankers = {name: train(features, clicked, FEATURES, seed=0, groups=groups) for name, train in METHODS.items()}
    defaults = RerankSettings()
    by_looks = judged(newer, None, defaults)
    made = [
        "| order | NDCG@10 by true utility | against looks | the item first | expected clicks a search |",
        "|---|---|---|---|---|",
        row("looks", by_looks, by_looks),
    ]
    for name, ranker in rankers.items():
        made.append(row(f"{name}, {say(defaults)}", judged(newer, ranker, defaults), by_looks))
    for share in (0.0, 0.25, 0.75, 0.9):
        settings = RerankSettings(visual_share=share, similarity_floor=defaults.similarity_floor)
        made.append(row(f"GBDT+LR, {say(settings)}", judged(newer, rankers["GBDT+LR"], settings), by_looks))
    for floor in (0.0, 0.6, 0.7, 0.9):
        settings = RerankSettings(visual_share=defaults.visual_share, similarity_floor=floor)
        made.append(row(f"GBDT+LR, {say(settings)}", judged(newer, rankers["GBDT+LR"], settings), by_looks))
    text = "\n".join(
        [
            f"`python benchmarks/rerank_simulated.py --searches {options.searches} --seed {options.seed}`, "
            f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores. Simulated: {len(older):,} "
            f"searches teach ({int(clicked.sum()):,} clicks in {len(clicked):,} shown places), {len(newer):,} judge. "
            "Bootstrap 95 % intervals over searches.\n",
            *made,
            "",
        ]
    )
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


def draw(generator: Generator) -> Drawn:
    """Return a search; its candidates stand in the order of looks."""
    same = np.zeros(TOP, np.bool_)
    same[: generator.integers(1, 6)] = True
    best = generator.uniform(0.7, 0.92)
    cosine = np.where(
        same, best - np.abs(generator.normal(0, 0.04, TOP)), best - 0.06 - generator.exponential(0.12, TOP)
    ).clip(0.05, 1)
    order = np.argsort(-cosine, kind="stable")
    same, cosine = same[order], cosine[order]
    lead = cosine - np.where(np.arange(TOP) == 0, cosine[1], cosine[0])
    usual = np.exp(generator.uniform(1, 5))
    price = usual * np.exp(generator.normal(0, 0.35, TOP))
    popularity = generator.normal(size=TOP)
    sales = np.floor(np.exp(3 + 1.5 * popularity))
    reviews = np.floor(sales * generator.uniform(0, 0.3, TOP))
    quality = generator.normal(size=TOP)
    rating = (4.2 + 0.5 * quality + generator.normal(0, 0.8, TOP) / np.sqrt(1 + reviews)).clip(1, 5)
    in_stock = generator.random(TOP) < 0.9
    seller = generator.random(TOP)
    brand = generator.random(TOP) < 0.2  # of the brands that the user likes
    is_thrifty = generator.random() < 0.5
    dear = np.log(price / np.median(price))
    wants = (
        -0.3
        + 0.5 * popularity
        + 0.6 * quality
        - np.where(is_thrifty, 2.0, 0.5) * dear
        + np.where(in_stock, 0.0, -2.5)
        + 0.8 * (seller - 0.5)
        + np.where(brand, 1.0, 0.0)
    )
    fits = np.where(same, 0.85, 0.25 * np.exp((cosine - cosine[0]) / 0.1))
    utility = fits / (1 + np.exp(-wants))
    looks = np.round(np.exp(generator.uniform(0, 6, TOP)))
    clicks = generator.binomial(looks.astype(np.int64), (0.05 / (1 + np.exp(-wants + 1))).clip(0, 1))
    price[generator.random(TOP) < 0.05] = np.nan
    rating[reviews == 0] = np.nan
    evidence = Evidence(
        visual=rounded(cosine),
        visual_rank=np.arange(1.0, TOP + 1),
        same_item=rounded(1 / (1 + np.exp(0.9 - 17 * lead))),
        sales=rounded(sales),
        conversion_rate=rounded(0.03 / (1 + np.exp(-wants)) * np.exp(generator.normal(0, 0.5, TOP))),
        shop_ctr=np.full(TOP, np.nan),
        price=rounded(price),
        rating=rounded(rating),
        review_count=rounded(reviews),
        in_stock=rounded(in_stock),
        seller_quality=rounded(seller),
        age_days=rounded(generator.exponential(90, TOP)),
        examined=rounded(looks),
        clicks=rounded(clicks),
        carts=rounded(np.zeros(TOP)),
        purchases=rounded(np.zeros(TOP)),
        taste_category=rounded(np.full(TOP, 0.3)),
        taste_brand=rounded(np.where(brand, 0.4, 0.02)),
        taste_price=rounded(np.log(price / (usual * (0.8 if is_thrifty else 1.1)))),
        best_visual=float(rounded(cosine.max())),
        middle_price=float(rounded(np.nanmedian(price))),
        middle_rating=float(rounded(np.nanmedian(rating))),
        click_rate=0.02,
        cart_rate=0.0,
        purchase_rate=0.0,
    )
    return Drawn(evidence, same, utility)


def shown_to_users(
    drawn: list[Drawn], generator: Generator
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    """Return features (places, features), clicks and the search of each place of the lists that looks order."""
    ranks = np.arange(1.0, SHOWN + 1)
    rows, clicks = [], []
    for one in drawn:
        rows.append(features_of(one.evidence.take(range(SHOWN)), ranks))
        seen = generator.random(SHOWN) < looked_at(ranks)
        clicks.append(seen & (generator.random(SHOWN) < one.utility[:SHOWN]))
    return np.concatenate(rows), np.concatenate(clicks), np.repeat(np.arange(len(drawn)), SHOWN)


def judged(drawn: list[Drawn], ranker: Ranker | None, settings: RerankSettings) -> NDArray[np.float64]:
    """Return for each search NDCG@10, whether the item stands first, and the clicks that are to be expected."""
    found = []
    for one in drawn:
        order = np.arange(TOP)
        if ranker is not None:
            order = final_order(
                one.evidence.visual,
                ranker.score(features_of(one.evidence)),
                range(TOP),
                beta=settings.visual_share,
                similarity_floor=settings.similarity_floor,
            )
        utility = one.utility[order]
        clicks = (looked_at(np.arange(1.0, SHOWN + 1)) * utility[:SHOWN]).sum()
        found.append([float(ndcg_at(4 * utility[None], 10)[0]), float(one.same[order[0]]), float(clicks)])
    return np.array(found)


def row(name: str, found: NDArray[np.float64], looks: NDArray[np.float64]) -> str:
    """Return a line of the table."""
    draw_ = np.random.default_rng(1)
    own = bootstrap_interval(found[:, 0], draw_)
    change = paired_interval(looks[:, 0], found[:, 0], np.arange(len(found)), draw_)
    against = "" if found is looks else f"{change.mean:+.3f} ({change.low:+.3f} to {change.high:+.3f})"
    return (
        f"| {name} | {own.mean:.3f} ({own.low:.3f} to {own.high:.3f}) | {against} | {found[:, 1].mean():.3f} | "
        f"{found[:, 2].mean():.3f} |"
    )


def say(settings: RerankSettings) -> str:
    """Return the settings in words."""
    return f"visual_share {settings.visual_share:g}, similarity_floor {settings.similarity_floor:g}"


if __name__ == "__main__":
    main()
