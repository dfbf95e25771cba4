"""One endpoint of a service: where it is, what it said of itself, what it is doing for us just now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

from gateway.upstream.breaker import Breaker
from gateway.upstream.observe import BreakerState, Track
from gateway.upstream.transport import Address

Health = Literal["unknown", "up", "loading", "draining", "down"]


class Slot:
    """The right to one call at an endpoint, given back exactly once however often `release` is called."""

    __slots__ = ("endpoint", "trial")

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.trial = endpoint.breaker.state == "half-open"

    def release(self) -> None:
        self.endpoint.give_back(self)


class Endpoint:
    def __init__(
        self,
        address: str,
        *,
        weight: float,
        track: Track = "stable",
        default_capacity: int,
        breaker_failures: int,
        breaker_pause: float,
        clock: Callable[[], float],
        freed: Callable[[], None],
        breaker_changed: Callable[[Endpoint, BreakerState], None],
    ) -> None:
        self.address = Address(address)
        self.weight, self.track = weight, track
        self.capacity = default_capacity
        self.health: Health = "unknown"
        self.reason: str | None = "not yet asked"
        self.leaving = False  # vanished from the settings or the DNS: finishes what it has
        self.version = ""
        self.operations: dict[str, frozenset[str]] = {}
        self.models: list[dict[str, Any]] = []
        self.last_heard = float("-inf")
        self.last_taken = 0  # the pool's count of turns, so that equals take turns
        self.look_again = asyncio.Event()
        self.breaker = Breaker(
            breaker_failures, breaker_pause, clock, lambda state: breaker_changed(self, state)
        )
        self._clock, self._freed = clock, freed
        self._slots: set[Slot] = set()
        self._unanswered: set[asyncio.Timeout] = set()
        self._crowded_limit = 0
        self._crowded_until = 0.0

    def __repr__(self) -> str:
        return f"<{self.address.text} {self.health} {self.in_flight}/{self.capacity}>"

    @property
    def in_flight(self) -> int:
        """Calls at this endpoint now; a count of slots that exist, so it cannot fall below zero."""
        return len(self._slots)

    @property
    def up(self) -> bool:
        """Whether it may be chosen, once it has a free slot."""
        return self.health == "up" and not self.leaving and self.breaker.allows()

    @property
    def free(self) -> bool:
        limit = self._crowded_limit if self._clock() < self._crowded_until else self.capacity
        return len(self._slots) < limit

    @property
    def wait(self) -> float:
        """Seconds until time alone makes it available; 0 when something else must happen."""
        return max(self.breaker.wait, self._crowded_until - self._clock(), 0.0)

    def take(self) -> Slot:
        slot = Slot(self)
        self._slots.add(slot)
        self.breaker.began()
        return slot

    def give_back(self, slot: Slot) -> None:
        if slot in self._slots:
            self._slots.remove(slot)
            if slot.trial:
                self.breaker.left()
            self._freed()

    def accepts(self, operation: str, digest: str) -> bool:
        """Whether it said that it understands this operation's schema; one that has not said is asked."""
        return not self.operations or digest in self.operations.get(operation, frozenset())

    def heard(self) -> None:
        """A sign of life."""
        self.last_heard = self._clock()

    def crowded(self, pause: float) -> None:
        """It answered 429: for a moment it gets no more than it has. The refused call still holds its slot."""
        self._crowded_limit = min(self.capacity, max(0, len(self._slots) - 1))
        self._crowded_until = self._clock() + pause

    # ── what is learned of its health ────────────────────────────────────────────────────────────────────────

    def described(self, said: dict[str, Any]) -> None:
        """`/darkroom/v1/describe` answered."""
        self.heard()
        self.capacity = max(1, int(said.get("capacity") or self.capacity))
        self.version = str(said.get("version", ""))
        self.operations = {
            name: frozenset(digests) for name, digests in dict(said.get("operations") or {}).items()
        }
        self.models = list(said.get("models") or [])
        self.reason = said.get("reason")
        self.health = "up" if said.get("ready", True) else "loading"
        if self.health == "loading" and not self.reason:
            self.reason = "loading its model"
        if said.get("draining"):
            self.health = "draining"

    def went_down(self, reason: str) -> None:
        """It cannot be reached, or does not answer."""
        self.health, self.reason = "down", reason

    def not_ready(self, reason: str) -> None:
        self.health, self.reason = "loading", reason
        self.look_again.set()

    def drains(self, reason: str) -> None:
        """It is told to stop: it finishes what it has, and gets nothing new."""
        self.health, self.reason = "draining", reason
        self.look_again.set()

    def has_model(self, name: str) -> bool:
        """Whether it lists this model as one that can be asked for."""
        return any(
            model.get("available", model.get("loaded", True))
            for model in self.models
            if name == model.get("name") or name in (model.get("aliases") or ())
        )

    def waits_for(self, timeout: asyncio.Timeout) -> None:
        """An attempt waits here for its first frame."""
        self._unanswered.add(timeout)

    def no_longer(self, timeout: asyncio.Timeout) -> None:
        self._unanswered.discard(timeout)

    def abandon(self) -> None:
        """Calls that it has not answered yet time out now."""
        now = self._clock()
        for timeout in self._unanswered:
            if not timeout.expired():
                timeout.reschedule(now)
