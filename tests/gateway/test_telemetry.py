"""Traces: sent to a real OTLP receiver, joined to the caller's, and free where there is no collector."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from gateway import telemetry
from gateway.settings import Settings
from tests.otlp import Collector

pytestmark = pytest.mark.anyio

CALLER = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    telemetry.stop()
    made.close()


def settings(endpoint: str) -> Settings:
    return Settings(otlp_endpoint=endpoint, _env_file=None)  # type: ignore[call-arg]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    with telemetry.span("upstream", service="cleanup", attempt=1):
        telemetry.describe(endpoint="http://127.0.0.1:3001")
        body = telemetry.headers().get("traceparent", "").encode()
    if scope["path"] == "/broken":
        raise RuntimeError("broken")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def ask(path: str, **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(telemetry.Traces(app), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        return await client.post(path, headers=headers)


async def test_a_request_and_what_it_does_are_one_trace_that_continues_the_callers(
    collector: Collector,
) -> None:
    telemetry.start(settings(collector.url))
    answer = await ask("/v1/cleanup", traceparent=f"00-{CALLER}-00f067aa0ba902b7-01")
    telemetry.stop()
    outer, inner = collector.span("POST /v1/cleanup"), collector.span("upstream")
    assert collector.services == {"darkroom-gateway"}
    assert collector.paths == {"/v1/traces"}
    assert outer.trace_id.hex() == inner.trace_id.hex() == CALLER
    assert outer.parent_span_id.hex() == "00f067aa0ba902b7"
    assert inner.parent_span_id == outer.span_id
    # what a service would get continues from the inner span
    assert answer.text == f"00-{CALLER}-{inner.span_id.hex()}-01"
    attributes = {a.key: a.value for a in inner.attributes}
    assert attributes["darkroom.service"].string_value == "cleanup"
    assert attributes["darkroom.attempt"].int_value == 1
    assert attributes["darkroom.endpoint"].string_value == "http://127.0.0.1:3001"


async def test_a_request_without_a_traceparent_or_with_a_wrong_one_begins_a_trace(
    collector: Collector,
) -> None:
    telemetry.start(settings(collector.url + "/v1/traces"))
    await ask("/one")
    await ask("/two", traceparent="nonsense")
    telemetry.stop()
    assert collector.span("POST /one").parent_span_id == b""
    assert collector.span("POST /two").parent_span_id == b""
    assert collector.span("POST /one").trace_id != collector.span("POST /two").trace_id


async def test_an_exception_is_noted_in_the_span(collector: Collector) -> None:
    telemetry.start(settings(collector.url))
    assert (await ask("/broken")).status_code == 500
    telemetry.stop()
    span = collector.span("POST /broken")
    assert span.status.code == 2
    assert any(event.name == "exception" for event in span.events)


async def test_health_checks_are_not_traced(collector: Collector) -> None:
    telemetry.start(settings(collector.url))
    await ask("/healthz")
    telemetry.stop()
    assert not [span for span in collector.spans if "healthz" in span.name]


async def test_a_collector_that_is_away_costs_spans_and_no_request() -> None:
    telemetry.start(settings("http://127.0.0.1:1"))
    try:
        assert (await ask("/v1/cleanup")).status_code == 200
    finally:
        telemetry.stop()


async def test_without_a_collector_a_span_is_nothing_and_no_header_is_sent() -> None:
    telemetry.start(settings(""))
    assert not telemetry.active()
    with telemetry.span("upstream", service="cleanup") as span:
        assert span is None
    assert telemetry.headers() == {}
    assert (await ask("/v1/cleanup")).text == ""


def test_without_a_collector_nothing_of_the_sdk_is_imported() -> None:
    script = (
        "import sys; from gateway import telemetry; from gateway.settings import Settings;"
        "telemetry.start(Settings(_env_file=None)); telemetry.span('x', a=1); telemetry.headers();"
        "print([m for m in sys.modules if m.startswith('opentelemetry')])"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout.strip() == "[]"
