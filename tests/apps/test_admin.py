"""The operator's routes through a real server, on a shop that is searched, clicked and has its faults."""

import io
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import BaseModel

from live import Client, live_server
from sameitem.apps.measures import KEPT_SEARCHES, Measures
from sameitem.apps.schemas import (
    AdminOperationsAnswer,
    BrowseAnswer,
    ClicksAnswer,
    DroppedAnswer,
    GroupsAnswer,
    InspectedProduct,
    LookedAgainAnswer,
    MissesAnswer,
    ModelDetailAnswer,
    OverviewAnswer,
    SetAsideAnswer,
    SlowAnswer,
)
from sameitem.engine.versions import current, list_versions
from sameitem.features.model_folder import PAGE as CURVES
from sameitem.pipeline.online import Searcher, SearchRequest
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.demo_shop import DemoShop
from shops import import_source

pytestmark = pytest.mark.slow


def get(client: Client, path: str, schema: type[BaseModel]) -> Any:
    """The answer of a route, in its schema, and not to be stored by anybody."""
    answer = client("GET", path)
    assert answer.status == 200, answer.body
    assert answer.headers["cache-control"] == "no-store"
    schema.model_validate(answer.json)
    return answer.json


def search_and_act(client: Client, photo: bytes, *acts: tuple[str, int]) -> Any:
    """Search with a photo and do something with some ranks."""
    found = client.search(photo, num=20, user_id="somebody").json
    events = [
        {
            "event_id": f"{found['search_id']}-{kind}-{rank}",
            "search_id": found["search_id"],
            "type": kind,
            "product_id": found["results"][rank - 1]["product_id"],
            "rank": rank,
        }
        for kind, rank in acts
    ]
    if events:
        assert client("POST", "/v1/events", json={"events": events}).json["stored"] == len(events)
    return found


def test_the_overview_tells_what_is_live_and_what_the_last_day_brought(client: Client, photo: bytes) -> None:
    search_and_act(client, photo, ("click", 1), ("cart", 1))
    search_and_act(client, photo)
    shown = get(client, "/v1/admin/overview", OverviewAnswer)
    live = next(version for version in client("GET", "/v1/index").json["versions"] if version["live"])
    assert (shown["index"]["version"], shown["index"]["images"]) == (live["version"], live["images"])
    assert shown["products"] == 42
    day = shown["last_day"]
    assert (day["searches"], day["clicked"]["count"], day["carts"]["count"]) == (2, 1, 1)
    assert day["clicked"]["low"] < 0.5 < day["clicked"]["high"]
    assert shown["day_before"]["searches"] == 0
    assert shown["latency"]["searches"] == 2
    assert 0 < shown["latency"]["p50"] <= shown["latency"]["p99"]
    assert [job["kind"] for job in shown["operations"]] == ["build", "import"]


def test_the_overview_names_what_needs_attention(client: Client, shop: Shop) -> None:
    job = shop.jobs.submit("build", {})
    shop.jobs.fail(job.id, "the disk is full")
    broken = shop.models_root / "broken"
    broken.mkdir(parents=True)
    attention = get(client, "/v1/admin/overview", OverviewAnswer)["attention"]
    by_code = {one["code"]: one for one in attention}
    assert by_code["failed_job"]["values"] == {"id": job.id, "kind": "build", "error": "the disk is full"}
    assert by_code["broken_model"]["values"]["version"] == "broken"
    assert [one["level"] for one in attention] == sorted((one["level"] for one in attention), reverse=True)
    done = shop.jobs.submit("build", {})
    shop.jobs.finish(done.id, {})
    codes = [one["code"] for one in get(client, "/v1/admin/overview", OverviewAnswer)["attention"]]
    assert "failed_job" not in codes  # a later one of its kind went well


