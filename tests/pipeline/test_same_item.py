"""What a score means."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers
from numpy.typing import NDArray

from galleries import Drawn, draw, histograms, in_memory, unit_rows
from sameitem.core.records import ImageId
from sameitem.engine.index import Index
from sameitem.engine.members import EntryHit, Members
from sameitem.engine.probability import Curve
from sameitem.pipeline.same_item import (
    EXTRA,
    LISTED,
    SHIPPED,
    UNRELATED,
    Curves,
    Fit,
    Pairs,
    Rivals,
    as_extra,
    ask_gallery,
    fit_curves,
    judge,
    read_curves,
    rivals_of,
)

TOPS = ("shoes", "watches")


def shop_of(seed: int, *, products: int, pictures: int, blur: float, dim: int = 32) -> tuple[Index, list[str]]:
    """Return a gallery whose products have several pictures around a point of their own, and its members' tops."""
    generator = np.random.default_rng(seed)
    centres = np.repeat(unit_rows(generator, products, dim), pictures, axis=0)
    rows = (centres + blur * unit_rows(generator, len(centres), dim)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    ids = np.arange(1, len(rows) + 1, dtype=np.int64)
    product = np.repeat(np.arange(products, dtype=np.int32), pictures)
    members = Members(ids, ids, np.arange(len(rows)), product)
    return in_memory(Drawn(rows, histograms(generator, len(rows)), members)), [TOPS[p % 2] for p in product]


def pairs_of(generator: np.random.Generator, count: int, curve: Curve, *, category: str) -> Pairs:
    leads = generator.uniform(-0.5, 0.5, count)
    same = generator.random(count) < curve.probability(leads)
    return Pairs(count, UNRELATED, leads, same, np.ones(count), np.full(count, category))


def together(*parts: Pairs) -> Pairs:
    def joined(name: str) -> NDArray[np.generic]:
        return np.concatenate([getattr(part, name) for part in parts])

    queries = sum(part.queries for part in parts)
    return Pairs(queries, UNRELATED, *(joined(name) for name in ("leads", "same", "weights", "categories")))


def hit(distance: float, *, member: int, entry: int | None = None) -> EntryHit:
    return EntryHit(distance, ImageId(member + 1), member, member if entry is None else entry, ())


class TestALead:
    PRODUCT = (0, 1, 0, 2)  # of each member
    RIVALS = Rivals((hit(0.2, member=0), hit(0.5, member=1)), (0, 1), unrelated=1.0)

    def test_of_the_nearest_is_over_the_second_product(self) -> None:
        assert self.RIVALS.distance(hit(0.2, member=0), self.PRODUCT[0]) == 0.5

    def test_of_any_other_product_is_behind_the_nearest(self) -> None:
        assert self.RIVALS.distance(hit(0.5, member=1), self.PRODUCT[1]) == 0.2
        assert self.RIVALS.distance(hit(0.8, member=3), self.PRODUCT[3]) == 0.2

    def test_of_another_picture_of_the_nearest_product_is_over_the_second_too(self) -> None:
        assert self.RIVALS.distance(hit(0.4, member=2), self.PRODUCT[2]) == 0.5

    def test_of_another_seller_of_the_nearest_picture_is_over_the_second_too(self) -> None:
        assert self.RIVALS.distance(hit(0.2, member=3, entry=0), self.PRODUCT[3]) == 0.5

    @pytest.mark.parametrize("hits", [(), (hit(0.2, member=0),), (hit(0.2, member=0), hit(1.7, member=1))])
    def test_is_never_over_something_unrelated(self, hits: tuple[EntryHit, ...]) -> None:
        assert Rivals(hits, (0, 1)[: len(hits)], unrelated=1.0).distance(hit(0.2, member=0), 0) == 1.0


class TestTheCurves:
    def test_of_a_category_without_pairs_is_the_common_one(self) -> None:
        found = fit_curves(pairs_of(np.random.default_rng(0), 500, Curve(0.0, 9.0), category="shoes"))
        assert (found.of("watches"), found.source("watches")) == (found.common.curve, "common")
        assert found.source("shoes") == "category"

    def test_of_a_shop_without_pairs_is_the_shipped_one(self) -> None:
        nothing = Pairs(0, 1.3, np.empty(0), np.empty(0, np.bool_), np.empty(0), np.empty(0, np.str_))
        found = fit_curves(nothing)
        assert (found.of("shoes"), found.source("shoes"), found.unrelated) == (SHIPPED, "shipped", 1.3)

    def test_of_a_category_leaves_the_common_one_the_further_the_more_pairs_it_has(self) -> None:
        generator = np.random.default_rng(0)
        most = pairs_of(generator, 3000, Curve(-1.0, 17.0), category="shoes")
        shares = []
        for count in (3, 100, 3000):
            few = pairs_of(generator, count, Curve(-1.0, 8.0), category="watches")
            found = fit_curves(together(most, few))
            shares.append(found.of("watches").slope / found.of("shoes").slope)
        assert shares == sorted(shares, reverse=True)
        assert shares[0] > 0.85
        assert shares[2] < 0.6

    def test_come_out_of_a_manifest_as_they_went_in(self) -> None:
        found = fit_curves(pairs_of(np.random.default_rng(0), 90, Curve(0.0, 9.0), category="shoes"))
        assert read_curves({"seq": 1, EXTRA: as_extra(found)}) == found

    @pytest.mark.parametrize(
        "written",
        [
            {"format": 2},
            {"common": {"curve": {"intercept": 0, "slope": -1}, "same": 1, "other": 1}},
            "nonsense",
            None,
        ],
    )
    def test_that_cannot_be_read_are_the_shipped_one(self, written: object) -> None:
        assert read_curves({EXTRA: written}) == read_curves({}) == Curves()


class TestAskingTheGallery:
    def test_knows_which_pictures_show_the_same_product(self) -> None:
        index, tops = shop_of(1, products=30, pictures=3, blur=0.4)
        found = ask_gallery(index, tops)
        assert found.queries == 90
        present, absent = found.weights > 0.5, found.weights < 0.5
        assert found.same[present].sum() == 90
        assert not found.same[absent].any()
        assert len(found.leads) == 2 * 90 * LISTED
        assert found.leads[found.same].min() > found.leads[absent].mean()
        assert set(found.categories) == set(TOPS)

    def test_fits_surer_curves_where_products_stand_out(self) -> None:
        clear, blurred = (fit_curves(ask_gallery(*shop_of(1, products=60, pictures=3, blur=b))) for b in (0.6, 2.0))
        lead = np.array(0.2)
        assert clear.common.curve.probability(lead) > blurred.common.curve.probability(lead)

    def test_has_nothing_to_ask_where_each_product_has_one_picture(self) -> None:
        index, tops = shop_of(1, products=30, pictures=1, blur=0.4)
        found = ask_gallery(index, tops)
        assert found.queries == len(found.leads) == 0
        assert fit_curves(found).common.curve == SHIPPED

    @pytest.mark.parametrize(("products", "pictures"), [(1, 1), (1, 2), (2, 2)])
    def test_copes_with_the_smallest_shops(self, products: int, pictures: int) -> None:
        found = fit_curves(ask_gallery(*shop_of(1, products=products, pictures=pictures, blur=0.4)))
        assert 0 <= found.of("shoes").probability(np.array(0.1)) <= 1

    def test_asks_no_more_than_it_may_and_the_same_again(self) -> None:
        index, tops = shop_of(1, products=30, pictures=2, blur=0.4)
        one, other = ask_gallery(index, tops, queries=20), ask_gallery(index, tops, queries=20)
        assert one.queries == 20
        assert np.array_equal(one.leads, other.leads)

    def test_takes_folded_pictures_of_two_products_for_both(self) -> None:
        drawn = draw(3, entries=12, extra_members=20, products=5)
        found = ask_gallery(in_memory(drawn), ["shoes"] * len(drawn.members.image_id))
        assert np.isfinite(found.leads).all()
        assert found.same.any()

    def test_takes_for_unrelated_what_is_further_than_few_random_pairs(self) -> None:
        index, tops = shop_of(1, products=60, pictures=1, blur=0.4, dim=256)
        assert 1.5 < ask_gallery(index, tops).unrelated < 2.0
        narrow, tops = shop_of(1, products=1, pictures=9, blur=0.4)
        assert ask_gallery(narrow, tops).unrelated == UNRELATED


class TestAJudgement:
    @settings(max_examples=30)
    @given(seed=integers(0, 999), weight=integers(0, 1))
    def test_ranks_the_products_of_a_category_as_their_distance_does(self, seed: int, weight: int) -> None:
        index, tops = shop_of(seed, products=20, pictures=2, blur=0.8)
        generator = np.random.default_rng(seed)
        query, colour = unit_rows(generator, 1, 32)[0], histograms(generator, 1)[0]
        hits = index.search(query, k=20, one_per_product=True, colour=colour, colour_weight=weight)
        rivals = rivals_of(index.members, index.search(query, k=2, one_per_product=True), 1.4)
        curves = Curves(9, Fit(SHIPPED, 1, 1), {"shoes": Fit(Curve(-2.0, 5.0), 1, 1)}, 1.4)
        categories = [tops[one.member_row] for one in hits]
        judged = judge(
            index,
            hits,
            categories,
            query=query,
            rivals=rivals,
            curves=curves,
            colour=colour if weight else None,
            colour_weight=weight,
        )
        for top in TOPS:
            part = sorted((j for j, c in zip(judged, categories, strict=True) if c == top), key=lambda j: j.cosine)
            assert [one.score for one in part] == sorted(one.score for one in part)
            assert all(one.curve == curves.of(top) for one in part)
        for one, found in zip(judged, hits, strict=True):
            assert one.distance == found.distance
            added = weight * (one.colour_distance or 0.0)
            assert one.squared_distance + added == pytest.approx(found.distance)
            assert 0 <= one.score <= 1

    def test_of_nothing_is_nothing(self) -> None:
        index, _ = shop_of(1, products=2, pictures=1, blur=0.4)
        query, rivals = np.zeros(32, np.float32), Rivals((), (), 1.0)
        kinds = {"colour": histograms(np.random.default_rng(0), 1)[0], "colour_weight": 1.0}
        assert judge(index, [], [], query=query, rivals=rivals, curves=Curves(), **kinds) == []  # type: ignore[arg-type]


def test_the_documentation_names_every_key_of_the_curves() -> None:
    told = (Path(__file__).parents[2] / "docs" / "file-formats.md").read_text(encoding="utf-8")
    keys = [*as_extra(Curves()), "curve", "intercept", "slope", "same", "other"]
    assert [key for key in keys if f"`{key}`" not in told] == []


def test_curves_of_a_category_replace_the_common_ones_and_nothing_else() -> None:
    curves = replace(Curves(), queries=5, categories={"shoes": Fit(Curve(0.0, 1.0), 3, 4)})
    assert [curves.source(top) for top in TOPS] == ["category", "common"]
