"""The page in a real browser against a scripted server: what it sends, what it shows, and what it never does."""

import io
import json
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from PIL import Image, ImageDraw

pytest.importorskip("playwright", reason="the dev extra's playwright is not installed")
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: the page's tests drive one"),
]

expect.set_options(timeout=20_000)  # a busy machine must not decide what a page shows

PAGE = Path(str(resources.files("sameitem"))) / "apps" / "page"
REPOSITORY = Path(__file__).parents[2]
CSP = "default-src 'self'; img-src 'self' blob: data: https: http:;"
CATEGORIES = [
    ("tops", "Tops", "上衣"),
    ("bottoms", "Bottoms", "下装"),
    ("shoes", "Shoes", "鞋"),
    ("bags_wallets", "Bags and wallets", "箱包"),
    ("watches", "Watches", "手表"),
    ("furniture", "Furniture", "家具"),
    ("fresh_food", "Fresh food", "生鲜"),
]
Answer = dict[str, Any]
SHAPES = ("kettle", "mug", "lamp", "stool")


def draw_picture(number: int, size: tuple[int, int] = (400, 400)) -> bytes:
    """A shaded thing on white, different for every number."""
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    width, height = size
    hue = (number * 47) % 360
    for inset in range(0, 60, 4):
        x, y = width * (0.2 + 0.002 * inset), height * (0.18 + 0.002 * inset)
        colour = f"hsl({hue}, 45%, {38 + inset // 2}%)"
        box = (x, y, width - x, height - y)
        draw.rounded_rectangle(box, radius=width // 9) if number % 2 else draw.ellipse(box, fill=colour)
        draw.rounded_rectangle(box, radius=width // 9, fill=colour) if number % 2 else None
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def draw_photo(size: tuple[int, int] = (800, 600), *, orientation: int = 1) -> bytes:
    """A phone-like photo: a busy floor and a thing on it; with GPS and camera data in its EXIF."""
    image = Image.radial_gradient("L").resize(size).convert("RGB")
    draw = ImageDraw.Draw(image)
    width, height = size
    for stripe in range(0, width, max(8, width // 24)):
        draw.line((stripe, 0, stripe + width // 5, height), fill=(120, 96, 70), width=max(2, width // 120))
    draw.ellipse((width * 0.3, height * 0.2, width * 0.7, height * 0.8), fill=(24, 110, 120))
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "SECRET-CAMERA"
    exif.get_ifd(0x8825)[1] = "N"
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif, quality=88)
    return buffer.getvalue()


def result(rank: int, **changes: Any) -> Answer:
    """One result as the server writes it."""
    line = {
        "rank": rank,
        "product_id": f"P{rank}",
        "image_name": "main",
        "category_id": "shoes",
        "score": 1 - rank / 100,
        "visual_score": 1 - rank / 100,
        "quality_score": None,
        "same_item": 0.97 if rank == 1 else None,
        "duplicates": 0,
        "duplicate_products": [],
        "price": 10.5 * rank,
        "currency": "EUR",
        "title": f"Brewer's {SHAPES[rank % 4]} no. {rank}",
        "brand": ("North", "Söder & Co")[rank % 2],
        "url": f"https://shop.example/item/{rank}",
        "image_url": f"pictures/{rank}.jpg",
        "attributes": {"colour": "red"},
        "custom_content": "",
        "explain": None,
    }
    return line | changes


def answer_with(lines: list[Answer], *, found: int | None = None, **query: Any) -> Answer:
    """A whole answer around result lines."""
    understood = {
        "category_id": "shoes",
        "category_source": "knn",
        "categories": [
            {"id": "shoes", "name": "Shoes", "score": 0.81},
            {"id": "bags_wallets", "name": "Bags and wallets", "score": 0.12},
        ],
        "box": {"left": 0, "top": 0, "right": 800, "bottom": 600, "unit": "px"},
        "box_source": "whole_photo",
        "width": 800,
        "height": 600,
        "objects": [],
    }
    return {
        "index_version": "v1",
        "query": understood | query,
        "head": {"found": len(lines) if found is None else found, "returned": len(lines)},
        "results": lines,
    }


def problem(status: int, code: str, detail: str, **more: Any) -> JSONResponse:
    """An RFC 9457 answer."""
    body = {
        "type": "about:blank",
        "title": code,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": "r-77",
    }
    headers = {"Retry-After": "7"} if status == 503 else None
    return JSONResponse(body | {"errors": []} | more, status, headers, media_type="application/problem+json")


@dataclass
class Shop:
    """A scripted server: what it was asked, and how it answers."""

    address: str = ""
    asked: list[Answer] = field(default_factory=list)
    events: list[Answer] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)
    script: Callable[[Answer], Answer | Response] = lambda asked: answer_with([result(rank) for rank in range(1, 13)])

    def wait_for_events(self, kind: str, count: int) -> list[Answer]:
        """The events of a kind, in the order they came, as soon as there are `count` of them."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.events_of(kind)) >= count, timeout=10), self.events
            return self.events_of(kind)

    def events_of(self, kind: str) -> list[Answer]:
        return [event for event in self.events if event["type"] == kind]


def create_shop_app(shop: Shop) -> FastAPI:
    app = FastAPI()

    @app.middleware("http")
    async def add_headers(request: Request, call_next: Callable[[Request], Any]) -> Response:
        response: Response = await call_next(request)
        response.headers["Content-Security-Policy"] = CSP
        return response

    @app.post("/v1/search")
    async def post_search(request: Request) -> Response:
        if request.headers["content-type"].startswith("application/json"):
            asked = await request.json()
        else:
            async with request.form() as form:
                asked = {name: value if isinstance(value, str) else await value.read() for name, value in form.items()}
            asked |= {"box": json.loads(asked["box"])} if "box" in asked else {}
        asked["key"] = request.cookies.get("key")
        shop.asked.append(asked)
        answer = shop.script(asked)
        return answer if isinstance(answer, Response) else JSONResponse({"search_id": f"s{len(shop.asked)}"} | answer)

    @app.post("/v1/login")
    async def post_login(request: Request) -> Response:
        key = (await request.json())["key"]
        if key != "k1":
            return problem(401, "wrong_key", "Wrong key.")
        response = JSONResponse({"name": "till", "scopes": ["search"]})
        response.set_cookie("key", key, httponly=True, samesite="strict")
        return response

    @app.post("/v1/logout")
    def post_logout() -> Response:
        response = JSONResponse({})
        response.delete_cookie("key")
        return response

    @app.post("/v1/events")
    async def post_events(request: Request) -> dict[str, int]:
        batch = (await request.json())["events"]
        with shop.arrived:
            shop.events += [event | {"batch": len(shop.events)} for event in batch]
            shop.arrived.notify_all()
        return {"stored": len(batch)}

    @app.get("/v1/taxonomy")
    def get_taxonomy() -> Answer:
        return {"categories": [{"id": id, "name": name, "name_zh": zh} for id, name, zh in CATEGORIES]}

    @app.get("/v1/products/{product_id:path}")
    def get_product(product_id: str) -> Answer:
        product = {"title": f"Offer {product_id}", "brand": "", "price": 9.0, "currency": "EUR", "url": ""}
        return {
            "product_id": product_id,
            "product": product,
            "images": [{"name": "main", "image_url": "pictures/9.jpg"}],
        }

    @app.get("/pictures/{number}.jpg")
    def get_picture(number: int) -> Response:
        return Response(draw_picture(number), media_type="image/jpeg")

    app.mount("/", StaticFiles(directory=PAGE, html=True))
    app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_headers=["Content-Type"], allow_methods=["*"])
    return app


def serve(app: FastAPI) -> Iterator[str]:
    """Run an app on a free port of loopback until the caller is done."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none", lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def hosted() -> Iterator[Shop]:
    shop = Shop()
    for address in serve(create_shop_app(shop)):
        shop.address = address
        yield shop


@pytest.fixture
def shop(hosted: Shop) -> Shop:
    fresh = Shop()
    hosted.asked, hosted.events, hosted.script = fresh.asked, fresh.events, Shop.script
    return hosted


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    flags = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A desktop visitor who reads English; a violated content policy or an uncaught error fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB")
    context.set_default_timeout(20_000)
    troubles: list[str] = []

    def watch(page: Page) -> None:
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda line: "Content Security Policy" in line.text and troubles.append(line.text))

    context.on("page", watch)
    yield context
    context.close()
    assert troubles == []


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


def photo_file(content: bytes | None = None, name: str = "photo.jpg", kind: str = "image/jpeg") -> Any:
    return {"name": name, "mimeType": kind, "buffer": draw_photo() if content is None else content}


def choose(page: Page, shop: Shop, photo: Any = None) -> None:
    """Open the page, choose a photo and wait for its results."""
    page.goto(shop.address)
    page.set_input_files("#file", photo or photo_file())
    settle(page)


def settle(page: Page) -> None:
    expect(page.locator("#cards")).to_have_attribute("aria-busy", "false")


def cards(page: Page) -> Any:
    return page.locator(".card:not(.skeleton)")


def notice(page: Page) -> Any:
    return page.locator("[data-notice-place] .notice")


def transfer(page: Page, content: bytes, name: str = "p.jpg", kind: str = "image/jpeg") -> Any:
    """A DataTransfer that holds one file, as dropping and pasting hand it over."""
    script = """([bytes, name, type]) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(bytes)], name, { type }));
        return transfer;
    }"""
    return page.evaluate_handle(script, [list(content), name, kind])


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=4)
    page.mouse.up()


def frame_point(page: Page, x: float, y: float) -> tuple[float, float]:
    """A point of the query photo, from fractions to the window."""
    frame = page.locator("[data-frame]").bounding_box()
    assert frame
    return frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]


# ---- a photo comes in ------------------------------------------------------------------------------------------------


def test_a_chosen_photo_is_searched_and_its_results_are_shown(page: Page, shop: Shop) -> None:
    choose(page, shop)
    expect(cards(page)).to_have_count(12)
    first = cards(page).first
    expect(first).to_contain_text("Brewer's mug no. 1")
    expect(first).to_contain_text("€10.50")
    expect(first).to_contain_text("99%")
    expect(first).to_contain_text("Same item")
    expect(page.get_by_role("status").first).to_have_text("12 results · best match 99%")
    assert shop.asked[0]["num"] == "24"
    assert re.fullmatch("[0-9a-f]{32}", shop.asked[0]["session_id"])


def test_a_dropped_photo_is_searched(page: Page, shop: Shop) -> None:
    page.goto(shop.address)
    held = transfer(page, draw_photo())
    page.dispatch_event("main", "dragenter", {"dataTransfer": held})
    expect(page.locator("#drop-veil")).to_be_visible()
    page.dispatch_event("main", "drop", {"dataTransfer": held})
    expect(cards(page)).to_have_count(12)
    expect(page.locator("#drop-veil")).to_be_hidden()


def test_a_pasted_photo_is_searched(page: Page, shop: Shop) -> None:
    page.goto(shop.address)
    paste = """(transfer) => document.body.dispatchEvent(
        new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true }))"""
    page.evaluate(paste, transfer(page, draw_photo()))
    expect(cards(page)).to_have_count(12)


def test_the_camera_of_a_computer_takes_a_photo_in_a_dialog(page: Page, shop: Shop) -> None:
    page.goto(shop.address)
    page.get_by_role("button", name="Take a photo").click()
    page.get_by_role("button", name="Take the photo").click()
    expect(cards(page)).to_have_count(12)
    expect(page.locator("#camera")).to_be_hidden()
    assert page.evaluate("document.querySelector('#camera video').srcObject") is None  # the camera is off again


def test_a_camera_that_is_refused_is_explained(page: Page, shop: Shop) -> None:
    refuse = "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('no', 'NotAllowedError'))"
    page.add_init_script(refuse)
    page.goto(shop.address)
    page.get_by_role("button", name="Take a photo").click()
    expect(page.locator("#camera [role=alert]")).to_contain_text("No camera can be used")
    page.keyboard.press("Escape")
    expect(page.locator("#camera")).to_be_hidden()


def test_a_phone_hands_the_photo_over_from_its_own_camera_app(browser: Browser, shop: Shop) -> None:
    with browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True) as phone:
        page = phone.new_page()
        page.goto(shop.address)
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Take a photo").tap()
        assert chooser.value.element.get_attribute("capture") == "environment"
        chooser.value.set_files(photo_file())
        expect(cards(page)).to_have_count(12)


