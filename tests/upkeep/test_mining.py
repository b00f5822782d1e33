"""A shop's click log to triplets."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from sameitem.catalog.store import Listing, NewImage
from sameitem.clicks.fused_distance import MIN_PAIRS
from sameitem.clicks.log import Event, Search, Shown
from sameitem.clicks.triplet_file import read_report, read_triplets
from sameitem.core.database import write
from sameitem.core.errors import InputError
from sameitem.core.records import Box, CatalogueImage, ContentHash, Pixels
from sameitem.core.settings import MiningSettings
from sameitem.features.cache import CachedRows, FeatureCache
from sameitem.features.subject import Subject, centred_views, detected_part, part_of, user_subjects
from sameitem.pipeline.generations import ACTIVE
from sameitem.pipeline.online import Searcher, SearchRequest
from sameitem.pipeline.shop import PHOTO_FEATURES, Shop
from sameitem.upkeep.mining import (
    LEAST_IMAGES,
    fused_models,
    mine_shop,
    mining_rules,
    searched_subject,
)
from sameitem.upkeep.shoppers import Errand, Habits, edited_errands, in_process, simulate
from shops import copied, open_shop, run
from things import MODEL, VIEWS, Things, draw_things, open_things

SESSIONS = 120
WANTED = "wanted.json"  # what each photo shows, for the tests alone


def silent(*_told: object) -> None:
    pass


@pytest.fixture(scope="module")
def clicked_folder(built_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published shop where simulated shoppers have been; tests that change it take `clicked`."""
    shop = open_shop(copied(built_folder, tmp_path_factory.mktemp("clicked") / "shop"))
    generator = np.random.default_rng(3)
    wanted: dict[str, list[str]] = {}

    def noted() -> Iterator[Errand]:
        for errand in edited_errands(shop, generator, most=SESSIONS):
            wanted[shop.intake.take(errand.photo).content_hash] = sorted(errand.wanted)
            yield errand

    simulate(noted(), in_process(shop), sessions=SESSIONS, habits=Habits(), generator=generator, tell=silent)
    (shop.folder / WANTED).write_text(json.dumps(wanted), encoding="utf-8")
    shop.close()
    return shop.folder


@pytest.fixture
def clicked(clicked_folder: Path, tmp_path: Path) -> Iterator[Shop]:
    """Such a shop of the test's own."""
    shop = open_shop(copied(clicked_folder, tmp_path / "shop"))
    yield shop
    shop.close()


@pytest.mark.parametrize("images", [600, 1_000_000])
def test_a_rank_is_the_same_number_of_images_in_every_gallery(images: int) -> None:
    rules = mining_rules(MiningSettings(same_item_rank=20, other_item_rank=2), images)
    assert (rules.same_item * images, rules.other_item * images) == pytest.approx((20, 2))


@pytest.mark.parametrize("images", [0, 1, 5])
def test_a_gallery_smaller_than_the_ranks_still_has_rules(images: int) -> None:
    rules = mining_rules(MiningSettings(), images)
    assert 0 < rules.other_item <= 0.5


