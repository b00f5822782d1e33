"""Images from the web, fetched so that neither a slow nor a hostile server does harm.

An address is checked where the connection is made, not where its name is looked up, so a name cannot point elsewhere
in between. One clock bounds a download from the first look-up to the last byte, retries and pauses included; waiting
for a turn at a busy host does not count. A host that keeps failing is given up, so that it cannot hold up an import.
"""

import contextlib
import http
import ipaddress
import random
import socket
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from sameitem.core.errors import AccessError, InputError, NotFoundError, SameItemError, TooLargeError, UnavailableError
from sameitem.core.settings import ImportSettings

PER_HOST = 4  # downloads from one host at once
GIVE_UP = 20  # failures of a host in a row after which it is not asked any more
MAX_REDIRECTS = 5
MAX_URL = 4096
_TURNS = 256  # hosts share this many queues, so that a list of a million hosts costs no memory
_CHUNK = 64 << 10
_HEADERS = {"User-Agent": "sameitem", "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Fetcher:
    """Downloads files over HTTP(S); safe to share between threads. A context manager."""

    def __init__(
        self,
        settings: ImportSettings,
        max_bytes: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._max_bytes = max_bytes
        self._clock = clock
        self._sleep = sleep
        self._pool = _guarded_pool(settings.allow_private_addresses)
        self._turns = tuple(threading.BoundedSemaphore(PER_HOST) for _ in range(_TURNS))
        self._failures: Counter[str] = Counter()  # in a row, by host

    def fetch(self, url: str) -> bytes:
        """Return the file behind a URL.

        Raises:
            InputError: not an http(s) URL, a redirect too many, or an answer that is not a file.
            AccessError: the server is in a private network, or refuses us.
            NotFoundError: the host or the file does not exist.
            TooLargeError: more bytes than accepted.
            UnavailableError: no complete answer in time; trying again may help.
        """
        host = urlsplit(check_url(url)).hostname or ""
        with self._turns[hash(host) % _TURNS]:  # the clock starts when it is this download's turn
            if self._failures[host] >= GIVE_UP:
                raise UnavailableError(f"the host failed {GIVE_UP} times in a row and is not asked again")
            try:
                data = self._persist(url)
            except UnavailableError:
                self._failures[host] += 1
                raise
            self._failures.pop(host, None)
            return data

    def close(self) -> None:
        """Close idle connections."""
        self._pool.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _persist(self, url: str) -> bytes:
        ends = self._clock() + self._settings.fetch_timeout_s
        for attempt in range(self._settings.fetch_retries + 1):
            try:
                return self._follow(url, ends)
            except _TryAgainError as error:
                pause = error.after_s if error.after_s is not None else 0.5 * 2**attempt * random.uniform(0.5, 1.5)
                if attempt == self._settings.fetch_retries or self._clock() + pause >= ends:
                    raise UnavailableError(f"{error}; tried {attempt + 1} times") from error
                self._sleep(pause)
        raise AssertionError("unreachable")

    def _follow(self, url: str, ends: float) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._once(check_url(url), ends)
            if isinstance(answer, bytes):
                return answer
            url = urljoin(url, answer.location)
        raise InputError(f"more than {MAX_REDIRECTS} redirects; give the address they lead to")

    def _once(self, url: str, ends: float) -> "bytes | _Redirect":
        remaining = ends - self._clock()
        if remaining <= 0:
            raise self._late()
        with _deadline(remaining) as passed:
            try:
                response = self._pool.request(
                    "GET",
                    url,
                    headers=_HEADERS,
                    timeout=urllib3.Timeout(total=remaining),
                    pool_timeout=remaining,
                    retries=False,
                    redirect=False,
                    preload_content=False,
                    decode_content=False,
                )
                try:
                    answer = self._answer(response)
                finally:
                    response.close()  # a body that was not read to its end must not meet the next request
                    response.release_conn()
            except (urllib3.exceptions.HTTPError, OSError, http.client.HTTPException, ValueError) as error:
                if passed.is_set() or self._clock() >= ends:
                    raise self._late() from error
                raise _translated(error) from error
        if passed.is_set():  # a connection that was cut looks like an answer that ended
            raise self._late()
        return answer

    def _answer(self, response: urllib3.BaseHTTPResponse) -> "bytes | _Redirect":
        status = response.status
        if status in (301, 302, 303, 307, 308):
            location = response.headers.get("Location", "")
            if not location:
                raise InputError(f"the server answered {status} without saying where to")
            return _Redirect(location)
        if status == 429 or status >= 500:
            raise _TryAgainError(f"the server answered {_status(status)}", _retry_after(response))
        if status in (404, 410):
            raise NotFoundError(f"the server answered {_status(status)}")
        if status in (401, 402, 403, 407, 451):
            raise AccessError(f"the server answered {_status(status)}")
        if status != 200:
            raise InputError(f"the server answered {_status(status)}; need 200 with a file")
        return self._body(response)

    def _body(self, response: urllib3.BaseHTTPResponse) -> bytes:
        announced = response.headers.get("Content-Length", "")
        if announced.isdigit() and int(announced) > self._max_bytes:
            raise self._too_large(int(announced))
        data = bytearray()
        while chunk := response.read1(_CHUNK):
            data += chunk
            if len(data) > self._max_bytes:
                raise self._too_large(len(data))
        coding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if coding in ("", "identity"):
            return bytes(data)
        if coding not in ("gzip", "x-gzip", "deflate"):
            raise InputError(f"the server sent Content-Encoding {coding[:40]!r}; accepted are identity and gzip")
        try:
            inflater = zlib.decompressobj(47)  # gzip or zlib, told by the header
            plain = inflater.decompress(bytes(data), self._max_bytes + 1)
        except zlib.error as error:
            raise InputError(f"the server sent damaged {coding}: {error}") from error
        if len(plain) > self._max_bytes:
            raise self._too_large(len(plain))
        return plain

    def _late(self) -> UnavailableError:
        return UnavailableError(f"no complete answer within {self._settings.fetch_timeout_s:g} s")

    def _too_large(self, size: int) -> TooLargeError:
        return TooLargeError(f"the file has {size:,} bytes or more, accepted are at most {self._max_bytes:,}")


def check_url(url: str) -> str:
    """Return a URL that may be fetched, without its fragment.

    Raises:
        InputError: not http(s), without a host, with a user name, or malformed.
    """
    if len(url) > MAX_URL:
        raise InputError(f"the URL has {len(url)} characters, accepted are at most {MAX_URL}")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"not a URL: {error}") from error
    if parts.scheme.lower() not in ("http", "https"):
        raise InputError(f"scheme {parts.scheme[:20]!r} is not fetched; accepted are http and https")
    if not host:
        raise InputError("the URL names no host")
    if parts.username is not None or parts.password is not None:
        raise InputError("the URL holds a user name or password, which would end up in files; remove it")
    if any(c.isspace() and c != " " for c in url):
        raise InputError("the URL holds control characters")
    return parts._replace(fragment="").geturl().replace(" ", "%20")


def is_public(address: _Address) -> bool:
    """Say whether an address is on the public internet, also when it wraps another (mapped, 6to4, Teredo, NAT64)."""
    inner: list[_Address | None] = []
    if isinstance(address, ipaddress.IPv6Address):
        inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in _NAT64:
            inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address.ipv4_mapped:
            return is_public(address.ipv4_mapped)
    is_odd = address.is_multicast or address.is_unspecified or (address.is_reserved and address not in _NAT64)
    return address.is_global and not is_odd and all(is_public(part) for part in inner if part is not None)


class _Redirect:
    def __init__(self, location: str) -> None:
        self.location = location


class _TryAgainError(Exception):
    """This attempt failed; the next may not."""

    def __init__(self, message: str, after_s: float | None = None) -> None:
        super().__init__(message)
        self.after_s = after_s


class _PrivateAddressError(OSError):
    """Nothing but private addresses; urllib3 passes it on."""


class _UnknownHostError(OSError):
    """The name has no address."""


class _Attempt(threading.local):
    """The socket that this thread's request uses, for its clock to cut."""

    sockets: "list[socket.socket] | None" = None


_attempt = _Attempt()


class _deadline:
    """Run a block; when its time is over, cut its connection, whatever it is waiting for."""

    def __init__(self, seconds: float) -> None:
        self._sockets: list[socket.socket] = []
        self._passed = threading.Event()
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> threading.Event:
        _attempt.sockets = self._sockets
        self._timer.start()
        return self._passed

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        _attempt.sockets = None

    def _cut(self) -> None:
        self._passed.set()
        for connection in self._sockets:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def _guarded_pool(allow_private: bool) -> urllib3.PoolManager:
    """Return a pool whose connections refuse private addresses and can be cut by `_deadline`."""

    class Plain(_Guarded, HTTPConnection):
        private = allow_private

    class Secure(_Guarded, HTTPSConnection):
        private = allow_private

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    manager = urllib3.PoolManager(num_pools=64, maxsize=PER_HOST, block=True)
    manager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
    return manager


class _Guarded:
    """Mixed into urllib3's connections: chooses the address itself, and hands a second handle to the clock."""

    private: bool
    _cutter: "socket.socket | None" = None

    def _new_conn(self: Any) -> socket.socket:
        error: OSError | None = None
        refused = False
        try:
            found = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as reason:
            raise _UnknownHostError("the host name has no address") from reason
        for family, kind, protocol, _, address in found:
            if not self.private and not is_public(ipaddress.ip_address(str(address[0]).partition("%")[0])):
                refused = True
                continue
            connection = socket.socket(family, kind, protocol)
            try:
                connection.settimeout(self.timeout if isinstance(self.timeout, int | float) else None)
                self._arm(connection)
                connection.connect(address)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return connection
            except OSError as reason:
                error = reason
                connection.close()
        if error is None and refused:
            raise _PrivateAddressError("the host is in a private or reserved network, which is not fetched from")
        raise error or _UnknownHostError("the host name has no address")

    def request(self: Any, *arguments: Any, **options: Any) -> None:
        if self._cutter is not None and _attempt.sockets is not None:  # a connection kept from an earlier request
            _attempt.sockets.append(self._cutter)
        super().request(*arguments, **options)  # type: ignore[misc]

    def close(self: Any) -> None:
        super().close()  # type: ignore[misc]
        if self._cutter is not None:
            self._cutter.close()
            self._cutter = None

    def _arm(self: Any, connection: socket.socket) -> None:
        if self._cutter is not None:
            self._cutter.close()
        self._cutter = connection.dup()  # shutting it down wakes the other, also when TLS has taken it over
        if _attempt.sockets is not None:
            _attempt.sockets.append(self._cutter)


def _translated(error: Exception) -> SameItemError | _TryAgainError:
    """Return what an error of the network means; its text may hold addresses, so it is not repeated."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, _PrivateAddressError):
            return AccessError(f"{seen}; imports.allow_private_addresses permits it")
        if isinstance(seen, _UnknownHostError):
            return NotFoundError(str(seen))
        seen = seen.__cause__ or seen.__context__ or getattr(seen, "reason", None)
    if isinstance(error, urllib3.exceptions.LocationValueError | ValueError):
        return InputError("not a URL that can be fetched")
    if isinstance(error, urllib3.exceptions.SSLError):
        return AccessError("the server's certificate is not valid")
    return _TryAgainError(f"the connection failed ({type(error).__name__})")


def _retry_after(response: urllib3.BaseHTTPResponse) -> float | None:
    text = response.headers.get("Retry-After", "").strip()
    return float(text) if text.isdigit() and len(text) < 6 else None


def _status(status: int) -> str:
    with contextlib.suppress(ValueError):
        return f"{status} {http.HTTPStatus(status).phrase}"
    return str(status)