def test_what_is_sent_is_an_upright_jpeg_of_at_most_1600_px_without_exif(page: Page, shop: Shop) -> None:
    choose(page, shop, photo_file(draw_photo((3000, 1200), orientation=6)))
    sent = Image.open(io.BytesIO(shop.asked[0]["image"]))
    assert (sent.format, sent.size) == ("JPEG", (640, 1600))
    assert not sent.getexif()
    assert b"SECRET-CAMERA" not in shop.asked[0]["image"]


def test_a_photo_that_only_the_server_can_read_is_sent_as_it_is(page: Page, shop: Shop) -> None:
    choose(page, shop, photo_file(b"\x00\x00\x00\x18ftypheic rest", "IMG_1.HEIC", "image/heic"))
    expect(cards(page)).to_have_count(12)
    assert shop.asked[0]["image"] == b"\x00\x00\x00\x18ftypheic rest"
    expect(page.locator("#query-hint")).to_contain_text("cannot show this kind of photo")


@pytest.mark.parametrize(
    ("content", "name", "kind", "message"),
    [
        (b"%PDF-1.4", "invoice.pdf", "application/pdf", "“invoice.pdf” is not a picture we can read"),
        (b"", "none.jpg", "image/jpeg", "“none.jpg” is empty"),
        (draw_photo((31, 90)), "dot.jpg", "image/jpeg", "needs at least 32 pixels"),
    ],
    ids=["no picture", "empty", "too small"],
)
def test_a_file_that_cannot_be_a_query_is_refused_with_the_reason(
    page: Page, shop: Shop, content: bytes, name: str, kind: str, message: str
) -> None:
    page.goto(shop.address)
    page.set_input_files("#file", photo_file(content, name, kind))
    expect(page.get_by_role("alert")).to_contain_text(message)
    assert shop.asked == []


