"""The page and the real server together: what a shopper does from the photo to the click, on a desktop and a phone.

SAMEITEM_TEST_SCREENSHOTS=FOLDER keeps a picture of each step.
"""

import csv
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from live import Client, live_server
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.demo_shop import DemoShop
from shops import copied, open_shop

pytest.importorskip("playwright", reason="the dev extra's playwright is not installed")
from playwright.sync_api import Browser, Page, expect

from apps.test_page import browser, drag, frame_point, pytestmark, settle, transfer

__all__ = ["browser", "pytestmark"]  # a fixture and the marks of that module
SCREENSHOTS = os.environ.get("SAMEITEM_TEST_SCREENSHOTS")


@pytest.fixture
def server(shop: Shop) -> Iterator[Client]:
    with live_server(shop) as client:
        yield client


@pytest.fixture(scope="module")
def photo(drawn: DemoShop) -> Path:
    with drawn.queries.open(newline="", encoding="utf-8") as file:
        return drawn.folder / next(csv.DictReader(file))["image"]


def keep(page: Page, name: str) -> None:
    if SCREENSHOTS:
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png")


def cards(page: Page) -> Any:
    return page.locator(".card:not(.skeleton)")


def events(shop: Shop, kind: str) -> list[Any]:
    """Return the stored events of a kind, once there are some."""
    ends = time.monotonic() + 20
    while True:
        found = [event for session in shop.clicks.sessions() for event in session.events if event.type == kind]
        if found or time.monotonic() > ends:
            return found
        time.sleep(0.1)


def test_a_shopper_goes_from_a_photo_to_a_click(browser: Browser, server: Client, shop: Shop, photo: Path) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB")
    context.set_default_timeout(20_000)
    context.route("https://shop.example/**", lambda route: route.fulfill(body="the shop"))
    page = context.new_page()
    page.goto(server.address)
    keep(page, "1-start")
    page.dispatch_event("main", "drop", {"dataTransfer": transfer(page, photo.read_bytes())})
    settle(page)
    expect(cards(page).first).to_be_visible()
    keep(page, "2-dropped")
    drag(page, frame_point(page, 0.15, 0.15), frame_point(page, 0.85, 0.85))
    settle(page)
    keep(page, "3-box")
    page.locator("#filters-open").click()
    page.locator("#filters [name=expression]").fill("price < 100")
    page.locator("#filters").get_by_role("button", name="Apply").click()
    settle(page)
    keep(page, "4-filtered")
    with context.expect_page():
        cards(page).first.get_by_role("link").first.click()
    clicks = events(shop, "click")
    page.get_by_role("button", name="More like this").first.click()
    expect(page.locator("#query-title")).to_have_text("More like this product")
    settle(page)
    keep(page, "5-more-like-this")
    searches = [session.search for session in shop.clicks.sessions()]
    context.close()
    assert len(searches) == 4
    assert searches[0].box != searches[1].box
    prices = [shop.catalogue.product(shown.product_id).price for shown in searches[2].shown]
    assert prices
    assert all(price is not None and price < 100 for price in prices)
    assert [(click.search_id, click.product_id, click.rank) for click in clicks] == [
        (searches[2].search_id, searches[2].shown[0].product_id, 1)
    ]
    assert events(shop, "impression")


def test_a_pasted_photo_works_on_a_phone_in_chinese(browser: Browser, server: Client, shop: Shop, photo: Path) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, locale="zh-CN", has_touch=True, is_mobile=True
    )
    context.set_default_timeout(20_000)
    page = context.new_page()
    page.goto(server.address)
    keep(page, "6-phone-start")
    held = transfer(page, photo.read_bytes())
    page.evaluate(
        "held => document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: held, bubbles: true }))", held
    )
    settle(page)
    keep(page, "7-phone-results")
    first, second = cards(page).nth(0).bounding_box(), cards(page).nth(1).bounding_box()
    width = page.evaluate("document.documentElement.scrollWidth")
    context.close()
    assert first
    assert second
    assert first["y"] == second["y"]  # two columns
    assert width == 390  # nothing sticks out
    assert len(list(shop.clicks.sessions())) == 1


@pytest.fixture
def locked(built_folder: Path, tmp_path: Path) -> Iterator[tuple[Client, str]]:
    """The server of a shop that asks for keys, and a key for its page."""
    shop = open_shop(copied(built_folder, tmp_path / "locked"), serve={"require_keys": True})
    with live_server(shop) as client:
        yield client, shop.keys.create("page", ["search", "events"])[1]
    shop.close()


def test_who_has_a_key_signs_in_by_keyboard_searches_sees_pictures_and_signs_out(
    browser: Browser, locked: tuple[Client, str], photo: Path
) -> None:
    server, key = locked
    context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB")
    context.set_default_timeout(20_000)
    page = context.new_page()
    page.goto(server.address)
    field = page.get_by_label("Access key")
    expect(field).to_be_visible()
    keep(page, "8-key")
    field.fill(key[:-1])
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#key-error")).to_contain_text("not accepted")
    keep(page, "9-key-wrong")
    field.fill(key)
    field.press("Enter")
    expect(page.get_by_role("button", name="Choose a photo").first).to_be_focused()
    page.dispatch_event("main", "drop", {"dataTransfer": transfer(page, photo.read_bytes())})
    settle(page)
    expect(cards(page).first.locator("img")).not_to_have_js_property("naturalWidth", 0)
    keep(page, "10-signed-in")
    assert [cookie["httpOnly"] for cookie in context.cookies()] == [True]
    assert key not in page.evaluate("document.cookie + JSON.stringify({ ...localStorage, ...sessionStorage })")
    page.get_by_role("button", name="Sign out").click()
    expect(field).to_be_visible()
    assert context.cookies() == []
    context.close()


def test_a_search_that_needs_a_key_goes_on_once_there_is_one_on_a_phone_in_chinese(
    browser: Browser, locked: tuple[Client, str], photo: Path
) -> None:
    server, key = locked
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, locale="zh-CN", has_touch=True, is_mobile=True
    )
    context.set_default_timeout(20_000)
    page = context.new_page()
    page.goto(server.address)
    page.set_input_files("#file", photo)
    settle(page)
    field = page.locator("[data-notice-place=results]").get_by_label("访问密钥")
    keep(page, "11-phone-key")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    field.fill(key)
    page.get_by_role("button", name="使用此密钥").click()
    expect(cards(page).first).to_be_visible()
    keep(page, "12-phone-signed-in")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    context.close()
