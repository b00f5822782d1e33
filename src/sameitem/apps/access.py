"""Who may ask for what: the one table of routes and scopes, and the check of keys before a request's body is read.

A request shows its key in the header `Authorization: Bearer` or, on the server's own pages, in the cookie that
`POST /v1/login` sets: an `<img>` cannot send a header.
"""

import asyncio
import ipaddress
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from sameitem.apps.guard import is_local, is_own_page, problem
from sameitem.apps.problems import meaning
from sameitem.apps.rate import MOST, Buckets
from sameitem.core.errors import SameItemError
from sameitem.core.keys import SCOPES, Key, KeyRing
from sameitem.core.settings import ServeSettings

OPEN = ""  # needs no key: tells nothing about the shop
ROUTES = {  # every route of the application; a route that is not here needs admin, and a test fails
    "GET /": OPEN,  # the pages' own files
    "GET /admin": OPEN,
    "GET /openapi.json": OPEN,
    "GET /healthz": OPEN,
    "GET /readyz": OPEN,
    "POST /v1/login": OPEN,  # the key is in the body
    "POST /v1/logout": OPEN,
    "POST /v1/search": "search",
    "GET /v1/images/{image_id}": "search",
    "GET /v1/taxonomy": "search",
    "GET /v1/products/{product_id}": "search",  # the page shows the product that a link names
    "POST /v1/events": "events",
    "PUT /v1/products/{product_id}": "write",
    "DELETE /v1/products/{product_id}": "write",
    "PUT /v1/products/{product_id}/images/{name:path}": "write",
    "DELETE /v1/products/{product_id}/images/{name:path}": "write",
    "POST /v1/products:filter": "write",  # lists the whole catalogue
    "POST /v1/products:delete": "write",
    "POST /v1/imports": "write",
    "GET /v1/operations/{operation_id}": "write",  # who started an import follows it
    "GET /v1/operations/{operation_id}/errors": "write",
    "GET /v1/operations": "admin",
    "POST /v1/operations/{operation_id}:cancel": "admin",
    "GET /v1/index": "admin",
    "POST /v1/index:build": "admin",
    "POST /v1/index:rollback": "admin",
    "GET /v1/loops": "admin",
    "GET /v1/loops/{loop_id}": "admin",
    "GET /v1/loops/{loop_id}/report": "admin",
    "POST /v1/loops:run": "admin",
    "GET /v1/models": "admin",
    "POST /v1/models:train": "admin",
    "POST /v1/models:activate": "admin",
    "GET /v1/rankers": "admin",
    "POST /v1/rankers:activate": "admin",
    "POST /v1/rankers:rollback": "admin",
    "GET /v1/users/{user_id}": "admin",  # what is known of a person, and its erasure
    "DELETE /v1/users/{user_id}": "admin",
    "GET /v1/admin/overview": "admin",
    "GET /v1/admin/operations": "admin",
    "POST /v1/admin/operations/{operation_id}:rerun": "admin",
    "GET /v1/admin/set-aside": "admin",
    "POST /v1/index:compact": "admin",
    "GET /v1/admin/index/{version}/dropped": "admin",
    "GET /v1/admin/groups": "admin",
    "GET /v1/admin/models/{version}": "admin",
    "GET /v1/admin/models/{version}/curves": "admin",
    "POST /v1/models:rollback": "admin",
    "GET /v1/admin/clicks": "admin",
    "GET /v1/admin/slow": "admin",
    "GET /v1/admin/misses": "admin",
    "GET /v1/admin/photos/{photo_hash}": "admin",
    "GET /v1/admin/products": "admin",
    "GET /v1/admin/products/{product_id}": "admin",
    "POST /v1/admin/images/{image_id}:look-again": "admin",
    "GET /metrics": "admin",
}
COOKIE = "sameitem_key"
FRESH_S = 1.0  # how long a server goes by the keys it read: a revoked one opens nothing after it
FAILURES_PER_MINUTE = 20  # wrong keys that one address may show
READ_OFF_BYTES = 30_000_000  # of a refused request
_BEARER = re.compile(r"bearer +(\S+) *", re.IGNORECASE)
NO_STORE = {"Cache-Control": "no-store"}


class Refused(Exception):
    """A request may not go on; holds what is answered."""

    def __init__(self, status: int, code: str, title: str, detail: str, headers: Mapping[str, str]) -> None:
        super().__init__(detail)
        self.status, self.code, self.title, self.detail, self.headers = status, code, title, detail, headers

    def answer(self, scope: Scope) -> Response:
        """Return the problem as an HTTP answer."""
        response = problem(scope, self.status, self.code, self.title, self.detail, [])
        response.headers.update({**self.headers, **NO_STORE})
        return response


