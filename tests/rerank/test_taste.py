"""What clicks say of a taste."""

import math

import pytest

from sameitem.core.records import Product, ProductId
from sameitem.rerank.taste import LEAST, taste_of


def product(category: str = "", brand: str = "", price: float | None = None) -> Product:
    return Product(ProductId("p"), category=category, brand=brand, price=price)


CLICKED = [product("shoes", "Lumo", 40), product("shoes", "Lumo", 90), product("hats", "Kite", 10), product("shoes")]


def test_shares_of_the_clicks_are_told() -> None:
    match = taste_of(CLICKED).match(product("shoes", "Kite", 60))
    assert (match.category, match.brand) == (0.75, 0.25)
    assert match.price == pytest.approx(math.log(60) - (math.log(40) + math.log(90)) / 2)


def test_a_category_never_clicked_is_compared_with_all_prices() -> None:
    match = taste_of(CLICKED).match(product("bags", "Other", 33))
    assert (match.category, match.brand) == (0.0, 0.0)
    assert match.price == pytest.approx(math.log(33) - (math.log(40) + math.log(90) + math.log(10)) / 3)


@pytest.mark.parametrize("clicks", range(LEAST))
def test_a_few_clicks_are_no_taste(clicks: int) -> None:
    match = taste_of(CLICKED[:clicks]).match(product("shoes", "Lumo", 40))
    assert all(math.isnan(value) for value in (match.category, match.brand, match.price))


def test_what_the_product_does_not_say_is_missing() -> None:
    match = taste_of(CLICKED).match(product())
    assert all(math.isnan(value) for value in (match.category, match.brand, match.price))


@pytest.mark.parametrize("price", [0.0, -3.0])
def test_a_price_that_is_none_is_missing(price: float) -> None:
    taste = taste_of([*CLICKED, product("shoes", price=price)])
    assert math.isnan(taste.match(product("shoes", price=price)).price)
    assert taste.match(product("shoes", price=60)).price == pytest.approx(math.log(60 / math.sqrt(40 * 90)))
