"""The real server of a shop, in a thread of the test, and a client that reads JSON."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import urllib3
import uvicorn

from sameitem.apps.rest import create_app
from sameitem.apps.server import patient_protocol
from sameitem.pipeline.online import Searcher
from sameitem.pipeline.shop import Shop


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Client:
    """Talks to one server."""

    address: str
    pool: urllib3.PoolManager

    def __call__(self, method: str, path: str, **options: Any) -> Answer:
        """Send one request; options as in urllib3 (json, fields, body, headers)."""
        answer = self.pool.request(method, self.address + path, retries=False, timeout=60, **options)
        return Answer(answer.status, answer.headers, answer.data)

    def search(self, photo: bytes, **fields: Any) -> Answer:
        """Search with a photo and form fields."""
        form: dict[str, Any] = {"image": ("photo.jpg", photo, "image/jpeg")}
        form |= {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
        return self("POST", "/v1/search", fields=form)


@contextmanager
def live_server(shop: Shop, *, wake_runner: Callable[[], None] = lambda: None) -> Iterator[Client]:
    """Serve a shop on a free port of loopback while the block runs."""
    config = uvicorn.Config(
        create_app(shop, Searcher(shop), wake_runner=wake_runner),
        host="127.0.0.1",
        port=0,
        log_level="error",
        http=patient_protocol(shop.settings.serve.read_deadline_s),
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    with urllib3.PoolManager() as pool:
        yield Client(f"http://127.0.0.1:{port}", pool)
    server.should_exit = True
    thread.join()
