"""Who may ask for what: every route, every kind of caller, hostile headers, limits with a clock of the test's own."""

import asyncio
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import BaseRoute, Mount

from sameitem.apps.access import (
    COOKIE,
    FAILURES_PER_MINUTE,
    FRESH_S,
    OPEN,
    ROUTES,
    Access,
    AccessCheck,
    address_of,
    bearer,
    scope_of,
)
from sameitem.apps.rest import create_app
from sameitem.core.errors import UnavailableError
from sameitem.core.keys import SCOPES, Key, KeyRing
from sameitem.core.settings import ServeSettings, Settings
from sameitem.pipeline.online import Searcher
from sameitem.pipeline.shop import Shop

NETWORK = ServeSettings(host="0.0.0.0")
LOOPBACK = ServeSettings()
IDS = {scope: f"{number:012x}" for number, scope in enumerate(SCOPES)}
TEXTS = {scope: f"si_{IDS[scope]}_{scope[0] * 43}" for scope in SCOPES}
WRONG = "si_000000000000_" + "w" * 43
SCHEMES = st.sampled_from(["", "Bearer", "bearer", "BEARER ", "Basic", "Bearer\t", "Bearer  "])
Headers = Sequence[tuple[str, str | bytes]]
_SHOP = Shop(Path(), Settings())
ALL_ROUTES = list(create_app(_SHOP, Searcher(_SHOP), wake_runner=lambda: None).routes)


def ring(*scopes: str) -> KeyRing:
    """The keys of some scopes."""
    return KeyRing(
        {
            IDS[scope]: (
                Key(IDS[scope], f"the {scope}", (scope,), 1.0, None),
                hashlib.sha256(TEXTS[scope].split("_", 2)[2].encode()).hexdigest(),
            )
            for scope in scopes
        }
    )


