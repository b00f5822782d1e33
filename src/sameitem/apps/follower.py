"""A thread that keeps a server's gallery up with the catalogue and with what is published.

Every server process holds what was added since the build in memory, as the change log tells it. One of them, whoever
holds the lock, computes the features that nobody knows yet, for all of them, asks for a compaction when one is due, and
counts what was shown and clicked.
"""

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from sameitem.clicks.counts import take_in
from sameitem.core.errors import SameItemError, UnavailableError
from sameitem.pipeline.compaction import is_due
from sameitem.pipeline.online import Searcher
from sameitem.pipeline.shop import Shop

LOCK = ".follow.lock"
BUSY_S, IDLE_S = 0.04, 0.1  # between two looks: while something changes, and else
DUE_S = 1.0  # between two looks whether a compaction is due
COUNT_S = 2.0  # between two counts of searches and events
CALM_S = 2.0  # without a change, after which nothing changes
SULK_S = 5.0  # after an error
_log = logging.getLogger(__name__)


class Follower:
    """Follows from the moment it is made until it is stopped."""

    def __init__(self, shop: Shop, searcher: Searcher, *, wake_runner: Callable[[], None]) -> None:
        self._shop, self._searcher, self._wake_runner = shop, searcher, wake_runner
        self._stopped = threading.Event()
        self._lock: int | None = None
        self._asked_for = ""  # the version that a compaction was asked for
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop following; another server on the same shop then computes what is missing."""
        self._stopped.set()
        self._thread.join()
        if self._lock is not None:
            os.close(self._lock)

    def _run(self) -> None:
        last_change, last_look, last_count, wait_s = 0.0, 0.0, 0.0, 0.0
        while not self._stopped.wait(wait_s):
            begun = time.monotonic()
            try:
                is_first = self._is_first()
                if self._searcher.follow(compute=is_first):
                    last_change = time.monotonic()
                if is_first and begun - last_look > DUE_S:
                    last_look = begun
                    self._compact()
                if is_first and begun - last_count > COUNT_S:
                    last_count = begun
                    take_in(self._shop.database)
                is_calm = time.monotonic() - last_change > CALM_S
                # computing takes turns with queries: as long a rest as it took
                wait_s = max(IDLE_S if is_calm else BUSY_S, min(1.0, time.monotonic() - begun))
            except UnavailableError:
                wait_s = IDLE_S  # nothing is published yet
            except (SameItemError, SQLAlchemyError, OSError):
                _log.exception("cannot follow the catalogue at the moment; trying again in %g s", SULK_S)
                wait_s = SULK_S

    def _is_first(self) -> bool:
        """Return whether this process computes for all; it does from the first time on that the lock is free."""
        if self._lock is None:
            self._shop.index_root.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._shop.index_root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._lock = lock
            except BlockingIOError:
                os.close(lock)
        return self._lock is not None

    def _compact(self) -> None:
        """Ask once for a compaction of what is live, where one is due; a build that waits makes none necessary."""
        gallery = self._searcher.gallery()
        if gallery.version != self._asked_for and is_due(gallery):
            self._asked_for = gallery.version
            if not self._shop.jobs.pending(["build", "compact"]):
                self._shop.jobs.submit("compact", {})
                self._wake_runner()
