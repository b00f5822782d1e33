"""Runs the REST application: one process, and a runner process beside it while there are jobs."""

import asyncio
import logging
import subprocess
import sys
import threading

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from sameitem.apps.access import needs_keys
from sameitem.apps.follower import Follower
from sameitem.apps.guard import LOOPBACK
from sameitem.apps.rest import create_app
from sameitem.core.errors import AccessError, UnavailableError
from sameitem.pipeline.online import Searcher
from sameitem.pipeline.shop import Shop

SWITCH_S = 0.001  # a thread that wants to go on waits so long for another's Python code, not the usual 5 ms
_log = logging.getLogger(__name__)


class RunnerProcess:
    """Starts `sameitem runner` when jobs wait; it ends by itself when none is left."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._wanted = threading.Event()
        threading.Thread(target=self._keep, name="runner", daemon=True).start()

    def wake(self) -> None:
        """See to it that a runner takes the jobs that wait now."""
        self._wanted.set()

    def stop(self) -> None:
        """End the runner; the job it is at is resumed by the next one."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                self._process.terminate()
                self._process.wait()

    def _keep(self) -> None:
        command = [sys.executable, "-m", "sameitem", "--shop", str(self._shop.folder), "runner"]
        while True:
            self._wanted.wait()
            self._wanted.clear()
            with self._lock:
                self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
            self._process.wait()


def serve(shop: Shop) -> None:
    """Serve until interrupted.

    Raises:
        AccessError: asked to serve only those who have a key, while there is no key.
    """
    settings = shop.settings.serve
    check_keys(shop)
    sys.setswitchinterval(SWITCH_S)
    runner = RunnerProcess(shop)
    runner.wake()  # jobs that a killed runner left behind go on
    searcher = Searcher(shop)
    _warm(searcher)
    follower = Follower(shop, searcher, wake_runner=runner.wake)
    app = create_app(shop, searcher, wake_runner=runner.wake)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=patient_protocol(settings.read_deadline_s),
        log_level="warning",
        timeout_graceful_shutdown=5,
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips=list(settings.trusted_proxies),
    )
    server = _Announcing(config)
    try:
        server.run()
    finally:
        follower.stop()
        runner.stop()


def check_keys(shop: Shop) -> None:
    """Refuse to serve only those who have a key while there is no key.

    Raises:
        AccessError: there is none.
    """
    settings = shop.settings.serve
    if needs_keys(settings) and not len(shop.keys.valid()):
        why = "serve.require_keys is set" if settings.require_keys else f"{settings.host!r} is open to the network"
        raise AccessError(
            f"{why}, so that requests need an API key, and this shop has none; make one with "
            "`sameitem keys create NAME --scope admin`, or listen on 127.0.0.1 for this machine alone"
        )


def _warm(searcher: Searcher) -> None:
    """Load index and model before the first query comes, where something is published."""
    try:
        gallery = searcher.gallery()
        searcher.models(gallery)
        gallery.index.warm()
    except UnavailableError as error:
        _log.warning("not ready yet: %s", error)


class _Announcing(uvicorn.Server):
    """Says where it listens once it does: the port may have been chosen by the system."""

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """Start listening."""
        await super().startup(sockets)  # type: ignore[arg-type]
        for listener in self.servers:
            for socket in listener.sockets:
                host, port = socket.getsockname()[:2]
                _log.info("listening on %s:%d", host, port)
                sys.stderr.write(f"The search page is at http://{host}:{port}/  (Ctrl+C ends)\n")
                if self.config.host not in LOOPBACK:
                    sys.stderr.write(
                        "Keys and photos travel readable for all on the way: put an https proxy in front.\n"
                    )
                sys.stderr.flush()


def patient_protocol(deadline_s: float) -> type[H11Protocol]:
    """Return uvicorn's HTTP protocol with a deadline for the head of each request, which it does not have."""

    class PatientProtocol(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._await_head()

        def data_received(self, data: bytes) -> None:
            if self._deadline is None and not self._is_busy():
                self._await_head()
            super().data_received(data)
            if self._deadline is not None and self._is_busy():
                self._deadline.cancel()
                self._deadline = None

        def connection_lost(self, exc: Exception | None) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
            super().connection_lost(exc)

        def _is_busy(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _await_head(self) -> None:
            self._deadline = self.loop.call_later(deadline_s, self._give_up)

        def _give_up(self) -> None:
            self._deadline = None
            if not self._is_busy() and not self.transport.is_closing():
                self.transport.close()

    return PatientProtocol
