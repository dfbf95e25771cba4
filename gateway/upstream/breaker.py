"""A circuit breaker: successes and failures go in, `allows()` says whether the endpoint may be called.

Failures in a row open it; after a pause it is half open and lets one call through, whose outcome decides.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.upstream.observe import BreakerState


class Breaker:
    def __init__(
        self,
        failures: int,
        pause: float,
        clock: Callable[[], float],
        changed: Callable[[BreakerState], None] = lambda _: None,
    ) -> None:
        self._limit, self._pause, self._clock, self._changed = failures, pause, clock, changed
        self._in_a_row = 0
        self._opened_at = 0.0
        self._trying = False
        self.state: BreakerState = "closed"

    def allows(self) -> bool:
        """Whether a call may begin now; turns an open breaker half open when its pause is over."""
        if self.state == "closed":
            return True
        if self.state == "open":
            if self._clock() < self._opened_at + self._pause:
                return False
            self._to("half-open")
        return not self._trying

    @property
    def wait(self) -> float:
        """Seconds until an open breaker lets a call through."""
        return max(0.0, self._opened_at + self._pause - self._clock()) if self.state == "open" else 0.0

    def began(self) -> None:
        """A call begins; while half open it is the only one."""
        if self.state == "half-open":
            self._trying = True

    def answered(self) -> None:
        """The endpoint accepted a call: a half-open breaker closes, and the very next failure opens it again."""
        if self._trying or self.state == "half-open":
            self._trying = False
            self._in_a_row = self._limit - 1
            self._to("closed")

    def succeeded(self) -> None:
        """A call came to its end."""
        self._in_a_row = 0

    def failed(self) -> None:
        self._in_a_row += 1
        self._trying = False
        if self.state == "half-open" or (self.state == "closed" and self._in_a_row >= self._limit):
            self._opened_at = self._clock()
            self._to("open")

    def left(self) -> None:
        """A call ended without telling anything (its caller went away): the next one tries instead."""
        self._trying = False

    def _to(self, state: BreakerState) -> None:
        self.state = state
        self._changed(state)