def test_a_shop_without_an_index_has_an_overview_too(shop: Shop) -> None:
    (shop.index_root / "CURRENT").unlink()
    with live_server(shop) as client:
        shown = get(client, "/v1/admin/overview", OverviewAnswer)
        assert shown["index"] is None
        assert shown["attention"][0]["code"] == "no_index"
        assert client("GET", "/v1/admin/groups").status == 503
        product = get(client, "/v1/admin/products/P00002", InspectedProduct)
        assert {image["place"] for image in product["images"]} == {"unknown"}


def test_clicks_are_counted_by_day_and_category(client: Client, photo: bytes) -> None:
    found = search_and_act(client, photo, ("click", 2), ("purchase", 2))
    shown = get(client, "/v1/admin/clicks?days=7", ClicksAnswer)
    assert len(shown["days"]) == 7
    today = shown["days"][-1]
    assert today["day"] == time.strftime("%Y-%m-%d", time.gmtime())
    assert (today["searches"], today["clicked"]["count"], today["purchases"]["count"]) == (1, 1, 1)
    assert shown["total"]["searches"] == sum(day["searches"] for day in shown["days"])
    assert [one["category_id"] for one in shown["categories"]] == [found["query"]["category_id"]]
    assert client("GET", "/v1/admin/clicks?days=0").status == 422


def test_slow_searches_name_stages_and_nothing_of_who_searched(client: Client, photo: bytes) -> None:
    for _ in range(3):
        search_and_act(client, photo)
    shown = get(client, "/v1/admin/slow?num=2", SlowAnswer)
    totals = [one["total_ms"] for one in shown["searches"]]
    assert len(totals) == 2
    assert totals == sorted(totals, reverse=True)
    assert "feature" in shown["searches"][0]["stages_ms"]
    assert shown["latency"]["searches"] == 3
    assert set(shown["searches"][0]) == {
        "at",
        "total_ms",
        "stages_ms",
        "disk_reads",
        "found",
        "category_id",
        "index_version",
    }


def test_only_the_last_searches_are_kept(shop: Shop, photo: bytes) -> None:
    answer = Searcher(shop).search(SearchRequest(photo=photo), record=False)
    measures = Measures(clock=iter(range(10**6)).__next__)
    for _ in range(KEPT_SEARCHES + 5):
        measures.searched(answer)
    assert [measures.last_searches()[place].at for place in (0, -1)] == [5, KEPT_SEARCHES + 4]
    assert measures.latency().searches == KEPT_SEARCHES


def test_a_search_without_a_click_is_shown_with_its_photo_and_its_box(client: Client, photo: bytes) -> None:
    found = search_and_act(client, photo)
    search_and_act(client, photo, ("click", 1))
    deep = search_and_act(client, photo, ("click", 12))
    shown = get(client, "/v1/admin/misses?kind=unclicked", MissesAnswer)
    (miss,) = shown["misses"]
    assert miss["search_id"] == found["search_id"]
    assert "somebody" not in str(shown)
    assert [place["product_id"] for place in miss["shown"]] == [one["product_id"] for one in found["results"][:10]]
    assert 0 <= miss["box"]["left"] < miss["box"]["right"] <= 1
    picture = client("GET", f"{miss['photo_url']}?side=100")
    assert picture.headers["cache-control"] == "no-store"
    assert max(Image.open(io.BytesIO(picture.body)).size) == 100
    (miss,) = get(client, "/v1/admin/misses?kind=deep", MissesAnswer)["misses"]
    assert miss["search_id"] == deep["search_id"]
    assert [(place["rank"], place["acts"]) for place in miss["clicked"]] == [(12, ["click"])]


def test_held_out_searches_that_the_live_index_misses_are_shown_with_what_it_answers(
    client: Client, drawn: DemoShop, monkeypatch: pytest.MonkeyPatch, photo: bytes
) -> None:
    monkeypatch.setattr("sameitem.clicks.figures.is_held_out", lambda name: True)
    search_and_act(client, photo, ("click", 1))
    found = search_and_act(client, photo, ("click", 15))
    shown = get(client, "/v1/admin/misses?kind=held_out", MissesAnswer)
    assert (shown["asked"], shown["looked_at"], shown["next"]) == (2, 2, None)
    (miss,) = shown["misses"]
    assert miss["search_id"] == found["search_id"]
    assert [place["rank"] for place in miss["now"]] == list(range(1, 11))
    assert miss["now"][0]["product_id"] == found["results"][0]["product_id"]


