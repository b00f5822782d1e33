"""What keeps an index version from its users."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from drawn_rankers import add_drawn
from generation_shop import GOOD, POOR, draw_source, fill, open_models
from sameitem.engine.versions import current
from sameitem.pipeline.offline import build
from sameitem.pipeline.online import Searcher, SearchRequest
from sameitem.pipeline.rankers import activate_ranker
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.canary import Figures, ask_canary, draw_sample, reasons_against
from shops import NOW, run

SOUND = Figures("v", photos=50, images=100, self_found=1.0, good=0.6, in_category=0.8, ms=40.0, errors=())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, None),
        ({"errors": ("InputError: no graph",)}, "it fails: InputError: no graph"),
        ({"self_found": 0.98}, None),  # one image of a hundred is forgiven
        ({"self_found": 0.97}, "97.0% of 100 catalogue images find themselves first"),
        ({"ms": 100.0}, None),
        ({"ms": 101.0}, "a search takes 101 ms where the live version takes 40 ms"),
        ({"good": 0.28}, None),
        ({"good": 0.27}, "27% of the photos have a good match, 60% in the live version"),
        ({"good": 1.0, "in_category": 1.0, "ms": 1.0}, None),
        ({"in_category": 0.66}, None),
        ({"in_category": 0.64}, "for 64% of the photos the first hit is of the category"),
    ],
)
def test_a_version_is_kept_out_for(changes: dict[str, object], says: str | None) -> None:
    reasons = reasons_against(SOUND, replace(SOUND, **changes))  # type: ignore[arg-type]
    assert [says is not None and says in reason for reason in reasons] == [True] * (says is not None)


def test_pictures_that_many_products_share_cost_no_more_than_they_cost_the_live_version() -> None:
    shared = replace(SOUND, self_found=0.7)
    assert reasons_against(shared, shared) == []
    assert reasons_against(shared, replace(SOUND, self_found=0.68)) != []
    assert reasons_against(None, shared) != []


def test_what_too_few_photos_say_is_not_listened_to() -> None:
    few = Figures("v", photos=3, images=0, self_found=None, good=None, in_category=None, ms=None, errors=())
    assert reasons_against(few, few) == []
    assert reasons_against(None, few) == []


@pytest.mark.slow
class TestAskedOfIndexes:
    @pytest.fixture
    def shop(self, tmp_path: Path) -> Iterator[Shop]:
        quality_alone = {"visual_share": 0.0, "similarity_floor": 0.0}  # where a ranker is active
        shop = open_models(tmp_path / "shop", engine={"recall": 0.9}, rerank=quality_alone)
        feed, _ = draw_source(tmp_path / "source")
        fill(shop, feed)
        run(shop, "build")
        searcher = Searcher(shop)
        for file in sorted(feed.parent.glob("*-photo.png"))[:12]:
            searcher.search(SearchRequest(photo=file.read_bytes()))
        yield shop
        shop.close()

    @staticmethod
    def beside(shop: Shop, model: str) -> str:
        return build(shop, tell=lambda *_: None, now=NOW + timedelta(days=2), beside=model).version

    def test_a_sound_version_passes_and_nothing_is_written_into_the_log(self, shop: Shop) -> None:
        live, other = str(current(shop.index_root)), self.beside(shop, GOOD)
        searches = shop.clicks.count()
        report = ask_canary(shop, live, other, draw_sample(shop, other), is_live=False, hear=lambda _: None)
        assert (report.passed, report.reasons) == (True, ())
        assert report.before is not None
        assert (report.before.version, report.after.version) == (live, other)
        assert (report.after.photos, report.after.images, report.after.self_found) == (12, 24, 1.0)
        assert shop.clicks.count() == searches

    def test_catalogue_images_are_asked_by_looks_whatever_the_ranker_prefers(self, shop: Shop) -> None:
        add_drawn(shop.rankers_root, "r1")
        activate_ranker(shop.rankers_root, "r1")
        live, other = str(current(shop.index_root)), self.beside(shop, GOOD)
        sample = draw_sample(shop, other)
        searcher = Searcher(shop, other)
        ranked = [
            searcher.search(SearchRequest(photo=shop.photos.read(image.content_hash), num=1), record=False)
            for image in sample.images
        ]
        firsts = [answer.results[0].product.product_id for answer in ranked]
        assert firsts != [image.product_id for image in sample.images]  # the ranker puts others before them
        report = ask_canary(shop, live, other, sample, is_live=False, hear=lambda _: None)
        assert report.after.self_found == 1.0

    def test_an_index_of_another_models_features_is_kept_out(self, shop: Shop) -> None:
        live, other = str(current(shop.index_root)), self.beside(shop, GOOD)
        shop._embedders[GOOD] = shop.embedder(POOR)  # what answers is not what the index was built with
        report = ask_canary(shop, live, other, draw_sample(shop, other), is_live=False, hear=lambda _: None)
        assert not report.passed
        assert any("find themselves first" in reason for reason in report.reasons)

    def test_another_index_that_answers_instead_is_an_error(self, shop: Shop) -> None:
        live, other = str(current(shop.index_root)), self.beside(shop, GOOD)
        report = ask_canary(shop, live, other, draw_sample(shop, other).part(3), is_live=True, hear=lambda _: None)
        assert report.reasons == (f"it fails: index {live} answers instead",)

    def test_a_version_that_cannot_be_opened_fails(self, shop: Shop) -> None:
        live, other = str(current(shop.index_root)), self.beside(shop, GOOD)
        sample = draw_sample(shop, other)
        (shop.index_root / other / "rows.npy").unlink()
        report = ask_canary(shop, live, other, sample, is_live=False, hear=lambda _: None)
        assert report.reasons[0].startswith("it fails: ConflictError")