@dataclass
class Reply:
    """What came back, and whether the routes saw the request."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    passed: bool = False
    read: int = 0  # bytes of the request's body that were taken

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Door:
    """The check in front of routes that answer 204, with keys and a clock that tests move."""

    def __init__(self, settings: ServeSettings, routes: list[BaseRoute]) -> None:
        self.now, self.ring, self.reads = 1000.0, ring(*SCOPES), 0
        self.routes = routes
        self.access = Access(self._read, settings, clock=lambda: self.now)

    def _read(self) -> KeyRing:
        self.reads += 1
        return self.ring

    def ask(
        self,
        method: str,
        path: str,
        *headers: tuple[str, str | bytes],
        client: tuple[str, int] | None = ("192.0.2.7", 5),
        body: Sequence[bytes] = (b"",),
    ) -> Reply:
        """Send one request; header values that are texts are sent as UTF-8."""
        reply, left = Reply(), list(body)
        raw = [(n.lower().encode(), v if isinstance(v, bytes) else v.encode()) for n, v in (("host", "shop"), *headers)]
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "scheme": "http",
            "headers": raw,
            "client": client,
            "request_id": "r1",
        }

        async def routes(scope: Any, receive: Any, send: Any) -> None:
            reply.passed = True
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        async def receive() -> dict[str, Any]:
            part = left.pop(0)
            reply.read += len(part)
            return {"type": "http.request", "body": part, "more_body": bool(left)}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                reply.status = message["status"]
                reply.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                reply.body += message["body"]

        asyncio.run(AccessCheck(routes, access=self.access, routes=self.routes)(scope, receive, send))
        return reply


def with_key(text: str) -> tuple[str, str]:
    return ("Authorization", f"Bearer {text}")


def with_cookie(text: str) -> tuple[str, str]:
    return ("Cookie", f"lang=en; {COOKIE}={text}")


@pytest.fixture(scope="module")
def routes() -> list[BaseRoute]:
    return ALL_ROUTES


@pytest.fixture
def network(routes: list[BaseRoute]) -> Door:
    return Door(NETWORK, routes)


@pytest.fixture
def loopback(routes: list[BaseRoute]) -> Door:
    return Door(LOOPBACK, routes)


def requests_of(routes: list[BaseRoute]) -> Iterator[tuple[str, str, BaseRoute]]:
    """Every method and a path of every route."""
    for route in routes:
        path = re.sub(r"\{[^}]+\}", "7", getattr(route, "path", "") or "/index.html")
        methods = {"GET"} if isinstance(route, Mount) else getattr(route, "methods", None) or {"GET"}
        yield from ((method, path, route) for method in sorted(methods))


# ---- the table -------------------------------------------------------------------------------------------------------


def test_every_route_has_its_scope_decided_and_the_table_names_no_other(routes: list[BaseRoute]) -> None:
    decided = set()
    for method, _, route in requests_of(routes):
        path = getattr(route, "path", None)
        assert path is not None, f"{route}: add routes with app.get and the like, so that the table can name them"
        if method != "HEAD":
            decided.add(f"{method} {path or '/'}")
    assert decided == set(ROUTES), "write each route and the scope it needs into apps/access.py"
    assert set(ROUTES.values()) <= {OPEN, *SCOPES}


def test_a_route_that_nobody_decided_needs_admin() -> None:
    assert scope_of("GET", APIRoute("/v1/new", lambda: None)) == "admin"
    assert scope_of("POST", APIRoute("/healthz", lambda: None)) == "admin"  # only GET was decided
    assert scope_of("GET", Mount("/files", routes=[])) == "admin"
    assert scope_of("GET", None) == "admin"


def test_only_what_tells_nothing_of_the_shop_is_open() -> None:
    assert {route for route, scope in ROUTES.items() if scope == OPEN} == {
        "GET /",
        "GET /admin",
        "GET /openapi.json",
        "GET /healthz",
        "GET /readyz",
        "POST /v1/login",
        "POST /v1/logout",
    }


@pytest.mark.parametrize("held", [None, "wrong", *SCOPES])
@pytest.mark.parametrize("show", [with_key, with_cookie])
def test_each_route_lets_in_who_may_and_nobody_else(routes: list[BaseRoute], held: str | None, show: Any) -> None:
    tried = 0
    for method, path, route in requests_of(routes):
        door, wanted = Door(NETWORK, routes), scope_of(method, route)
        shown = () if held is None else (show(TEXTS.get(held, WRONG)),)
        reply = door.ask(method, path, *shown)
        may = wanted == OPEN or held in (wanted, "admin")
        expected = 204 if may else 403 if held in SCOPES else 401
        assert (reply.status, reply.passed) == (expected, expected == 204), (method, path)
        tried += 1
    assert tried > 25


def test_a_path_that_no_route_has_leads_to_files_only(network: Door) -> None:
    for method, path in (("GET", "/v1/secret"), ("DELETE", "/v1/search"), ("OPTIONS", "/v1/index")):
        reply = network.ask(method, path)
        matching = next(r for r in network.routes if r.matches(_http(method, path))[0].value == 2)
        assert isinstance(matching, Mount)  # which holds no data
        assert reply.passed


def test_a_websocket_is_closed(network: Door) -> None:
    sent = []

    async def routes(*_: Any) -> None:
        sent.append("passed")

    async def send(message: Any) -> None:
        sent.append(message["type"])

    check = AccessCheck(routes, access=network.access, routes=network.routes)
    asyncio.run(check({"type": "websocket", "path": "/v1/search"}, None, send))  # type: ignore[arg-type]
    asyncio.run(check({"type": "lifespan"}, None, send))  # type: ignore[arg-type]
    assert sent == ["websocket.close", "passed"]


def _http(method: str, path: str) -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "root_path": "", "headers": []}


# ---- what is said ----------------------------------------------------------------------------------------------------


def test_refusals_say_what_to_do_and_never_the_secret(network: Door) -> None:
    none = network.ask("POST", "/v1/search")
    assert none.headers["www-authenticate"].startswith("Bearer ")
    assert "sameitem keys create NAME --scope search" in none.json["detail"]
    wrong = network.ask("POST", "/v1/search", with_key(WRONG))
    assert wrong.json["code"] == "wrong_key"
    assert 'error="invalid_token"' in wrong.headers["www-authenticate"]
    lacking = network.ask("DELETE", "/v1/products/7", with_key(TEXTS["search"]))
    assert "needs the scope write" in lacking.json["detail"]
    assert 'scope="write"' in lacking.headers["www-authenticate"]
    for reply, text in ((none, ""), (wrong, WRONG), (lacking, TEXTS["search"])):
        assert reply.headers["cache-control"] == "no-store"
        assert not text or text.split("_", 2)[2] not in str(reply)
        assert reply.json["request_id"] == "r1"


def test_a_refused_request_is_read_off_so_that_its_sender_sees_the_answer(network: Door) -> None:
    photo = [b"x" * 1000] * 5
    assert network.ask("POST", "/v1/search", body=photo).read == 5000
    assert network.ask("POST", "/v1/search", ("Expect", "100-continue"), body=photo).read == 0
    endless = [b"x" * 1_000_000] * 50
    assert network.ask("POST", "/v1/imports", body=endless).read == 30_000_000


def test_keys_that_cannot_be_read_let_nobody_in(network: Door) -> None:
    def unreadable() -> KeyRing:
        raise UnavailableError("the database does not answer")

    network.access._valid_keys = unreadable
    reply = network.ask("POST", "/v1/search", with_key(TEXTS["admin"]))
    assert (reply.status, reply.passed) == (503, False)
    assert network.ask("GET", "/healthz").status == 204


# ---- loopback, and what is public ------------------------------------------------------------------------------------


def test_on_loopback_nobody_needs_a_key_and_a_wrong_one_is_refused_all_the_same(loopback: Door) -> None:
    for method, path, _ in requests_of(loopback.routes):
        assert loopback.ask(method, path).status == 204
    assert loopback.reads == 0  # the database is not asked
    assert loopback.ask("POST", "/v1/search", with_key(WRONG)).status == 401
    assert loopback.ask("POST", "/v1/index:build", with_key(TEXTS["search"])).status == 403
    assert loopback.ask("POST", "/v1/index:build", with_cookie(WRONG)).status == 204  # of another shop, another port


def test_keys_can_be_asked_for_on_loopback(routes: list[BaseRoute]) -> None:
    door = Door(ServeSettings(require_keys=True), routes)
    assert door.ask("GET", "/v1/taxonomy").status == 401
    assert door.ask("GET", "/v1/taxonomy", with_key(TEXTS["search"])).status == 204


def test_what_is_public_needs_no_key_and_nothing_else_is(routes: list[BaseRoute]) -> None:
    for method, path, route in requests_of(routes):
        door = Door(ServeSettings(host="0.0.0.0", public_scopes=("search", "events")), routes)
        wanted = scope_of(method, route)
        assert door.ask(method, path).passed == (wanted in (OPEN, "search", "events")), (method, path)
        assert door.ask(method, path, with_key(WRONG)).passed == (wanted == OPEN), (method, path)


# ---- headers ---------------------------------------------------------------------------------------------------------


@given(value=st.one_of(st.binary(max_size=300), st.builds(lambda s, t: f"{s} {t}".encode(), SCHEMES, st.text())))
def test_no_header_gets_in_that_does_not_hold_the_key(value: bytes) -> None:
    door = Door(NETWORK, ALL_ROUTES)
    for name in ("Authorization", "Cookie"):
        assert door.ask("GET", "/v1/taxonomy", (name, value)).status == 401


@given(
    before=st.text(alphabet=st.characters(max_codepoint=255), max_size=20),
    after=st.text(alphabet=st.characters(max_codepoint=255), max_size=20),
)
def test_what_stands_around_a_key_makes_it_none(before: str, after: str) -> None:
    found = bearer([f"Bearer {before}{TEXTS['search']}{after}"])
    assert (found == TEXTS["search"]) == (not before.strip(" ") and not after.strip(" "))
    assert found is not None


@given(values=st.lists(st.builds(lambda s, t: f"{s} {t}", SCHEMES, st.one_of(st.text(max_size=9), st.just("si_k")))))
def test_other_schemes_are_no_key_and_several_keys_are_none(values: list[str]) -> None:
    keys = [value for value in values if value.lower().startswith("bearer")]
    found = bearer(values)
    assert (found is None) == (not keys)
    if len(keys) > 1:
        assert found == ""


def test_two_keys_are_no_key(network: Door) -> None:
    twice = [with_key(TEXTS["search"])] * 2
    assert network.ask("GET", "/v1/taxonomy", *twice).json["code"] == "wrong_key"


def test_a_huge_header_or_cookie_is_just_wrong(network: Door) -> None:
    huge = "x" * 1_000_000
    for shown in (with_key(huge), with_key(TEXTS["admin"] + huge), with_cookie(huge), ("Cookie", ";=" * 500_000)):
        assert network.ask("GET", "/v1/taxonomy", shown).status == 401


def test_the_schemes_name_may_be_written_in_any_case(network: Door) -> None:
    for scheme in ("bearer", "BEARER", "Bearer "):
        assert network.ask("GET", "/v1/taxonomy", ("Authorization", f"{scheme} {TEXTS['search']}")).status == 204


def test_a_proxys_own_password_is_not_taken_for_a_key(network: Door, loopback: Door) -> None:
    basic = ("Authorization", "Basic dXNlcjpwYXNz")
    assert loopback.ask("GET", "/v1/taxonomy", basic).status == 204
    assert network.ask("GET", "/v1/taxonomy", basic).json["code"] == "no_key"
    assert network.ask("GET", "/v1/taxonomy", basic, with_cookie(TEXTS["search"])).status == 204


# ---- cookies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ((), 204),
        ((("Origin", "https://shop"), ("Sec-Fetch-Site", "same-origin")), 204),
        ((("Sec-Fetch-Site", "same-origin"),), 204),  # an <img>
        ((("Sec-Fetch-Site", "none"),), 204),  # typed into the address bar
        ((("Origin", "https://evil.example"),), 401),
        ((("Origin", "null"),), 401),
        ((("Sec-Fetch-Site", "same-site"),), 401),
        ((("Sec-Fetch-Site", "cross-site"),), 401),
    ],
)
def test_a_cookie_counts_for_the_servers_own_pages_only(network: Door, headers: Headers, status: int) -> None:
    assert network.ask("POST", "/v1/index:build", with_cookie(TEXTS["admin"]), *headers).status == status


def test_a_cookie_that_is_no_key_any_more_is_taken_away(network: Door) -> None:
    reply = network.ask("GET", "/v1/taxonomy", with_cookie(WRONG))
    assert reply.status == 401
    assert re.search(f'^{COOKIE}="";.*Max-Age=0', reply.headers["set-cookie"])
    assert "set-cookie" not in network.ask("GET", "/v1/taxonomy", with_key(WRONG)).headers


def test_a_header_goes_before_a_cookie(network: Door) -> None:
    both = (with_key(TEXTS["search"]), with_cookie(TEXTS["admin"]))
    assert network.ask("POST", "/v1/index:build", *both).status == 403


# ---- time ------------------------------------------------------------------------------------------------------------


def test_a_revoked_key_opens_nothing_after_a_second_and_the_table_is_read_once_a_second(network: Door) -> None:
    asked = ("GET", "/v1/taxonomy", with_key(TEXTS["search"]))
    assert [network.ask(*asked).status for _ in range(5)] == [204] * 5
    assert network.reads == 1
    network.ring = ring("admin")
    network.now += FRESH_S
    assert network.ask(*asked).status == 401
    assert network.reads == 2
    network.ring = ring(*SCOPES)
    network.now += FRESH_S
    assert network.ask(*asked).status == 204


def test_a_key_that_asks_too_often_waits_and_no_other_one_does(routes: list[BaseRoute]) -> None:
    door = Door(ServeSettings(host="0.0.0.0", requests_per_minute=3), routes)
    asked = ("GET", "/v1/taxonomy", with_key(TEXTS["search"]))
    assert [door.ask(*asked).status for _ in range(4)] == [204, 204, 204, 429]
    refused = door.ask(*asked)
    assert refused.headers["retry-after"] == "20"
    assert "20 s" in refused.json["detail"]
    assert door.ask("GET", "/v1/taxonomy", with_key(TEXTS["admin"])).status == 204
    assert door.ask("GET", "/healthz", with_key(TEXTS["search"])).status == 204
    door.now += 20
    assert door.ask(*asked).status == 204
    assert door.ask(*asked).status == 429


def test_who_asks_without_a_key_is_counted_by_address_and_not_at_all_on_loopback(routes: list[BaseRoute]) -> None:
    public = Door(ServeSettings(host="0.0.0.0", requests_per_minute=2, public_scopes=("search",)), routes)
    asked = ("GET", "/v1/taxonomy")
    assert [public.ask(*asked).status for _ in range(3)] == [204, 204, 429]
    assert public.ask(*asked, client=("192.0.2.8", 1)).status == 204
    private = Door(ServeSettings(requests_per_minute=2), routes)
    assert [private.ask(*asked).status for _ in range(5)] == [204] * 5


def test_guessing_costs_and_locks_nobody_out_who_had_a_key_before(network: Door) -> None:
    asked = ("GET", "/v1/taxonomy")
    assert network.ask(*asked, with_key(TEXTS["search"])).status == 204
    guesses = [network.ask(*asked, with_key(WRONG)).status for _ in range(FAILURES_PER_MINUTE + 3)]
    assert guesses == [401] * FAILURES_PER_MINUTE + [429] * 3
    assert network.ask(*asked, with_key(TEXTS["search"])).status == 204  # the colleague behind the same address
    lucky = network.ask(*asked, with_key(TEXTS["admin"]))
    assert lucky.status == 429  # is not told that the guess was right
    assert int(lucky.headers["retry-after"]) <= 60 / FAILURES_PER_MINUTE
    assert network.ask(*asked, with_key(TEXTS["admin"]), client=("192.0.2.8", 1)).status == 204
    assert network.ask(*asked).status == 401  # no guess: it showed nothing
    network.now += 60
    assert network.ask(*asked, with_key(TEXTS["admin"])).status == 204


@pytest.mark.parametrize(
    ("client", "address"),
    [
        (("192.0.2.7", 1), "192.0.2.7"),
        (("::ffff:192.0.2.7", 1), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 1), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 1), "fe80::/64"),
        (("testclient", 1), "unknown"),
        (None, "unknown"),
    ],
)
def test_failures_of_one_customer_count_together(client: tuple[str, int] | None, address: str) -> None:
    assert address_of({"client": client}) == address
