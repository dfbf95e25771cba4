"""Traces: spans in, OTLP over HTTP out, where `settings.otlp_endpoint` names a collector.

Where none is named nothing of OpenTelemetry is imported, and a span costs a function call. A traceparent that comes
with a request is continued; `headers` carries it on to a service.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from gateway import logs
from gateway.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

Attribute = str | int | float | bool

TRACES = "/v1/traces"
EXPORT_TIMEOUT = 2.0
CLOSE_TIMEOUT = 2.0
QUEUED_SPANS = 4096
_CARRIED = frozenset({b"traceparent", b"tracestate"})
_UNTRACED = frozenset({"/healthz", "/readyz", "/metrics"})
_NOTHING: nullcontext[None] = nullcontext()

_provider: TracerProvider | None = None
_tracer: Tracer | None = None


def start(settings: Settings, service: str = "darkroom-gateway") -> None:
    """Begin to trace, if a collector is named; `service` is the name under which the spans appear."""
    global _provider, _tracer
    if not settings.otlp_endpoint or _provider is not None:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    endpoint = settings.otlp_endpoint.rstrip("/")
    exporter = OTLPSpanExporter(
        endpoint if endpoint.endswith(TRACES) else endpoint + TRACES, timeout=EXPORT_TIMEOUT
    )
    _provider = TracerProvider(resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
    # its own thread sends; a collector that does not answer costs spans, never a request
    _provider.add_span_processor(
        BatchSpanProcessor(exporter, max_queue_size=QUEUED_SPANS, schedule_delay_millis=1000)
    )
    _tracer = _provider.get_tracer("darkroom")


def stop() -> None:
    """Send what is left, for two seconds at most; it waits, so call it last."""
    global _provider, _tracer
    provider, _provider, _tracer = _provider, None, None
    if provider is not None:
        provider.force_flush(int(CLOSE_TIMEOUT * 1000))
        provider.shutdown()


def active() -> bool:
    return _tracer is not None


def span(name: str, **attributes: Attribute) -> AbstractContextManager[Span | None]:
    """A span around a block, child of the one around it; an exception that leaves the block is noted in it."""
    if _tracer is None:
        return _NOTHING
    return _tracer.start_as_current_span(name, attributes=_named(attributes))


def describe(**attributes: Attribute) -> None:
    """Add to the current span what is known only now."""
    if _tracer is not None:
        from opentelemetry.trace import get_current_span

        get_current_span().set_attributes(_named(attributes))


def headers() -> dict[str, str]:
    """What a request to a service carries, so that its spans join the current trace."""
    carrier: dict[str, str] = {}
    if _tracer is not None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        TraceContextTextMapPropagator().inject(carrier)
    return carrier


def serving(
    name: str, headers: Iterable[tuple[bytes, bytes]], attributes: Mapping[str, Attribute]
) -> AbstractContextManager[Span | None]:
    """A span around all of a request, as a child of the caller's where its headers bring a traceparent."""
    if _tracer is None:
        return _NOTHING
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {key.decode(): value.decode("latin-1") for key, value in headers if key in _CARRIED}
    parent = TraceContextTextMapPropagator().extract(carrier)
    return _begun(_tracer, name, context=parent, kind=SpanKind.SERVER, attributes=dict(attributes))


def answered(current: Span | None, attributes: Mapping[str, Attribute], *, fault: bool) -> None:
    """How the request of a span that `serving` gave was answered; `fault` where it was one of ours."""
    if current is not None:
        from opentelemetry.trace import Status, StatusCode

        current.set_attributes(dict(attributes))
        if fault:
            current.set_status(Status(StatusCode.ERROR))


@contextmanager
def _begun(tracer: Tracer, name: str, **more: Any) -> Iterator[Span]:
    with tracer.start_as_current_span(name, **more) as current:
        logs.tell(trace=f"{current.get_span_context().trace_id:032x}")
        yield current


def _named(attributes: Mapping[str, Attribute]) -> dict[str, Any]:
    return {f"darkroom.{name}": value for name, value in attributes.items()}


class Traces:
    """A span around each request, as a child of the caller's where it sent a traceparent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _tracer is None or scope["type"] != "http" or scope["path"] in _UNTRACED:
            await self._app(scope, receive, send)
            return
        attributes = {"http.request.method": scope["method"], "url.path": scope["path"]}
        with serving(f"{scope['method']} {scope['path']}", scope["headers"], attributes) as current:

            async def watched(message: Message) -> None:
                if message["type"] == "http.response.start":
                    status = message["status"]
                    answered(current, {"http.response.status_code": status}, fault=status >= 500)
                await send(message)

            await self._app(scope, receive, watched)
