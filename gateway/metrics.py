"""What is counted: moments in from every part of the gateway, Prometheus text out at a scrape.

Labels are bounded: operations are those that are declared (else `other`), doors and services come from our own
code and settings, statuses are classes. A child of a metric is looked up once and kept, so that a request costs
microseconds. Levels (line depth, in flight, breakers, queued jobs) are asked for at the scrape.
"""

from __future__ import annotations

import asyncio
import logging
import platform
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from gateway.upstream.observe import BreakerState, RetryReason, Track
from services.operations import OPERATIONS

if TYPE_CHECKING:
    from gateway.jobs.job import Depth
    from gateway.upstream.status import ServiceStatus

log = logging.getLogger("darkroom.metrics")

# from a cached cut-out on a GPU to a large picture on a CPU
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 120)
SHORT = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
LAG_INTERVAL = 0.5
QUEUE_DEADLINE = 2.0


class Metrics:
    """Implements `upstream.observe.Observer` too."""

    def __init__(self, version: str = "") -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        made: dict[str, Any] = {"namespace": "darkroom", "registry": self.registry}
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self._requests = Counter("requests", "Answered requests.", ["operation", "door", "status"], **made)
        self._seconds = Histogram(
            "request_seconds",
            "From the request's head to the answer's end.",
            ["operation", "door"],
            buckets=SECONDS,
            **made,
        )
        self._bytes_in = Counter("request_bytes", "Bytes of request bodies.", ["door"], **made)
        self._bytes_out = Counter("response_bytes", "Bytes of answers.", ["door"], **made)
        self._open_requests = Gauge("requests_in_flight", "Requests that are being answered.", **made)
        self._pictures = Counter("pictures", "Pictures made.", ["operation"], **made)
        self._limited = Counter("refused", "Requests refused before any work.", ["reason"], **made)

        self._waited = Histogram(
            "upstream_wait_seconds", "In a service's waiting line.", ["service"], buckets=SHORT, **made
        )
        self._first = Histogram(
            "upstream_first_byte_seconds",
            "Until an endpoint's first frame, an attempt.",
            ["service"],
            buckets=SHORT,
            **made,
        )
        self._calls = Counter(
            "upstream_calls", "Calls to services by how they ended.", ["service", "outcome"], **made
        )
        self._call_seconds = Histogram(
            "upstream_seconds", "Calls to services.", ["service"], buckets=SECONDS, **made
        )
        self._attempts = Counter(
            "upstream_attempts",
            "Attempts at endpoints of a track, by how they ended; a call that is repeated has several.",
            ["service", "track", "outcome"],
            **made,
        )
        self._attempt_seconds = Histogram(
            "upstream_attempt_seconds",
            "Attempts that ended well.",
            ["service", "track"],
            buckets=SECONDS,
            **made,
        )
        self._retries = Counter(
            "upstream_retries", "Attempts after the first.", ["service", "reason"], **made
        )
        self._no_budget = Counter(
            "upstream_retries_refused", "Retries that the budget forbade.", ["service"], **made
        )
        self._upstream_refused = Counter(
            "upstream_refused", "Calls that got no slot.", ["service", "reason"], **made
        )
        self._breaker = Counter(
            "upstream_breaker_changes", "Changes of an endpoint's breaker.", ["service", "state"], **made
        )

        self._jobs = Counter("jobs", "Jobs by how they ended.", ["operation", "outcome"], **made)
        self._job_seconds = Histogram(
            "job_seconds", "From accepted to ended.", ["operation"], buckets=(*SECONDS, 600, 3600), **made
        )
        self._webhooks = Counter("webhook_deliveries", "Attempts to deliver a webhook.", ["outcome"], **made)
        self._faults = Counter(
            "dependency_errors", "Failures of what the gateway stands on.", ["dependency"], **made
        )
        self._lag = Histogram(
            "event_loop_lag_seconds", "How late the event loop wakes.", buckets=SHORT, **made
        )
        info = Gauge("build_info", "Which build this is; always 1.", ["version", "python"], **made)
        info.labels(version or _version(), platform.python_version()).set(1)

        self._of_request: dict[tuple[str, str, int], tuple[Counter, Histogram, Counter, Counter]] = {}
        self._children: dict[tuple[Any, ...], Any] = {}
        self._services: Callable[[], Mapping[str, ServiceStatus]] | None = None
        self._queue: Callable[[], Awaitable[Mapping[str, Depth]]] | None = None
        self._levels = _Levels()
        self.registry.register(self._levels)
        self._lag_task: asyncio.Task[None] | None = None

    # ── the life of it ───────────────────────────────────────────────────────────────────────────────────────

    def watch(
        self,
        *,
        services: Callable[[], Mapping[str, ServiceStatus]] | None = None,
        queue: Callable[[], Awaitable[Mapping[str, Depth]]] | None = None,
        log_lines_dropped: Callable[[], int] | None = None,
    ) -> None:
        """Where a scrape reads the levels: from `Upstream.status` and `JobQueue.depths`."""
        self._services = services or self._services
        self._levels.dropped = log_lines_dropped or self._levels.dropped
        self._queue = queue or self._queue

    async def start(self) -> None:
        self._lag_task = asyncio.create_task(self._measure_lag(), name="event-loop-lag")

    async def close(self) -> None:
        if self._lag_task is not None:
            self._lag_task.cancel()
            with suppress(asyncio.CancelledError):
                await self._lag_task
            self._lag_task = None

    async def exposition(self, accept: str = "") -> tuple[str, bytes]:
        """Content type and text for a scrape."""
        await self.refresh()
        encode, content_type = choose_encoder(accept)
        return content_type, await asyncio.to_thread(encode, self.registry)

    async def refresh(self) -> None:
        """Read the levels before a scrape; where the store does not answer, its own are left out."""
        self._levels.services = dict(self._services()) if self._services else {}
        if self._queue is None:
            return
        self._levels.queue = {}
        try:
            async with asyncio.timeout(QUEUE_DEADLINE):
                self._levels.queue = await self._queue()
        except Exception:
            self.fault("database")
            log.warning("the queue's depth could not be read for a scrape", exc_info=True)

    async def _measure_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_INTERVAL
            await asyncio.sleep(LAG_INTERVAL)
            self._lag.observe(max(0.0, loop.time() - due))

    # ── requests ─────────────────────────────────────────────────────────────────────────────────────────────

    def request_began(self) -> None:
        self._open_requests.inc()

    def request_ended(
        self, operation: str, door: str, status: int, seconds: float, bytes_in: int, bytes_out: int
    ) -> None:
        """`operation` is empty where the path is none of an operation."""
        self._open_requests.dec()
        if operation and operation not in OPERATIONS:
            operation = "other"
        key = (operation, door, status // 100)
        bound = self._of_request.get(key)
        if bound is None:
            bound = self._of_request[key] = (
                self._requests.labels(operation, door, f"{status // 100}xx"),
                self._seconds.labels(operation, door),
                self._bytes_in.labels(door),
                self._bytes_out.labels(door),
            )
        counted, timed, received, sent = bound
        counted.inc()
        timed.observe(seconds)
        if bytes_in:
            received.inc(bytes_in)
        if bytes_out:
            sent.inc(bytes_out)

    def pictures(self, operation: str, count: int) -> None:
        self._child(self._pictures, operation if operation in OPERATIONS else "other").inc(count)

    def refused(self, reason: str) -> None:
        """`reason` is the slug of an error class: rate-limited, quota-exceeded, unauthorized ..."""
        self._child(self._limited, reason).inc()

    # ── the upstream pool ────────────────────────────────────────────────────────────────────────────────────

    def upstream_waited(self, service: str, seconds: float) -> None:
        self._child(self._waited, service).observe(seconds)

    def upstream_accepted(self, service: str, seconds: float) -> None:
        self._child(self._first, service).observe(seconds)

    def upstream_finished(self, service: str, outcome: str, seconds: float) -> None:
        self._child(self._calls, service, outcome).inc()
        self._child(self._call_seconds, service).observe(seconds)

    def upstream_attempt(self, service: str, track: Track, outcome: str, seconds: float) -> None:
        self._child(self._attempts, service, track, outcome).inc()
        if outcome == "done":  # a canary that fails at once is not a quick one
            self._child(self._attempt_seconds, service, track).observe(seconds)

    def upstream_retry(self, service: str, reason: RetryReason) -> None:
        self._child(self._retries, service, reason).inc()

    def upstream_retry_refused(self, service: str) -> None:
        self._child(self._no_budget, service).inc()

    def upstream_refused(self, service: str, slug: str) -> None:
        self._child(self._upstream_refused, service, slug).inc()

    def upstream_breaker(self, service: str, state: BreakerState) -> None:
        self._child(self._breaker, service, state).inc()

    # ── jobs, webhooks, and what we stand on ─────────────────────────────────────────────────────────────────

    def job_ended(self, operation: str, outcome: str, seconds: float) -> None:
        """`outcome` is succeeded, failed, cancelled or retried."""
        operation = operation if operation in OPERATIONS else "other"
        self._child(self._jobs, operation, outcome).inc()
        self._child(self._job_seconds, operation).observe(seconds)

    def webhook(self, outcome: str) -> None:
        """`outcome` is delivered, refused (the address), failed (to be tried again) or given-up."""
        self._child(self._webhooks, outcome).inc()

    def fault(self, dependency: str) -> None:
        """`dependency` is redis, database or storage."""
        self._child(self._faults, dependency).inc()

    def _child(self, metric: Any, *labels: str) -> Any:
        key = (metric, *labels)
        found = self._children.get(key)
        if found is None:
            found = self._children[key] = metric.labels(*labels)
        return found


class _Levels(Collector):
    """What is not counted but looked at: gauges that exist only while they are scraped."""

    def __init__(self) -> None:
        self.services: Mapping[str, ServiceStatus] = {}
        self.dropped: Callable[[], int] | None = None
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
        dropped = CounterMetricFamily("darkroom_log_lines_dropped", "Log lines that a slow stderr cost.")
        dropped.add_metric([], self.dropped() if self.dropped else 0)
        yield dropped


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


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("darkroom")
    except PackageNotFoundError:
        return "unknown"
