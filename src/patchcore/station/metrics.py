"""Metrics: what the station counts for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Metrics:
    """Counters of one station, in a registry of its own.

    Args:
        waiting: How many images wait now.
        free: Bytes that are free on the disk now.
    """

    def __init__(self, waiting: Callable[[], float], free: Callable[[], float]) -> None:
        self.registry = CollectorRegistry()
        labels = ("line", "verdict")
        self._verdicts = Counter("patchcore_inspections", "Images judged", labels, registry=self.registry)
        self._seconds = Histogram(
            "patchcore_engine_seconds", "Time of the engine", ("line",), buckets=_SECONDS, registry=self.registry
        )
        self._waited = Histogram(
            "patchcore_waited_seconds", "Time in the queue", ("line",), buckets=_SECONDS, registry=self.registry
        )
        Gauge("patchcore_queue", "Images that wait", registry=self.registry).set_function(waiting)
        Gauge("patchcore_disk_free_bytes", "Free bytes", registry=self.registry).set_function(free)

    def see(self, stored: dict[str, Any]) -> None:
        """Count a result."""
        self._verdicts.labels(stored["line"], stored["verdict"]).inc()
        self._seconds.labels(stored["line"]).observe(stored["seconds"])
        self._waited.labels(stored["line"]).observe(stored["waited"])
