"""The REST interface through a real server."""

import base64
import csv
import gzip
import io
import json
import math
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image

from hostile_images import SECRET, exif, hostile_files
from live import Client, live_server
from sameitem.apps.schemas import ExplainedQueryAnswer, ResultAnswer, SearchAnswerBody
from sameitem.core.jobs import run_jobs
from sameitem.engine.versions import list_versions
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.demo_shop import DemoShop
from sameitem.upkeep.work import work_of
from shops import copied, open_shop

pytestmark = pytest.mark.slow


def test_a_photo_is_answered_in_the_shape_of_the_contract(client: Client, photo: bytes) -> None:
    answer = client.search(photo, num=5)
    assert answer.status == 200
    body = answer.json
    assert set(body) >= {"request_id", "search_id", "index_version", "index_time", "model_version", "took_ms", "query"}
    assert set(body["query"]) >= {"category_id", "categories", "box", "region", "objects", "box_source"}
    assert body["head"]["returned"] == len(body["results"]) == 5
    first = body["results"][0]
    assert first["rank"] == 1
    assert 0 <= first["score"] <= 1
    picture = client("GET", first["image_url"])
    assert (picture.status, picture.headers["content-type"]) == (200, "image/jpeg")
    assert answer.headers["x-request-id"] == body["request_id"]


def test_form_json_and_raw_bodies_give_the_same_results(client: Client, photo: bytes) -> None:
    form = client.search(photo, num=7, box={"left": 10, "top": 10, "right": 200, "bottom": 220, "unit": "px"})
    sent = {"image_base64": base64.b64encode(photo).decode(), "num": 7, "region": "10,200,10,220"}
    as_json = client("POST", "/v1/search", json=sent)
    path = "/v1/search?num=7&region=10,200,10,220"
    raw = client("POST", path, body=photo, headers={"Content-Type": "image/jpeg"})
    assert form.json["results"] == as_json.json["results"] == raw.json["results"]


def test_fields_cut_results_down(client: Client, photo: bytes) -> None:
    body = client.search(photo, fields="product_id,score").json
    assert all(set(result) == {"product_id", "score"} for result in body["results"])
    assert client.search(photo, fields="nonsense").status == 422


@pytest.mark.parametrize("name", ["verify", "group_by_object"])
def test_what_is_not_built_yet_is_refused_not_ignored(client: Client, photo: bytes, name: str) -> None:
    answer = client("POST", "/v1/search", json={"image_base64": base64.b64encode(photo).decode(), name: True})
    assert answer.status == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["errors"] == [
        {"field": name, "reason": f"{name} is not built yet in this release; leave it out"}
    ]


def test_explain_gives_the_parts_that_add_up_to_order_and_score(client: Client, photo: bytes) -> None:
    plain = client.search(photo, num=5).json
    assert plain["query"]["explain"] is None
    assert all(result["explain"] is None for result in plain["results"])
    body = client.search(photo, num=5, explain="true").json
    SearchAnswerBody.model_validate(body)
    assert set(body["query"]["explain"]) == set(ExplainedQueryAnswer.model_fields)
    assert body["query"]["explain"]["model"][0]["score"] > 0
    for result in body["results"]:
        ResultAnswer.model_validate(result)
        why = result["explain"]
        odds = why["curve"]["intercept"] + why["curve"]["slope"] * why["lead"]
        assert why["probability"] == result["score"] == pytest.approx(1 / (1 + math.exp(-odds)), abs=1e-4)
        assert why["lead"] == pytest.approx(why["rival_distance"] - why["squared_distance"], abs=1e-5)
        assert why["cosine"] == pytest.approx(result["visual_score"], abs=1e-5)
        assert (why["distance"], why["colour_distance"]) == (why["squared_distance"], None)
    assert [result["score"] for result in body["results"]] == [result["score"] for result in plain["results"]]


def test_errors_are_problem_details_that_say_what_to_change(client: Client, photo: bytes) -> None:
    cases = [
        (client("POST", "/v1/search", body=b"{", headers={"Content-Type": "application/json"}), 400, "JSON"),
        (client.search(b"GIF89a nonsense"), 415, ""),
        (client.search(photo, filter="price <"), 422, "position"),
        (client.search(photo, num=0), 422, "num"),
        (client.search(photo, colour="red"), 422, "colour"),
        (client("POST", "/v1/search", json={}), 422, "exactly one"),
        (client("GET", "/v1/products/none"), 404, "none"),
        (client("GET", "/v1/nothing"), 404, "openapi"),
        (client("PATCH", "/v1/products/none"), 405, ""),
        (client("POST", "/v1/search", body=b"x" * 27_000_000, headers={"Content-Type": "image/png"}), 413, "bytes"),
        (client("POST", "/v1/search", json={"url": "http://127.0.0.1:1/a.jpg"}), 422, "private"),
        (client("POST", "/v1/search", json={"url": "file:///etc/passwd"}), 422, "http"),
    ]
    for answer, status, word in cases:
        assert answer.status == status, answer.body
        assert answer.headers["content-type"] == "application/problem+json"
        body = answer.json
        assert {"type", "title", "status", "detail", "instance", "code", "request_id", "errors"} == set(body)
        assert word in body["detail"]
        assert "/site-packages/" not in body["detail"]


