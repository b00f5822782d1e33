"""What Prometheus reads: requests, search stages, the gallery."""

from collections.abc import MutableMapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from sameitem.engine.residency import resident_share
from sameitem.pipeline.gallery import Gallery
from sameitem.pipeline.online import SearchAnswer

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Measures:
    """The metrics of one server."""

    def __init__(self) -> None:
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
