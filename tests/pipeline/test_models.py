"""Model versions of a shop: a graph of someone else's beside the model that ships."""

import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from sameitem.catalog.store import Listing, NewImage
from sameitem.core.database import write
from sameitem.core.errors import ConflictError, InputError, NotFoundError
from sameitem.core.records import ImageKind, Product, ProductId
from sameitem.engine.versions import current
from sameitem.features.model_folder import shipped_model
from sameitem.pipeline.models import bring_model, list_models
from sameitem.pipeline.online import Searcher, SearchRequest
from sameitem.pipeline.shop import Shop
from shops import open_shop, run

pytestmark = pytest.mark.slow


def bring(shop: Shop, name: str, *, graph: Path | None = None, fit: str = "pad") -> dict[str, object]:
    """Bring the graph of the shipped model under another name."""
    return bring_model(
        shop,
        graph or shipped_model() / "embed.onnx",
        name=name,
        side_px=224,
        fit=fit,
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
        output=None,
        licence="Apache-2.0",
    )


def test_a_brought_model_builds_and_searches_while_the_general_feature_carries_the_vote(shop: Shop) -> None:
    brought = bring(shop, "mine")
    assert brought["version"] == "mine"
    assert [model["version"] for model in list_models(shop)] == ["base-2", "mine"]
    other = open_shop(shop.folder, model={"active": "mine"})
    run(other, "build")
    image = other.catalogue.images(ProductId("P00002"))[0]
    request = SearchRequest(photo=other.photos.read(image.content_hash), num=5)
    answer = Searcher(other).search(request)
    assert answer.model_version == "mine"
    assert answer.results[0].product.product_id == "P00002"
    assert answer.category_source == "knn"
    assert (answer.box_source, answer.objects, answer.model_category_id) == ("whole_photo", (), "")
    with pytest.raises(InputError, match="finds no objects; send a box"):
        Searcher(other).search(replace(request, object_id="0"))
    other.close()


def test_a_picture_added_under_a_brought_model_gets_its_category_by_the_general_feature(shop: Shop) -> None:
    bring(shop, "mine")
    other = open_shop(shop.folder, model={"active": "mine"})
    run(other, "build")
    searcher = Searcher(other)
    searcher.follow(compute=True)
    like = other.catalogue.images(ProductId("P00002"))[0]
    image = NewImage("front", ImageKind.MAIN, like.content_hash, like.width, like.height, like.quality, 0)
    told = other.catalogue.product(like.product_id).category
    with write(other.database) as connection:
        for name, category in (("untold", ""), ("told", told)):
            listing = Listing(Product(ProductId(name), category=category), (image,))
            other.catalogue.upsert(connection, [listing])
    while searcher.follow(compute=True):
        pass
    gallery = searcher.gallery()
    top_of = {str(gallery.product_id(row)): top for row, top in enumerate(gallery.top_ids())}
    assert top_of["untold"] == top_of["told"] == top_of["P00002"]
    other.close()


def test_an_index_is_searched_with_the_model_that_made_it_whatever_is_active(shop: Shop) -> None:
    bring(shop, "mine")
    other = open_shop(shop.folder, model={"active": "mine"})
    image = other.catalogue.images(ProductId("P00002"))[0]
    answer = Searcher(other).search(SearchRequest(image_of=(image.product_id, image.name)))
    assert answer.model_version == "base-2"
    other.close()


@pytest.mark.parametrize("name", ["base-2", "BASE-2", "ACTIVE"])
def test_a_name_that_means_something_else_is_taken(shop: Shop, name: str) -> None:
    with pytest.raises(ConflictError, match=f"the name '{name}' is taken; choose another --name"):
        bring(shop, name)
    assert not shop.models_root.exists()


class TestACopiedFolder:
    """models/b is a copy of models/a: its manifest says a."""

    @pytest.fixture
    def copied_model(self, shop: Shop) -> Shop:
        bring(shop, "a")
        shutil.copytree(shop.models_root / "a", shop.models_root / "b")
        return shop

    def test_is_used_for_nothing_as_its_features_would_lie_among_those_of_the_other(self, copied_model: Shop) -> None:
        for opened in (copied_model.embedder, copied_model.detector):
            with pytest.raises(InputError, match='models/b holds model a; name the folder a, or write "version": "b"'):
                opened("b")
        assert copied_model.embedder("a").version == "a"

    def test_is_listed_with_what_is_wrong(self, copied_model: Shop) -> None:
        listed = {model["version"]: (model["kind"], model["error"]) for model in list_models(copied_model)}
        assert listed["a"] == ("imported", "")
        assert listed["b"] == ("broken", "the folder holds model a; name it so")


def test_a_damaged_model_or_index_does_not_hide_the_others(shop: Shop) -> None:
    for name in ("cut", "sound"):
        bring(shop, name)
    (shop.models_root / "cut" / "embed.onnx").write_bytes(b"")
    (shop.models_root / "empty").mkdir()
    (shop.index_root / str(current(shop.index_root)) / "manifest.json").write_text("{")
    listed = {model["version"]: model for model in list_models(shop)}
    assert [name for name, model in listed.items() if not model["error"]] == ["base-2", "sound"]
    assert listed["cut"]["error"].startswith("cut/embed.onnx has the checksum")
    assert listed["empty"]["error"].startswith("no model folder at empty: manifest.json is missing")
    assert str(shop.folder) not in str(listed)
    assert [model["live"] for model in listed.values()] == [False] * 4


def test_a_model_is_read_and_checked_once_and_again_when_a_file_changed(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(shop, "mine")
    list_models(shop)
    with monkeypatch.context() as patched:
        patched.setattr("sameitem.pipeline.models.read_model", None)
        assert [model["error"] for model in list_models(shop)] == ["", ""]
    (shop.models_root / "mine" / "embed.onnx").write_bytes(b"")
    assert "has the checksum" in list_models(shop)[1]["error"]


def test_photos_that_are_damaged_are_no_samples_of_a_model_that_is_brought(shop: Shop) -> None:
    for content_hash in islice(shop.photos.hashes(), 20):
        shop.photos.path(content_hash).write_bytes(b"no picture")
    assert bring(shop, "mine")["metrics"]["sample_photos"] == 16  # type: ignore[index]


def test_what_is_no_model_is_refused_by_name(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "notes.onnx").write_text("not a graph")
    with pytest.raises(InputError, match="cannot load"):
        bring(shop, "notes", graph=tmp_path / "notes.onnx")
    with pytest.raises(InputError, match="fit"):
        bring(shop, "mine", fit="squash")
    with pytest.raises(NotFoundError, match="base-2"):
        run(open_shop(shop.folder, model={"active": "none"}), "build")
