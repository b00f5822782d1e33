"""The main job in one command."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sameitem.core.errors import InputError, NotFoundError
from sameitem.pipeline.online import Searcher, SearchRequest
from sameitem.upkeep import demo
from sameitem.upkeep.demo import DemoReport, run_demo
from sameitem.upkeep.demo_shop import DemoShop, draw_shop
from shops import open_shop

pytestmark = pytest.mark.slow

KEYS = {"products", "images", "queries", "recall", "build_s", "query_ms", "sheet"}  # of the command line's contract


def silent(_step: str, _percent: float, _counts: Mapping[str, int]) -> None:
    pass


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def photos(drawn: DemoShop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody's own photos: five products, a sub-folder each, with two photos or more."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(5):
        (folder / f"product {number}").mkdir()
        for picture in sorted((drawn.folder / "images").glob(f"p{number:05d}-*.jpg")):
            shutil.copy(picture, folder / f"product {number}" / picture.name)
    return folder


@pytest.fixture(scope="module")
def done(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> DemoReport:
    return run_demo(tmp_path_factory.mktemp("done") / "demo", source=photos, tell=silent)


class TestOnPhotosOfSeveralPerProduct:
    def test_one_of_each_product_is_held_out_and_searched_with(self, done: DemoReport, photos: Path) -> None:
        assert (done.kind, done.products, done.queries) == ("held-out photos", 5, 5)
        assert done.images == len(list(photos.rglob("*.jpg"))) - 5
        assert done.recall["1"] == 1.0

    def test_the_photos_themselves_stay_as_they_were(self, done: DemoReport, photos: Path, drawn: DemoShop) -> None:
        assert {path.name: path.read_bytes() for path in photos.rglob("*.jpg")} == {
            path.name: path.read_bytes()
            for path in (drawn.folder / "images").iterdir()
            if int(path.name[1:6]) < 5  # "p00004-1.jpg"
        }

    def test_the_report_holds_what_the_contract_asks_for(self, done: DemoReport) -> None:
        written = done.as_json()
        assert set(written) >= KEYS
        assert set(written["recall"]) == {"1", "10"}
        assert 0 < written["query_ms"]["p50"] <= written["query_ms"]["p99"]
        assert 0 <= written["histogram_recall"] <= 1

    def test_the_sheet_shows_a_row_for_each_query(self, done: DemoReport) -> None:
        with Image.open(done.sheet) as sheet:
            assert sheet.format == "PNG"
            pixels = np.asarray(sheet)
        green = (pixels == (26, 127, 55)).all(axis=2)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], green.any(axis=1), [0]])))
        assert len(edges) == 2 * 5  # every one found its product, so that each row begins and ends a frame

    def test_the_shop_can_be_searched_afterwards(self, done: DemoReport, photos: Path) -> None:
        shop = open_shop(done.folder)
        photo = next((photos / "product 3").glob("*-1.jpg"))
        found = Searcher(shop).search(SearchRequest(photo=photo.read_bytes()), record=False)
        assert found.results[0].product.product_id == "product 3"
        shop.close()


def test_a_photo_that_another_listing_repeats_is_not_held_out(photos: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(photos / f"product {'ab'.index(name)}", tmp_path / "photos" / name)
    last = sorted((tmp_path / "photos/a").iterdir())[-1]
    shutil.copy(last, last.with_name("z-same-again.jpg"))
    report = run_demo(tmp_path / "demo", source=tmp_path / "photos", tell=silent)
    shop = open_shop(tmp_path / "demo")
    assert "z-same-again.jpg" in {image.name for image in shop.catalogue.images("a")}
    assert last.name in {image.name for image in shop.catalogue.images("a")}
    shop.close()
    assert report.queries == 2


def test_altered_copies_are_searched_with_where_each_product_has_one_photo(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(4):
        picture = next((photos / f"product {number}").glob("*-1.jpg"))
        shutil.copy(picture, tmp_path / "photos" / f"thing{number}.jpg")
    told: list[str] = []
    report = run_demo(
        tmp_path / "demo", source=tmp_path / "photos", tell=lambda step, _percent, _counts: told.append(step)
    )
    assert report.kind.startswith("altered copies of your photos")
    assert (report.products, report.images, report.queries) == (4, 4, 4)
    assert report.recall["10"] == 1.0
    stored = {path.read_bytes() for path in (tmp_path / "demo/images").rglob("*.jpg")}
    assert not stored & {path.read_bytes() for path in (tmp_path / "demo/held-out").iterdir()}
    assert list(dict.fromkeys(told))[:2] == ["import", "selection"]
    assert told[-1] == "search"


def test_the_database_that_the_environment_names_is_left_alone(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMEITEM_CATALOGUE__URL", f"sqlite:///{tmp_path / 'production.db'}")
    run_demo(tmp_path / "demo", source=photos, tell=silent)
    assert (tmp_path / "demo/catalogue.db").is_file()
    assert not (tmp_path / "production.db").exists()


class TestTheFolderOfTheDemo:
    def test_that_holds_anything_else_is_left_alone(self, photos: Path, tmp_path: Path) -> None:
        for name, text in (("notes.txt", "mine"), ("sameitem.toml", ""), (demo.MARK, "my own demo notes")):
            folder = tmp_path / name / "shop"
            (folder / "drawn").mkdir(parents=True)
            (folder / name).write_text(text)
            before = contents(folder)
            with pytest.raises(InputError, match="is not empty and not a demo shop; choose another folder with --dir"):
                run_demo(folder, source=photos, tell=silent)
            assert contents(folder) == before
            assert (folder / "drawn").is_dir()

    def test_that_is_a_file_is_refused(self, photos: Path, tmp_path: Path) -> None:
        (tmp_path / "demo").write_text("mine")
        with pytest.raises(InputError, match="is a file"):
            run_demo(tmp_path / "demo", source=photos, tell=silent)
        assert (tmp_path / "demo").read_text() == "mine"

    def test_may_not_hold_or_lie_in_the_photos(self, done: DemoReport, photos: Path) -> None:
        before = contents(done.folder)
        for source, folder in ((done.folder / "images", done.folder), (photos, photos / "demo"), (photos, photos)):
            with pytest.raises(InputError, match="must not lie in one another"):
                run_demo(folder, source=source, tell=silent)
        assert contents(done.folder) == before
        assert not (photos / "demo").exists()

    def test_keeps_an_earlier_demo_when_the_photos_are_not_there(self, done: DemoReport, tmp_path: Path) -> None:
        before = contents(done.folder)
        with pytest.raises(NotFoundError, match=r"no folder .*none; give --from a folder with your photos"):
            run_demo(done.folder, source=tmp_path / "none", tell=silent)
        assert contents(done.folder) == before


class TestAFurtherDemo:
    def test_replaces_the_one_before_and_what_lies_in_its_folder(self, photos: Path, tmp_path: Path) -> None:
        run_demo(tmp_path / "demo", source=photos, tell=silent)
        (tmp_path / "kept").mkdir()
        (tmp_path / "kept/photo.jpg").write_text("mine")
        (tmp_path / "demo/link").symlink_to(tmp_path / "kept")
        fewer = tmp_path / "fewer"
        for number in (0, 1):
            shutil.copytree(photos / f"product {number}", fewer / f"product {number}")
        assert run_demo(tmp_path / "demo", source=fewer, tell=silent).products == 2
        assert not (tmp_path / "demo/link").exists()
        assert (tmp_path / "kept/photo.jpg").read_text() == "mine"

    def test_replaces_one_that_failed(self, photos: Path, tmp_path: Path) -> None:
        one = shutil.copytree(photos / "product 0", tmp_path / "one" / "product 0").parent
        with pytest.raises(InputError, match=r"found 1 product\(s\); need at least two: one sub-folder per product"):
            run_demo(tmp_path / "demo", source=one, tell=silent)
        assert run_demo(tmp_path / "demo", source=photos, tell=silent).products == 5


def test_without_photos_a_shop_is_drawn_and_searched_with_its_users_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw_few(folder: Path, *, progress: Callable[[int, int], None]) -> DemoShop:
        return draw_shop(folder, products=28, queries=8, workers=1, progress=progress)

    monkeypatch.setattr(demo, "draw_shop", draw_few)  # the whole one takes minutes; `make demo` draws it
    report = run_demo(tmp_path / "demo", source=None, tell=silent)
    assert (report.kind, report.products, report.queries) == ("user photos", 28, 8)
    assert report.recall["10"] > 0.5