def test_a_file_too_large_to_send_is_refused_before_it_is_sent(page: Page, shop: Shop) -> None:
    page.goto(shop.address)
    drop = """() => {
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([new Uint8Array(20 * 1024 * 1024 + 1)], "big.heic", { type: "image/heic" }));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
    }"""
    page.evaluate(drop)
    expect(page.get_by_role("alert")).to_contain_text("“big.heic” is too large to send: at most 20 MB")
    assert shop.asked == []


# ---- the box ---------------------------------------------------------------------------------------------------------


def test_drawing_a_box_with_the_mouse_searches_that_part(page: Page, shop: Shop) -> None:
    choose(page, shop)
    drag(page, frame_point(page, 0.25, 0.25), frame_point(page, 0.75, 0.5))
    settle(page)
    box = shop.asked[1]["box"]
    assert box["unit"] == "px"
    assert [box["left"], box["top"]] == pytest.approx([200, 150], abs=4)
    assert [box["right"], box["bottom"]] == pytest.approx([600, 300], abs=4)
    assert shop.asked[1]["image"] == shop.asked[0]["image"]


def test_a_corner_dragged_with_the_mouse_searches_the_new_box(page: Page, shop: Shop) -> None:
    choose(page, shop)
    drag(page, frame_point(page, 1, 1), frame_point(page, 0.5, 0.5))
    settle(page)
    box = shop.asked[1]["box"]
    assert [box["left"], box["top"]] == [0, 0]
    assert [box["right"], box["bottom"]] == pytest.approx([400, 300], abs=4)


