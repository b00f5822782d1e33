"""What happens to every request before its route sees it: identity, limits, deadlines, and who may ask.

Plain ASGI, so that a body is counted while it arrives and nothing is read twice.
"""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import unquote

import orjson
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sameitem.apps.measures import Measures
from sameitem.core.settings import ServeSettings

LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "::1")
ENCODED_SLASH = "\0"  # stands in a path for a slash that was sent as %2F: part of a name, not of the path
USERS = "/v1/users/"
UNLIMITED = ("/v1/imports",)  # bodies that are streamed to the disk
_log = logging.getLogger(__name__)
_SLASH = re.compile(b"%2f", re.IGNORECASE)
_SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data: https: http:; frame-ancestors *",
}


class Guard:
    """Gives each request an id, refuses foreign hosts and pages, caps and times its body, and never leaks an error."""

    def __init__(self, app: ASGIApp, *, settings: ServeSettings, max_body_bytes: int, measures: Measures) -> None:
        self._app = app
        self._settings = settings
        self._max_body_bytes = max_body_bytes
        self._measures = measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection event (the ASGI interface)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["request_id"] = secrets.token_hex(8)
        if b"%2f" in (raw := scope["raw_path"]).lower():
            scope["path"] = unquote(_SLASH.sub(b"%00", raw.partition(b"?")[0]).decode("ascii", "replace"))
        body = _Body(receive, self._limit(scope["path"]), self._settings.read_deadline_s)
        begun, answer = time.perf_counter(), _Answer(send, scope["request_id"])
        refusal = self._refusal(scope)
        try:
            if refusal is not None:
                await refusal(scope, receive, answer)
            else:
                await self._app(scope, body, answer)
        except (_TooLong, _TooSlow) as error:
            await answer.instead(_stopped(scope, error), scope, receive)
        except Exception:  # the outermost loop of the service
            _log.exception("request %s %s %s failed", scope["request_id"], scope["method"], _logged(scope["path"]))
            detail = "something went wrong on our side; the log has it under this request_id"
            await answer.instead(problem(scope, 500, "internal", "Internal error", detail, []), scope, receive)
        finally:
            self._measures.answered(scope, answer.status, time.perf_counter() - begun)

    def _limit(self, path: str) -> int | None:
        return None if path in UNLIMITED else self._max_body_bytes

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        is_checked = is_local(self._settings) or self._settings.hosts
        if is_checked and name not in (*LOOPBACK, *self._settings.hosts):
            detail = f"this server answers to {', '.join(LOOPBACK[:3])} and serve.hosts, not to {name[:100]!r}"
            return problem(scope, 403, "forbidden", "Not allowed", detail, [])
        origin = headers.get("origin")
        if origin and scope["method"] not in ("GET", "HEAD", "OPTIONS") and origin not in _own_origins(headers):
            allowed = self._settings.cors_origins
            if origin not in allowed and "*" not in allowed:
                detail = f"pages of {origin[:200]!r} may not write here; add the origin to serve.cors_origins"
                return problem(scope, 403, "forbidden", "Not allowed", detail, [])
        return None


def is_local(settings: ServeSettings) -> bool:
    """Return whether the server listens on loopback, so that only programs of this machine reach it directly."""
    return settings.host in LOOPBACK


def is_own_page(headers: Headers) -> bool:
    """Return whether a request comes from a page of this server, or from no page at all; told by what browsers send."""
    origin = headers.get("origin")
    from_own_site = headers.get("sec-fetch-site", "none") in ("same-origin", "none")
    return from_own_site and (origin is None or origin in _own_origins(headers))


def _own_origins(headers: Headers) -> set[str]:
    return {f"{scheme}://{headers.get('host', '')}" for scheme in ("http", "https")}


def _logged(path: str) -> str:
    """Return a path as it may be logged: without a user's id."""
    return f"{USERS}..." if path.startswith(USERS) else path


class _TooLong(Exception):
    pass


class _TooSlow(Exception):
    pass


class _Body:
    """Passes a request's body on, counted and timed."""

    def __init__(self, receive: Receive, limit: int | None, deadline_s: float) -> None:
        self._receive = receive
        self._limit = limit
        self._deadline_s = deadline_s
        self._ends = time.monotonic() + deadline_s
        self._length = 0
        self._complete = False

    async def __call__(self) -> Message:
        if self._complete:  # only a disconnect can follow: wait for it without a deadline
            return await self._receive()
        try:
            async with asyncio.timeout(self._ends - time.monotonic()):
                message = await self._receive()
        except TimeoutError as error:
            raise _TooSlow(f"the request took longer than {self._deadline_s:g} s to arrive") from error
        self._length += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        if self._limit is None:  # a long upload is fine while it keeps coming
            self._ends = time.monotonic() + self._deadline_s
        elif self._length > self._limit:
            raise _TooLong(f"the request body is longer than the {self._limit:,} bytes accepted")
        return message


class _Answer:
    """Passes an answer on with the headers that every answer has, and remembers how it went."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self._request_id
            for name, value in _SECURITY.items():
                headers.setdefault(name, value)  # a page of ours may be stricter
        await self._send(message)

    async def instead(self, response: Response, scope: Scope, receive: Receive) -> None:
        """Answer with a problem where nothing was sent yet; the connection ends after it."""
        if self.status == 0:
            response.headers["Connection"] = "close"
            await response(scope, receive, self)


def problem(
    scope: MutableMapping[str, Any], status: int, code: str, title: str, detail: str, errors: list[dict[str, str]]
) -> Response:
    """Return an RFC 9457 answer."""
    body = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail.encode("utf-8", "replace").decode(),
        "instance": scope["path"].encode("utf-8", "replace").decode(),
        "code": code,
        "request_id": scope["request_id"],
        "errors": errors,
    }
    headers = {"Retry-After": "5"} if status in (429, 503) else None
    return Response(orjson.dumps(body), status, headers, "application/problem+json")


def _stopped(scope: Scope, error: Exception) -> Response:
    if isinstance(error, _TooLong):
        return problem(scope, 413, "too_large", "Too large", str(error), [])
    return problem(scope, 408, "too_slow", "Too slow", str(error), [])