def test_no_index_is_503_with_retry_after(
    drawn: DemoShop, photo: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shop = open_shop(tmp_path_factory.mktemp("empty"))
    with live_server(shop) as client:
        answer = client.search(photo)
        assert (answer.status, client("GET", "/readyz").status, client("GET", "/healthz").status) == (503, 503, 200)
        assert int(answer.headers["retry-after"]) > 0
    shop.close()


def test_a_product_lives_from_put_to_delete(client: Client, shop: Shop, photo: bytes) -> None:
    name = "/v1/products/a%2Fb%20c"  # an id with a slash and a space
    made = client("PUT", name, json={"title": "Lamp", "price": 12.5, "attributes": {"colour": "red", "watts": 40}})
    assert made.status == 200
    assert made.json["product_id"] == "a/b c"
    stored = client("PUT", name + "/images/front/1.png", body=photo, headers={"Content-Type": "image/jpeg"})
    assert stored.status == 200, stored.body
    assert stored.json["image_name"] == "front/1.png"
    assert stored.json["category_source"] == "fused"
    again = client("PUT", name + "/images/front/1.png", fields={"image": ("x.png", photo), "kind": "sku"})
    assert again.json["image_id"] == stored.json["image_id"]
    product = client("GET", name).json
    assert product["product"]["attributes"] == {"colour": "red", "watts": 40}
    assert [image["kind"] for image in product["images"]] == ["sku"]
    red = client("POST", "/v1/products:filter", json={"filter": 'colour = "red" AND watts > 39'}).json
    assert red["found"] == 1
    shop.jobs.submit("build", {})
    run_jobs(shop.jobs, work_of(shop))
    assert client.search(photo, num=1).json["results"][0]["product_id"] == "a/b c"
    assert client("DELETE", name).json["deleted"] == 1
    assert client("GET", name).status == client("DELETE", name).status == 404
    assert "a/b c" not in {result["product_id"] for result in client.search(photo, num=40).json["results"]}
    assert client("GET", f"/v1/images/{stored.json['image_id']}").status == 404


def test_a_second_picture_of_the_same_thing_is_told_as_a_duplicate(client: Client, drawn: DemoShop) -> None:
    with drawn.catalogue.open(newline="", encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    client("PUT", "/v1/products/seller2", json={"title": "The same"})
    bytes_of = (drawn.folder / row["image"]).read_bytes()
    stored = client("PUT", "/v1/products/seller2/images/1", fields={"image": ("1.jpg", bytes_of)})
    assert stored.json["duplicate_of"]["product_id"] == row["product_id"]


def test_products_are_deleted_by_filter_or_id(client: Client, shop: Shop) -> None:
    before = shop.catalogue.counts().products
    found = client("POST", "/v1/products:filter", json={"filter": "price < 30"}).json["found"]
    assert client("POST", "/v1/products:delete", json={"filter": "price < 30"}).json["deleted"] == found > 0
    left = [product.product_id for product in shop.catalogue.products()]
    assert len(left) == before - found
    assert client("POST", "/v1/products:delete", json={"product_ids": [*left[:2], "none"]}).json["deleted"] == 2


def test_clicks_are_stored_once_and_forged_ones_refused(client: Client, shop: Shop, photo: bytes) -> None:
    body = client.search(photo, num=5, session_id="s").json
    first = body["results"][0]
    click = {"event_id": "e1", "search_id": body["search_id"], "type": "click", "product_id": first["product_id"]}
    forged = {**click, "event_id": "e2", "product_id": "never-shown"}
    unknown = {**click, "event_id": "e3", "search_id": "x"}
    answer = client("POST", "/v1/events", json={"events": [click, forged, unknown]}).json
    assert (answer["stored"], answer["repeated"]) == (1, 0)
    assert [refused["event_id"] for refused in answer["refused"]] == ["e2", "e3"]
    again = client("POST", "/v1/events", json={"events": [click]}).json
    assert (again["stored"], again["repeated"]) == (0, 1)
    session = next(s for s in shop.clicks.sessions() if s.search.search_id == body["search_id"])
    assert [event.type for event in session.events] == ["click"]


def test_what_is_kept_of_a_user_is_told_and_erased(client: Client, shop: Shop, photo: bytes) -> None:
    user = "ann/lee@example.org"
    path = f"/v1/users/{user.replace('/', '%2F')}"
    body = client.search(photo, num=5, user_id=user, session_id="evening").json
    first = body["results"][0]["product_id"]
    click = {"event_id": "erased-1", "search_id": body["search_id"], "type": "click", "product_id": first}
    assert client("POST", "/v1/events", json={"events": [click]}).json["stored"] == 1
    kept = client("GET", path)
    assert kept.status == 200
    assert [one["search_id"] for one in kept.json["searches"]] == [body["search_id"]]
    assert (kept.json["searches"][0]["photo_is_kept"], len(kept.json["searches"][0]["shown"])) == (True, 5)
    assert [(event["event_id"], event["product_id"]) for event in kept.json["events"]] == [("erased-1", first)]
    assert kept.json["pseudonym"] == shop.clicks.pseudonym(user)
    assert b"ann" not in kept.body
    erased = client("DELETE", path).json
    assert (erased["searches"], erased["events"]) == (1, 1)
    kept = client("GET", path).json
    assert (kept["searches"], kept["events"]) == ([], [])
    again = client("POST", "/v1/events", json={"events": [{**click, "event_id": "erased-2"}]}).json
    assert again["refused"][0]["reason"] == "search_id: no search has this id"
    assert user not in repr(shop.jobs.list(1000))


def test_a_users_id_is_not_logged_when_something_fails(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("sameitem.apps.rest.erase_user", fail)
    answer = client("DELETE", "/v1/users/ann@example.org")
    assert answer.status == 500
    assert "/v1/users/... failed" in caplog.text
    assert "ann@example" not in caplog.text


@pytest.fixture
def _in_shanghai() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TZ", "Asia/Shanghai")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("_in_shanghai")
def test_a_time_without_a_zone_is_utc_and_an_impossible_one_is_refused(
    client: Client, shop: Shop, photo: bytes
) -> None:
    body = client.search(photo, num=5).json
    event = {"search_id": body["search_id"], "type": "click", "product_id": body["results"][0]["product_id"]}
    times = ["2026-11-23T12:00:00", "2026-11-23T20:00:00+08:00", "0001-01-01T00:00:00"]
    batch = [{**event, "event_id": f"e{number}", "ts": ts} for number, ts in enumerate(times)]
    answer = client("POST", "/v1/events", json={"events": batch}).json
    assert (answer["stored"], [refused["event_id"] for refused in answer["refused"]]) == (2, ["e2"])
    session = next(s for s in shop.clicks.sessions() if s.search.search_id == body["search_id"])
    assert {stored.ts for stored in session.events} == {datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()}
    expires = {"expires_at": "2026-11-23T12:00:00"}
    assert client("PUT", "/v1/products/p", json=expires).json["product"]["expires_at"] == "2026-11-23T12:00:00Z"
    beyond = "0001-01-01T00:00:00+08:00"
    for refused in (
        client("POST", "/v1/events", json={"events": [{**batch[0], "ts": beyond}]}),
        client("PUT", "/v1/products/p", json={"expires_at": beyond}),
    ):
        assert (refused.status, "years 1 to 9999" in refused.json["detail"]) == (422, True)


def test_an_import_runs_as_an_operation_and_reads_no_local_file(client: Client, drawn: DemoShop) -> None:
    local = f"product_id,image,title\nstolen,{drawn.catalogue},secret\n,http://127.0.0.1:1/x.jpg,no id\n"
    started = client("POST", "/v1/imports?name=feed.csv", body=local.encode(), headers={"Content-Type": "text/csv"})
    assert started.status == 202, started.body
    operation = client("GET", f"/v1/operations/{started.json['id']}").json
    assert operation["state"] == "done"
    assert operation["failed"] == 2
    errors = client("GET", operation["error_file"])
    assert errors.status == 200
    assert b"stolen" in errors.body
    assert client("GET", "/v1/operations").json["operations"][0]["id"] == started.json["id"]


def test_index_versions_can_be_built_listed_and_rolled_back(client: Client, shop: Shop) -> None:
    first = client("GET", "/v1/index").json["current"]
    started = client("POST", "/v1/index:build")
    assert started.status == 202
    assert client("GET", f"/v1/operations/{started.json['id']}").json["state"] == "done"
    shown = client("GET", "/v1/index").json
    assert [version["version"] for version in shown["versions"]] == list_versions(shop.index_root)[::-1]
    assert shown["versions"][0]["certificate"]["recall"] >= 0.999
    back = client("POST", "/v1/index:rollback", json={"version": first}).json
    assert back["current"] == first
    assert client("POST", "/v1/index:rollback", json={"version": "20000101-000000-0000"}).status == 404


def test_no_photo_that_leaves_the_server_carries_what_its_sender_did_not_mean_to_tell(
    client: Client, shop: Shop
) -> None:
    out = io.BytesIO()
    Image.new("RGB", (200, 160), (90, 120, 200)).save(out, "JPEG", exif=exif())
    assert SECRET in out.getvalue()
    client("PUT", "/v1/products/gps", json={"title": "With GPS"})
    stored = client("PUT", "/v1/products/gps/images/1", body=out.getvalue(), headers={"Content-Type": "image/jpeg"})
    served = client("GET", f"/v1/images/{stored.json['image_id']}").body
    assert SECRET not in served
    assert b"Exif" not in served
    client.search(out.getvalue())
    for path in [*shop.folder.rglob("*.jpg"), shop.folder / "catalogue.db"]:
        assert SECRET not in path.read_bytes(), path


def test_hostile_photos_get_a_reason_and_never_a_5xx(client: Client) -> None:
    for file in list(hostile_files(seed=3))[::12]:
        answer = client("POST", "/v1/search?num=1", body=file.data or b" ", headers={"Content-Type": "image/jpeg"})
        assert answer.status in (200, 413, 415, 422), (file.name, answer.body[:300])
        if file.expect == "refused":
            assert answer.status != 200, file.name


def test_pages_of_strangers_may_read_nothing_and_write_nothing(
    built_folder: object, client: Client, photo: bytes
) -> None:
    evil = {"Origin": "https://evil.example", "Content-Type": "image/jpeg"}
    assert client("POST", "/v1/search", body=photo, headers=evil).status == 403
    assert client("GET", "/healthz", headers={"Host": "evil.example"}).status == 403
    own = {"Origin": client.address, "Content-Type": "image/jpeg"}
    assert client("POST", "/v1/search", body=photo, headers=own).status == 200


def test_a_shops_own_page_may_search_when_the_setting_names_it(
    built_folder: Path, tmp_path: Path, photo: bytes
) -> None:
    folder = copied(built_folder, tmp_path / "shop")
    shop = open_shop(folder, serve={"cors_origins": ["https://shop.example"]})
    with live_server(shop) as client:
        headers = {"Origin": "https://shop.example", "Content-Type": "image/jpeg"}
        answer = client("POST", "/v1/search", body=photo, headers=headers)
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        preflight = {
            **headers,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        }
        assert client("OPTIONS", "/v1/search", headers=preflight).status == 200
    shop.close()


def test_a_request_that_never_arrives_is_ended(built_folder: Path, tmp_path: Path) -> None:
    folder = copied(built_folder, tmp_path / "shop")
    shop = open_shop(folder, serve={"read_deadline_s": 0.5})
    half_head = b"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    half_body = half_head + b"Content-Type: image/jpeg\r\nContent-Length: 1000\r\n\r\nabc"
    with live_server(shop) as client:
        host, port = client.address.removeprefix("http://").split(":")
        for sent, expected in ((half_head, b""), (half_body, b"408")):
            with socket.create_connection((host, int(port)), timeout=10) as connection:
                connection.sendall(sent)
                begun = time.monotonic()
                answer = b""
                while part := connection.recv(65536):
                    answer += part
                assert expected in answer
                assert time.monotonic() - begun < 8
        assert client("GET", "/healthz").status == 200
    shop.close()


def test_metrics_count_searches_by_stage(client: Client, photo: bytes) -> None:
    client.search(photo)
    text = client("GET", "/metrics").body.decode()
    assert 'sameitem_search_stage_seconds_count{stage="engine"} 1.0' in text
    assert "sameitem_gallery_images" in text
    assert 'route="/v1/search"' in text


def test_the_page_and_its_modules_are_served_with_a_strict_policy(client: Client) -> None:
    page = client("GET", "/")
    assert page.status == 200
    assert b"<!doctype html>" in page.body[:40]
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"


def test_a_compressed_body_is_not_taken_for_a_photo(client: Client, photo: bytes) -> None:
    headers = {"Content-Type": "image/jpeg", "Content-Encoding": "gzip"}
    assert client("POST", "/v1/search", body=gzip.compress(photo), headers=headers).status == 415


def test_the_openapi_document_names_every_route_of_the_contract(client: Client) -> None:
    paths = json.loads(client("GET", "/openapi.json").body)["paths"]
    assert {
        "/v1/search",
        "/v1/events",
        "/v1/imports",
        "/v1/operations/{operation_id}",
        "/v1/index",
        "/v1/index:build",
        "/v1/index:rollback",
        "/v1/products/{product_id}",
        "/v1/products/{product_id}/images/{name}",
        "/v1/products:filter",
        "/v1/products:delete",
        "/healthz",
        "/readyz",
        "/metrics",
    } <= set(paths)