def test_a_finger_moves_a_corner(browser: Browser, shop: Shop) -> None:
    with browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True) as phone:
        page = phone.new_page()
        choose(page, shop)
        touch = phone.new_cdp_session(page)

        def send(kind: str, *point: float) -> None:
            points = [{"x": point[0], "y": point[1]}] if point else []
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        send("touchStart", *frame_point(page, 0, 0))
        for share in (0.1, 0.2, 0.3, 0.4):
            send("touchMove", *frame_point(page, share, share))
        send("touchEnd")
        expect(page.locator("#whole")).to_be_visible()
        settle(page)
    assert [shop.asked[1]["box"][edge] for edge in ("left", "top")] == pytest.approx([320, 240], abs=12)


def test_arrow_keys_move_a_corner_and_one_search_follows_when_they_rest(page: Page, shop: Shop) -> None:
    choose(page, shop)
    corner = page.get_by_role("slider", name="Top left corner of the searched area")
    corner.focus()
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowDown"):
        page.keyboard.press(key)
    expect(corner).to_have_attribute("aria-valuetext", "2 percent from the left, 5 percent from the top")
    expect(page.locator("#whole")).to_be_visible()
    settle(page)
    assert len(shop.asked) == 2
    assert [shop.asked[1]["box"][edge] for edge in ("left", "top", "right", "bottom")] == [16, 30, 800, 600]
    expect(corner).to_be_focused()


def test_escape_takes_a_drag_back_and_nothing_is_searched(page: Page, shop: Shop) -> None:
    choose(page, shop)
    corner = page.get_by_role("slider", name="Bottom right corner of the searched area")
    corner.focus()
    page.mouse.move(*frame_point(page, 1, 1))
    page.mouse.down()
    page.mouse.move(*frame_point(page, 0.5, 0.5), steps=3)
    expect(corner).to_have_attribute("aria-valuetext", "50 percent from the left, 50 percent from the top")
    page.keyboard.press("Escape")
    page.mouse.up()
    expect(corner).to_have_attribute("aria-valuetext", "100 percent from the left, 100 percent from the top")
    assert len(shop.asked) == 1


def test_another_object_of_the_photo_is_one_press_away(page: Page, shop: Shop) -> None:
    other = {"left": 80, "top": 60, "right": 240, "bottom": 180, "unit": "px"}
    objects = [{"object_id": "o", "box": other, "category_id": "shoes", "score": 0.5}]
    shop.script = lambda asked: answer_with([result(1)], objects=objects)
    choose(page, shop)
    page.get_by_role("button", name="Search object 1 instead").click()
    expect(page.locator("#whole")).to_be_visible()
    settle(page)
    assert shop.asked[1]["box"] == other


def test_the_detected_box_is_drawn_and_said_and_can_be_dragged(page: Page, shop: Shop) -> None:
    box = {"left": 200, "top": 150, "right": 600, "bottom": 450, "unit": "px"}
    objects = [{"object_id": "0", "box": box, "category_id": "shoes", "score": 0.9}]
    shop.script = lambda asked: answer_with(
        [result(1)], box=asked.get("box", box), box_source="caller" if "box" in asked else "detected", objects=objects
    )
    choose(page, shop)
    area = page.locator("[data-area]")
    expect(area).to_have_attribute(
        "aria-valuetext", "25 percent from the left, 25 percent from the top, 50 percent wide, 50 percent high"
    )
    expect(page.locator("#query-hint")).to_contain_text("what is in the frame")
    expect(page.locator(".marker")).to_have_count(0)  # the searched object needs none
    drag(page, frame_point(page, 0.25, 0.25), frame_point(page, 0.05, 0.05))
    settle(page)
    assert "box" not in shop.asked[0]
    sent = shop.asked[1]["box"]
    assert (sent["left"], sent["top"]) == (pytest.approx(40, abs=8), pytest.approx(30, abs=8))
    assert (sent["right"], sent["bottom"]) == (600, 450)
    page.get_by_role("button", name="Search object 1 instead").click()  # back to what was detected
    settle(page)
    assert shop.asked[2]["box"] == box


def test_a_dot_shows_what_it_stands_for_while_it_is_pointed_at(page: Page, shop: Shop) -> None:
    other = {"left": 80, "top": 60, "right": 240, "bottom": 180, "unit": "px"}
    shop.script = lambda asked: answer_with([result(1)], objects=[{"object_id": "1", "box": other, "score": 0.5}])
    choose(page, shop)
    outline = page.locator(".outline")
    expect(outline).to_have_css("opacity", "0")
    page.locator(".marker").hover()
    expect(outline).to_have_css("opacity", "1")
    frame, shown = page.locator("[data-frame]").bounding_box(), outline.bounding_box()
    assert frame
    assert shown
    assert shown["x"] - frame["x"] == pytest.approx(0.1 * frame["width"], abs=2)
    assert shown["width"] == pytest.approx(0.2 * frame["width"], abs=2)
    expect(page.locator("#query-hint")).to_contain_text("Choose a dot")


