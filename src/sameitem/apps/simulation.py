"""The HTTP side of `sameitem simulate`: a server of our own for the run, and the function that sends to a server."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import urllib3
import uvicorn

from sameitem.apps.rest import create_app
from sameitem.core.errors import AccessError, ConflictError, InputError, UnavailableError
from sameitem.core.settings import ServeSettings
from sameitem.evaluation.evaluate import read_queries
from sameitem.pipeline.online import Searcher
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.shoppers import (
    Habits,
    Request,
    Send,
    SimulationReport,
    edited_errands,
    photo_errands,
    simulate,
)
from sameitem.upkeep.work import Tell

_TIMEOUT_S = 60.0


def simulate_over_http(
    shop: Shop, sessions: int, *, photos: Path | None, url: str, seed: int, tell: Tell, key: str = ""
) -> SimulationReport:
    """Let simulated shoppers search and click over HTTP.

    Args:
        shop: whose catalogue they search.
        sessions: how many searches.
        photos: CSV of image and product_id to search with; None = edited catalogue images.
        url: of a server of this shop; empty = one of our own is started for the run.
        seed: of everything drawn by chance.
        tell: is told how far it is.
        key: API key for the server at `url`, with the scopes search and events; empty = it needs none.

    Raises:
        NotFoundError: there is no such file, or the catalogue has no image.
        InputError: the file or the address cannot be used.
        AccessError: the server refuses the key, or wants one.
        UnavailableError: nothing is published yet, or the server does not answer.
    """
    generator = np.random.default_rng(seed)
    errands = (
        edited_errands(shop, generator, most=sessions)
        if photos is None
        else photo_errands(read_queries(photos), generator)
    )
    with nullcontext(url) if url else own_server(shop) as address, http_sender(address, key=key) as send:
        return simulate(errands, send, sessions=sessions, habits=Habits(), generator=generator, tell=tell)


@contextmanager
def own_server(shop: Shop) -> Iterator[str]:
    """Serve a shop on a free port of loopback while the block runs; gives the address.

    Raises:
        UnavailableError: nothing was published yet, or the server did not start.
    """
    searcher = Searcher(shop)
    searcher.models(searcher.gallery())
    app = create_app(shop, searcher, wake_runner=lambda: None, settings=ServeSettings())
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", server_header=False))
    thread = threading.Thread(target=server.run, name="own-server", daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise UnavailableError("the server for the simulation did not start; give --url of one that runs")
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def http_sender(url: str, *, key: str = "") -> Iterator[Send]:
    """Give the function that sends to a server.

    It raises InputError where the server says that the request is wrong, AccessError where it wants another key,
    ConflictError where it forbids it, and UnavailableError where it does not answer as ours does or asks to wait.
    """
    if not url.startswith(("http://", "https://")):
        raise InputError(f"need --url http://HOST:PORT of a running server, got {url!r}", field="url")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    if not key.isascii() or not key.isprintable():
        raise InputError("need an API key as `sameitem keys create` printed it; this one holds other characters")
    with urllib3.PoolManager(headers=headers) as pool:

        def send(request: Request) -> Mapping[str, Any]:
            address = url.rstrip("/") + request.path
            try:
                if request.photo is None:
                    answer = pool.request("POST", address, json=request.fields, retries=False, timeout=_TIMEOUT_S)
                else:
                    form: dict[str, str | tuple[str, bytes, str]] = {
                        "image": ("photo.jpg", request.photo, "image/jpeg")
                    }
                    form |= {name: str(value) for name, value in request.fields.items()}
                    answer = pool.request("POST", address, fields=form, retries=False, timeout=_TIMEOUT_S)
            except urllib3.exceptions.HTTPError as error:
                raise UnavailableError(f"no answer from {address}: {error}; is the server running?") from error
            return _read(answer.status, answer.data, address)

        yield send


def _read(status: int, data: bytes, address: str) -> Mapping[str, Any]:
    try:
        body = orjson.loads(data)
        detail = body.get("detail", "")
    except (orjson.JSONDecodeError, AttributeError) as error:
        raise UnavailableError(f"{address} answered {status} and no JSON object; is it a sameitem server?") from error
    if status in (413, 415, 422):
        raise InputError(detail)
    if status in (401, 403):
        raise AccessError(f"{address} answered {status}: {detail}")
    if status != 200:
        kind = UnavailableError if status >= 500 or status == 429 else ConflictError
        raise kind(f"{address} answered {status}: {detail}")
    return body  # type: ignore[no-any-return]
