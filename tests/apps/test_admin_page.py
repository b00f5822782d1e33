"""The operator's page and the real server together: every section with real data, on a desktop and a phone.

SAMEITEM_TEST_SCREENSHOTS=FOLDER keeps a picture of each section.
"""

import csv
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from live import Client, live_server
from sameitem.core.records import ProductId
from sameitem.engine.versions import current, list_versions
from sameitem.features.model_folder import PAGE as CURVES
from sameitem.learning.curves import write_page
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.demo_shop import DemoShop
from shops import copied, import_source, open_shop, run

pytest.importorskip("playwright", reason="the dev extra's playwright is not installed")
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from apps.test_page import PAGE, browser, context, page, pytestmark

__all__ = ["browser", "context", "page", "pytestmark"]  # fixtures and the marks of that module
SCREENSHOTS = os.environ.get("SAMEITEM_TEST_SCREENSHOTS")
ADMIN = PAGE / "admin"
SECTIONS = [
    "overview",
    "products",
    "set-aside",
    "groups",
    "index",
    "clicks",
    "misses",
    "slow",
    "models",
    "rankers",
    "jobs",
]


@pytest.fixture(scope="module")
def used_folder(built_folder: Path, drawn: DemoShop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop with two index versions, an import that set rows aside, a failed job, searches and clicks."""
    folder = tmp_path_factory.mktemp("used")
    shop = open_shop(copied(built_folder, folder / "shop"))
    source = folder / "bad.csv"
    source.write_text("product_id,image\n" + "".join(f"x{i},none-{i}.jpg\n" for i in range(3)))
    import_source(shop, source)
    run(shop, "build")
    shop.jobs.fail(shop.jobs.submit("build", {}).id, "the disk was full")
    with live_server(shop) as client, drawn.queries.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(list(csv.DictReader(file))[:6]):
            found = client.search((drawn.folder / row["image"]).read_bytes(), num=20).json
            event = {"event_id": f"e{number}", "search_id": found["search_id"], "type": "click"}
            place = found["results"][number * 3]
            if number % 3:
                client("POST", "/v1/events", json={"events": [event | {"product_id": place["product_id"]}]})
    shop.close()
    return folder / "shop"


@pytest.fixture
def shop(used_folder: Path, tmp_path: Path) -> Iterator[Shop]:
    shop = open_shop(copied(used_folder, tmp_path / "shop"))
    yield shop
    shop.close()


@pytest.fixture
def server(shop: Shop) -> Iterator[Client]:
    with live_server(shop) as client:  # what is queued waits: no runner takes it
        yield client


def open_section(page: Page, server: Client, address: str) -> Any:
    """Go to a section and return its heading, once it is drawn."""
    page.goto(f"{server.address}/admin/#/{address}")
    heading = page.locator("body:not(.busy) #main h1")
    expect(heading).to_be_visible()
    return heading


def keep(page: Page, name: str) -> None:
    if SCREENSHOTS:
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png")


def say_yes(page: Page, name: str) -> None:
    page.locator("#ask").get_by_role("button", name=name, exact=True).click()


@pytest.mark.parametrize("width", [1280, 390])
def test_every_section_shows_real_data_and_fits_the_window(browser: Browser, server: Client, width: int) -> None:
    phone = {"has_touch": True, "is_mobile": True} if width < 500 else {}
    with browser.new_context(viewport={"width": width, "height": 860}, locale="en-GB", **phone) as context:
        page = context.new_page()
        troubles: list[str] = []
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.goto(f"{server.address}/admin/")
        links = page.locator("#nav a")
        expect(links.first).to_be_visible()
        for place, name in enumerate(SECTIONS):
            page.locator(f'#nav a[href="#/{name}"]').click()
            expect(page.locator(f'#nav a[href="#/{name}"]')).to_have_attribute("aria-current", "page")
            expect(page.locator("body:not(.busy) #main h1")).to_be_focused() if place else None
            expect(page.locator("#main > :not(header)").first).to_be_visible()
            assert page.locator("#main h1").inner_text() in page.title()
            assert page.locator("#main .notice").count() == 0, name
            assert page.evaluate("document.documentElement.scrollWidth") == width, name
            keep(page, f"admin-{width}-{name}")
        assert troubles == []


def test_the_overview_says_what_needs_attention_and_leads_there(page: Page, server: Client) -> None:
    open_section(page, server, "overview")
    attention = page.locator(".attention li")
    expect(attention.nth(0)).to_contain_text("Build failed: the disk was full")
    set_aside = attention.filter(
        has_text="Import set 3 rows aside."
    )  # this machine's own complaints may stand before it
    expect(set_aside).to_have_count(1)
    expect(page.locator(".stat").first).to_contain_text("6")
    set_aside.get_by_role("link", name="Look").click()
    expect(page.locator("#main h1")).to_have_text("Set aside")
    expect(page.locator("tbody tr")).to_have_count(3)


def test_every_chart_can_be_read_from_a_table(page: Page, server: Client) -> None:
    open_section(page, server, "clicks?days=7")
    charts = page.locator(".chart")
    expect(charts).to_have_count(4)
    for chart in charts.all():
        expect(chart.get_by_role("img")).to_have_attribute("aria-label", re.compile(r".+: .+"))
        chart.get_by_text("Figures as a table").click()
        expect(chart.get_by_role("row")).to_have_count(8)
    rate = charts.nth(1).get_by_role("row").nth(1)
    expect(rate).to_contain_text("66.7%")
    expect(rate).to_contain_text("30.0%–90.3%")


def test_a_product_is_deleted_only_after_a_yes(page: Page, server: Client, shop: Shop) -> None:
    open_section(page, server, "products?id=P00002")
    delete = page.get_by_role("button", name="Delete product")
    delete.click()
    expect(page.locator("#ask").get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#ask")).to_be_hidden()
    expect(delete).to_be_focused()
    assert shop.catalogue.product(ProductId("P00002"))
    delete.click()
    say_yes(page, "Delete product")
    expect(page.locator("#main")).to_contain_text("There is no such product, or it was deleted.")
    assert not list(shop.catalogue.products([ProductId("P00002")]))


def test_looking_again_draws_what_the_model_sees(page: Page, server: Client) -> None:
    open_section(page, server, "products?id=P00003")
    image = page.locator(".pictures li").first
    expect(image).to_contain_text(re.compile("Found|Folded|Not found"))
    image.get_by_role("button", name="Look again").click()
    expect(image.get_by_role("status")).to_contain_text("seen, category")
    expect(image.locator(".found-box").last).to_be_visible()


def test_products_are_filtered_and_a_wrong_filter_is_explained_at_its_field(page: Page, server: Client) -> None:
    open_section(page, server, "products")
    page.get_by_label("Filter expression").fill("price <")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#filter-hint")).to_contain_text("position")
    expect(page.get_by_label("Filter expression")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Filter expression").fill("price < 30")
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".pictures li").first).to_be_visible()
    assert page.evaluate("location.hash") == "#/products?filter=price+%3C+30"


def test_an_earlier_version_is_made_live_again(page: Page, server: Client, shop: Shop) -> None:
    earlier = list_versions(shop.index_root)[0]
    open_section(page, server, "index")
    page.get_by_role("button", name=f"Make live: {earlier}").click()
    say_yes(page, "Make live")
    expect(page.locator("article").filter(has_text=earlier).locator(".tag")).to_have_text("Live")
    assert current(shop.index_root) == earlier


def test_pictures_that_were_folded_are_shown_by_version_and_reason(page: Page, server: Client) -> None:
    open_section(page, server, "index")
    page.get_by_role("link", name="Near-duplicate").first.click()
    expect(page.locator("#main h1")).to_have_text("Near-duplicate")
    expect(page.locator(".pictures img").first).to_be_visible()


def test_a_job_is_run_again_and_its_errors_are_shown(page: Page, server: Client, shop: Shop) -> None:
    open_section(page, server, "jobs?state=failed")
    failed = page.locator("article")
    expect(failed).to_have_count(1)
    expect(failed).to_contain_text("the disk was full")
    before = len(shop.jobs.list(50))
    failed.get_by_role("button", name="Run again").click()
    say_yes(page, "Run again")
    expect(page.locator("#toast")).to_contain_text("Queued")
    assert [job.state for job in shop.jobs.list(50)][: len(shop.jobs.list(50)) - before] == ["queued"]


def test_a_waiting_job_is_cancelled(page: Page, server: Client, shop: Shop) -> None:
    job = shop.jobs.submit("mine", {"out": "never"})
    open_section(page, server, "jobs")
    page.get_by_role("button", name="Cancel job: Mining of triplets").click()
    say_yes(page, "Cancel job")
    expect(page.locator("article").first).to_contain_text("Cancelled")
    assert shop.jobs.get(job.id).state == "cancelled"


def test_a_search_nobody_clicked_is_shown_and_asked_again_with_its_photo(
    context: BrowserContext, page: Page, server: Client
) -> None:
    open_section(page, server, "misses")
    misses = page.locator("article")
    expect(misses).to_have_count(2)
    expect(misses.first.locator(".found-box")).to_be_visible()
    with context.expect_page() as opened:
        misses.first.get_by_role("link", name="Search with it").click()
    expect(opened.value.locator(".card:not(.skeleton)").first).to_be_visible()
    open_section(page, server, "misses?kind=deep")
    expect(page.locator("article .acted .tag").first).to_have_text("clicked")


def test_a_model_shows_its_card_and_the_curves_of_its_training(page: Page, server: Client, shop: Shop) -> None:
    folder = shop.models_root / "taught"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_bytes((shop.model_folder("base-2") / "manifest.json").read_bytes())
    curves = folder / "curves.jsonl"
    curves.write_text(
        "".join(f'{{"name": "feature 1", "phase": 0, "step": {i}, "loss": {1 / i}}}\n' for i in range(1, 9))
    )
    write_page(curves, folder / CURVES, {"name": "<script>alert(1)</script>"})
    page.route(
        "**/v1/admin/models/taught",
        lambda route: route.fulfill(json={"card": "# taught", "curves": "/v1/admin/models/taught/curves"}),
    )
    open_section(page, server, "models?version=taught")
    expect(page.locator(".curves svg")).to_be_visible()
    expect(page.locator(".curves figcaption")).to_contain_text("Loss")
    expect(page.locator(".model-card")).to_have_text("# taught")
    assert page.locator("#main script").count() == 0


def test_a_training_is_asked_for_with_the_fields_of_the_form(page: Page, server: Client) -> None:
    asked: list[Any] = []

    def answer(route: Any) -> None:
        asked.append(route.request.post_data_json)
        route.fulfill(json={})

    page.route("**/v1/models:train", answer)
    open_section(page, server, "models")
    page.get_by_role("button", name="Start training").click()
    dialog = page.locator("#ask")
    expect(dialog.get_by_label("Kind", exact=True)).to_be_focused()
    dialog.get_by_label("Kind", exact=True).select_option("category")
    dialog.get_by_label("Minutes").fill("30")
    say_yes(page, "Start training")
    expect(page.locator("#toast")).to_contain_text("Queued")
    assert asked == [{"model": "category", "minutes": 30, "detector": True}]


def test_a_ranker_is_activated_and_trained_by_its_own_routes(page: Page, server: Client) -> None:
    asked: list[tuple[str, Any]] = []
    versions = [
        {"version": "ranker-1", "active": False, "metrics": {"auc": 0.71}, "error": ""},
        {"version": "looks", "active": True, "error": ""},
    ]

    def answer(route: Any) -> None:
        asked.append((route.request.url.rpartition("/")[2], route.request.post_data_json))
        route.fulfill(json={})

    page.route("**/v1/rankers", lambda route: route.fulfill(json={"active": "looks", "versions": versions}))
    page.route("**/v1/rankers:activate", answer)
    page.route("**/v1/models:train", answer)
    open_section(page, server, "rankers")
    expect(page.locator("article").first).to_contain_text("0.71")
    expect(page.locator("article").last).to_contain_text("By looks alone")
    page.get_by_role("button", name="Activate: ranker-1").click()
    say_yes(page, "Activate")
    expect(page.locator("#toast")).to_contain_text("orders the first results")
    page.get_by_role("button", name="Start training").click()
    say_yes(page, "Start training")
    expect(page.locator("#toast")).to_contain_text("Queued")
    assert asked == [
        ("rankers:activate", {"version": "ranker-1", "force": False}),
        ("models:train", {"model": "ranker"}),
    ]


def test_a_run_of_the_loop_shows_its_steps_and_its_report(page: Page, server: Client) -> None:
    run = {"id": "20261126-143002-1a2b", "started": "2026-11-26T14:30:02+00:00", "published": False, "warnings": []}
    run |= {"reason": "No better.", "live": {"model": "base-2"}, "traffic": {"searches": 9, "click_through": 0.5}}
    run |= {"report": "/v1/loops/20261126-143002-1a2b/report"}
    steps = [{"name": "gate", "state": "done", "reason": "No gain.", "seconds": 4.2, "figures": {}}]
    page.route("**/v1/loops", lambda route: route.fulfill(json={"loops": [run]}))
    page.route("**/v1/loops/*", lambda route: route.fulfill(json=run | {"steps": steps}))
    open_section(page, server, "loops")
    expect(page.locator("tbody tr")).to_contain_text("50.0%")
    page.locator("tbody a").click()
    expect(page.locator("tbody tr")).to_contain_text("No gain.")
    expect(page.get_by_role("link", name="Report")).to_have_attribute("href", re.compile(f"{run['id']}/report$"))


def test_a_section_whose_route_the_server_does_not_have_is_left_out(page: Page, server: Client) -> None:
    page.route("**/v1/loops", lambda route: route.fulfill(status=404, json={}))
    open_section(page, server, "overview")
    expect(page.get_by_role("link", name="Jobs", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="Loop runs")).to_have_count(0)


def test_a_key_is_asked_for_and_the_page_goes_on_with_it(page: Page, used_folder: Path, tmp_path: Path) -> None:
    shop = open_shop(copied(used_folder, tmp_path / "shop"), serve={"require_keys": True})
    _, admin = shop.keys.create("operator", ["admin"])
    _, other = shop.keys.create("shop", ["search"])
    with live_server(shop) as server:
        page.goto(f"{server.address}/admin/#/products")
        field = page.get_by_label("Access key")
        for wrong in ("si_none_none", other):  # the second one is a key, but may not
            expect(field).to_be_focused()
            field.fill(wrong)
            page.keyboard.press("Enter")
            expect(field).to_be_editable()  # the key was tried and the page asks again
            expect(page.locator("#main")).to_contain_text("scope “admin”")
        held: list[Route] = []
        page.route("**/v1/login", lambda route: held.append(route))
        field.fill(admin)
        page.keyboard.press("Enter")
        expect(field).not_to_be_editable()  # one key is tried at a time
        held[0].continue_()
        expect(page.locator("#main h1")).to_have_text("Products")
        expect(page.locator(".pictures img").first).to_be_visible()  # a picture's request carries the cookie
        page.get_by_role("button", name="Sign out").click()
        expect(field).to_be_focused()
    shop.close()


def test_what_the_server_refuses_is_said_and_can_be_tried_again(page: Page, server: Client) -> None:
    page.route("**/v1/admin/groups*", lambda route: route.fulfill(status=503, json={"detail": "No index yet."}))
    page.goto(f"{server.address}/admin/#/groups")
    expect(page.get_by_role("alert")).to_contain_text("No index yet.")
    page.unroute("**/v1/admin/groups*")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#main h1")).to_have_text("Duplicates")


def test_the_page_speaks_both_languages_with_the_same_words(page: Page, server: Client) -> None:
    open_section(page, server, "overview")
    page.locator("#language").click()
    expect(page.locator("#main h1")).to_have_text("概览")
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    used = set(re.findall(r'data-i18n[a-z-]*="([^"]+)"', (ADMIN / "index.html").read_text(encoding="utf-8")))
    for module in ADMIN.glob("*.js"):
        used |= set(re.findall(r'\bt\("([^"]+)"', module.read_text(encoding="utf-8")))
    keys = page.evaluate("""async () => {
        await import("./words.js");
        const { messages } = await import("../i18n.js");
        return Object.values(messages).map((words) => Object.keys(words).sort());
    }""")
    assert keys[0] == keys[1]
    assert used <= set(keys[0])


def test_everything_is_reached_by_the_keyboard_from_the_skip_link_on(page: Page, server: Client) -> None:
    open_section(page, server, "index")
    page.locator("#skip").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Build", exact=True)).to_be_focused()
    assert page.evaluate("document.activeElement.matches(':focus-visible')")
