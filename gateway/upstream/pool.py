"""One service: calls go in with a key, and get a turn at the endpoint that is best just now.

The way of a call: `turn()` waits in the fair line for a slot; `send()` tries the slot's endpoint; where that fails
before its first frame, `another()` decides whether and where it is tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType

from gateway.settings import Settings
from gateway.upstream.budget import Budget
from gateway.upstream.call import Call
from gateway.upstream.carrier import Carrier
from gateway.upstream.choose import Chooser
from gateway.upstream.endpoint import Endpoint, Slot
from gateway.upstream.judge import judge
from gateway.upstream.line import Line, Ticket
from gateway.upstream.observe import BreakerState, Observer, RetryReason, Track
from gateway.upstream.status import EndpointStatus, ServiceStatus
from gateway.upstream.stream import Stream
from gateway.upstream.tracks import tracks_of
from services.errors import DarkroomError, DeadlineExceeded, Draining, NoEndpoint, UnknownModel

ATTEMPTS = 3
_LEAST_PATIENCE = 2.0  # a gateway that is itself short of CPU must not take that for an endpoint that hangs
_UPLOAD = 4 * 2**20  # bytes a second below which an upload is not expected to fall


class Pool:
    def __init__(
        self,
        service: str,
        settings: Settings,
        observer: Observer,
        carrier: Carrier,
        canary_share: float = 0.0,
    ) -> None:
        self.service, self.carrier, self.canary_share = service, carrier, canary_share
        self.idle_timeout = settings.idle_timeout
        self._settings, self._observer = settings, observer
        self._loop = asyncio.get_running_loop()
        self._line = Line(settings.line_length)
        self._chooser = Chooser()
        self._budget = Budget(settings.retry_budget)
        self._slowest: float | None = None  # to the first frame, of late
        self._wake: asyncio.TimerHandle | None = None
        self._draining = False
        self._drained = asyncio.Event()
        self.endpoints: list[Endpoint] = []
        self.resolve_again = asyncio.Event()  # one of them leaves: who follows it may be known to the DNS

    # ── what others call ─────────────────────────────────────────────────────────────────────────────────────

    def turn(self, *, key_id: str, deadline: float, weight: float = 1.0, bounded: bool = True) -> Turn:
        """`async with pool.turn(...) as turn`: waits for a slot and holds it. `deadline` is on the loop's clock."""
        return Turn(self, key_id, weight, deadline, bounded)

    def status(self) -> ServiceStatus:
        endpoints = [e for e in self.endpoints if not e.leaving]
        up = [e for e in endpoints if e.health == "up"]
        models = {str(model.get("name")): model for e in up for model in e.models}
        return ServiceStatus(
            service=self.service,
            ready=bool(up),
            reason=None if up else next((e.reason for e in endpoints if e.reason), "no endpoint is known"),
            waiting=len(self._line),
            in_flight=sum(e.in_flight for e in self.endpoints),
            capacity=sum(e.capacity for e in up),
            endpoints=[
                EndpointStatus(
                    e.address.text,
                    e.health,
                    e.reason,
                    e.in_flight,
                    e.capacity,
                    e.weight,
                    e.breaker.state,
                    e.version,
                    e.track,
                )
                for e in self.endpoints
            ],
            tracks=tracks_of(self.endpoints, self.canary_share),
            operations=frozenset(name for e in up for name in e.operations),
            models=list(models.values()),
        )

    # ── endpoints come and go ────────────────────────────────────────────────────────────────────────────────

    def add(self, address: str, weight: float, track: Track = "stable") -> Endpoint:
        endpoint = Endpoint(
            address,
            weight=weight,
            track=track,
            default_capacity=self._settings.default_capacity,
            breaker_failures=self._settings.breaker_failures,
            breaker_pause=self._settings.breaker_pause,
            clock=self._loop.time,
            freed=self.dispatch,
            breaker_changed=self._breaker_changed,
        )
        self.endpoints.append(endpoint)
        return endpoint

    async def remove(self, endpoint: Endpoint) -> None:
        """Forgets an endpoint that has left, once nothing is in flight there."""
        if endpoint.leaving and not endpoint.in_flight and endpoint in self.endpoints:
            self.endpoints.remove(endpoint)
            await self.carrier.forget(endpoint)

    def move_from(self, endpoint: Endpoint) -> None:
        """Sends elsewhere what an endpoint has not answered yet, if there is an elsewhere."""
        if any(e is not endpoint and e.up for e in self.endpoints):
            endpoint.abandon()

    def _breaker_changed(self, endpoint: Endpoint, state: BreakerState) -> None:
        self._observer.upstream_breaker(self.service, state)
        if state == "open":
            self.move_from(endpoint)
            endpoint.look_again.set()

    # ── slots ────────────────────────────────────────────────────────────────────────────────────────────────

    def take(self, avoid: Iterable[Endpoint] = ()) -> Slot | None:
        """A slot at the best endpoint; none of `avoid`, unless they are all that is up."""
        up = [e for e in self.endpoints if e.up]
        if avoid:
            up = [e for e in up if e not in avoid] or up
        chosen = self._chooser.choose(up)
        return None if chosen is None else chosen.take()

    def dispatch(self) -> None:
        """Gives free slots to those who wait. Called whenever a slot may have become free."""
        if not len(self._line):
            self._see_whether_drained()
            return
        for ticket in self._line.returned():
            slot = self.take(ticket.avoid)
            if slot is not None:
                self._line.leave(ticket)
                ticket.slot.set_result(slot)
        while self._line.fresh and (slot := self.take()) is not None:
            next_one = self._line.next()
            if next_one is None:  # all who waited have just gone away
                slot.release()
                break
            next_one.slot.set_result(slot)
        if len(self._line):
            self._set_alarm()

    def _set_alarm(self) -> None:
        """Wakes the line when a breaker's or a crowded endpoint's pause is over."""
        waits = [e.wait for e in self.endpoints if e.wait > 0]
        if waits and (self._wake is None or self._wake.cancelled()):
            self._wake = self._loop.call_later(min(waits) + 0.001, self._alarm)

    def _alarm(self) -> None:
        self._wake = None
        self.dispatch()

    async def first_slot(self, key_id: str, weight: float, deadline: float, bounded: bool) -> Slot:
        if self._draining:
            raise self._refused(
                Draining("This gateway is shutting down and takes no new work.", retry_after=5)
            )
        if not len(self._line):
            slot = self.take()
            if slot is not None:
                self._line.pass_by(key_id, weight)
                self._observer.upstream_waited(self.service, 0.0)
                return slot
        try:
            ticket = self._line.enter(key_id, weight, bounded=bounded)
        except DarkroomError as error:
            raise self._refused(error) from None
        self.dispatch()  # those before it may wait for another endpoint than it would take
        began = self._loop.time()
        slot = await self._wait(ticket, deadline)
        self._observer.upstream_waited(self.service, self._loop.time() - began)
        return slot

    async def _wait(self, ticket: Ticket, deadline: float) -> Slot:
        try:
            async with asyncio.timeout_at(deadline):
                return await ticket.slot
        except TimeoutError:
            self._give_up(ticket)
            if any(e.health == "up" and not e.leaving and e.breaker.state != "open" for e in self.endpoints):
                raise self._refused(
                    DeadlineExceeded("The call's deadline passed while it waited in line.")
                ) from None
            raise self._refused(self.nothing_up()) from None
        except BaseException:
            self._give_up(ticket)
            raise

    def _give_up(self, ticket: Ticket) -> None:
        self._line.leave(ticket)
        if ticket.slot.done() and not ticket.slot.cancelled() and ticket.slot.exception() is None:
            ticket.slot.result().release()
        self._see_whether_drained()

    def nothing_up(self) -> NoEndpoint:
        reason = self.status().reason or "no reason is known"
        return NoEndpoint(f"Nothing of the service {self.service!r} is up: {reason}.", retry_after=5)

    def _refused(self, error: DarkroomError) -> DarkroomError:
        self._observer.upstream_refused(self.service, error.slug)
        return error

    # ── attempts ─────────────────────────────────────────────────────────────────────────────────────────────

    def sent(self) -> None:
        self._budget.called()

    def accepted(self, seconds: float) -> None:
        self._slowest = max(seconds, 0.97 * (self._slowest or 0.0))
        self._observer.upstream_accepted(self.service, seconds)

    def attempted(self, track: Track, outcome: str, seconds: float) -> None:
        self._observer.upstream_attempt(self.service, track, outcome, seconds)

    def finished(self, outcome: str, seconds: float) -> None:
        self._observer.upstream_finished(self.service, outcome, seconds)

    def patience(self, endpoint: Endpoint, size: int, avoid: Iterable[Endpoint] = ()) -> float:
        """Seconds to wait for an endpoint's first frame, where a call has given up those of `avoid`.

        A service accepts at once, so where another endpoint could do the work, one that is ten times slower than the
        slowest of late is given up long before `first_byte_timeout`; a call that has only one place to go waits.
        """
        if not self.carrier.accepts_at_once:
            return self.idle_timeout  # its first frame comes when the work is done
        longest = self._settings.first_byte_timeout
        if not any(e.up and e is not endpoint and e not in avoid for e in self.endpoints):
            return longest
        usual = longest / 4 if self._slowest is None else 10 * self._slowest
        return min(longest, max(_LEAST_PATIENCE, usual) + size / _UPLOAD)

    async def another_slot(
        self, turn: Turn, endpoint: Endpoint, error: DarkroomError, attempts: int, call: Call
    ) -> Slot:
        """After `error` at `endpoint`: a slot for another attempt, or the error again where there is to be none."""
        reason = judge(endpoint, error)
        turn.let_go()
        if isinstance(error, UnknownModel):
            reason = self._elsewhere_known(turn, endpoint, getattr(call.ask, "model", ""))
        if reason is None:
            raise error
        if reason != "at-capacity":
            if endpoint.track == "canary":  # one failed attempt of a call is all that a canary may cost
                turn.avoid |= {e for e in self.endpoints if e.track == "canary"}
            elif reason != "connect":
                turn.avoid |= {endpoint}
            self._may_repeat(turn, endpoint, error, reason, attempts)
        self._observer.upstream_retry(self.service, reason)
        slot = self.take(turn.avoid)
        if slot is not None:
            return slot
        ticket = self._line.come_back(turn.key_id, turn.weight, turn.avoid)
        self._set_alarm()
        return await self._wait(ticket, call.deadline)

    def _elsewhere_known(self, turn: Turn, endpoint: Endpoint, model: str) -> RetryReason | None:
        """The tracks of a service need not have the same models: a call that names one goes where it is."""
        strangers = {e for e in self.endpoints if not e.has_model(model)} | {endpoint}
        if not any(e.up and e not in strangers and e.track != endpoint.track for e in self.endpoints):
            return None
        turn.avoid |= strangers
        return "model"

    def _may_repeat(
        self, turn: Turn, endpoint: Endpoint, error: DarkroomError, reason: RetryReason, attempts: int
    ) -> None:
        """Raises `error` where there is to be no other attempt."""
        # taken out while the call waited there, which says nothing of the call: where it was before may be up again
        moved = reason == "timeout" and not endpoint.up
        shunned = {endpoint} if moved else turn.avoid
        elsewhere = any(e.up and e not in shunned for e in self.endpoints)
        if attempts >= ATTEMPTS or (reason in ("schema", "timeout") and not elsewhere):
            raise error
        # free: the endpoint did nothing, or its callers are moved
        free = reason in ("connect", "schema", "draining", "model") or moved
        if not free and not self._budget.spend():
            self._observer.upstream_retry_refused(self.service)
            raise error

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────

    def stop_taking(self) -> None:
        self._draining = True
        self._see_whether_drained()

    async def drained(self) -> None:
        """Returns when, after `stop_taking`, the last call has ended."""
        await self._drained.wait()

    def _see_whether_drained(self) -> None:
        if self._draining and not len(self._line) and not any(e.in_flight for e in self.endpoints):
            self._drained.set()

    def refuse_waiting(self) -> None:
        for ticket in self._line.empty():
            if not ticket.slot.done():
                ticket.slot.set_exception(
                    Draining("This gateway shut down before the call's turn came.", retry_after=5)
                )

    def close(self) -> None:
        self.stop_taking()
        self.refuse_waiting()
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None


class Turn:
    """A slot held for one caller; `send` uses it, as often as the caller likes."""

    def __init__(self, pool: Pool, key_id: str, weight: float, deadline: float, bounded: bool) -> None:
        self.pool, self.key_id, self.weight = pool, key_id, weight
        self.avoid: frozenset[Endpoint] = frozenset()
        self._deadline, self._bounded = deadline, bounded
        self._slot: Slot | None = None

    async def __aenter__(self) -> Turn:
        self._slot = await self.pool.first_slot(self.key_id, self.weight, self._deadline, self._bounded)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.let_go()

    def let_go(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            slot.release()

    @property
    def endpoint(self) -> Endpoint:
        if self._slot is None:
            raise RuntimeError("a turn holds an endpoint only inside its `async with` block")
        return self._slot.endpoint

    def send(self, call: Call) -> Stream:
        """`async with turn.send(call) as stream`: runs the call, with another endpoint's help where one fails early."""
        self.pool.sent()
        return Stream(self, call)

    async def another(self, error: DarkroomError, attempts: int, call: Call) -> None:
        """Changes to a slot for another attempt, or raises `error`."""
        self._slot = await self.pool.another_slot(self, self.endpoint, error, attempts, call)
