"""The way from the gateway to the services: a pool for each, with fair waiting, health, retries and breakers."""

from gateway.upstream.call import Call
from gateway.upstream.observe import Observer, Silent
from gateway.upstream.pool import Pool, Turn
from gateway.upstream.status import EndpointStatus, ServiceStatus
from gateway.upstream.stream import Stream
from gateway.upstream.upstream import Upstream

__all__ = [
    "Call",
    "EndpointStatus",
    "Observer",
    "Pool",
    "ServiceStatus",
    "Silent",
    "Stream",
    "Turn",
    "Upstream",
]
