"""Metrics: what is counted, that labels are bounded, and where they are read."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.jobs.job import Depth
from gateway.keys import StartRefused
from gateway.metrics import Metrics
from gateway.scrape import MetricsEndpoint, MetricsServer
from gateway.upstream.observe import Observer
from gateway.upstream.status import EndpointStatus, ServiceStatus, TrackStatus
from services.errors import Unavailable

pytestmark = pytest.mark.anyio


async def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    _, text = await metrics.exposition()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


async def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return (await samples(metrics)).get((f"darkroom_{name}", tuple(sorted(labels.items()))))


async def test_a_request_is_counted_timed_and_weighed() -> None:
    metrics = Metrics()
    metrics.request_began()
    assert await value(metrics, "requests_in_flight") == 1
    metrics.request_ended("cleanup", "native", 200, 0.03, 1000, 2000)
    assert await value(metrics, "requests_in_flight") == 0
    assert await value(metrics, "requests_total", operation="cleanup", door="native", status="2xx") == 1
    bucket = {"operation": "cleanup", "door": "native"}
    assert await value(metrics, "request_seconds_bucket", le="0.025", **bucket) == 0
    assert await value(metrics, "request_seconds_bucket", le="0.05", **bucket) == 1
    assert await value(metrics, "request_bytes_total", door="native") == 1000
    assert await value(metrics, "response_bytes_total", door="native") == 2000


async def test_words_that_callers_invent_become_one_label() -> None:
    metrics = Metrics()
    for n in range(500):
        metrics.request_began()
        metrics.request_ended(f"invented-{n}", "native", 404, 0.001, 0, 0)
        metrics.pictures(f"invented-{n}", 1)
        metrics.job_ended(f"invented-{n}", "failed", 1.0)
    assert await value(metrics, "requests_total", operation="other", door="native", status="4xx") == 500
    assert not [key for key in await samples(metrics) if "invented" in str(key)]


async def test_the_upstream_pools_moments_are_counted() -> None:
    metrics = Metrics()
    observer: Observer = metrics
    observer.upstream_waited("cleanup", 0.0)
    observer.upstream_accepted("cleanup", 0.02)
    observer.upstream_finished("cleanup", "done", 1.5)
    observer.upstream_retry("cleanup", "connect")
    observer.upstream_retry_refused("cleanup")
    observer.upstream_refused("cleanup", "line-full")
    observer.upstream_breaker("cleanup", "open")
    assert await value(metrics, "upstream_calls_total", service="cleanup", outcome="done") == 1
    assert await value(metrics, "upstream_retries_total", service="cleanup", reason="connect") == 1
    assert await value(metrics, "upstream_refused_total", service="cleanup", reason="line-full") == 1
    assert await value(metrics, "upstream_breaker_changes_total", service="cleanup", state="open") == 1
    assert await value(metrics, "upstream_first_byte_seconds_count", service="cleanup") == 1


async def test_attempts_are_counted_by_track_and_only_good_ones_are_timed() -> None:
    metrics = Metrics()
    observer: Observer = metrics
    observer.upstream_attempt("cleanup", "canary", "service-fault", 0.001)
    observer.upstream_attempt("cleanup", "canary", "done", 3.0)
    of_canary = {"service": "cleanup", "track": "canary"}
    assert await value(metrics, "upstream_attempts_total", outcome="service-fault", **of_canary) == 1
    assert await value(metrics, "upstream_attempt_seconds_count", **of_canary) == 1
    assert await value(metrics, "upstream_attempt_seconds_sum", **of_canary) == 3


async def test_tracks_are_levels_with_their_health_and_their_models() -> None:
    health = {"up": 2, "loading": 0, "draining": 1, "down": 0, "unknown": 0}
    tracks = [TrackStatus("canary", 0.1, 3, 8, health, models=["new"])]
    status = {"rmbg": ServiceStatus("rmbg", True, None, 0, 3, 8, tracks=tracks)}
    metrics = Metrics()
    metrics.watch(services=lambda: status)
    track = {"service": "rmbg", "track": "canary"}
    assert await value(metrics, "upstream_track_share", **track) == 0.1
    assert await value(metrics, "upstream_track_in_flight", **track) == 3
    assert await value(metrics, "upstream_track_endpoints", health="up", **track) == 2
    assert await value(metrics, "upstream_track_endpoints", health="draining", **track) == 1
    assert await value(metrics, "upstream_track_model", model="new", **track) == 1


async def test_levels_are_read_when_they_are_scraped() -> None:
    endpoint = EndpointStatus("http://127.0.0.1:1", "up", None, 3, 4, 1.0, "open", "1")
    status = {"cleanup": ServiceStatus("cleanup", True, None, 7, 3, 4, [endpoint])}

    async def queue() -> dict[str, Depth]:
        return {"cleanup": Depth(queued=12, running=3, oldest_seconds=4.5)}

    metrics = Metrics()
    metrics.watch(services=lambda: status, queue=queue, log_lines_dropped=lambda: 9)
    found = await samples(metrics)
    service = (("service", "cleanup"),)
    expected = {
        "upstream_in_flight": 3, "upstream_waiting": 7, "upstream_capacity": 4, "upstream_endpoints": 1,
        "upstream_breakers_open": 1, "upstream_ready": 1, "jobs_queued": 12, "jobs_running": 3,
        "jobs_oldest_seconds": 4.5,
    }  # fmt: skip
    assert {name: found[f"darkroom_{name}", service] for name in expected} == expected
    assert found["darkroom_log_lines_dropped_total", ()] == 9
    status.clear()
    assert ("darkroom_upstream_in_flight", service) not in await samples(metrics)


async def test_a_store_that_is_away_does_not_take_the_other_metrics_with_it() -> None:
    async def away() -> dict[str, Depth]:
        raise Unavailable("The database does not answer.")

    metrics = Metrics()
    metrics.watch(queue=away)
    assert await value(metrics, "dependency_errors_total", dependency="database") == 1
    assert await value(metrics, "jobs_queued", service="cleanup") is None


async def test_build_and_process_are_told() -> None:
    found = await samples(Metrics("1.2.3"))
    assert any(name == "darkroom_build_info" and ("version", "1.2.3") in labels for name, labels in found)
    assert ("process_resident_memory_bytes", ()) in found


async def test_a_blocked_event_loop_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.metrics.LAG_INTERVAL", 0.05)
    metrics = Metrics()
    await metrics.start()
    await asyncio.sleep(0.01)
    time.sleep(0.3)
    await asyncio.sleep(0.01)
    await metrics.close()
    assert await value(metrics, "event_loop_lag_seconds_bucket", le="0.1") == 0
    assert await value(metrics, "event_loop_lag_seconds_count") == 1


async def test_prometheus_reads_them_over_asgi_and_on_a_port_of_their_own() -> None:
    metrics = Metrics()
    metrics.pictures("cleanup", 2)
    transport = httpx.ASGITransport(MetricsEndpoint(metrics))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        inside = await client.get("/metrics")
        openmetrics = await client.get(
            "/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"}
        )
    assert 'darkroom_pictures_total{operation="cleanup"} 2.0' in inside.text
    assert inside.headers["content-type"].startswith("text/plain")
    assert openmetrics.text.endswith("# EOF\n")

    server = MetricsServer(metrics, "127.0.0.1", 0)
    await server.start()
    port = server.port
    async with httpx.AsyncClient() as client:
        outside = await client.get(f"http://127.0.0.1:{port}/metrics")
        elsewhere = await client.get(f"http://127.0.0.1:{port}/v1/jobs")
    assert 'darkroom_pictures_total{operation="cleanup"} 2.0' in outside.text
    assert elsewhere.status_code == 404
    with pytest.raises(StartRefused, match="DARKROOM_METRICS_PORT"):
        await MetricsServer(metrics, "127.0.0.1", port).start()
    await server.close()


def test_counting_a_request_costs_microseconds() -> None:
    metrics = Metrics()
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(2000):
            metrics.request_began()
            metrics.request_ended("cleanup", "native", 200, 0.03, 1000, 2000)
        best = min(best, (time.perf_counter() - began) / 2000)
    print(f"{best * 1e6:.1f} us")
    # 4 microseconds on an idle core; the bound only catches a change of kind
    assert best < 60e-6


def test_the_metrics_in_the_security_page_and_code_exist(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    names = set(Metrics().registry._names_to_collectors)
    for word in set(text.split("`")):
        if word.startswith("darkroom_"):
            assert word in names