@pytest.mark.slow
class TestASimulatedLog:
    def test_becomes_triplets_whose_positives_are_mostly_the_item_in_the_photo(
        self, clicked: Shop, tmp_path: Path
    ) -> None:
        mined = mine_shop(clicked, tmp_path / "t.parquet", hear=silent)
        triplets = list(read_triplets(mined.file))
        assert mined.report == read_report(mined.file)
        assert (mined.report.sessions, mined.report.triplets) == (SESSIONS, len(triplets))
        assert mined.report.used_sessions >= SESSIONS / 4
        wanted, listed = true_products(clicked), products_by_picture(clicked)
        positive = [bool(listed[triplet.positive] & wanted[triplet.photo.content_hash]) for triplet in triplets]
        negative = [bool(listed[triplet.negative] & wanted[triplet.photo.content_hash]) for triplet in triplets]
        weights = [triplet.weight for triplet in triplets]
        assert np.average(positive, weights=weights) > 0.85
        assert np.average(negative, weights=weights) < 0.05

    def test_is_believed_where_local_features_agree_with_a_click_that_the_model_doubts(
        self, clicked: Shop, tmp_path: Path
    ) -> None:
        reports, triplets = [], []
        for rank in (0.0, 1e6):
            doubting = {"same_item_rank": 1e-9, "other_item_rank": 1.0, "local_check_rank": rank}
            shop = open_shop(clicked.folder, mining=doubting)
            reports.append(mine_shop(shop, tmp_path / "t.parquet", hear=silent).report)
            triplets = list(read_triplets(tmp_path / "t.parquet"))
            shop.close()
        assert reports[0].used_clicks == 0 < reports[1].used_clicks
        wanted, listed = true_products(clicked), products_by_picture(clicked)
        right = [bool(listed[triplet.positive] & wanted[triplet.photo.content_hash]) for triplet in triplets]
        assert np.average(right, weights=[triplet.weight for triplet in triplets]) > 0.9

    def test_is_mined_to_the_same_triplets_again(self, clicked: Shop, tmp_path: Path) -> None:
        first, second = (mine_shop(clicked, tmp_path / name, hear=silent).file for name in ("a", "b"))
        assert list(read_triplets(first)) == list(read_triplets(second))

    def test_needs_no_picture_twice(self, clicked: Shop, tmp_path: Path) -> None:
        version = clicked.base_embedder.version
        mine_shop(clicked, tmp_path / "a", hear=silent)
        caches = [clicked.folder / name / version for name in ("features", PHOTO_FEATURES)]
        segments = [sorted(cache.glob("[0-9]*")) for cache in caches]
        assert all(segments)
        mine_shop(clicked, tmp_path / "b", hear=silent)
        assert [sorted(cache.glob("[0-9]*")) for cache in caches] == segments

    def test_leaves_the_earlier_file_when_it_is_stopped(self, clicked: Shop, tmp_path: Path) -> None:
        out = tmp_path / "t.parquet"
        mine_shop(clicked, out, hear=silent)
        before = out.read_bytes()

        def stop(percent: float, _counts: Mapping[str, int]) -> None:
            if percent > 50:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            mine_shop(clicked, out, hear=stop)
        assert out.read_bytes() == before
        assert [path.name for path in tmp_path.glob("*.part")] == []

    def test_tells_how_far_it_is(self, clicked: Shop, tmp_path: Path) -> None:
        told: list[float] = []
        mine_shop(clicked, tmp_path / "t.parquet", hear=lambda percent, _counts: told.append(percent))
        assert told == sorted(told)
        assert (told[0], told[-1]) == (0, 100)

    def test_is_a_job_with_the_keys_of_the_command_line(self, clicked: Shop) -> None:
        result = run(clicked, "mine", out=str(clicked.folder / "t.parquet"))
        assert {"sessions", "triplets", "dropped"} <= set(result)
        for kind in ("", "_clicks", "_non_clicks"):
            total, used = result[kind[1:] or "sessions"], result[f"used{kind}"]
            assert total == used + sum(result[f"dropped{kind}"].values())  # type: ignore[attr-defined, operator]

    def test_of_photos_that_were_forgotten_teaches_nothing_more(self, clicked: Shop, tmp_path: Path) -> None:
        photos = list(clicked.query_photos.hashes())
        mine_shop(clicked, tmp_path / "t.parquet", hear=silent)  # their features are in the cache
        for photo in photos[:-5]:
            clicked.query_photos.delete(photo)
        mined = mine_shop(clicked, tmp_path / "t.parquet", hear=silent)
        assert mined.report.dropped_clicks["cannot be compared"] > 0
        assert {triplet.photo.content_hash for triplet in read_triplets(mined.file)} <= set(photos[-5:])

    def test_counts_a_catalogue_image_as_a_photo(self, clicked: Shop, tmp_path: Path) -> None:
        """A user searches with "more like this", and clicks."""
        images = [image for batch in clicked.catalogue.scan() for image, _ in batch]
        shown = tuple(Shown(r, i.product_id, i.name, i.image_id, 0.5) for r, i in enumerate(images[1:15], 1))
        photo = images[0].content_hash
        clicked.clicks.record_search(Search("alike", 1.0, photo, None, "", "", "", "u", "", shown))
        clicked.clicks.record_events([Event("e", "alike", "click", shown[3].product_id)])
        clicked_settings = {"mining": {"same_item_rank": 1000.0, "other_item_rank": 0.01}}
        shop = open_shop(clicked.folder, **clicked_settings)
        mined = mine_shop(shop, tmp_path / "t.parquet", hear=silent)
        shop.close()
        assert ContentHash(photo) in {triplet.photo.content_hash for triplet in read_triplets(mined.file)}

    def test_is_compared_by_every_model_that_is_named(self, clicked: Shop, tmp_path: Path) -> None:
        base = clicked.base_embedder.version
        assert fused_models(clicked) == (base,)
        shutil.copytree(clicked.model_folder(base), clicked.models_root / "second")
        manifest = clicked.models_root / "second" / "manifest.json"
        manifest.write_text(manifest.read_text(encoding="utf-8").replace(f'"{base}"', '"second"'), encoding="utf-8")
        alone = mine_shop(clicked, tmp_path / "a", hear=silent)
        both = mine_shop(clicked, tmp_path / "b", versions=("second", base), hear=silent)
        assert both.models == ("second", base)
        assert both.report == alone.report  # the same weights twice say the same


