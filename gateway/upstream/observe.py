"""What the upstream pool tells whoever counts: moments, as they happen. Levels are read from `Upstream.status()`.

`gateway/metrics.py` implements this; `Silent` is for tests and for a pool that nobody watches. How many calls are in
flight, how many wait in line and which breakers are open are levels: a scrape asks `Upstream.status()` for them.
"""

from __future__ import annotations

from typing import Literal, Protocol

RetryReason = Literal[
    "connect", "timeout", "broken", "unavailable", "draining", "at-capacity", "schema", "model"
]
Track = Literal["stable", "canary"]
BreakerState = Literal["closed", "open", "half-open"]


class Observer(Protocol):
    """Every label is bounded: `service` is one of the settings' names, never an address."""

    def upstream_waited(self, service: str, seconds: float) -> None:
        """A call left the waiting line with a slot (0.0 when it did not have to wait)."""

    def upstream_accepted(self, service: str, seconds: float) -> None:
        """An endpoint sent its first frame this long after the attempt began."""

    def upstream_finished(self, service: str, outcome: str, seconds: float) -> None:
        """A sent call ended: `done`, `cancelled`, or the slug of its error; seconds since it was sent."""

    def upstream_attempt(self, service: str, track: Track, outcome: str, seconds: float) -> None:
        """An attempt at an endpoint of this track ended, as a call does; a call that was repeated had several."""

    def upstream_retry(self, service: str, reason: RetryReason) -> None:
        """An attempt failed before its first frame and another one follows."""

    def upstream_retry_refused(self, service: str) -> None:
        """An attempt could have been repeated, but the retry budget was used up."""

    def upstream_refused(self, service: str, slug: str) -> None:
        """A call got no slot: `line-full`, `no-endpoint`, `deadline-exceeded` or `draining`."""

    def upstream_breaker(self, service: str, state: BreakerState) -> None:
        """An endpoint's breaker changed to this state."""


class Silent:
    """Counts nothing."""

    def upstream_waited(self, service: str, seconds: float) -> None: ...
    def upstream_accepted(self, service: str, seconds: float) -> None: ...
    def upstream_finished(self, service: str, outcome: str, seconds: float) -> None: ...
    def upstream_attempt(self, service: str, track: Track, outcome: str, seconds: float) -> None: ...
    def upstream_retry(self, service: str, reason: RetryReason) -> None: ...
    def upstream_retry_refused(self, service: str) -> None: ...
    def upstream_refused(self, service: str, slug: str) -> None: ...
    def upstream_breaker(self, service: str, state: BreakerState) -> None: ...