def test_the_geometry_of_the_box_keeps_every_box_inside_the_photo_and_large_enough(page: Page, shop: Shop) -> None:
    page.goto(shop.address)
    broken = page.evaluate("""async () => {
        const { between, corners, fromPixels, leastSize, move, moveCorner, toPixels } = await import("./box.js");
        let seed = 7;
        const random = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
        const isGood = (box, least) => box.left >= 0 && box.top >= 0 && box.right <= 1 && box.bottom <= 1
            && box.right - box.left >= least.width - 1e-9 && box.bottom - box.top >= least.height - 1e-9;
        const broken = [];
        for (let round = 0; round < 3000; round++) {
            const photo = { width: 32 + Math.floor(random() * 4000), height: 32 + Math.floor(random() * 4000) };
            const least = leastSize(photo);
            const [dx, dy] = [random() * 4 - 2, random() * 4 - 2];
            const start = between({ x: random(), y: random() }, { x: random(), y: random() }, least);
            const moved = move(start, dx, dy);
            const boxes = [start, moved, ...corners.map((corner) => moveCorner(start, corner, dx, dy, least))];
            const sameSize = Math.abs(moved.right - moved.left - start.right + start.left) < 1e-9;
            const back = toPixels(fromPixels(toPixels(start, photo), photo), photo);
            const same = JSON.stringify(back) === JSON.stringify(toPixels(start, photo));
            if (!boxes.every((box) => isGood(box, least)) || !sameSize || !same) broken.push({ photo, start, dx, dy });
        }
        return broken.slice(0, 3);
    }""")
    assert broken == []


# ---- category and filters --------------------------------------------------------------------------------------------


def test_a_category_chip_searches_that_category_and_stays_pressed(page: Page, shop: Shop) -> None:
    choose(page, shop)
    chip = page.get_by_role("button", name="Bags and wallets")
    chip.click()
    expect(chip).to_have_attribute("aria-pressed", "true")
    settle(page)
    assert shop.asked[1]["category_id"] == "bags_wallets"
    assert page.url.endswith("/?category=bags_wallets")


def test_a_category_nobody_predicted_can_be_chosen(page: Page, shop: Shop) -> None:
    choose(page, shop)
    page.get_by_role("combobox", name="Category").select_option(label="Watches")
    settle(page)
    assert shop.asked[1]["category_id"] == "watches"


def test_filters_become_one_expression_with_quoted_texts(page: Page, shop: Shop) -> None:
    choose(page, shop)
    page.get_by_role("button", name="Filters").click()
    page.get_by_label("Price from").fill("5")
    page.get_by_label("Price to").fill("49.90")
    page.get_by_label("Brand").fill('No"rth, Söder \\ Co')
    page.get_by_label("In stock only").check()
    page.get_by_label("Filter expression").fill('colour = "red" OR rating >= 4')
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("button", name="Filters (5)")).to_be_visible()
    settle(page)
    assert shop.asked[-1]["filter"] == (
        '(colour = "red" OR rating >= 4) AND price >= 5 AND price <= 49.9 AND in_stock = true '
        'AND brand IN ("No\\"rth", "Söder \\\\ Co")'
    )


def test_a_wrong_expression_is_explained_at_its_field(page: Page, shop: Shop) -> None:
    choose(page, shop)
    shop.script = lambda asked: problem(
        422, "invalid", "The filter stops making sense.", errors=[{"field": "filter", "reason": "value expected at 9"}]
    )
    page.get_by_role("button", name="Filters").click()
    field = page.get_by_label("Filter expression")
    field.fill("colour = ")
    field.press("Enter")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#expression-error")).to_have_text("value expected at 9")
    expect(page.get_by_role("alert")).to_contain_text("The filter stops making sense.")


# ---- results ---------------------------------------------------------------------------------------------------------


def test_more_like_this_searches_with_the_product_and_back_returns_to_the_photo(page: Page, shop: Shop) -> None:
    choose(page, shop)
    page.get_by_role("button", name="More like this: Brewer's stool no. 3").click()
    expect(page.locator("#query-title")).to_have_text("More like this product")
    settle(page)
    assert (shop.asked[1]["product_id"], shop.asked[1]["image_name"]) == ("P3", "main")
    assert "image" not in shop.asked[1]
    assert page.url.endswith("/?product=P3&image=main")
    page.go_back()
    expect(page.locator("#query-title")).to_have_text("Your photo")
    settle(page)
    assert shop.asked[2]["image"] == shop.asked[0]["image"]


def test_a_click_is_stored_with_its_search_rank_and_a_unique_id(
    page: Page, shop: Shop, context: BrowserContext
) -> None:
    context.route("https://shop.example/**", lambda route: route.fulfill(body="the shop"))
    choose(page, shop)
    for place, count in ((1, 1), (2, 2)):
        with context.expect_page():
            cards(page).nth(place).get_by_role("link").click()
        clicks = shop.wait_for_events("click", count)
    assert [(click["search_id"], click["product_id"], click["image_name"], click["rank"]) for click in clicks] == [
        ("s1", "P2", "main", 2),
        ("s1", "P3", "main", 3),
    ]
    assert len({event["event_id"] for event in shop.events}) == len(shop.events)


def test_impressions_are_one_batch_of_what_was_on_the_screen(page: Page, shop: Shop) -> None:
    shop.script = lambda asked: answer_with([result(rank) for rank in range(1, 25)])
    choose(page, shop)
    shown = shop.wait_for_events("impression", 1)
    on_screen = page.evaluate("""() => [...document.querySelectorAll(".card")].filter((card) => {
        const { top, bottom, height } = card.getBoundingClientRect();
        return Math.min(bottom, innerHeight) - top >= height / 2;
    }).length""")
    assert 0 < on_screen < 24
    assert [event["rank"] for event in shown] == list(range(1, on_screen + 1))
    assert len({event["batch"] for event in shown}) == 1


