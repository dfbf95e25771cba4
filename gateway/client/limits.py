"""How long a call may take and how often it is tried: a policy, and the clock of one call under it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.errors import DeadlineExceeded

if TYPE_CHECKING:
    from gateway.client.calls import Pause


@dataclass(frozen=True, slots=True)
class Limits:
    """`timeout` is for all of a call: its attempts, the pauses between them, and the pictures that it fetches."""

    timeout: float | None = 300.0
    retries: int = 4

    def but(self, timeout: float | None, retries: int | None) -> Limits:
        """The same, with those that are given."""
        return Limits(
            self.timeout if timeout is None else timeout, self.retries if retries is None else retries
        )

    def begin(self, timeout: float | None) -> Clock:
        return Clock(self, None if timeout is None else time.monotonic() + timeout)


@dataclass(frozen=True, slots=True)
class Clock:
    """One call's time."""

    limits: Limits
    until: float | None

    def left(self) -> float | None:
        """Seconds until the end, None where there is none; raises when it has come."""
        if self.until is None:
            return self.limits.timeout
        left = self.until - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded(
                "The call's time is over.",
                help="Give the client a longer `timeout`, or submit the work as a job.",
            )
        return left

    @property
    def over(self) -> bool:
        return self.until is not None and time.monotonic() >= self.until

    def pause(self, seconds: float) -> float:
        """As many of them as there are until the end."""
        return seconds if self.until is None else max(0.0, min(seconds, self.until - time.monotonic()))

    def attempt(self) -> Clock:
        """The clock of one call within this time."""
        own = self.limits.begin(self.limits.timeout)
        if self.until is None or (own.until is not None and own.until < self.until):
            return own
        return self

    def allows(self, pause: Pause) -> bool:
        """Whether there is time for a pause, and another attempt."""
        if pause.attempt > self.limits.retries:
            return False
        return self.until is None or time.monotonic() + pause.seconds < self.until
