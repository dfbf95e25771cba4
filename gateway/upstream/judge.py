"""What a failed attempt says: its error goes in, the endpoint learns from it, and out comes why it may be repeated.

Only what the endpoint did counts against it. A caller's mistake, a caller who left and a deadline that was too short
say nothing; a full endpoint is a healthy one.
"""

from __future__ import annotations

from gateway.upstream.endpoint import Endpoint
from gateway.upstream.observe import RetryReason
from services.errors import (
    BadUpstream,
    DarkroomError,
    DeadlineExceeded,
    Draining,
    NoEndpoint,
    OutOfMemory,
    SchemaMismatch,
    ServiceFault,
    TooManyRequests,
    Unavailable,
)

_CROWDED = 0.25  # seconds to leave an endpoint alone that said 429 without saying for how long


def judge(endpoint: Endpoint, error: DarkroomError) -> RetryReason | None:
    """Nothing when the error is the call's answer, wherever it would be sent."""
    if isinstance(error, TooManyRequests):
        endpoint.breaker.left()
        endpoint.heard()
        endpoint.crowded(min(max(error.retry_after or _CROWDED, 0.05), 2.0))
        return "at-capacity"
    if isinstance(error, SchemaMismatch):
        endpoint.breaker.left()
        endpoint.look_again.set()
        return "schema"
    if (
        isinstance(error, NoEndpoint) and error.__cause__ is not None
    ):  # the transport's: no connection could be made
        endpoint.breaker.failed()
        endpoint.went_down(error.detail)
        endpoint.look_again.set()
        return "connect"
    if isinstance(error, Draining):
        endpoint.breaker.left()
        endpoint.drains(error.detail)
        return "draining"
    if isinstance(error, Unavailable) and not isinstance(error, OutOfMemory):
        endpoint.breaker.left()
        endpoint.not_ready(error.detail)
        return "unavailable"
    if isinstance(error, DeadlineExceeded) and not error.extra.get("_overall"):
        endpoint.breaker.failed()
        endpoint.look_again.set()
        return "timeout"
    if isinstance(error, BadUpstream):
        endpoint.breaker.failed()
        endpoint.look_again.set()
        return "broken"
    if isinstance(error, ServiceFault):
        endpoint.breaker.failed()
    else:
        endpoint.breaker.left()
    return None
