"""A model that finds subjects, from the build to the answer."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from sameitem.catalog.store import Listing
from sameitem.core.boxes import scale_box
from sameitem.core.database import write
from sameitem.core.errors import InputError
from sameitem.core.records import Box, ImageKind, Product, ProductId
from sameitem.evaluation.evaluate import LabelledQuery, evaluate
from sameitem.features.subject import detected_part, part_of, whole
from sameitem.metrics.boxes import iou
from sameitem.pipeline.offline import build
from sameitem.pipeline.one_image import place_image
from sameitem.pipeline.online import Searcher, SearchRequest
from sameitem.pipeline.shop import Shop
from shops import NOW, copied, run
from things import MODEL, SIZE, VIEWS, Things, draw_things, open_things

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def drawn_things(tmp_path_factory: pytest.TempPathFactory) -> Things:
    things = draw_things(tmp_path_factory.mktemp("things"))
    run(things.shop, "build")
    things.shop.close()
    return things


@pytest.fixture
def finder(drawn_things: Things, tmp_path: Path) -> Iterator[Shop]:
    shop = open_things(copied(drawn_things.shop.folder, tmp_path / "shop"))
    yield shop
    shop.close()


@pytest.fixture
def searcher(finder: Shop) -> Searcher:
    return Searcher(finder)


def overlap(a: Box, b: Box) -> float:
    rows = [np.array([(box.left, box.top, box.right, box.bottom)], np.float64) for box in (a, b)]
    return float(iou(*rows)[0])


class TestAPhoto:
    def test_is_searched_by_its_subject_and_finds_the_product(self, searcher: Searcher, drawn_things: Things) -> None:
        found = 0
        for photo, product_id, box in drawn_things.photos:
            answer = searcher.search(SearchRequest(photo=photo.read_bytes()))
            assert answer.box_source == "detected"
            assert overlap(answer.box, box) > 0.7
            found += answer.results[0].product.product_id == product_id
        assert found >= 10  # by chance: 1

    def test_has_other_objects_to_search_with(self, searcher: Searcher, drawn_things: Things) -> None:
        photo = drawn_things.photos[0][0].read_bytes()
        best = searcher.search(SearchRequest(photo=photo))
        assert [found.object_id for found in best.objects] == ["0", "1"]
        assert best.objects[0].box == best.box
        assert best.objects[0].score > best.objects[1].score
        other = searcher.search(SearchRequest(photo=photo, object_id="1"))
        assert (other.box, other.box_source) == (best.objects[1].box, "detected")
        assert other.objects == best.objects
        assert [r.visual_score for r in other.results] != [r.visual_score for r in best.results]

    def test_with_a_callers_box_is_searched_by_it_and_the_objects_are_told_all_the_same(
        self, searcher: Searcher, drawn_things: Things
    ) -> None:
        photo = drawn_things.photos[0][0].read_bytes()
        answer = searcher.search(SearchRequest(photo=photo, box=Box(5, 5, 200, 200)))
        assert (answer.box, answer.box_source) == (Box(5, 5, 200, 200), "caller")
        assert answer.objects == searcher.search(SearchRequest(photo=photo)).objects

    def test_is_searched_whole_where_the_caller_says_so(self, searcher: Searcher, drawn_things: Things) -> None:
        answer = searcher.search(SearchRequest(photo=drawn_things.photos[0][0].read_bytes(), crop=False))
        assert (answer.box, answer.box_source) == (Box(0, 0, *SIZE), "whole_photo")

    def test_larger_than_its_stored_copy_has_boxes_in_its_own_pixels(self, finder: Shop, drawn_things: Things) -> None:
        small = open_things(finder.folder, intake={"stored_side_px": 224})
        photo = drawn_things.photos[0][0].read_bytes()
        shrunk, full = (Searcher(shop).search(SearchRequest(photo=photo)) for shop in (small, finder))
        assert (shrunk.width, shrunk.height) == SIZE
        assert overlap(shrunk.box, full.box) > 0.9
        logged = [session.search for session in finder.clicks.sessions()]
        in_copy = scale_box(shrunk.box, 224 / SIZE[0], 168 / SIZE[1])
        assert overlap(logged[0].box or whole(np.zeros((1, 1, 3), np.uint8)), in_copy) > 0.99
        small.close()

    def test_is_searched_with_the_mean_of_the_models_views(self, finder: Shop, drawn_things: Things) -> None:
        photo = drawn_things.photos[3][0]
        answer = Searcher(finder).search(SearchRequest(photo=photo.read_bytes()))
        pixels = finder.query_photos.pixels(next(iter(finder.query_photos.hashes())))
        embedder, detector = finder.embedder(MODEL), finder.detector(MODEL)
        assert detector is not None
        box = detector.detect([pixels])[0].boxes[0]
        mean = embedder.embed_views([detected_part(pixels, box, VIEWS).views])[0]
        index = Searcher(finder).gallery().index
        best = index.search(mean, k=1)[0]
        assert answer.results[0].visual_score == pytest.approx(1 - best.distance / 2, abs=1e-5)

    def test_takes_an_object_that_is_there_and_one_wish_at_a_time(
        self, searcher: Searcher, drawn_things: Things
    ) -> None:
        photo = drawn_things.photos[0][0].read_bytes()
        for request, message in (
            (SearchRequest(photo=photo, object_id="7"), "objects 0, 1, got '7'"),
            (SearchRequest(photo=photo, object_id="1", box=Box(0, 0, 9, 9)), "need one of object_id, box"),
            (SearchRequest(photo=photo, object_id="1", crop=False), "need one of object_id, box"),
        ):
            with pytest.raises(InputError, match=message):
                searcher.search(request)

    def test_has_its_stages_timed(self, searcher: Searcher, drawn_things: Things) -> None:
        answer = searcher.search(SearchRequest(photo=drawn_things.photos[0][0].read_bytes()))
        assert {"intake", "detect", "feature", "category", "engine"} <= set(answer.took_ms)


class TestACatalogueImage:
    def test_is_taken_whole_on_a_plain_backdrop_and_by_its_subject_on_a_busy_one(self, finder: Shop) -> None:
        embedder, detector = finder.embedder(MODEL), finder.detector(MODEL)
        assert detector is not None
        for number in range(4):
            image = finder.catalogue.images(ProductId(f"T{number}"))[0]
            pixels = finder.photos.pixels(image.content_hash)
            box = detector.detect([pixels])[0].boxes[0]
            subject = part_of(pixels, whole(pixels)) if number % 2 == 0 else detected_part(pixels, box, VIEWS)
            kept = finder.cache(embedder).get([(image.content_hash, None)])
            assert kept.features[0] == pytest.approx(embedder.embed_views([subject.views])[0], abs=1e-6)

    def test_is_found_once_and_taken_from_the_cache_by_the_next_build(
        self, finder: Shop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_pictures: object) -> None:
            raise AssertionError("a picture was looked at again")

        monkeypatch.setattr(finder.embedder(MODEL), "embed", refuse)
        monkeypatch.setattr(finder.detector(MODEL), "detect", refuse)
        build(finder, tell=lambda _step, _share: None, now=NOW + timedelta(days=400))

    def test_is_searched_with_as_it_was_indexed(self, searcher: Searcher, finder: Shop) -> None:
        sources = []
        for number in range(2):
            image = finder.catalogue.images(ProductId(f"T{number}"))[0]
            sources.append(searcher.search(SearchRequest(image_of=(image.product_id, image.name))).box_source)
            same = searcher.search(SearchRequest(photo=finder.photos.read(image.content_hash), crop=number == 1))
            assert same.results[0].product.product_id == image.product_id
            assert same.results[0].visual_score == pytest.approx(1, abs=1e-3)
        assert sources == ["whole_photo", "detected"]

    def test_that_is_put_has_its_box_its_candidates_and_a_category(
        self, finder: Shop, searcher: Searcher, drawn_things: Things
    ) -> None:
        photo, _, true = drawn_things.photos[1]
        with write(finder.database) as connection:
            finder.catalogue.upsert(connection, [Listing(Product(ProductId("new")))])

        def put(name: str, box: Box | None) -> object:
            return place_image(
                finder,
                searcher,
                ProductId("new"),
                name,
                photo.read_bytes(),
                kind=ImageKind.MAIN,
                box=box,
                box_is_relative=False,
                custom_content="",
            )

        found, given = put("a", None), put("b", Box(0, 0, 50, 50))
        assert overlap(found.box, true) > 0.7  # type: ignore[attr-defined]
        assert len(found.objects) == 2  # type: ignore[attr-defined]
        assert found.category_source == "fused"  # type: ignore[attr-defined]
        assert given.box == Box(0, 0, 50, 50)  # type: ignore[attr-defined]
        assert given.objects == found.objects  # type: ignore[attr-defined]


class TestTheCategory:
    def test_is_made_of_the_model_and_the_vote_by_the_setting(self, finder: Shop, drawn_things: Things) -> None:
        photo = drawn_things.photos[0][0].read_bytes()
        shares = {}
        for alpha in (0.0, 0.5, 1.0):
            shop = open_things(finder.folder, category={"alpha": alpha, "temperature": 1.0})
            answer = Searcher(shop).search(SearchRequest(photo=photo))
            assert answer.category_source == "fused"
            shares[alpha] = {category.id: category.score for category in answer.categories}
            shop.close()
        for top in ("shoes", "tops"):
            assert shares[0.5].get(top, 0) == pytest.approx((shares[0.0].get(top, 0) + shares[1.0].get(top, 0)) / 2)

    def test_of_a_caller_wins(self, searcher: Searcher, drawn_things: Things) -> None:
        photo = drawn_things.photos[0][0].read_bytes()
        answer = searcher.search(SearchRequest(photo=photo, categories=("shoes",)))
        assert (answer.category_source, answer.category_id, answer.searched_categories) == ("caller", "shoes", ())
        assert {category.id for category in answer.categories} == {"shoes", "tops"}


class TestRouting:
    def routing(self, finder: Shop, **category: object) -> Shop:
        return open_things(finder.folder, category={"routing_from_images": 0, **category})

    def test_searches_the_likely_categories_and_what_has_none(self, finder: Shop, drawn_things: Things) -> None:
        product = finder.catalogue.product(ProductId("T3"))
        with write(finder.database) as connection:
            finder.catalogue.upsert(connection, [Listing(replace(product, category=""))])
        shop = self.routing(finder, routing_mass=0.01)
        run(shop, "build")
        answer = Searcher(shop).search(SearchRequest(photo=drawn_things.photos[0][0].read_bytes(), num=20))
        assert answer.searched_categories == (answer.category_id,)
        assert len(answer.results) <= answer.found < 12
        unlike = {r.product.product_id for r in answer.results if r.category_id != answer.category_id}
        shown = {result.product.product_id for result in answer.results}
        assert unlike <= {"T3"}
        assert "T3" in shown
        shop.close()

    def test_is_off_in_a_small_gallery_and_where_nothing_likely_is_left(
        self, finder: Shop, searcher: Searcher, drawn_things: Things
    ) -> None:
        photo = drawn_things.photos[0][0].read_bytes()
        assert searcher.search(SearchRequest(photo=photo)).searched_categories == ()
        shop = self.routing(finder, routing_mass=0.01)
        likely = Searcher(shop).search(SearchRequest(photo=photo)).category_id
        others = next(p for p in shop.catalogue.products() if shop.taxonomy.top_of(p.category) != likely)
        with write(shop.database) as connection:
            shop.catalogue.upsert(connection, [Listing(replace(others, price=500.0))])
        answer = Searcher(shop).search(SearchRequest(photo=photo, filter="price = 500"))
        assert answer.searched_categories == ()
        assert [result.product.product_id for result in answer.results] == [others.product_id]
        shop.close()

    def test_is_off_where_the_reference_set_lacks_a_leaf(self, finder: Shop, drawn_things: Things) -> None:
        shop = self.routing(finder, routing_mass=0.01)
        product = shop.catalogue.product(ProductId("T5"))
        with write(shop.database) as connection:
            shop.catalogue.upsert(connection, [Listing(replace(product, category="shoes > a new kind"))])
        answer = Searcher(shop).search(SearchRequest(photo=drawn_things.photos[0][0].read_bytes()))
        assert answer.searched_categories == ()
        shop.close()


def test_an_evaluation_compares_boxes_that_the_search_never_saw(finder: Shop, drawn_things: Things) -> None:
    queries = [
        LabelledQuery(photo, product_id, category=("shoes", "tops")[number % 2], box=box)
        for number, (photo, product_id, box) in enumerate(drawn_things.photos)
    ]
    unlabelled = replace(queries[0], box=None)
    measured = evaluate(finder, [*queries, unlabelled])
    searcher = Searcher(finder)
    answers = [searcher.search(SearchRequest(photo=q.image.read_bytes()), record=False) for q in queries]
    overlaps = [overlap(answer.box, query.box) for answer, query in zip(answers, queries, strict=True) if query.box]
    boxes = measured.as_json()["boxes"]
    assert boxes["queries"] == 12
    assert boxes["mean_iou"] == pytest.approx(np.mean(overlaps))
    assert boxes["iou70"] == pytest.approx(np.mean(np.array(overlaps) >= 0.7))
    accuracy = measured.as_json()["category"]["accuracy"]
    told = [(a.model_category_id, a.knn_category_id, a.category_id) for a in answers]
    for place, source in enumerate(("model", "knn", "fused")):
        right = [row[place] == query.category for row, query in zip(told, queries, strict=True)]
        assert accuracy[source] == pytest.approx((sum(right) + right[0]) / 13)
