"""The desk behind every foreign door: fields and pictures in, an operation's events or its whole outcome out.

What a call costs and how it may end is settled here, so that a door only translates: validation, quota, seed, deadline,
the waiting line, chains, a client that hangs up, and the end of the pictures that came with the request.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.types import Receive

from gateway import logs
from gateway.arriving import Arriving, File
from gateway.blobs import Blob
from gateway.callers import Caller
from gateway.chain import run_chain
from gateway.doors.watch import Watch
from gateway.forms import Form, Reader
from gateway.intake import Intake, draw_seed
from gateway.kept import Kept
from gateway.room import Room, held
from gateway.state import GatewayState
from gateway.upstream.call import Call
from services.errors import BadUpstream, DarkroomError, DeadlineExceeded, Draining, TooSlow
from services.frames import Event
from services.operations import Operation

ANSWERING = "darkroom.answering"  # in a request's scope
log = logging.getLogger("darkroom.gateway")

GRACE = 0.5  # seconds after the deadline: what runs out of time on the way says itself why


@dataclass(frozen=True, slots=True)
class Guest:
    """Who asks, and how it is known that they still wait."""

    caller: Caller
    request_id: str
    receive: Receive | None = None
    seconds: float = 0.0  # that the call may take; the installation's own bound where 0
    answering: AsyncExitStack | None = None  # around the answer: what a call has open while it is sent

    @classmethod
    def of(cls, request: Request, seconds: float = 0.0) -> Guest:
        """Of a request whose body has been read."""
        scope = request.scope
        return cls(scope["caller"], scope["request_id"], request.receive, seconds, scope.get(ANSWERING))

    async def stay(
        self, stack: AsyncExitStack, body: Arriving, events: AsyncIterator[tuple[Event, File]]
    ) -> None:
        """What a call has open is open until its last picture was sent, and the call's end has come after it."""

        async def end() -> None:
            async for event, _ in events:
                if event.kind == "result":
                    log.warning("a service made more pictures than were asked for; the answer lacks them")

        assert self.answering is not None
        body.then(end)
        await self.answering.enter_async_context(stack.pop_all())


def last_of(ask: Operation, made: int) -> bool:
    """Whether the next picture is the last one, where so many are made."""
    return not ask.with_maps and made == ask.count_asked() - 1


@dataclass(frozen=True, slots=True)
class Made:
    """One finished picture."""

    file: File
    media_type: str
    width: int
    height: int
    seed: int | None
    role: str
    withheld: bool

    @property
    def kept(self) -> Kept:
        """The file, which is here as a whole unless the door wants it passed on."""
        assert isinstance(self.file, Kept)
        return self.file

    @property
    def data(self) -> bytes:
        """All of it, in memory; `file` gives it in pieces."""
        return self.kept.data


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

    def count(self) -> None:
        self.made += 1


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

    def __init__(
        self, state: GatewayState, reader: Reader, intake: Intake, folder: Path, room: Room | None = None
    ) -> None:
        self.state = state
        self._reader, self._intake, self._folder = reader, intake, folder
        self._room = room or Room()

    async def form(self, request: Request) -> Form:
        """The request's body: multipart or JSON, within the limits, within the time that a call may take."""
        try:
            async with asyncio.timeout(self.state.settings.deadline):
                return await self._reader.form(request.headers.get("content-type", ""), request.stream())
        except TimeoutError as error:
            raise TooSlow("The request's body did not arrive within the call's deadline.") from error

    async def hold(self, data: bytes) -> Blob:
        """A picture that came as a whole."""
        return await held(data, self._room, self._folder)

    async def run(
        self,
        operation: type[Operation],
        fields: Mapping[str, Any],
        guest: Guest,
        files: Mapping[str, Blob] | None = None,
        tell: Callable[[Event], Awaitable[None]] | None = None,
        *,
        passed_on: bool = False,
    ) -> Outcome:
        """The whole outcome; the call is given up when its client goes away. `tell` hears of each event as it comes.

        For a door that only passes pictures on, the last one is still coming: its file is read once, in the answer.
        """
        began = time.perf_counter()
        async with AsyncExitStack() as stack:
            ask, events = await stack.enter_async_context(self.stream(operation, fields, guest, files))
            outcome = Outcome(ask)
            async for event, body in events:
                if tell is not None:
                    await tell(event)
                match event.kind:
                    case "accepted":
                        outcome.model = str(event.get("model", ""))
                    case "result" if passed_on and guest.answering is not None and isinstance(body, Arriving):
                        last = last_of(ask, len(outcome.pictures))
                        outcome.pictures.append(made(event, body if last else await self.keep(body)))
                        if last:
                            await guest.stay(stack, body, events)
                            break
                    case "result":
                        outcome.pictures.append(made(event, await self.keep(body)))
                    case "done":
                        outcome.model = str(event.get("model", outcome.model))
                        outcome.data, outcome.timing = event.get("data"), event.get("timing", {})
        outcome.seconds = time.perf_counter() - began
        return outcome

    async def keep(self, body: File) -> Kept:
        """The whole of what is still coming."""
        return body if isinstance(body, Kept) else await body.kept(Kept(self._room, self._folder))

    @asynccontextmanager
    async def stream(
        self,
        operation: type[Operation],
        fields: Mapping[str, Any],
        guest: Guest,
        files: Mapping[str, Blob] | None = None,
    ) -> AsyncIterator[tuple[Operation, AsyncIterator[tuple[Event, File]]]]:
        """The validated operation and its events, each with its body; `files` are let go of at the end.

        Pictures are still coming and are read, or kept, before the next event; previews are whole.
        """
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
                            yield ask, self._events(items, bill)
                except (asyncio.CancelledError, TimeoutError) as error:
                    raise ended(state, error, ask) from None
        finally:
            for blob in parts.values():
                blob.discard()

    async def _events(
        self, items: AsyncIterator[Event | memoryview], bill: Bill
    ) -> AsyncIterator[tuple[Event, File]]:
        """Each event with its body; an `error` frame has been raised before it comes here."""
        async for event in items:
            assert isinstance(event, Event)  # bodies are read to their end below
            if event.kind == "result" and event.size:
                body = Arriving(event.size, items, bill.count)
                yield event, body
                await body.skip()
            elif event.size:
                yield event, await self.keep(Arriving(event.size, items))
            else:
                bill.made += event.kind == "result"
                yield event, _NOTHING


_NOTHING = Kept.of(b"")


def ended(state: GatewayState, error: BaseException, ask: Operation) -> BaseException:
    """Why work that was stopped from without ended: time was up, or the gateway shut down; else the error itself."""
    if isinstance(error, TimeoutError):
        return DeadlineExceeded(f"{ask.name()} was not done within the call's deadline.")
    task = asyncio.current_task()
    if not state.draining or task is None:
        return error
    task.uncancel()
    return Draining("This gateway shut down before the call was done.", retry_after=5)


def made(event: Event, body: File) -> Made:
    return Made(
        file=body,
        media_type=str(event["media_type"]),
        width=int(event.get("width", 0)),
        height=int(event.get("height", 0)),
        seed=event.get("seed"),
        role=str(event.get("role", "picture")),
        withheld=bool(event.get("withheld")),
    )


def sentence(error: DarkroomError, what_to_do: str | None = None) -> str:
    """The error in one line, for dialects that have no more room."""
    detail = error.detail.strip()
    if not detail.endswith((".", "!", "?")):
        detail += "."
    elif detail.endswith("..") and not detail.endswith("..."):  # it quotes what has a full stop of its own
        detail = detail[:-1]
    return f"{detail} {error.what_to_do if what_to_do is None else what_to_do}".strip()
