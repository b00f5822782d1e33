"""A shop's click log to triplets."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from sameitem.clicks.log import Event, Search, Shown
from sameitem.clicks.triplet_file import read_report, read_triplets
from sameitem.core.errors import InputError
from sameitem.core.records import ContentHash
from sameitem.core.settings import MiningSettings
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.mining import KEY, fused_models, mine_shop, mining_rules
from sameitem.upkeep.shoppers import Errand, Habits, edited_errands, in_process, simulate
from shops import copied, open_shop, run

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
        assert (clicked.folder / KEY).stat().st_mode & 0o777 == 0o600

    def test_needs_no_photo_twice(self, clicked: Shop, tmp_path: Path) -> None:
        mine_shop(clicked, tmp_path / "a", hear=silent)
        segments = sorted((clicked.folder / "features" / clicked.base_embedder.version).iterdir())
        mine_shop(clicked, tmp_path / "b", hear=silent)
        assert sorted((clicked.folder / "features" / clicked.base_embedder.version).iterdir()) == segments

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
