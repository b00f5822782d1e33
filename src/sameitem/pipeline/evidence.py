"""Gathers what the ranker is told about the first hits of a search: catalogue, click counts, the user's taste."""

import math
import time
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine

from sameitem.clicks.counts import ProductCounts, counts_of, total_counts
from sameitem.core.records import Product
from sameitem.engine.members import EntryHit
from sameitem.pipeline.gallery import Gallery
from sameitem.pipeline.same_item import Judgement
from sameitem.pipeline.shop import Shop
from sameitem.rerank.features import DIGITS, Evidence, rounded
from sameitem.rerank.taste import taste_of

CLICKS = 50  # of a user, newest, that make a taste
_DAY_S = 86_400.0
_KEPT_S = 60  # seconds for which the sums over all products are kept: they change slowly, and cost a look at all


def gather(
    shop: Shop, gallery: Gallery, hits: Sequence[EntryHit], judged: Sequence[Judgement], *, user_id: str
) -> Evidence:
    """Return what is known of hits at this moment.

    Args:
        shop: of the search.
        gallery: that was searched.
        hits: best first by looks.
        judged: of the same hits.
        user_id: who searches; "" = nobody knows.
    """
    members, rows = gallery.index.members, gallery.products.rows
    places = members.products_of(np.array([hit.member_row for hit in hits], np.int64)).tolist()
    products = [rows[place] for place in places]
    ids = [product.product_id for product in products]
    counts, whole = counts_of(shop.database, ids), _of_all(shop.database, int(time.time() // _KEPT_S))
    listed = shop.catalogue.listed_at(ids)
    clicked = [gallery.products.row_of(one) for one, _, _ in shop.clicks.clicked_by(user_id, limit=CLICKS)]
    taste = taste_of([rows[row] for row in clicked if row is not None])
    fits = [taste.match(product) for product in products]
    now = time.time()
    ages = [(now - listed[one]) / _DAY_S if one in listed else math.nan for one in ids]
    visual = rounded([min(1.0, max(0.0, why.cosine)) for why in judged])
    price, rating = _column(products, "price"), _column(products, "rating")
    return Evidence(
        visual=visual,
        visual_rank=np.arange(1.0, len(hits) + 1.0),
        same_item=rounded([why.score for why in judged]),
        sales=_column(products, "sales"),
        conversion_rate=_column(products, "conversion_rate"),
        shop_ctr=_column(products, "ctr"),
        price=price,
        rating=rating,
        review_count=_column(products, "review_count"),
        in_stock=_column(products, "in_stock"),
        seller_quality=_column(products, "seller_quality"),
        age_days=rounded(ages),
        examined=rounded(counts.examined),
        clicks=rounded(counts.clicks),
        carts=rounded(counts.carts),
        purchases=rounded(counts.purchases),
        taste_category=rounded([fit.category for fit in fits]),
        taste_brand=rounded([fit.brand for fit in fits]),
        taste_price=rounded([fit.price for fit in fits]),
        best_visual=float(visual.max(initial=0.0)),
        middle_price=_middle(price),
        middle_rating=_middle(rating),
        click_rate=_share(whole.clicks, whole),
        cart_rate=_share(whole.carts, whole),
        purchase_rate=_share(whole.purchases, whole),
    )


def _column(products: Sequence[Product], name: str) -> NDArray[np.float64]:
    values = [getattr(product, name) for product in products]
    return rounded([math.nan if value is None else float(value) for value in values])


def _middle(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return round(float(np.median(known)), DIGITS) if len(known) else math.nan


def _share(happened: NDArray[np.int64], whole: ProductCounts) -> float:
    return round(float(happened[0] / whole.examined[0]), DIGITS) if whole.examined[0] > 0 else 0.0


@lru_cache(maxsize=4)
def _of_all(database: Engine, _minute: int) -> ProductCounts:
    return total_counts(database)