def test_folded_sellers_open_in_a_dialog_that_escape_closes(page: Page, shop: Shop) -> None:
    folded = [{"product_id": "D1", "image_name": "main"}, {"product_id": "D2", "image_name": "main"}]
    shop.script = lambda asked: answer_with([result(1, duplicates=12, duplicate_products=folded)])
    choose(page, shop)
    button = page.get_by_text("+12 sellers")
    button.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Offer D1")
    expect(dialog).to_contain_text("Offer D2")
    expect(dialog).to_contain_text("and 10 more")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(button).to_be_focused()


def test_a_product_without_a_page_shows_its_details(page: Page, shop: Shop) -> None:
    shop.script = lambda asked: answer_with([result(1, url="")])
    choose(page, shop)
    page.locator(".card [data-open]").click()
    expect(page.get_by_role("dialog")).to_contain_text("colour")
    assert [click["product_id"] for click in shop.wait_for_events("click", 1)] == ["P1"]


def test_a_missing_picture_becomes_a_neutral_tile_of_the_same_size(page: Page, shop: Shop) -> None:
    shop.script = lambda asked: answer_with([result(1), result(2, image_url="gone.jpg"), result(3, image_url="")])
    choose(page, shop)
    expect(page.locator("[data-missing]")).to_have_count(2)
    sizes = [page.locator(".card [data-tile]").nth(place).bounding_box() for place in range(3)]
    assert len({(size["width"], size["height"]) for size in sizes if size}) == 1


def test_show_more_asks_for_what_follows_and_leaves_the_cards_before_alone(page: Page, shop: Shop) -> None:
    def script(asked: Answer) -> Answer:
        start = int(asked["start"])
        return answer_with([result(start + 1 + place) for place in range(min(24, 30 - start))], found=30)

    shop.script = script
    choose(page, shop)
    page.evaluate("document.querySelector('.card').dataset.mine = ''")
    page.get_by_role("button", name="Show more").click()
    expect(cards(page)).to_have_count(30)
    assert [asked["start"] for asked in shop.asked] == ["0", "24"]
    expect(page.locator(".card[data-mine]")).to_have_count(1)
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()
    expect(cards(page).nth(24).get_by_role("link")).to_be_focused()


def test_a_catalogue_cannot_inject_markup_or_scripts(page: Page, shop: Shop) -> None:
    attack = "<img src=x onerror=window.hacked=1><script>window.hacked=1</script>"
    bad_url = "java\nscript:window.hacked=1"
    everywhere = {"title": attack, "brand": attack, "currency": attack, "url": bad_url, "image_url": bad_url}
    folded = [{"product_id": attack, "image_name": attack}]
    lines = [result(1, **everywhere, product_id=attack, attributes={attack: attack}, duplicates=1)]
    lines[0]["duplicate_products"] = folded
    shop.script = lambda asked: answer_with(lines, categories=[{"id": attack, "name": attack, "score": 0.9}])
    choose(page, shop)
    expect(page.locator(".card-title").first).to_have_text(attack)
    page.locator(".card [data-open]").click()
    expect(page.get_by_role("dialog")).to_contain_text(attack)
    page.keyboard.press("Escape")
    page.locator(".card-sellers").click()
    expect(page.get_by_role("dialog").locator(".seller")).to_have_count(2)
    assert page.locator("a[href^='java' i], .card script, dialog script, .chip img, dialog [src^='x']").count() == 0
    assert page.evaluate("window.hacked") is None


# ---- when it does not go well ----------------------------------------------------------------------------------------


def test_a_weak_best_result_is_called_no_good_match_and_widening_is_offered(page: Page, shop: Shop) -> None:
    shop.script = lambda asked: answer_with([result(1, score=0.25, same_item=None)])
    page.goto(f"{shop.address}/?category=watches&max=50")
    page.set_input_files("#file", photo_file())
    expect(notice(page)).to_contain_text("No good match")
    expect(notice(page)).to_contain_text("a probability of 25%, less than 40%")
    expect(page.get_by_role("status").first).to_contain_text("No good match")
    assert "category_id" not in shop.asked[0]  # a new photo starts without the old category
    assert shop.asked[0]["filter"] == "price <= 50"
    notice(page).get_by_role("button", name="Drop the filters").click()
    expect(page.get_by_role("button", name="Drop the filters")).to_be_hidden()
    assert "filter" not in shop.asked[1]


def test_the_server_says_what_a_good_match_is(page: Page, shop: Shop) -> None:
    answer = answer_with([result(1, score=0.25, same_item=None)])
    answer["head"]["good_match"] = 0.2
    shop.script = lambda asked: answer
    choose(page, shop)
    expect(notice(page)).to_have_count(0)


def test_more_like_this_is_never_called_no_good_match(page: Page, shop: Shop) -> None:
    shop.script = lambda asked: answer_with([result(1, score=0.25, same_item=None)])
    page.goto(f"{shop.address}/?product=P3&image=main")
    expect(cards(page)).to_have_count(1)
    expect(notice(page)).to_have_count(0)


