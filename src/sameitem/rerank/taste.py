"""What a user clicked lately, as a taste that candidates are compared with. Nothing of it is stored."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sameitem.core.records import Product

LEAST = 3  # clicks below which nothing is said of a taste


@dataclass(frozen=True, slots=True)
class Match:
    """How a product fits a taste; nan = nothing is known."""

    category: float  # share of the clicks that went to its category, 0..1
    brand: float  # to its brand, 0..1
    price: float  # logarithm of its price / the middle price of the clicks in its category, or of all


@dataclass(frozen=True, slots=True)
class Taste:
    """Categories, brands and prices of a user's clicks."""

    clicks: int
    categories: Counter[str]
    brands: Counter[str]
    prices: dict[str, float]  # mean logarithm by category; "" = of all

    def match(self, product: Product) -> Match:
        """Return how a product fits."""
        if self.clicks < LEAST:
            return Match(math.nan, math.nan, math.nan)
        usual = self.prices.get(product.category, self.prices.get("", math.nan))
        priced = product.price is not None and product.price > 0
        return Match(
            category=self.categories[product.category] / self.clicks if product.category else math.nan,
            brand=self.brands[product.brand] / self.clicks if product.brand else math.nan,
            price=math.log(product.price) - usual if priced and product.price else math.nan,
        )


def taste_of(clicked: Sequence[Product]) -> Taste:
    """Return the taste that clicks show; a product clicked twice counts twice."""
    prices: dict[str, list[float]] = {}
    for product in clicked:
        if product.price is not None and product.price > 0:
            for category in {product.category, ""}:
                prices.setdefault(category, []).append(math.log(product.price))
    return Taste(
        clicks=len(clicked),
        categories=Counter(product.category for product in clicked if product.category),
        brands=Counter(product.brand for product in clicked if product.brand),
        prices={category: sum(logs) / len(logs) for category, logs in prices.items()},
    )