@pytest.fixture(scope="module")
def drawn_things(tmp_path_factory: pytest.TempPathFactory) -> Things:
    """A shop that was not built yet, and photos; tests take `finder`."""
    things = draw_things(tmp_path_factory.mktemp("things"))
    things.shop.close()
    return things


@pytest.fixture
def finder(drawn_things: Things, tmp_path: Path) -> Iterator[Shop]:
    """A shop of the test's own whose model finds subjects; some images have a box, every photo was searched with."""
    shop = open_things(copied(drawn_things.shop.folder, tmp_path / "finder"))
    images = [image for batch in shop.catalogue.scan() for image, _ in batch]
    box_image(shop, images[1], Box(20, 20, 150, 150))
    box_image(shop, images[2], Box(0, 0, images[2].width, images[2].height))
    for file, _, _ in drawn_things.photos:
        photo = shop.intake.take(file.read_bytes())
        shop.query_photos.put(photo)
        log_search(shop, photo.content_hash, None, images)
    for image in images:  # "more like this"
        log_search(shop, image.content_hash, None, images)
        log_search(shop, image.content_hash, Box(20, 20, 150, 150), images)
    yield shop
    shop.close()


def box_image(shop: Shop, image: CatalogueImage, box: Box) -> None:
    """Let the shop say where the subject of an image is."""
    product = shop.catalogue.product(image.product_id)
    boxed = NewImage(
        image.name,
        image.kind,
        image.content_hash,
        image.width,
        image.height,
        image.quality,
        image.perceptual_hash,
        box,
    )
    with write(shop.database) as connection:
        shop.catalogue.upsert(connection, [Listing(product, (boxed,))])


def log_search(shop: Shop, photo: str, box: Box | None, images: Sequence[CatalogueImage]) -> None:
    """Record that a photo was searched with, and a click on the first image."""
    shown = tuple(Shown(rank, i.product_id, i.name, i.image_id, 0.5) for rank, i in enumerate(images, 1))
    search_id = f"s{shop.clicks.count()}"
    shop.clicks.record_search(Search(search_id, 1.0, photo, box, "", "", "", search_id, "", shown))
    shop.clicks.record_events([Event(f"e{search_id}", search_id, "click", shown[0].product_id)])


def listed_features(shop: Shop) -> CachedRows:
    """Return what is kept of the catalogue images."""
    images = [image for batch in shop.catalogue.scan() for image, _ in batch]
    return shop.cache(shop.embedder(MODEL)).get([(image.content_hash, image.box) for image in images])


@pytest.mark.slow
class TestAModelThatFindsSubjects:
    def test_gives_catalogue_images_the_features_that_a_build_gives_them(self, finder: Shop, tmp_path: Path) -> None:
        built = open_things(copied(finder.folder, tmp_path / "built"))
        run(built, "build")
        mine_shop(finder, tmp_path / "t.parquet", versions=[MODEL], hear=silent)
        expected, found = listed_features(built), listed_features(finder)
        assert found.positions.tolist() == expected.positions.tolist() == list(range(12))
        np.testing.assert_allclose(found.features, expected.features, atol=1e-6)
        np.testing.assert_allclose(found.colours, expected.colours, atol=1e-6)
        built.close()

    def test_gives_a_photo_the_feature_of_its_subject_though_a_catalogue_image_is_the_same_picture(
        self, finder: Shop, tmp_path: Path
    ) -> None:
        mine_shop(finder, tmp_path / "t.parquet", versions=[MODEL], hear=silent)
        embedder, detector = finder.embedder(MODEL), finder.detector(MODEL)
        of_photos = FeatureCache(finder.folder / PHOTO_FEATURES, MODEL, embedder.dim)
        images = [image for batch in finder.catalogue.scan() for image, _ in batch]
        photos = [image.content_hash for image in images] + list(finder.query_photos.hashes())
        kept = of_photos.get([(photo, None) for photo in photos])
        pictures = [
            (finder.photos if finder.photos.has(photo) else finder.query_photos).pixels(photo) for photo in photos
        ]
        subjects = user_subjects(pictures, detector)
        expected = embedder.embed_views([subject.views for subject in subjects])
        np.testing.assert_allclose(kept.features, expected, atol=1e-6)

    def test_sees_a_logged_photo_as_serving_did(self, finder: Shop, drawn_things: Things) -> None:
        run(finder, "build")
        detector, searcher = finder.detector(MODEL), Searcher(finder)
        assert detector is not None
        file = drawn_things.photos[3][0].read_bytes()
        pixels = finder.query_photos.pixels(finder.intake.take(file).content_hash)
        requests = [
            SearchRequest(photo=file),
            SearchRequest(photo=file, object_id="1"),
            SearchRequest(photo=file, box=Box(5, 5, 90, 200)),
            SearchRequest(photo=file, crop=False),
        ]
        for request in requests:
            searcher.search(request)
        boxes = [session.search.box for session in finder.clicks.sessions() if session.search.index_version]
        seen = detector.detect([pixels])[0].boxes
        expected = [
            detected_part(pixels, seen[0], VIEWS),
            detected_part(pixels, seen[1], VIEWS),
            part_of(pixels, Box(5, 5, 90, 200)),
            part_of(pixels, Box(0, 0, pixels.shape[1], pixels.shape[0])),
        ]
        for box, subject in zip(boxes, expected, strict=True):
            assert_same(searched_subject(pixels, box, detector=detector), subject)

    def test_is_told_when_no_image_can_be_read(self, finder: Shop, tmp_path: Path) -> None:
        for photo in list(finder.photos.hashes()):
            finder.photos.delete(photo)
        with pytest.raises(InputError, match=f"got 0 that model {MODEL} could compare"):
            mine_shop(finder, tmp_path / "t.parquet", versions=[MODEL], hear=silent)


