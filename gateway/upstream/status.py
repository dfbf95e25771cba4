"""What can be said of the services now: /readyz, /v1/models and the metrics read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gateway.upstream.observe import BreakerState


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    address: str
    health: str
    reason: str | None
    in_flight: int
    capacity: int
    weight: float
    breaker: BreakerState
    version: str


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """A service as /readyz, /v1/models and the metrics show it."""

    service: str
    ready: bool
    reason: str | None
    waiting: int
    in_flight: int
    capacity: int
    endpoints: list[EndpointStatus] = field(default_factory=list)
    operations: frozenset[str] = frozenset()
    models: list[dict[str, Any]] = field(default_factory=list)