@pytest.mark.parametrize("name", ["0" * 64, "nothing", "..%2Fimages", "A" * 64])
def test_photos_that_are_not_there_are_not_found(client: Client, name: str) -> None:
    assert client("GET", f"/v1/admin/photos/{name}").status == 404


def test_operations_are_paged_and_can_be_run_again(client: Client, shop: Shop) -> None:
    first = get(client, "/v1/admin/operations?num=1", AdminOperationsAnswer)
    assert ([job["kind"] for job in first["operations"]], first["more"]) == (["build"], True)
    second = get(client, "/v1/admin/operations?num=1&start=1", AdminOperationsAnswer)
    assert ([job["kind"] for job in second["operations"]], second["more"]) == (["import"], False)
    assert second["operations"][0]["arguments"]["uploaded"] is False
    assert not get(client, "/v1/admin/operations?state=failed", AdminOperationsAnswer)["operations"]
    before = len(list_versions(shop.index_root))
    again = client("POST", f"/v1/admin/operations/{first['operations'][0]['id']}:rerun")
    assert (again.status, again.json["kind"]) == (202, "build")
    assert len(list_versions(shop.index_root)) == before + 1


def test_what_cannot_run_again_says_why(client: Client, shop: Shop) -> None:
    waiting = shop.jobs.submit("mine", {"out": "x"})
    answer = client("POST", f"/v1/admin/operations/{waiting.id}:rerun")
    assert (answer.status, "queued" in answer.json["detail"]) == (409, True)
    uploaded = shop.jobs.submit("import", {"uploaded": True, "source": "gone"})
    shop.jobs.request_cancel(uploaded.id)
    answer = client("POST", f"/v1/admin/operations/{uploaded.id}:rerun")
    assert (answer.status, "upload" in answer.json["detail"]) == (409, True)
    assert client("POST", "/v1/admin/operations/none:rerun").status == 404


def test_what_an_import_set_aside_is_paged_by_reason(client: Client, shop: Shop, tmp_path: Path) -> None:
    assert get(client, "/v1/admin/set-aside", SetAsideAnswer)["operation_id"] is None
    source = tmp_path / "bad.csv"
    source.write_text("product_id,image\n" + "".join(f"x{i},none-{i}.jpg\n" for i in range(3)) + ",a.jpg\n")
    import_source(shop, source)
    shown = get(client, "/v1/admin/set-aside?num=2", SetAsideAnswer)
    assert shown["operation_id"] == shown["operations"][0]["id"]
    assert shown["found"] == sum(shown["reasons"].values()) == 4
    reason = next(iter(shown["reasons"]))
    assert shown["reasons"][reason] == 3
    path = f"/v1/admin/set-aside?operation={shown['operation_id']}&reason={reason}&num=2&start=2"
    page = get(client, path.replace(" ", "%20"), SetAsideAnswer)
    assert (page["found"], [row["line"] for row in page["rows"]]) == (3, [4])
    assert client("GET", "/v1/admin/set-aside?operation=none").status == 404


def test_dropped_and_folded_images_are_shown(client: Client, shop: Shop) -> None:
    version = current(shop.index_root)
    shown = get(client, f"/v1/admin/index/{version}/dropped?reason=near_duplicate&num=2", DroppedAnswer)
    assert shown["found"] >= len(shown["images"]) > 0
    assert client("GET", shown["images"][0]["image_url"]).status == 200
    assert client("GET", f"/v1/admin/index/{version}/dropped?reason=ugly").status == 422
    assert client("GET", "/v1/admin/index/none/dropped?reason=blurred").status == 404
    groups = get(client, "/v1/admin/groups?num=1", GroupsAnswer)
    (group,) = groups["groups"]
    assert groups["found"] >= 1
    assert group["size"] == len(group["members"]) >= 2
    assert group["members"][0]["title"]