class Access:
    """What one server knows of its callers: the keys as they were a moment ago, and how much each caller asked."""

    def __init__(
        self,
        valid_keys: Callable[[], KeyRing],
        settings: ServeSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._valid_keys = valid_keys
        self._is_private = not needs_keys(settings)
        self._public = frozenset(SCOPES if self._is_private else settings.public_scopes)
        self._clock = clock
        self._ring, self._read_at = KeyRing({}), -math.inf
        self._reading = asyncio.Lock()
        self._per_minute = settings.requests_per_minute
        self._requests = Buckets(per_minute=self._per_minute, clock=clock)
        self._failures = Buckets(per_minute=FAILURES_PER_MINUTE, clock=clock)
        self._familiar: dict[tuple[str, str], None] = {}  # address and id of keys that came from it; the latest last

    async def admit(self, scope: Scope, wanted: str) -> None:
        """Let a request through that may do what needs the scope `wanted`.

        Raises:
            Refused: it may not, or not so often.
            SameItemError: the keys cannot be read.
        """
        if wanted == OPEN:
            return
        headers, address = Headers(scope=scope), address_of(scope)
        key, shown = None, bearer(headers.getlist("authorization"))
        if shown is not None:
            key = await self.check(shown, address)
        elif wanted not in self._public:
            key = await self._check_cookie(headers, address)
        if key is not None:
            self._count(key.id, f"the key {key.id}")
            if not key.opens(wanted):
                raise _lacking(key, wanted)
        elif wanted not in self._public:
            raise _missing(wanted)
        elif not self._is_private:
            self._count(address, "an address without a key")

    async def check(self, text: str, address: str) -> Key:
        """Return the key that a text is.

        An address that showed too many wrong ones is not told whether this one is right, except for keys that it has
        used before: who guesses has none of those, and a colleague behind the same address is not locked out.

        Raises:
            Refused: it is none, or the address has to wait.
            SameItemError: the keys cannot be read.
        """
        key = (await self._keys()).check(text)
        wait_s = self._failures.wait_s(address)
        if key is not None and (not wait_s or (address, key.id) in self._familiar):
            self._remember(address, key)
            return key
        if wait_s:
            raise _too_many("too many wrong keys came from this address", wait_s)
        self._failures.take(address)
        raise Refused(
            401,
            "wrong_key",
            "Wrong key",
            "this API key is not accepted: it is mistyped, cut off, revoked or of another shop; "
            "`sameitem keys list` tells which there are, `sameitem keys create` makes one",
            {"WWW-Authenticate": 'Bearer realm="sameitem", error="invalid_token"'},
        )

    async def log_in(self, scope: Scope, text: str) -> Key:
        """Return the key that somebody entered on a page; counts as one request of it.

        Raises:
            Refused: it is none, or the address has to wait.
            SameItemError: the keys cannot be read.
        """
        key = await self.check(text, address_of(scope))
        self._count(key.id, f"the key {key.id}")
        return key

    async def _check_cookie(self, headers: Headers, address: str) -> Key | None:
        """Return the key of the cookie, which counts for the server's own pages only; a wrong one is taken away."""
        shown = cookie_parser("; ".join(headers.getlist("cookie"))).get(COOKIE)
        if not shown or not is_own_page(headers):
            return None
        try:
            return await self.check(shown, address)
        except Refused as refused:
            if refused.status == 401:
                gone = Response()
                gone.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
                refused.headers = {**refused.headers, "Set-Cookie": gone.headers["set-cookie"]}
            raise

    async def _keys(self) -> KeyRing:
        async with self._reading:
            now = self._clock()
            if now - self._read_at >= FRESH_S:
                self._ring = await run_in_threadpool(self._valid_keys)
                self._read_at = now  # not later: what was read is never taken for newer than it is
            return self._ring

    def _count(self, caller: str, name: str) -> None:
        if wait_s := self._requests.take(caller):
            raise _too_many(f"{name} may ask {self._per_minute:,} times in a minute", wait_s)

    def _remember(self, address: str, key: Key) -> None:
        self._familiar.pop((address, key.id), None)
        self._familiar[address, key.id] = None
        if len(self._familiar) > MOST:
            del self._familiar[next(iter(self._familiar))]


class AccessCheck:
    """Lets only those requests through to the routes that may go there (ASGI, inside the guard)."""

    def __init__(self, app: ASGIApp, *, access: Access, routes: list[BaseRoute]) -> None:
        self._app = app
        self._access = access
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection event (the ASGI interface)."""
        if scope["type"] == "websocket":  # there is none; one that is added has to be checked first
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] == "http":
            route = next((r for r in self._routes if r.matches(scope)[0] == Match.FULL), None)
            refusal = await self._refusal(scope, route)
            if refusal is not None:
                scope["route"] = route  # for the metrics
                await _read_off(scope, receive)
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _refusal(self, scope: Scope, route: BaseRoute | None) -> Response | None:
        try:
            await self._access.admit(scope, scope_of(scope["method"], route))
        except Refused as refused:
            return refused.answer(scope)
        except SameItemError as error:
            what = meaning(error)
            return problem(scope, what.status, what.code, what.title, str(error), [])
        return None


async def _read_off(scope: Scope, receive: Receive) -> None:
    """Read what a refused request brings along: who is cut off while sending often never sees the answer."""
    read = 0
    while read < READ_OFF_BYTES and "expect" not in Headers(scope=scope):  # who asks before sending waits
        message = await receive()
        read += len(message.get("body", b""))
        if not message.get("more_body", False):
            return


def needs_keys(settings: ServeSettings) -> bool:
    """Return whether requests need a key: beyond loopback always."""
    return settings.require_keys or not is_local(settings)


def scope_of(method: str, route: BaseRoute | None) -> str:
    """Return what a request that this route answers needs; admin where nobody decided."""
    path = getattr(route, "path", None)
    if isinstance(route, Mount):  # files: read whatever the method is, and answered 405 if it is another one
        return ROUTES.get(f"GET {path or '/'}", "admin")
    return ROUTES.get(f"{'GET' if method == 'HEAD' else method} {path}", "admin")


def bearer(values: Iterable[str]) -> str | None:
    """Return the text that should be a key from the values of the header Authorization.

    None: there is none, or only of another scheme, such as a reverse proxy's own password. Whatever cannot be read as
    one key becomes "", which is no key.
    """
    found = [value for value in values if value[:6].lower() == "bearer"]
    if not found:
        return None
    form = _BEARER.fullmatch(found[0])
    return form[1] if len(found) == 1 and form is not None else ""


def address_of(scope: Scope) -> str:
    """Return whose failures count together: an IPv4 address, or the /64 network that one IPv6 customer has."""
    host = (scope.get("client") or ("",))[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))


def describe(document: dict[str, Any], routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """Add to an OpenAPI document which key each route needs."""
    document.setdefault("components", {})["securitySchemes"] = {
        "key": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key, `si_...`; needed wherever the server is not for this machine alone. Scopes: "
            f"{', '.join(SCOPES)}; admin holds all others.",
        },
        "cookie": {
            "type": "apiKey",
            "in": "cookie",
            "name": COOKIE,
            "description": "The same key, kept by `POST /v1/login` for the server's own pages.",
        },
    }
    for route in routes:
        path = getattr(route, "path_format", None)
        for method, operation in document["paths"].get(path, {}).items():
            if method.upper() in (getattr(route, "methods", None) or ()):
                wanted = scope_of(method.upper(), route)
                operation["security"] = [{"key": [wanted]}, {"cookie": [wanted]}] if wanted else []
    return document


def _missing(wanted: str) -> Refused:
    return Refused(
        401,
        "no_key",
        "No key",
        f"this needs an API key with the scope {wanted}: send the header `Authorization: Bearer si_...`, or log in on "
        f"the page; `sameitem keys create NAME --scope {wanted}` makes a key",
        {"WWW-Authenticate": 'Bearer realm="sameitem"'},
    )


def _lacking(key: Key, wanted: str) -> Refused:
    return Refused(
        403,
        "missing_scope",
        "Not allowed",
        f"this needs the scope {wanted}; the key {key.id} has {', '.join(key.scopes)}: use another key, or make one "
        f"with `sameitem keys create NAME --scope {wanted}`",
        {"WWW-Authenticate": f'Bearer realm="sameitem", error="insufficient_scope", scope="{wanted}"'},
    )


def _too_many(what: str, wait_s: float) -> Refused:
    wait = math.ceil(wait_s)
    detail = f"{what}; try again in {wait} s"
    return Refused(429, "too_many_requests", "Too many requests", detail, {"Retry-After": str(wait)})