@pytest.mark.slow
class TestAShop:
    def test_is_mined_without_the_previous_model_where_that_was_deleted(self, finder: Shop) -> None:
        base = finder.base_embedder.version
        finder.models_root.mkdir(exist_ok=True)
        active = {"format": 1, "version": base, "previous": ["deleted", "older"]}
        (finder.models_root / ACTIVE).write_text(json.dumps(active), encoding="utf-8")
        assert fused_models(finder) == (base,)

    def test_is_mined_by_as_many_models_as_the_settings_say(self, finder: Shop) -> None:
        base = finder.base_embedder.version
        for name in ("now", "before"):
            shutil.copytree(finder.model_folder(base), finder.models_root / name)
        active = {"format": 1, "version": "now", "previous": ["before"]}
        (finder.models_root / ACTIVE).write_text(json.dumps(active), encoding="utf-8")
        for models, wanted in ((1, (base,)), (2, ("now", base)), (3, ("now", "before", base))):
            shop = open_shop(finder.folder, mining={"models": models})
            assert fused_models(shop) == wanted
            shop.close()


def assert_same(found: Subject, expected: Subject) -> None:
    """Compare two subjects; as views are cut without copying, the same ones look at the same numbers."""
    assert found.box == expected.box
    for view, other in zip(found.views, expected.views, strict=True):
        np.testing.assert_array_equal(view, other)


def test_a_model_that_finds_no_subjects_sees_the_middle_of_a_photo_that_was_not_cut() -> None:
    photo: Pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    for box in (None, Box(0, 0, 80, 60)):
        assert_same(searched_subject(photo, box, detector=None), centred_views(photo))
    assert_same(searched_subject(photo, Box(0, 0, 40, 60), detector=None), part_of(photo, Box(0, 0, 40, 60)))


@pytest.mark.slow
def test_a_catalogue_that_is_too_small_says_what_is_missing(tmp_path: Path) -> None:
    things = draw_things(tmp_path, products=5)
    with pytest.raises(InputError, match=f"need at least {LEAST_IMAGES} different catalogue images .*, got 5; import"):
        mine_shop(things.shop, tmp_path / "t.parquet", versions=[MODEL], hear=silent)
    things.shop.close()


def test_the_least_images_make_the_least_pairs() -> None:
    assert LEAST_IMAGES * (LEAST_IMAGES - 1) >= MIN_PAIRS > (LEAST_IMAGES - 1) * (LEAST_IMAGES - 2)


def products_by_picture(shop: Shop) -> dict[str, set[str]]:
    """Return the products that list each picture of the catalogue."""
    listed: dict[str, set[str]] = {}
    for batch in shop.catalogue.scan():
        for image, _ in batch:
            listed.setdefault(image.content_hash, set()).add(image.product_id)
    return listed


def true_products(shop: Shop) -> dict[str, set[str]]:
    """Return what each logged photo shows, as it was noted beside the shop."""
    noted: dict[str, list[str]] = json.loads((shop.folder / WANTED).read_text(encoding="utf-8"))
    return {photo: set(products) for photo, products in noted.items()}


@pytest.mark.slow
def test_a_log_that_is_too_small_says_what_is_missing(built_folder: Path, tmp_path: Path) -> None:
    shop = open_shop(copied(built_folder, tmp_path / "shop"))
    with pytest.raises(InputError, match=r"0 photo\(s\)"):
        mine_shop(shop, tmp_path / "t.parquet", hear=silent)
    assert not (tmp_path / "t.parquet").exists()
    shop.close()