def test_a_compaction_can_be_started(client: Client, shop: Shop) -> None:
    answer = client("POST", "/v1/index:compact")
    assert (answer.status, answer.json["kind"]) == (202, "compact")
    assert shop.jobs.get(answer.json["id"]).state == "done"


def test_a_model_shows_its_card_and_its_curves(client: Client, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = get(client, "/v1/admin/models/base-2", ModelDetailAnswer)
    assert shown["card"].startswith("# base-2")
    assert shown["curves"] is None
    assert client("GET", "/v1/admin/models/base-2/curves").status == 404
    folder = shop.models_root / "taught"
    folder.mkdir(parents=True)
    (folder / CURVES).write_text("<!doctype html><title>Curves</title>")
    answer = client("GET", "/v1/admin/models/taught/curves")
    assert answer.headers["content-type"].startswith("text/html")
    assert "style-src 'unsafe-inline'" in answer.headers["content-security-policy"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert client("GET", "/v1/admin/models/none").status == 404


def test_without_an_earlier_model_there_is_nothing_to_roll_back_to(client: Client) -> None:
    answer = client("POST", "/v1/models:rollback")
    assert (answer.status, "no model was active before" in answer.json["detail"]) == (404, True)


def test_products_are_browsed_by_page_and_filter(client: Client, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = [product.product_id for product in shop.catalogue.products()]
    pages, after = [], ""
    while after is not None:
        shown = get(client, f"/v1/admin/products?num=20&after={after}", BrowseAnswer)
        pages += [product["product_id"] for product in shown["products"]]
        after = shown["next"]
    assert pages == everything
    assert client("GET", shown["products"][0]["image_url"]).status == 200
    cheap = get(client, "/v1/admin/products?filter=price%20%3C%2030&num=100", BrowseAnswer)
    assert cheap["products"]
    assert all(product["price"] < 30 for product in cheap["products"])
    assert cheap["next"] is None
    assert client("GET", "/v1/admin/products?filter=price%20%3C").status == 422
    monkeypatch.setattr("sameitem.apps.admin.SCANNED", 5)
    few = get(client, "/v1/admin/products?filter=title%20%3D%20%22none%22", BrowseAnswer)
    assert (few["products"], few["looked_at"], few["next"]) == ([], 5, everything[4])


def test_a_product_is_inspected_and_its_image_looked_at_again(client: Client) -> None:
    shown = get(client, "/v1/admin/products/P00002", InspectedProduct)
    assert shown["product"]["product_id"] == "P00002"
    assert {image["place"] for image in shown["images"]} <= {"gallery", "duplicate", "set_aside"}
    answer = client("POST", f"/v1/admin/images/{shown['images'][0]['image_id']}:look-again")
    LookedAgainAnswer.model_validate(answer.json)
    assert 0 <= answer.json["box"]["left"] < answer.json["box"]["right"] <= 1
    assert client("GET", "/v1/admin/products/none").status == 404
    assert client("POST", "/v1/admin/images/999999:look-again").status == 404


def test_a_product_id_with_a_slash_can_be_inspected(client: Client) -> None:
    assert client("PUT", "/v1/products/a%2Fb", json={"title": "Slashed"}).status == 200
    assert get(client, "/v1/admin/products/a%2Fb", InspectedProduct)["product"]["title"] == "Slashed"


def test_no_other_page_may_frame_the_operators_page(client: Client) -> None:
    page = client("GET", "/admin/")
    assert page.headers["content-type"].startswith("text/html")
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert "frame-ancestors *" in client("GET", "/").headers["content-security-policy"]
    assert client("GET", "/admin").headers["location"].endswith("/admin/")
