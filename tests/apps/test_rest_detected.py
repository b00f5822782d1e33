"""The REST interface of a shop whose model finds subjects."""

from collections.abc import Iterator

import pytest

from live import Client, live_server
from sameitem.apps.schemas import ImageStored, SearchAnswerBody
from shops import run
from things import SIZE, draw_things

pytestmark = pytest.mark.slow
Served = tuple[Client, list[bytes]]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    things = draw_things(tmp_path_factory.mktemp("served"), products=4)
    run(things.shop, "build")
    with live_server(things.shop) as client:
        yield client, [photo.read_bytes() for photo, _, _ in things.photos]
    things.shop.close()


def test_a_photo_is_answered_with_its_box_and_its_objects(served: Served) -> None:
    client, photos = served
    body = client.search(photos[0]).json
    query = SearchAnswerBody.model_validate(body).query
    assert (query.box_source, query.category_source) == ("detected", "fused")
    assert [found.object_id for found in query.objects] == ["0", "1"]
    assert query.objects[0].box == query.box
    assert [found.category_id for found in query.objects] == [query.category_id, None]
    assert body["took_ms"]["detect"] > 0


def test_an_object_can_be_searched_with_in_every_kind_of_request(served: Served) -> None:
    client, photos = served
    wanted = client.search(photos[0]).json["query"]["objects"][1]["box"]
    raw = client("POST", "/v1/search?object_id=1", body=photos[0], headers={"Content-Type": "image/jpeg"})
    for answer in (client.search(photos[0], object_id="1"), raw):
        assert (answer.status, answer.json["query"]["box"]) == (200, wanted)


def test_an_object_that_is_not_there_is_refused_by_name(served: Served) -> None:
    client, photos = served
    for fields in ({"object_id": "9"}, {"object_id": "0", "region": "1,90,1,90"}):
        answer = client.search(photos[0], **fields)
        assert answer.status == 422
        assert answer.json["errors"][0]["field"] == "object_id"


def test_a_photo_that_is_not_to_be_cropped_is_searched_whole(served: Served) -> None:
    client, photos = served
    query = client.search(photos[0], crop="false").json["query"]
    assert (query["box_source"], query["region"]) == ("whole_photo", f"0,{SIZE[0]},0,{SIZE[1]}")


def test_a_stored_image_has_candidate_boxes_and_crop_false_keeps_it_whole(served: Served) -> None:
    client, photos = served
    client("PUT", "/v1/products/new", json={"title": "Thing"})
    found, kept = (
        ImageStored.model_validate(
            client("PUT", f"/v1/products/new/images/{crop}?crop={crop}", body=photos[1], headers=JPEG).json
        )
        for crop in ("true", "false")
    )
    assert found.box == found.boxes[0]
    assert kept.boxes == found.boxes
    assert (kept.box.left, kept.box.top, kept.box.right, kept.box.bottom) == (0, 0, *SIZE)
    assert found.category_source == "fused"


JPEG = {"Content-Type": "image/jpeg"}
