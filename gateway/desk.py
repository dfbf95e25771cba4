"""The desk behind every foreign door: fields and pictures in, an operation's events or its whole outcome out.

What a call costs and how it may end is settled here, so that a door only translates: validation, quota, seed, deadline,
the waiting line, chains, a client that hangs up, and the end of the pictures that came with the request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.types import Receive

from gateway import logs
from gateway.blobs import Blob
from gateway.callers import Caller
from gateway.chain import run_chain
from gateway.doors.watch import Watch
from gateway.forms import Form, Reader
from gateway.intake import Intake, draw_seed
from gateway.state import GatewayState
from gateway.upstream.call import Call
from services.errors import BadUpstream, DarkroomError, DeadlineExceeded, Draining, TooSlow
from services.frames import Event
from services.operations import Operation

GRACE = 0.5  # seconds after the deadline: what runs out of time on the way says itself why


@dataclass(frozen=True, slots=True)
class Guest:
    """Who asks, and how it is known that they still wait."""

    caller: Caller
    request_id: str
    receive: Receive | None = None
    seconds: float = 0.0  # that the call may take; the installation's own bound where 0

    @classmethod
    def of(cls, request: Request, seconds: float = 0.0) -> Guest:
        """Of a request whose body has been read."""
        return cls(request.scope["caller"], request.scope["request_id"], request.receive, seconds)


@dataclass(frozen=True, slots=True)
class Made:
    """One finished picture, whole."""

    data: bytes
    media_type: str
    width: int
    height: int
    seed: int | None
    role: str
    withheld: bool


@dataclass(slots=True)
class Outcome:
    """What a call came to."""

    ask: Operation
    pictures: list[Made] = field(default_factory=list)
    data: Any = None
    model: str = ""
    timing: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def picture(self) -> Made:
        """The first that is no map."""
        for made in self.pictures:
            if made.role == "picture":
                return made
        raise BadUpstream(f"{self.ask.name()} ended without a picture.")


@dataclass(slots=True)
class Bill:
    made: int = 0


@asynccontextmanager
async def paid(state: GatewayState, ask: Operation, caller: Caller) -> AsyncIterator[Bill]:
    """Around the work: its pictures are set aside from the key's quota before, and counted after."""
    reservation = await state.limits.reserve_pictures(caller, ask.count_asked())
    bill = Bill()
    try:
        yield bill
    finally:
        state.limits.settle(reservation, bill.made)
        if bill.made:
            state.metrics.pictures(ask.name(), bill.made)


class Desk:
    """What a door asks; `stream` for those that show work in progress, `run` for those that wait for its end."""

    def __init__(self, state: GatewayState, reader: Reader, intake: Intake, folder: Path) -> None:
        self.state = state
        self._reader, self._intake, self._folder = reader, intake, folder

    async def form(self, request: Request) -> Form:
        """The request's body: multipart or JSON, within the limits, within the time that a call may take."""
        try:
            async with asyncio.timeout(self.state.settings.deadline):
                return await self._reader.form(request.headers.get("content-type", ""), request.stream())
        except TimeoutError as error:
            raise TooSlow("The request's body did not arrive within the call's deadline.") from error

    async def run(
        self,
        operation: type[Operation],
        fields: Mapping[str, Any],
        guest: Guest,
        files: Mapping[str, Blob] | None = None,
        tell: Callable[[Event], Awaitable[None]] | None = None,
    ) -> Outcome:
        """The whole outcome; the call is given up when its client goes away. `tell` hears of each event as it comes."""
        began = time.perf_counter()
        async with self.stream(operation, fields, guest, files) as (ask, events):
            outcome = Outcome(ask)
            async for event, body in events:
                if tell is not None:
                    await tell(event)
                match event.kind:
                    case "accepted":
                        outcome.model = str(event.get("model", ""))
                    case "result":
                        outcome.pictures.append(made(event, body))
                    case "done":
                        outcome.model = str(event.get("model", outcome.model))
                        outcome.data, outcome.timing = event.get("data"), event.get("timing", {})
        outcome.seconds = time.perf_counter() - began
        return outcome

    @asynccontextmanager
    async def stream(
        self,
        operation: type[Operation],
        fields: Mapping[str, Any],
        guest: Guest,
        files: Mapping[str, Blob] | None = None,
    ) -> AsyncIterator[tuple[Operation, AsyncIterator[tuple[Event, bytes]]]]:
        """The validated operation and its events, each with its whole body; `files` are let go of at the end."""
        state, settings = self.state, self.state.settings
        seconds = min(guest.seconds or settings.deadline, settings.deadline)
        deadline = asyncio.get_running_loop().time() + seconds
        logs.tell(operation=operation.name())
        form = Form(fields=dict(fields), files=dict(files or {}))
        ask, parts = await self._intake.receive(operation, form, guest.caller)
        form.fields.clear()  # base64 that has become parts need not wait in line, too
        try:
            draw_seed(ask)
            call = Call(ask, parts, guest.caller, deadline, guest.request_id)
            logs.tell(service=call.service)
            watching = nullcontext() if guest.receive is None else Watch(guest.receive)
            async with paid(state, ask, guest.caller) as bill:
                try:
                    with watching:
                        async with (
                            asyncio.timeout_at(deadline + GRACE),
                            aclosing(run_chain(state.upstream, call, folder=self._folder)) as items,
                        ):
                            yield ask, _whole(items, bill)
                except (asyncio.CancelledError, TimeoutError) as error:
                    raise ended(state, error, ask) from None
        finally:
            for blob in parts.values():
                blob.discard()


def ended(state: GatewayState, error: BaseException, ask: Operation) -> BaseException:
    """Why work that was stopped from without ended: time was up, or the gateway shut down; else the error itself."""
    if isinstance(error, TimeoutError):
        return DeadlineExceeded(f"{ask.name()} was not done within the call's deadline.")
    task = asyncio.current_task()
    if not state.draining or task is None:
        return error
    task.uncancel()
    return Draining("This gateway shut down before the call was done.", retry_after=5)


def made(event: Event, body: bytes) -> Made:
    return Made(
        data=body,
        media_type=str(event["media_type"]),
        width=int(event.get("width", 0)),
        height=int(event.get("height", 0)),
        seed=event.get("seed"),
        role=str(event.get("role", "picture")),
        withheld=bool(event.get("withheld")),
    )


async def _whole(items: AsyncIterator[Event | memoryview], bill: Bill) -> AsyncIterator[tuple[Event, bytes]]:
    """Each event with the pieces of its body put together; an `error` frame has been raised before it comes here."""
    event: Event | None = None
    pieces: list[memoryview] = []
    left = 0
    async for item in items:
        if isinstance(item, Event):
            event, left, pieces = item, item.size, []
        elif event is not None:
            pieces.append(item)
            left -= len(item)
        if event is not None and left <= 0:
            whole, event = event, None
            bill.made += whole.kind == "result"
            yield whole, b"".join(pieces)


def sentence(error: DarkroomError) -> str:
    """The error in one line, for dialects that have no more room."""
    return f"{error.detail} {error.what_to_do}".strip()
