"""Keys as a shop uses them: made on the command line, asked for by a server on the network, entered on its page."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookies import SimpleCookie
from pathlib import Path

import pytest
import urllib3

from apps.test_cli import sameitem
from live import Client, live_server
from sameitem.apps.access import COOKIE
from sameitem.apps.simulation import http_sender, simulate_over_http
from sameitem.core.errors import AccessError, InputError
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.shoppers import Request
from shops import copied, open_shop

pytestmark = pytest.mark.slow


@pytest.fixture
def shop(built_folder: Path, tmp_path: Path) -> Iterator[Shop]:
    """A shop whose server asks for keys."""
    shop = open_shop(copied(built_folder, tmp_path / "shop"), serve={"require_keys": True})
    yield shop
    shop.close()


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def cookie_of(answer_headers: object) -> SimpleCookie:
    return SimpleCookie(answer_headers["set-cookie"])  # type: ignore[index]


@contextmanager
def served(folder: Path, *options: str) -> Iterator[str]:
    """Run `sameitem serve` and give the port."""
    command = [sys.executable, "-m", "sameitem", "serve", "--shop", str(folder), "--port", "0", *options]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        address = next(word for word in server.stderr.readline().split() if word.startswith("http"))
        yield address.rstrip("/").rpartition(":")[2]
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(120) in (0, 130, -signal.SIGINT)
        server.stderr.close()


def test_a_server_on_the_network_answers_those_with_a_key_until_it_is_revoked(
    built_folder: Path, tmp_path: Path
) -> None:
    folder = copied(built_folder, tmp_path / "shop")
    refused = sameitem("serve", "--shop", folder, "--host", "0.0.0.0")
    assert refused.returncode == 1
    assert "sameitem keys create" in refused.stderr
    made = sameitem("keys", "create", "the [till]", "--scope", "search", "--shop", folder)
    text = made.stdout.strip()
    assert text.startswith("si_")
    assert made.stdout.count("\n") == 1  # nothing but the key, for KEY=$(...)
    assert text not in made.stderr
    with served(folder, "--host", "0.0.0.0") as port, urllib3.PoolManager() as pool:
        address = f"http://127.0.0.1:{port}"
        assert pool.request("GET", f"{address}/v1/taxonomy").status == 401
        assert pool.request("GET", f"{address}/healthz").status == 200
        assert pool.request("GET", f"{address}/").status == 200
        assert pool.request("GET", f"{address}/v1/taxonomy", headers=bearer(text)).status == 200
        assert pool.request("POST", f"{address}/v1/index:build", headers=bearer(text)).status == 403
        elsewhere = {**bearer(text), "Host": "search.example.com"}
        assert pool.request("GET", f"{address}/v1/taxonomy", headers=elsewhere).status == 200
        listed = json.loads(sameitem("keys", "list", "--json", "--shop", folder).stdout)["keys"]
        assert [(key["name"], key["scopes"], key["revoked_at"]) for key in listed] == [("the [till]", ["search"], None)]
        assert text.split("_", 2)[2] not in json.dumps(listed)
        assert "the [till]" in sameitem("keys", "list", "--shop", folder).stdout
        assert sameitem("keys", "revoke", listed[0]["id"], "--shop", folder).returncode == 0
        ends = time.monotonic() + 30
        while (status := pool.request("GET", f"{address}/v1/taxonomy", headers=bearer(text)).status) == 200:
            assert time.monotonic() < ends
        assert status == 401


def test_create_prints_the_key_as_json_once(tmp_path: Path) -> None:
    sameitem("init", tmp_path)
    made = json.loads(
        sameitem("keys", "create", "feed", "--scope", "write", "--scope", "events", "--json", "--shop", tmp_path).stdout
    )
    assert set(made) == {"key", "id", "name", "scopes", "created_at", "revoked_at"}
    assert made["scopes"] == ["events", "write"]
    shop = open_shop(tmp_path)
    assert shop.keys.check(made["key"]) is not None
    shop.close()


def test_a_photo_without_a_key_is_answered_not_cut_off(client: Client, photo: bytes) -> None:
    big = photo + b"\0" * 8_000_000
    answer = client("POST", "/v1/search", body=big, headers={"Content-Type": "image/jpeg"})
    assert (answer.status, answer.json["code"]) == (401, "no_key")
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_browser_logs_in_searches_loads_pictures_and_logs_out(client: Client, shop: Shop, photo: bytes) -> None:
    _, text = shop.keys.create("page", ["search", "events"])
    own = {"Origin": client.address, "Sec-Fetch-Site": "same-origin"}
    answer = client("POST", "/v1/login", json={"key": text}, headers=own)
    assert answer.status == 200
    assert (answer.json["name"], answer.json["scopes"]) == ("page", ["search", "events"])
    assert text not in answer.body.decode()
    set_cookie = cookie_of(answer.headers)[COOKIE]
    assert (set_cookie["httponly"], set_cookie["samesite"], set_cookie["secure"]) == (True, "strict", "")
    cookie = {"Cookie": f"{COOKIE}={set_cookie.value}"}
    found = client("POST", "/v1/search", body=photo, headers={**own, **cookie, "Content-Type": "image/jpeg"})
    assert found.status == 200
    picture = found.json["results"][0]["image_url"]
    assert client("GET", picture, headers={**cookie, "Sec-Fetch-Site": "same-origin"}).status == 200
    assert client("GET", picture).status == 401
    assert client("GET", picture, headers={**cookie, "Sec-Fetch-Site": "cross-site"}).status == 401
    evil = {**cookie, "Origin": "https://evil.example", "Content-Type": "image/jpeg"}
    assert client("POST", "/v1/search", body=photo, headers=evil).status == 403
    out = client("POST", "/v1/logout", headers={**own, **cookie})
    assert out.status == 200
    assert cookie_of(out.headers)[COOKIE]["max-age"] == "0"


def test_behind_an_https_proxy_the_cookie_is_for_https_only(client: Client, shop: Shop) -> None:
    _, text = shop.keys.create("page", ["search"])
    answer = client("POST", "/v1/login", json={"key": text}, headers={"X-Forwarded-Proto": "https"})
    assert cookie_of(answer.headers)[COOKIE]["secure"] is True


def test_logging_in_with_a_wrong_key_is_refused_and_costs(client: Client, shop: Shop) -> None:
    _, text = shop.keys.create("page", ["search"])
    wrong = [client("POST", "/v1/login", json={"key": text[:-1]})]
    while wrong[-1].status == 401:  # on a slow machine a few more than 20: one is granted every 3 s
        assert len(wrong) < 500
        wrong.append(client("POST", "/v1/login", json={"key": text[:-1]}))
    assert wrong[-1].status == 429
    assert len(wrong) > 20
    assert all("set-cookie" not in answer.headers for answer in wrong)
    assert int(wrong[-1].headers["retry-after"]) >= 1
    other = {"X-Forwarded-For": "192.0.2.9"}  # the proxy says: somebody else
    assert client("POST", "/v1/login", json={"key": text}, headers=other).status == 200


def test_a_shops_own_page_may_send_its_key(built_folder: Path, tmp_path: Path, photo: bytes) -> None:
    folder = copied(built_folder, tmp_path / "other")
    shop = open_shop(folder, serve={"require_keys": True, "cors_origins": ["https://shop.example"]})
    _, text = shop.keys.create("page", ["search"])
    with live_server(shop) as client:
        page = {"Origin": "https://shop.example", "Content-Type": "image/jpeg"}
        asked = {
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        preflight = client("OPTIONS", "/v1/search", headers={**page, **asked})
        assert preflight.status == 200
        assert "Authorization" in preflight.headers["access-control-allow-headers"]
        refused = client("POST", "/v1/search", body=photo, headers=page)
        assert refused.status == 401
        assert refused.headers["access-control-allow-origin"] == "https://shop.example"  # its script may read why
        assert client("POST", "/v1/search", body=photo, headers={**page, **bearer(text)}).status == 200
        with_cookie = {**page, "Cookie": f"{COOKIE}={text}", "Sec-Fetch-Site": "same-site"}
        assert client("POST", "/v1/search", body=photo, headers=with_cookie).status == 401
    shop.close()


def test_no_key_is_in_what_the_server_writes_down(client: Client, shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    _, text = shop.keys.create("page", ["admin"])
    client("GET", "/v1/taxonomy", headers=bearer(text))
    client("GET", "/v1/taxonomy", headers=bearer(text[:-1]))
    client("POST", "/v1/login", json={"key": text})
    measured = client("GET", "/metrics", headers=bearer(text)).body.decode()
    assert 'sameitem_requests_total{method="GET",route="/v1/taxonomy",status="401"} 1.0' in measured
    secret = text.split("_", 2)[2][:-1]
    assert secret not in measured
    assert secret not in caplog.text
    for path in shop.folder.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path


def test_the_openapi_document_says_which_key_a_route_needs(client: Client) -> None:
    document = client("GET", "/openapi.json").json
    assert set(document["components"]["securitySchemes"]) == {"key", "cookie"}
    paths = document["paths"]
    assert paths["/v1/search"]["post"]["security"] == [{"key": ["search"]}, {"cookie": ["search"]}]
    assert paths["/v1/products/{product_id}/images/{name}"]["put"]["security"][0] == {"key": ["write"]}
    assert paths["/healthz"]["get"]["security"] == []
    assert all("security" in route for methods in paths.values() for route in methods.values())


def test_simulated_shoppers_use_the_key_they_are_given(client: Client, shop: Shop) -> None:
    def silent(*_: object) -> None: ...

    _, text = shop.keys.create("shoppers", ["search", "events"])
    report = simulate_over_http(shop, 3, photos=None, url=client.address, key=text, seed=1, tell=silent)
    assert report.sessions == 3
    with pytest.raises(AccessError, match="needs an API key with the scope search"):
        simulate_over_http(shop, 1, photos=None, url=client.address, seed=1, tell=silent)
    with pytest.raises(InputError, match="other characters"), http_sender(client.address, key="é\n") as send:
        send(Request("/v1/search", {}, None))
    done = sameitem(
        *("simulate", "--sessions", 1, "--url", client.address, "--shop", shop.folder, "--json"), SAMEITEM_KEY=text
    )
    assert json.loads(done.stdout)["sessions"] == 1


def test_the_simulations_own_server_needs_no_key(shop: Shop) -> None:
    def silent(*_: object) -> None: ...

    assert simulate_over_http(shop, 1, photos=None, url="", seed=1, tell=silent).sessions == 1
