"""What the ranker looks at: evidence about the candidates of one search, and the features made of it.

The evidence is written into the click log with the search. So training computes, by the same function and from the same
numbers, what serving computed, whatever the catalogue says by then.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import InputError, ShapeError

FORMAT = 1
DIGITS = 6  # after the point, of every number of the evidence
FIRST = 1  # the rank that every candidate is scored as if it stood at
PRIOR = 20.0  # looks by which the rate of a product is pulled to that of all
_REVIEWS = 5.0  # reviews by which a rating is pulled to the middle of the list

FEATURES = (
    "visual",
    "visual_of_best",
    "visual_rank",
    "same_item",
    "sales",
    "conversion_rate",
    "shop_ctr",
    "price",
    "price_of_list",
    "rating",
    "rating_of_list",
    "reviews",
    "in_stock",
    "seller_quality",
    "freshness",
    "click_rate",
    "cart_rate",
    "purchase_rate",
    "looks",
    "taste_category",
    "taste_brand",
    "taste_price",
    "position",
)
POSITION = FEATURES.index("position")


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What is known of the candidates of one search while it is answered; a row per candidate, nan = nobody said."""

    visual: NDArray[np.float64]  # cosine of the features, 0..1
    visual_rank: NDArray[np.float64]  # from 1, by looks alone
    same_item: NDArray[np.float64]  # probability, 0..1
    sales: NDArray[np.float64]
    conversion_rate: NDArray[np.float64]  # as the shop says, 0..1
    shop_ctr: NDArray[np.float64]  # as the shop says, 0..1
    price: NDArray[np.float64]
    rating: NDArray[np.float64]
    review_count: NDArray[np.float64]
    in_stock: NDArray[np.float64]  # 0 or 1
    seller_quality: NDArray[np.float64]  # 0..1
    age_days: NDArray[np.float64]  # since the product was listed
    examined: NDArray[np.float64]  # how often it was looked at in lists, as far as its ranks tell
    clicks: NDArray[np.float64]  # in the same lists
    carts: NDArray[np.float64]
    purchases: NDArray[np.float64]
    taste_category: NDArray[np.float64]  # share of the user's clicks that went to its category, 0..1
    taste_brand: NDArray[np.float64]  # to its brand, 0..1
    taste_price: NDArray[np.float64]  # logarithm of price / what the user's clicks cost, in the middle
    best_visual: float  # of the list
    middle_price: float  # of the list; nan = no price
    middle_rating: float  # of the list; nan = no rating
    click_rate: float  # of everything looked at in the shop, 0..1
    cart_rate: float
    purchase_rate: float

    def __post_init__(self) -> None:
        columns = [getattr(self, name) for name in COLUMNS]
        if any(column.shape != (len(self.visual),) for column in columns):
            raise ShapeError(f"need one number per candidate in every column, got {[c.shape for c in columns]}")

    def __len__(self) -> int:
        return len(self.visual)

    def take(self, rows: Sequence[int] | NDArray[np.intp]) -> "Evidence":
        """Return some candidates, in this order; what is said of the whole list stays."""
        chosen = np.asarray(rows, np.intp)
        columns = {name: getattr(self, name)[chosen] for name in COLUMNS}
        return Evidence(**columns, **{name: getattr(self, name) for name in NUMBERS})


COLUMNS = tuple(part.name for part in fields(Evidence) if part.type is not float)
NUMBERS = tuple(part.name for part in fields(Evidence) if part.type is float)


def rounded(values: Any) -> NDArray[np.float64]:
    """Return numbers as evidence holds them: rounded, so that the log can say exactly what was seen."""
    return np.asarray(np.round(np.asarray(values, np.float64), DIGITS))


def features_of(evidence: Evidence, ranks: NDArray[np.float64] | float = FIRST) -> NDArray[np.float64]:
    """Return the features (candidates, FEATURES) of evidence; nan is missing.

    Args:
        evidence: of one search.
        ranks: at which each candidate was shown, from 1, for training; serving scores all as if they stood first, so
            that what a good place alone brings does not count.
    """
    of_list = np.log(_positive(evidence.price)) - math.log(evidence.middle_price or math.nan)
    known = np.nan_to_num(evidence.review_count)
    middle = evidence.middle_rating
    rating = np.where(np.isnan(evidence.rating), np.nan, (known * evidence.rating + _REVIEWS * middle) / (known + 5.0))
    columns = {
        "visual": evidence.visual,
        "visual_of_best": evidence.visual / (evidence.best_visual or math.nan),
        "visual_rank": np.log2(1.0 + evidence.visual_rank),
        "same_item": evidence.same_item,
        "sales": np.log1p(evidence.sales),
        "conversion_rate": evidence.conversion_rate,
        "shop_ctr": evidence.shop_ctr,
        "price": np.log(_positive(evidence.price)),
        "price_of_list": of_list,
        "rating": evidence.rating,
        "rating_of_list": rating - middle,
        "reviews": np.log1p(evidence.review_count),
        "in_stock": evidence.in_stock,
        "seller_quality": evidence.seller_quality,
        "freshness": np.exp2(-np.maximum(evidence.age_days, 0.0) / 30.0),  # halves every 30 days
        "click_rate": _rate(evidence.clicks, evidence.examined, evidence.click_rate),
        "cart_rate": _rate(evidence.carts, evidence.examined, evidence.cart_rate),
        "purchase_rate": _rate(evidence.purchases, evidence.examined, evidence.purchase_rate),
        "looks": np.log1p(evidence.examined),
        "taste_category": evidence.taste_category,
        "taste_brand": evidence.taste_brand,
        "taste_price": np.abs(evidence.taste_price),
        "position": np.log2(1.0 + np.broadcast_to(np.asarray(ranks, np.float64), evidence.visual.shape)),
    }
    return np.stack([columns[name] for name in FEATURES], axis=1)


def write_evidence(evidence: Evidence) -> str:
    """Return evidence as JSON that `read_evidence` turns into the same numbers."""
    columns = [[None if math.isnan(x) else x for x in getattr(evidence, name).tolist()] for name in COLUMNS]
    numbers = [None if math.isnan(x) else x for x in (float(getattr(evidence, name)) for name in NUMBERS)]
    return json.dumps({"format": FORMAT, "columns": columns, "list": numbers}, separators=(",", ":"), allow_nan=False)


def read_evidence(text: str) -> Evidence:
    """Return the evidence that `write_evidence` wrote.

    Raises:
        InputError: it is of another format, or damaged.
    """
    try:
        said = json.loads(text)
        if said["format"] != FORMAT:
            raise InputError(f"evidence of format {said['format']!r}, this release reads {FORMAT}")
        columns = [np.array([math.nan if x is None else x for x in column], np.float64) for column in said["columns"]]
        numbers = [math.nan if x is None else float(x) for x in said["list"]]
        values: dict[str, Any] = dict(zip(COLUMNS, columns, strict=True)) | dict(zip(NUMBERS, numbers, strict=True))
        return Evidence(**values)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"the evidence of a search cannot be read ({error})") from error


def _positive(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(values > 0, values, np.nan)


def _rate(happened: NDArray[np.float64], examined: NDArray[np.float64], of_all: float) -> NDArray[np.float64]:
    """Return rates pulled to that of all where little is known; never seen is like all."""
    return (np.nan_to_num(happened) + PRIOR * of_all) / (np.nan_to_num(examined) + PRIOR)
