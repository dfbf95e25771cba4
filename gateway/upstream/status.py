"""What can be said of the services now: /readyz, /v1/models and the metrics read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gateway.upstream.observe import BreakerState, Track


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
    track: Track = "stable"


@dataclass(frozen=True, slots=True)
class TrackStatus:
    """One of the tracks of a service that has a canary; `stable` alone, where it has none."""

    track: Track
    share: float  # of the calls, as the settings say
    in_flight: int
    capacity: int
    health: dict[str, int]  # how many of its endpoints are up, loading, draining, down, unknown
    models: list[str] = field(default_factory=list)  # that are loaded
    versions: list[str] = field(default_factory=list)  # of Darkroom, that its endpoints are of

    @property
    def up(self) -> int:
        return self.health["up"]


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
    tracks: list[TrackStatus] = field(default_factory=list)
    models: list[dict[str, Any]] = field(default_factory=list)
