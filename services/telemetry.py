"""What a service tells its operators: JSON logs, traces that continue the gateway's, and metrics."""

from __future__ import annotations

import contextvars
import logging
import sys
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import orjson
from opentelemetry import propagate, trace
from opentelemetry.trace import Span, Tracer

from services.settings import ServiceSettings

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge, Histogram

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")
_HANDLER = "darkroom"
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line; what a call passes as `extra` becomes fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id.get():
            line["request_id"] = request_id.get()
        line |= {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def set_up_logs(settings: ServiceSettings) -> None:
    """Darkroom's loggers write to stderr; calling it again changes nothing."""
    logger = logging.getLogger("darkroom")
    if any(handler.name == _HANDLER for handler in logger.handlers):
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.name = _HANDLER
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else text)
    logger.addHandler(handler)
    logger.setLevel(settings.log_level.upper())
    logger.propagate = False


class Traces:
    """Spans that continue the caller's; without an endpoint they cost nothing and go nowhere."""

    def __init__(self, service: str, endpoint: str) -> None:
        self._provider: Any = None
        self._tracer: Tracer = trace.NoOpTracer()
        if endpoint:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor

            resource = Resource.create({"service.name": f"darkroom-{service}"})
            self._provider = TracerProvider(resource=resource)
            address = endpoint.rstrip("/") + "/v1/traces"
            self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=address)))
            self._tracer = self._provider.get_tracer("darkroom.service")

    def start(self, name: str, headers: dict[str, str]) -> Span:
        """A span below the one that `traceparent` names; whoever starts it ends it."""
        return self._tracer.start_span(name, context=propagate.extract(headers), kind=trace.SpanKind.SERVER)

    def close(self) -> None:
        if self._provider is not None:
            self._provider.shutdown()


class Metrics:
    """Prometheus metrics of one service, in the registry that BentoML's /metrics shows."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.requests, self.seconds, self.pictures, self.in_flight, self.capacity, self.ready = _collectors()


@cache
def _collectors() -> tuple[Counter, Histogram, Counter, Gauge, Gauge, Gauge]:
    """Made at first use, not at import: BentoML first has to tell its workers where they share numbers."""
    from prometheus_client import Counter, Gauge, Histogram

    labels = ["service", "operation"]
    buckets = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
    return (
        Counter("darkroom_service_requests", "Calls by how they ended.", [*labels, "outcome"]),
        Histogram(
            "darkroom_service_seconds", "Seconds by stage of the work.", [*labels, "stage"], buckets=buckets
        ),
        Counter("darkroom_service_pictures", "Pictures made.", labels),
        Gauge("darkroom_service_in_flight", "Calls at work.", ["service"], multiprocess_mode="livesum"),
        Gauge(
            "darkroom_service_capacity",
            "Calls at once that it takes.",
            ["service"],
            multiprocess_mode="livesum",
        ),
        Gauge(
            "darkroom_service_ready",
            "1 when its models are loaded.",
            ["service"],
            multiprocess_mode="livemin",
        ),
    )