def test_no_result_at_all_says_so(page: Page, shop: Shop) -> None:
    shop.script = lambda asked: answer_with([])
    choose(page, shop)
    expect(notice(page)).to_contain_text("Nothing found")
    expect(cards(page)).to_have_count(0)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (problem(415, "image", "This is not a picture: got PDF."), "This is not a picture: got PDF."),
        (problem(413, "too_large", "More than 50 megapixels."), "More than 50 megapixels."),
        (problem(503, "unavailable", "No index yet."), "Try again in 7 seconds"),
        (problem(500, "error", "Something broke."), "Request r-77"),
        (Response("<html>proxy</html>", 502), "The search did not work"),
        (Response("<html>not json</html>"), "The server's answer could not be read"),
    ],
    ids=["415", "413", "503", "500", "proxy", "no json"],
)
def test_an_error_of_the_server_is_told_in_its_own_words(
    page: Page, shop: Shop, answer: Response, message: str
) -> None:
    shop.script = lambda asked: answer
    choose(page, shop)
    expect(page.get_by_role("alert")).to_contain_text(message)
    expect(page.get_by_role("alert").get_by_role("button").first).to_be_visible()


def test_offline_is_said_and_the_search_starts_again_with_the_connection(
    page: Page, shop: Shop, context: BrowserContext
) -> None:
    page.goto(shop.address)
    context.set_offline(True)
    page.set_input_files("#file", photo_file())
    expect(page.get_by_role("alert")).to_contain_text("You are offline")
    context.set_offline(False)
    expect(cards(page)).to_have_count(12)


def asks_for_a_key(asked: Answer) -> Answer | Response:
    return answer_with([result(1)]) if asked["key"] == "k1" else problem(401, "no_key", "No key.")


def test_a_shop_with_keys_asks_for_one_and_goes_on_with_the_search(page: Page, shop: Shop) -> None:
    shop.script = asks_for_a_key
    choose(page, shop)
    expect(notice(page)).to_contain_text("This shop asks for an access key.")
    expect(page.locator("#live")).to_have_text("This shop asks for an access key.")
    expect(page.locator(".skeleton")).to_have_count(0)
    page.get_by_label("Access key").fill(" k1 ")
    page.get_by_label("Access key").press("Enter")
    expect(cards(page)).to_have_count(1)
    expect(page.locator("#results-title")).to_be_focused()
    assert page.evaluate("[document.cookie, JSON.stringify(localStorage)].join().includes('k1')") is False


def test_a_wrong_key_is_said_and_can_be_corrected(page: Page, shop: Shop) -> None:
    shop.script = asks_for_a_key
    choose(page, shop)
    field = page.get_by_label("Access key")
    field.fill("k2")
    page.get_by_role("button", name="Use this key").click()
    expect(page.locator("#key-error")).to_contain_text("This key is not accepted")
    expect(field).to_be_focused()
    expect(field).to_have_accessible_description(re.compile("This key is not accepted"))
    field.fill("k1")
    field.press("Enter")
    expect(cards(page)).to_have_count(1)


def test_signing_out_takes_results_and_key_away(page: Page, shop: Shop) -> None:
    shop.script = asks_for_a_key
    choose(page, shop)
    expect(page.get_by_role("button", name="Sign out")).to_be_hidden()
    page.get_by_label("Access key").fill("k1")
    page.get_by_label("Access key").press("Enter")
    expect(cards(page)).to_have_count(1)
    page.get_by_role("button", name="Sign out").click()
    expect(cards(page)).to_have_count(0)
    expect(page.get_by_role("button", name="Sign out")).to_be_hidden()
    page.set_input_files("#file", photo_file())
    expect(page.get_by_label("Access key")).to_be_visible()


def test_grey_cards_stand_in_while_a_search_runs_and_nothing_jumps(page: Page, shop: Shop) -> None:
    waiting = threading.Event()
    page.add_init_script("""window.shift = 0; new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
    }).observe({ type: "layout-shift", buffered: true });""")
    page.goto(shop.address)

    def hold(route: Any) -> None:
        waiting.set()
        expect(page.locator(".card.skeleton")).to_have_count(10)
        expect(page.locator("#cards")).to_have_attribute("aria-busy", "true")
        route.continue_()

    page.route("**/v1/search", hold)
    page.set_input_files("#file", photo_file())
    expect(cards(page)).to_have_count(12)
    assert waiting.is_set()
    assert page.evaluate("window.shift") < 0.1  # the web's usual limit for a page that does not jump


# ---- links, languages, screens, other pages ------------------------------------------------------------------------


def test_a_link_with_a_product_category_and_filters_opens_that_search(page: Page, shop: Shop) -> None:
    page.goto(f"{shop.address}/?product=P%2F1&image=main&category=watches&min=5&stock=1&lang=en")
    expect(cards(page)).to_have_count(12)
    asked = shop.asked[0]
    assert (asked["product_id"], asked["image_name"], asked["category_id"]) == ("P/1", "main", "watches")
    assert asked["filter"] == "price >= 5 AND in_stock = true"


def test_the_page_says_that_a_photo_is_not_in_the_link_and_asks_again_after_a_reload(page: Page, shop: Shop) -> None:
    choose(page, shop)
    expect(page.locator("#share-note")).to_have_text(
        "A photo cannot be in a link: the link holds category and filters only."
    )
    page.reload()
    expect(notice(page)).to_contain_text("gone after a reload")


