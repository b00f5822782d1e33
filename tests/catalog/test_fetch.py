"""Downloads, against a local server that behaves and misbehaves."""

import contextlib
import gzip
import ipaddress
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sameitem.catalog.fetch import GIVE_UP, PER_HOST, Fetcher, check_url, is_public
from sameitem.core.errors import AccessError, InputError, NotFoundError, TooLargeError, UnavailableError
from sameitem.core.settings import ImportSettings

LIMIT = 10_000
PICTURE = bytes(range(256)) * 8


class Server(ThreadingHTTPServer):
    """Answers by path; counts requests, connections, and how many are under way."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.together = self.most_together = self.connections = 0
        self.release = threading.Event()
        self.enough = threading.Event()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.server_port}{path}"

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients that hang up are the point of some tests


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_GET(self) -> None:
        path, _, argument = self.path.partition("?")
        with self.server.lock:
            self.server.asked[path] += 1
            times = self.server.asked[path]
        getattr(self, "answer_" + path.strip("/").replace("-", "_"))(argument, times)

    def send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def answer_picture(self, _argument: str, _times: int) -> None:
        self.send(200, PICTURE)

    def answer_status(self, argument: str, _times: int) -> None:
        self.send(int(argument))

    def answer_flaky(self, argument: str, times: int) -> None:
        self.send(503, Retry_After=argument or "0") if times < 3 else self.send(200, PICTURE)

    def answer_cut(self, _argument: str, times: int) -> None:
        self.send(200, PICTURE[: 2048 if times > 1 else 100], Content_Length="2048")
        self.close_connection = True

    def answer_redirect(self, argument: str, _times: int) -> None:
        self.send(302, Location=argument)

    def answer_loop(self, _argument: str, _times: int) -> None:
        self.send(302, Location="/loop")

    def answer_large(self, _argument: str, _times: int) -> None:
        self.send(200, Content_Length="99999999")

    def answer_endless(self, _argument: str, _times: int) -> None:
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(b"x" * 4096)

    def answer_bomb(self, _argument: str, _times: int) -> None:
        self.send(200, gzip.compress(bytes(50_000_000)), Content_Encoding="gzip")

    def answer_gzip(self, _argument: str, _times: int) -> None:
        self.send(200, gzip.compress(PICTURE), Content_Encoding="gzip")

    def answer_brotli(self, _argument: str, _times: int) -> None:
        self.send(200, b"?", Content_Encoding="br")

    def answer_slow_body(self, _argument: str, _times: int) -> None:
        self.send(200, Content_Length="1000")
        while not self.server.release.wait(0.02):
            self.wfile.write(b"x")

    def answer_slow_head(self, _argument: str, _times: int) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not self.server.release.wait(0.02):
            self.wfile.write(b"x")

    def answer_crowd(self, _argument: str, _times: int) -> None:
        with self.server.lock:
            self.server.together += 1
            self.server.most_together = max(self.server.most_together, self.server.together)
            if self.server.together >= PER_HOST:
                self.server.enough.set()
        self.server.enough.wait(5)
        with self.server.lock:
            self.server.together -= 1
        self.send(200, PICTURE)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    thread.join()
    server.server_close()


def fetcher(*, private: bool = True, timeout_s: float = 20, sleep: Callable[[float], None] = lambda _: None) -> Fetcher:
    settings = ImportSettings(allow_private_addresses=private, fetch_timeout_s=timeout_s)
    return Fetcher(settings, LIMIT, sleep=sleep)


def test_a_file_is_fetched_over_one_kept_connection(server: Server) -> None:
    with fetcher() as web:
        assert [web.fetch(server.url("/picture#top")) for _ in range(3)] == [PICTURE] * 3
    assert server.connections == 1


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1", "0x7f.1"]
)
def test_private_addresses_are_refused_without_a_connection(server: Server, host: str) -> None:
    with fetcher(private=False) as web, pytest.raises((AccessError, NotFoundError)):
        web.fetch(server.url("/picture", host))
    assert server.connections == 0


def test_the_address_that_is_connected_to_is_checked_not_one_looked_up_before(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", server.server_port))]
    private = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.server_port))]
    answers = iter([private, public])
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: next(answers))
    with fetcher(private=False) as web, pytest.raises(AccessError, match="private"):
        web.fetch("http://rebinding.example/picture")
    assert server.connections == 0
    assert next(answers) == public  # looked up once: there is no second answer to be fooled by


def test_a_redirect_to_a_private_address_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from sameitem.catalog import fetch

    allowed = iter([True, False])
    monkeypatch.setattr(fetch, "is_public", lambda _address: next(allowed))
    with fetcher(private=False) as web, pytest.raises(AccessError, match="private"):
        web.fetch(server.url("/redirect?" + server.url("/picture", "localhost")))
    assert server.asked == {"/redirect": 1}


def test_redirects_are_followed_five_times(server: Server) -> None:
    with fetcher() as web:
        assert web.fetch(server.url("/redirect?/picture")) == PICTURE
        with pytest.raises(InputError, match="more than 5 redirects"):
            web.fetch(server.url("/loop"))
    assert server.asked["/loop"] == 6


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a", "gopher://x/"])
def test_a_redirect_to_another_scheme_is_refused(server: Server, target: str) -> None:
    with fetcher() as web, pytest.raises(InputError, match="accepted are http and https"):
        web.fetch(server.url("/redirect?" + target))


def test_a_busy_server_is_asked_again_after_the_pause_it_names(server: Server) -> None:
    pauses: list[float] = []
    with fetcher(sleep=pauses.append) as web:
        assert web.fetch(server.url("/flaky?7")) == PICTURE
    assert pauses == [7, 7]


def test_a_pause_longer_than_the_deadline_is_not_waited_for(server: Server) -> None:
    with fetcher() as web, pytest.raises(UnavailableError, match="503"):
        web.fetch(server.url("/flaky?3600"))
    assert server.asked["/flaky"] == 1


def test_repeated_failures_end_after_the_retries(server: Server) -> None:
    with fetcher() as web, pytest.raises(UnavailableError, match="tried 3 times"):
        web.fetch(server.url("/status?500"))


def test_a_body_that_was_cut_short_is_fetched_again(server: Server) -> None:
    with fetcher() as web:
        assert web.fetch(server.url("/cut")) == PICTURE


@pytest.mark.parametrize(
    ("status", "error"), [(404, NotFoundError), (410, NotFoundError), (403, AccessError), (204, InputError)]
)
def test_a_final_answer_is_not_asked_for_again(server: Server, status: int, error: type[Exception]) -> None:
    with fetcher() as web, pytest.raises(error, match=str(status)):
        web.fetch(server.url(f"/status?{status}"))
    assert server.asked["/status"] == 1


@pytest.mark.parametrize("path", ["/large", "/endless", "/bomb"])
def test_more_bytes_than_accepted_are_not_taken(server: Server, path: str) -> None:
    with fetcher() as web, pytest.raises(TooLargeError, match="accepted are at most 10,000"):
        web.fetch(server.url(path))


def test_a_content_encoding_is_undone_or_refused(server: Server) -> None:
    with fetcher() as web:
        assert web.fetch(server.url("/gzip")) == PICTURE
        with pytest.raises(InputError, match="Content-Encoding"):
            web.fetch(server.url("/brotli"))


@pytest.mark.parametrize("path", ["/slow-body", "/slow-head"])
def test_a_server_that_drips_is_cut_at_the_deadline(server: Server, path: str) -> None:
    begin = time.monotonic()
    with fetcher(timeout_s=0.3) as web, pytest.raises(UnavailableError, match=r"within 0\.3 s"):
        web.fetch(server.url(path))
    assert time.monotonic() - begin < 3


def test_a_server_that_never_answers_is_left_at_the_deadline() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with fetcher(timeout_s=0.2) as web, pytest.raises(UnavailableError):
            web.fetch(f"http://127.0.0.1:{silent.getsockname()[1]}/")
        with fetcher(timeout_s=0.2) as web, pytest.raises(UnavailableError):
            web.fetch(f"https://127.0.0.1:{silent.getsockname()[1]}/")


def test_one_host_is_asked_by_few_at_once(server: Server) -> None:
    with fetcher() as web, ThreadPoolExecutor(12) as pool:
        assert set(pool.map(web.fetch, [server.url("/crowd")] * 12)) == {PICTURE}
    assert server.most_together == PER_HOST


def test_a_host_that_keeps_failing_is_given_up_and_one_success_forgives(server: Server) -> None:
    with fetcher() as web:
        for path in ["/status?500"] * (GIVE_UP - 1) + ["/picture"] + ["/status?500"] * GIVE_UP:
            with contextlib.suppress(UnavailableError):
                web.fetch(server.url(path))
        asked = server.asked.total()
        with pytest.raises(UnavailableError, match="not asked again"):
            web.fetch(server.url("/picture"))
    assert server.asked.total() == asked
    assert server.asked["/status"] == 3 * (2 * GIVE_UP - 1)


def test_a_path_in_any_script_is_fetched(server: Server) -> None:
    with fetcher() as web:
        assert web.fetch(server.url("/picture?图片 1.jpg")) == PICTURE


def test_a_host_that_does_not_exist_is_not_found() -> None:
    with fetcher() as web, pytest.raises(NotFoundError, match="no address"):
        web.fetch("http://no-such-host.invalid/a.jpg")


def test_a_refused_connection_is_worth_trying_again() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with fetcher() as web, pytest.raises(UnavailableError, match="tried 3 times"):
        web.fetch(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "a.jpg", "http://", "http://user:secret@host/", "http://[::1/", "http://h:99999/", "ftp://h/",
     "http://h/a\r\nX: y", "http://h/" + "x" * 5000],
)  # fmt: skip
def test_what_is_no_fetchable_url_is_refused_without_repeating_secrets(url: str) -> None:
    with pytest.raises(InputError) as refused:
        check_url(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
     "255.255.255.255", "192.0.2.1", "240.0.0.1", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:10.0.0.1",
     "::ffff:169.254.169.254", "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2001:db8::1"],
)  # fmt: skip
def test_addresses_beyond_the_public_internet_are_known(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses_are_fetched_from(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@given(number=st.integers(0, 2**32 - 1))
def test_a_mapped_address_is_as_public_as_the_one_inside(number: int) -> None:
    plain = ipaddress.IPv4Address(number)
    assert is_public(ipaddress.IPv6Address(f"::ffff:{plain}")) == is_public(plain)
