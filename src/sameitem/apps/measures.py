"""What Prometheus reads: requests, search stages, the gallery; and how the last searches went, for the operator."""

import threading
import time
from collections import deque
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from sameitem.engine.residency import resident_share
from sameitem.pipeline.gallery import Gallery
from sameitem.pipeline.online import SearchAnswer

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
KEPT_SEARCHES = 2000  # of the last ones that are remembered one by one


@dataclass(frozen=True, slots=True)
class TimedSearch:
    """How one search went; nothing of who asked or what for."""

    at: float  # seconds since 1970
    total_ms: float
    stages_ms: dict[str, float]
    disk_reads: int
    found: int
    category_id: str
    index_version: str


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds that the last searches took; None before the first."""

    searches: int
    p50: float | None
    p95: float | None
    p99: float | None


class Measures:
    """The metrics of one server."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last: deque[TimedSearch] = deque(maxlen=KEPT_SEARCHES)
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "sameitem_requests", "Requests answered", ["method", "route", "status"], registry=self._registry
        )
        self._request_s = Histogram(
            "sameitem_request_seconds", "Time to answer", ["route"], buckets=_SECONDS, registry=self._registry
        )
        self._stage_s = Histogram(
            "sameitem_search_stage_seconds", "Time per stage", ["stage"], buckets=_SECONDS, registry=self._registry
        )
        self._stage_cpu_s = Counter(
            "sameitem_search_stage_cpu_seconds", "CPU time of the answering thread", ["stage"], registry=self._registry
        )
        self._empty = Counter(
            "sameitem_searches_without_result", "Searches that found nothing", registry=self._registry
        )
        self._images = Gauge("sameitem_gallery_images", "Listed images in the live gallery", registry=self._registry)
        self._added = Gauge(
            "sameitem_gallery_added", "Images added since the live version was built", registry=self._registry
        )
        self._waiting = Gauge(
            "sameitem_gallery_waiting", "Images whose features are not known yet", registry=self._registry
        )
        self._resident = Gauge(
            "sameitem_rows_in_memory", "Share of the rows for fine ranking that lies in memory", registry=self._registry
        )
        self._reads = Counter(
            "sameitem_search_disk_reads", "Pages that searches had to wait for the disk for", registry=self._registry
        )
        self._live = Gauge(
            "sameitem_index_live", "1 for the live index version", ["version", "model"], registry=self._registry
        )

    def answered(self, scope: MutableMapping[str, Any], status: int, seconds: float) -> None:
        """Count one request, under its route's pattern: paths of callers would be endless labels."""
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._request_s.labels(route).observe(seconds)

    def searched(self, answer: SearchAnswer) -> None:
        """Count one search with its stages."""
        for stage, wall_ms in answer.took_ms.items():
            self._stage_s.labels(stage).observe(wall_ms / 1e3)
            self._stage_cpu_s.labels(stage).inc(answer.cpu_ms[stage] / 1e3)
        self._reads.inc(answer.disk_reads)
        if not answer.results:
            self._empty.inc()
        timed = TimedSearch(
            at=self._clock(),
            total_ms=round(sum(answer.took_ms.values()), 3),
            stages_ms=dict(answer.took_ms),
            disk_reads=answer.disk_reads,
            found=answer.found,
            category_id=answer.category_id,
            index_version=answer.index_version,
        )
        with self._lock:
            self._last.append(timed)

    def last_searches(self) -> list[TimedSearch]:
        """Return the last searches of this server, oldest first, at most `KEPT_SEARCHES`."""
        with self._lock:
            return list(self._last)

    def slowest(self, num: int) -> list[TimedSearch]:
        """Return the slowest of the last searches, slowest first."""
        return sorted(self.last_searches(), key=lambda search: -search.total_ms)[:num]

    def latency(self) -> Latency:
        """Return how long the last searches took."""
        took = [search.total_ms for search in self.last_searches()]
        if not took:
            return Latency(0, None, None, None)
        p50, p95, p99 = (round(float(value), 3) for value in np.quantile(took, (0.5, 0.95, 0.99)))
        return Latency(len(took), p50, p95, p99)

    def gallery(self, gallery: Gallery | None) -> None:
        """Tell which index version is live, if any."""
        self._live.clear()
        self._images.set(0 if gallery is None else gallery.alive.sum())
        if gallery is not None:
            self._added.set(len(gallery.index.delta))
            self._waiting.set(len(gallery.pending))
            self._resident.set(resident_share(gallery.index.rows) or 0.0)
            self._live.labels(gallery.version, gallery.model_version).set(1)

    def text(self) -> bytes:
        """Return the metrics in the exposition format."""
        return generate_latest(self._registry)
