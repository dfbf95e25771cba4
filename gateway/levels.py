"""Levels: what is not counted but looked at. They are read when a scrape comes, and exist only then.

Upstream.status, JobQueue.depths, the disk ─> Levels ─> gauges by service, and by track where that tells something
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from gateway.jobs.job import Depth
    from gateway.upstream.status import ServiceStatus


class Levels(Collector):
    def __init__(self) -> None:
        self.services: Mapping[str, ServiceStatus] = {}
        self.dropped: Callable[[], int] | None = None
        self.leases_lost: Callable[[], int] | None = None
        self.data: Path | None = None
        self.queue: Mapping[str, Depth] = {}

    def collect(self) -> Iterator[Metric]:
        pools = {name: _levels(status) for name, status in self.services.items()}
        for level, what in _POOL_LEVELS.items():
            yield _gauge(level, what, pools, level)
        yield from _track_levels(self.services)
        queues = {name: asdict(levels) for name, levels in self.queue.items()}
        yield _gauge("jobs_queued", "Jobs that wait.", queues, "queued")
        yield _gauge("jobs_running", "Jobs that run.", queues, "running")
        yield _gauge(
            "jobs_oldest_seconds", "How long the oldest waiting job waits.", queues, "oldest_seconds"
        )
        yield _counter("log_lines_dropped", "Log lines that a slow stderr cost.", self.dropped)
        yield _counter(
            "job_leases_lost", "Jobs taken from a worker that fell silent, and put back.", self.leases_lost
        )
        if self.data is not None:
            disk = shutil.disk_usage(self.data)
            yield _plain("data_bytes", "Size of the disk with the data folder.", disk.total)
            yield _plain("data_free_bytes", "What is free on the disk with the data folder.", disk.free)


_POOL_LEVELS = {
    "upstream_in_flight": "Calls that endpoints work on.",
    "upstream_waiting": "Calls in a service's waiting line.",
    "upstream_capacity": "Calls that the endpoints take at once.",
    "upstream_endpoints": "Endpoints that are known.",
    "upstream_breakers_open": "Endpoints whose breaker is not closed.",
    "upstream_ready": "1 where a call would find an endpoint.",
}


def _levels(status: ServiceStatus) -> dict[str, float]:
    return {
        "upstream_in_flight": status.in_flight,
        "upstream_waiting": status.waiting,
        "upstream_capacity": status.capacity,
        "upstream_endpoints": len(status.endpoints),
        "upstream_breakers_open": sum(endpoint.breaker != "closed" for endpoint in status.endpoints),
        "upstream_ready": int(status.ready),
    }


_TRACK_LEVELS = {
    "upstream_track_share": "The share of a service's calls that a track is to get.",
    "upstream_track_in_flight": "Calls that a track's endpoints work on.",
    "upstream_track_capacity": "Calls that a track's endpoints take at once.",
}


def _track_levels(services: Mapping[str, ServiceStatus]) -> Iterator[GaugeMetricFamily]:
    """What a canary and the stable endpoints beside it are told apart by."""
    families = {
        level: GaugeMetricFamily(f"darkroom_{level}", what, labels=["service", "track"])
        for level, what in _TRACK_LEVELS.items()
    }
    health = GaugeMetricFamily(
        "darkroom_upstream_track_endpoints",
        "Endpoints of a track: up, loading, draining, down, unknown.",
        labels=["service", "track", "health"],
    )
    models = GaugeMetricFamily(
        "darkroom_upstream_track_model", "1: a track has it loaded.", labels=["service", "track", "model"]
    )
    for service, status in services.items():
        for track in status.tracks:
            where = [service, track.track]
            for level, family in families.items():
                family.add_metric(where, getattr(track, level.removeprefix("upstream_track_")))
            for state, count in track.health.items():
                health.add_metric([*where, state], count)
            for model in track.models:
                models.add_metric([*where, model], 1)
    yield from (*families.values(), health, models)


def _gauge(name: str, what: str, levels: Mapping[str, Mapping[str, float]], level: str) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"darkroom_{name}", what, labels=["service"])
    for service, values in levels.items():
        family.add_metric([service], values[level])
    return family


def _counter(name: str, what: str, read: Callable[[], int] | None) -> CounterMetricFamily:
    family = CounterMetricFamily(f"darkroom_{name}", what)
    family.add_metric([], read() if read else 0)
    return family


def _plain(name: str, what: str, value: float) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"darkroom_{name}", what)
    family.add_metric([], value)
    return family
