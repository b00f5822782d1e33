"""Model versions of a shop: a graph of someone else's beside the model that ships."""

from dataclasses import replace
from pathlib import Path

import pytest

from sameitem.core.errors import InputError, NotFoundError
from sameitem.core.records import ProductId
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


def test_an_index_is_searched_with_the_model_that_made_it_whatever_is_active(shop: Shop) -> None:
    bring(shop, "mine")
    other = open_shop(shop.folder, model={"active": "mine"})
    image = other.catalogue.images(ProductId("P00002"))[0]
    answer = Searcher(other).search(SearchRequest(image_of=(image.product_id, image.name)))
    assert answer.model_version == "base-2"
    other.close()


def test_what_is_no_model_is_refused_by_name(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "notes.onnx").write_text("not a graph")
    with pytest.raises(InputError, match="cannot load"):
        bring(shop, "notes", graph=tmp_path / "notes.onnx")
    with pytest.raises(InputError, match="fit"):
        bring(shop, "mine", fit="squash")
    with pytest.raises(NotFoundError, match="base-2"):
        run(open_shop(shop.folder, model={"active": "none"}), "build")
