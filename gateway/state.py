"""What a running gateway consists of; doors get it from the request's scope."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.assets import Assets
    from gateway.jobs.events import EventLog
    from gateway.jobs.queue import JobQueue
    from gateway.keys import Keys
    from gateway.limits import Limits
    from gateway.metrics import Metrics
    from gateway.settings import Settings
    from gateway.signing import Signer
    from gateway.store.database import Database
    from gateway.upstream import Upstream


@dataclass(slots=True)
class GatewayState:
    settings: Settings
    db: Database
    keys: Keys
    limits: Limits
    metrics: Metrics
    upstream: Upstream
    queue: JobQueue
    events: EventLog
    assets: Assets
    signer: Signer
    draining: bool = field(default=False)  # told to stop: readiness says so
    # and those who look at it have had time to see it: nothing new is taken
    refusing: bool = field(default=False)
    ports: dict[str, int] = field(default_factory=dict)  # of gRPC, once they are open
