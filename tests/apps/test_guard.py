"""Which names a server answers to, and which pages count as its own."""

import asyncio
from typing import Any

import pytest
from starlette.datastructures import Headers

from sameitem.apps.guard import Guard, is_own_page
from sameitem.apps.measures import Measures
from sameitem.core.settings import ServeSettings


def status_of(settings: ServeSettings, host: str) -> int:
    """What a request that is addressed to a name is answered with; 204 where the guard lets it through."""
    statuses = []
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "headers": [(b"host", host.encode())],
    }

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    guard = Guard(app, settings=settings, max_body_bytes=1000, measures=Measures())
    asyncio.run(guard(scope, receive, send))
    (status,) = statuses
    return status


@pytest.mark.parametrize(
    ("settings", "answered", "refused"),
    [
        (ServeSettings(), ["localhost:8600", "127.0.0.1", "[::1]:8600"], ["evil.example", "shop.example:8600", ""]),
        (ServeSettings(hosts=("shop.example",)), ["shop.example", "localhost"], ["evil.example"]),
        (ServeSettings(require_keys=True), ["localhost"], ["evil.example"]),
        (ServeSettings(host="0.0.0.0"), ["shop.example", "192.0.2.7:8600", "localhost"], []),
        (ServeSettings(host="0.0.0.0", hosts=("shop.example",)), ["shop.example:8600", "localhost"], ["192.0.2.7"]),
    ],
)
def test_names_are_checked_on_loopback_and_where_they_are_listed(
    settings: ServeSettings, answered: list[str], refused: list[str]
) -> None:
    assert [status_of(settings, host) for host in answered] == [204] * len(answered)
    assert [status_of(settings, host) for host in refused] == [403] * len(refused)


@pytest.mark.parametrize(
    ("headers", "own"),
    [
        ({}, True),
        ({"origin": "http://shop.example:8600"}, True),
        ({"origin": "https://shop.example:8600", "sec-fetch-site": "same-origin"}, True),
        ({"origin": "https://shop.example"}, False),  # another port
        ({"origin": "https://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": "https://shop.example:8600.evil.example"}, False),
        ({"origin": "https://shop.example:8600", "sec-fetch-site": "cross-site"}, False),
    ],
)
def test_a_page_is_our_own_by_what_its_browser_says(headers: dict[str, str], own: bool) -> None:
    assert is_own_page(Headers({"host": "shop.example:8600", **headers})) is own