def test_the_page_speaks_the_browser_s_language_and_remembers_a_switch(browser: Browser, shop: Shop) -> None:
    with browser.new_context(locale="zh-CN") as visitor:
        page = visitor.new_page()
        choose(page, shop)
        expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
        expect(page.get_by_role("button", name="自动：鞋")).to_be_visible()
        page.get_by_role("button", name="English（切换语言）").click()
        expect(page.get_by_role("button", name="Automatic: Shoes")).to_be_visible()
        expect(cards(page)).to_have_count(12)
        page.reload()
        expect(page.locator("html")).to_have_attribute("lang", "en")


def test_the_page_works_where_storage_is_forbidden(page: Page, shop: Shop) -> None:
    page.add_init_script("""for (const name of ["localStorage", "sessionStorage"]) Object.defineProperty(window, name, {
        get() { throw new DOMException("denied", "SecurityError"); } });""")
    choose(page, shop)
    expect(cards(page)).to_have_count(12)
    page.get_by_role("button", name="中文").click()
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")


def test_both_languages_say_the_same_things(page: Page, shop: Shop) -> None:
    page.goto(shop.address)
    used = set(re.findall(r'data-i18n[a-z-]*="([^"]+)"', (PAGE / "index.html").read_text(encoding="utf-8")))
    for module in PAGE.glob("*.js"):
        used |= set(re.findall(r'\bt\("([^"]+)"', module.read_text(encoding="utf-8")))
    keys = page.evaluate("""async () => {
        const { messages } = await import("./i18n.js");
        return Object.values(messages).map((words) => Object.keys(words).sort());
    }""")
    assert keys[0] == keys[1]
    assert used <= set(keys[0])


def test_a_phone_shows_two_columns_and_keeps_the_query_in_sight(browser: Browser, shop: Shop) -> None:
    with browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True) as phone:
        page = phone.new_page()
        choose(page, shop)
        lefts = page.evaluate(
            "[...new Set([...document.querySelectorAll('.card')].map((card) => card.getBoundingClientRect().left))]"
        )
        assert len(lefts) == 2
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.evaluate("window.scrollTo(0, 900)")
        expect(page.locator("#thumb")).to_be_in_viewport(ratio=1)


def test_everything_can_be_reached_with_the_tab_key_in_reading_order(page: Page, shop: Shop) -> None:
    choose(page, shop)
    page.locator(".skip").focus()
    names = []
    for _ in range(18):
        page.keyboard.press("Tab")
        names.append(
            page.evaluate("(e => e.getAttribute('aria-label') || e.textContent.trim())(document.activeElement)")
        )
        assert page.evaluate("document.activeElement.matches(':focus-visible')")
    wanted = ["Searched area; arrow keys move it", "Top left corner of the searched area", "New photo", "Copy link"]
    wanted += ["Automatic: Shoes", "Filters", "More like this: Brewer's mug no. 1"]
    assert [name for name in names if name in wanted] == wanted


def test_without_a_clipboard_the_link_is_shown_to_be_copied(page: Page, shop: Shop) -> None:
    page.add_init_script("navigator.clipboard.writeText = () => Promise.reject(new Error('closed'))")
    page.goto(f"{shop.address}/?product=P3&image=main")
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_label("Copy this link:")).to_have_value(f"{shop.address}/?product=P3&image=main")


# ---- in a page of the shop -------------------------------------------------------------------------------------------


@pytest.fixture
def embedding(shop: Shop) -> Iterator[str]:
    """The address of a shop's own page, of another origin, that holds every HTML example of docs/embed.md."""
    manual = (REPOSITORY / "docs" / "embed.md").read_text(encoding="utf-8")
    examples = re.findall("```html\n(.*?)```", manual, flags=re.DOTALL)
    content = "<!doctype html>" + "".join(examples).replace("https://search.example.com", shop.address)
    app = FastAPI()
    app.get("/")(lambda: HTMLResponse(content))
    yield from serve(app)


def test_the_page_works_in_a_frame_of_another_site(page: Page, shop: Shop, embedding: str) -> None:
    page.goto(embedding)
    frame = page.frame_locator("iframe")
    expect(frame.get_by_role("heading", name="Find it by photo")).to_be_visible()
    frame.locator("#file").set_input_files(photo_file())
    expect(frame.locator(".card:not(.skeleton)")).to_have_count(12)


def test_the_snippet_for_shops_searches_and_reports_clicks(page: Page, shop: Shop, embedding: str) -> None:
    lines = [result(1, title="<b>Kettle</b>", url="javascript:alert(1)"), result(2)]
    shop.script = lambda asked: answer_with(lines)
    page.goto(embedding)
    search = page.locator("#photo-search")
    search.get_by_label("Search by photo").set_input_files(photo_file())
    expect(search.get_by_role("status")).to_have_text("2 results")
    expect(search.locator("li").first).to_have_text("<b>Kettle</b>")
    assert search.locator("li a").first.get_attribute("href") is None
    page.route("https://shop.example/**", lambda route: route.fulfill(body="the shop"))
    search.locator("li a").nth(1).click()
    assert [click["product_id"] for click in shop.wait_for_events("click", 1)] == ["P2"]


def test_the_snippet_shows_the_server_s_reason(page: Page, shop: Shop, embedding: str) -> None:
    shop.script = lambda asked: problem(415, "image", "This is not a picture: got PDF.")
    page.goto(embedding)
    page.get_by_label("Search by photo").set_input_files(photo_file())
    expect(page.locator("#photo-search")).to_contain_text("This is not a picture: got PDF.")
