"""One call on its way: attempts until an endpoint accepts it, then its events and the pieces of its pictures.

Leaving the block before the end hangs up, which is how a service learns that nobody waits any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from gateway.upstream.call import Call
from gateway.upstream.carrier import Packed, Reply
from gateway.upstream.endpoint import Endpoint
from services.errors import BadUpstream, DarkroomError, DeadlineExceeded, SchemaMismatch, from_problem
from services.frames import Event, FrameDecoder

if TYPE_CHECKING:
    from gateway.upstream.pool import Turn

_LAST_WORD = 1.0  # seconds for the end of the connection's answer after its last frame


class Stream:
    """`async with turn.send(call) as stream: async for item in stream: ...`, an `Event` and then its body's pieces."""

    def __init__(self, turn: Turn, call: Call) -> None:
        self._turn, self._call, self._pool = turn, call, turn.pool
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._decoder = FrameDecoder()
        self._frames: Iterator[Event | memoryview] = iter(())
        self._first: Event | None = None
        self._answer: Reply | None = None
        self._outcome = "cancelled"
        self._attempt_began = 0.0
        self._packed: Packed | None = None  # while an attempt is under way
        self.endpoint: Endpoint | None = None
        self.attempts = 0

    async def __aenter__(self) -> Stream:
        packed = self._pool.carrier.pack(self._call)
        try:
            await self._open(packed)
        except BaseException as error:
            self._close(error)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None and self._decoder.ended:
                self._outcome = "done"
                await self._read_to_end()
        finally:
            self._close(error)

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Event | memoryview:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        while True:
            for item in self._frames:
                if type(item) is Event and item.kind == "error":
                    self._endpoint.breaker.succeeded()
                    raise from_problem(item.get("problem") or {})
                return item
            if self._decoder.ended:
                self._endpoint.breaker.succeeded()
                await self._read_to_end()
                raise StopAsyncIteration
            self._frames = self._decoder.feed(await self._piece())

    @property
    def _endpoint(self) -> Endpoint:
        assert self.endpoint is not None
        return self.endpoint

    # ── attempts ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _open(self, packed: Packed) -> None:
        name, digest = self._call.ask.name(), self._call.ask.digest()
        while True:
            endpoint = self.endpoint = self._turn.endpoint
            try:
                if not endpoint.accepts(name, digest):
                    raise SchemaMismatch(
                        f"{endpoint.address.text} does not understand this gateway's {name!r}."
                    )
                self.attempts += 1
                await self._attempt(endpoint, packed)
            except DarkroomError as error:
                self._hang_up()
                self._attempt_over(error.slug)
                if error is packed.broken:  # our own side: it says nothing of the endpoint
                    endpoint.breaker.left()
                    raise
                await self._turn.another(error, self.attempts, self._call)
            except BaseException:
                endpoint.breaker.left()
                raise
            else:
                return

    async def _attempt(self, endpoint: Endpoint, packed: Packed) -> None:
        began = self._attempt_began = self._loop.time()
        self._packed, deadline = packed, self._call.deadline
        patience = self._pool.patience(endpoint, packed.size, self._turn.avoid)
        timeout = asyncio.timeout_at(min(deadline, began + patience))
        endpoint.waits_for(timeout)
        try:
            async with timeout:
                left = max(0.0, deadline - began)
                answer = self._answer = await self._pool.carrier.send(endpoint, packed, left)
                while self._first is None:
                    piece = await answer.piece()
                    if not piece:
                        raise BadUpstream("A service ended its answer before its first frame.")
                    self._frames = self._decoder.feed(piece)
                    self._first = next(self._frames, None)  # type: ignore[assignment]  # a stream begins with an Event
        except TimeoutError:
            # not by the clock, which may stand a little before it: timers are rounded
            if (timeout.when() or began) >= deadline:
                raise DeadlineExceeded(
                    "The service did not accept the call before its deadline.", _overall=True
                ) from None
            raise DeadlineExceeded("The service did not accept the call in time.") from None
        finally:
            endpoint.no_longer(timeout)
        endpoint.heard()
        endpoint.breaker.answered()
        self._pool.accepted(self._loop.time() - began)
        if self._first.kind == "error":
            problem, self._first = self._first.get("problem") or {}, None
            raise from_problem(problem)

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _piece(self) -> bytes:
        assert self._answer is not None
        now, deadline = self._loop.time(), self._call.deadline
        by = min(deadline, now + self._pool.idle_timeout)
        try:
            piece = self._answer.at_hand()
            if not piece:
                async with asyncio.timeout_at(by):
                    piece = await self._answer.piece()
        except TimeoutError:
            if by >= deadline:
                raise DeadlineExceeded("The call's deadline passed in the middle of the work.") from None
            self._endpoint.breaker.failed()
            raise DeadlineExceeded("The service fell silent in the middle of the work.") from None
        except BadUpstream:
            self._endpoint.breaker.failed()
            raise
        if not piece:
            self._endpoint.breaker.failed()
            raise BadUpstream(
                "The service ended its answer in the middle of the work; the call may be repeated."
            )
        self._endpoint.heard()
        return piece

    async def _read_to_end(self) -> None:
        """So that the connection can be used again; one that goes on talking is closed."""
        if self._answer is None or self._answer.at_end:
            return
        try:
            async with asyncio.timeout(_LAST_WORD):
                while await self._answer.piece():
                    pass
        except (TimeoutError, BadUpstream):
            self._hang_up()

    def _hang_up(self) -> None:
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    def _close(self, error: BaseException | None) -> None:
        self._hang_up()
        if isinstance(error, DarkroomError):
            self._outcome = error.slug
        self._attempt_over(self._outcome)
        self._pool.finished(self._outcome, self._loop.time() - self._began)

    def _attempt_over(self, outcome: str) -> None:
        if self._packed is not None:
            track = self._packed.track or self._endpoint.track
            self._pool.attempted(track, outcome, self._loop.time() - self._attempt_began)
            self._packed = None
