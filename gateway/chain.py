"""An operation and those that it hands on to: one call in, one stream of events out.

An operation's `then()` names the next link. Each link runs as a call of its own, with the caller's key, deadline
and request id, and gets the first picture of the link before as its part `image`.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractContextManager, AsyncExitStack, aclosing
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from gateway import logs, telemetry
from gateway.blobs import Blob, Spool
from gateway.upstream import Stream, Upstream
from gateway.upstream.call import Call
from gateway.upstream.pool import Turn
from services.errors import BadUpstream, DarkroomError
from services.frames import Event

LONGEST = 8  # links; an operation that hands on to itself for ever is a mistake


async def run_chain(
    upstream: Upstream,
    call: Call,
    *,
    turn: Turn | None = None,
    bounded: bool = True,
    folder: Path | None = None,
) -> AsyncGenerator[Event | memoryview, None]:
    """The events of `call` and of the links after it, as of one call: one `accepted`, one `done`.

    Of a link that is handed on, progress and previews are passed on, its pictures are not. `turn` is a turn that the
    caller holds already, used for the first link and let go after it; other links wait in their own service's line,
    and `bounded` says whether they may be refused there. A large picture that is handed on lies in `folder` meanwhile.
    A fault in a field of a later link is told at the caller's own field. Leaving the loop early cancels the work: wrap
    it in `contextlib.aclosing`.
    """
    given: Blob | None = None
    names: dict[str, str] = {}
    try:
        for link in range(LONGEST):
            following = call.ask.then()
            handed = None if following is None else _Handed(folder or Path(tempfile.gettempdir()))
            try:
                async with aclosing(_one(upstream, call, turn, bounded)) as stream:
                    async for item in _told(stream, handed, first=link == 0):
                        yield _renamed(item, names)
            except BaseException as error:
                if isinstance(error, DarkroomError) and error.field in names:
                    error.field = names[error.field]
                if handed is not None:
                    handed.spool.discard()
                raise
            if following is None or handed is None:
                return
            if not handed.spool.size:
                raise BadUpstream(f"{call.ask.name()} made no picture to hand on to {following.name()}.")
            turn, last, given = None, given, await handed.spool.finish(handed.media_type)
            if last is not None:
                last.discard()
            wanted = {picture.ref.removeprefix("part:") for picture in following.pictures().values()}
            kept = {name: blob for name, blob in call.parts.items() if name in wanted}
            names = {theirs: names.get(ours, ours) for theirs, ours in call.ask.handed.items()}
            call = replace(call, ask=following, parts={**kept, "image": given})
        raise BadUpstream(f"A chain of more than {LONGEST} operations was given up.")
    finally:
        if given is not None:
            given.discard()


def _renamed(item: Event | memoryview, names: dict[str, str]) -> Event | memoryview:
    """An error that names a link's field, with the caller's own name of it."""
    if not isinstance(item, Event) or item.kind != "error":
        return item
    problem = item["problem"]
    field = problem.get("field")
    return (
        replace(item, fields=item.fields | {"problem": problem | {"field": names[field]}})
        if field in names
        else item
    )


class Single:
    """A call that hands on to nothing, which nearly all are: the same events without the generators around them."""

    def __init__(self, upstream: Upstream, call: Call) -> None:
        caller = call.caller
        self._call = call
        self._turn = upstream.pool(call.service).turn(
            key_id=caller.key_id, weight=caller.weight, deadline=call.deadline
        )

    async def __aenter__(self) -> Stream:
        self._span = _span(self._call)
        self._span.__enter__()
        try:
            await self._turn.__aenter__()
            self._stream = self._turn.send(_traced(self._call))
            stream = await self._stream.__aenter__()
        except BaseException as error:
            self._turn.let_go()
            self._span.__exit__(type(error), error, error.__traceback__)
            raise
        _tell(stream)
        return stream

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._stream.__aexit__(kind, error, trace)
        finally:
            self._turn.let_go()
            self._span.__exit__(kind, error, trace)


def _span(call: Call) -> AbstractContextManager[object]:
    return telemetry.span("call", operation=call.ask.name(), service=call.service)


def _traced(call: Call) -> Call:
    """The service's spans become children of the current one."""
    if telemetry.active():
        call.headers.update(telemetry.headers())
    return call


def _tell(stream: Stream) -> None:
    if stream.endpoint is not None:
        logs.tell(endpoint=stream.endpoint.address.text)
        telemetry.describe(endpoint=stream.endpoint.address.text, attempts=stream.attempts)


class _Handed:
    """The first picture of a link, on its way to the next."""

    def __init__(self, folder: Path) -> None:
        self.spool, self.media_type = Spool(folder), "application/octet-stream"


async def _one(
    upstream: Upstream, call: Call, turn: Turn | None, bounded: bool
) -> AsyncGenerator[Event | memoryview, None]:
    async with AsyncExitStack() as stack:
        stack.enter_context(_span(call))
        if turn is None:
            caller = call.caller
            turn = await stack.enter_async_context(
                upstream.pool(call.service).turn(
                    key_id=caller.key_id, weight=caller.weight, deadline=call.deadline, bounded=bounded
                )
            )
        else:
            stack.callback(turn.let_go)
        stream = await stack.enter_async_context(turn.send(_traced(call)))
        _tell(stream)
        async for item in stream:
            yield item


async def _told(
    stream: AsyncIterator[Event | memoryview], handed: _Handed | None, *, first: bool
) -> AsyncGenerator[Event | memoryview, None]:
    """What of a link's events the caller sees; the first picture goes into `handed`, if there is a next link."""
    keeping = hiding = False
    async for item in stream:
        if isinstance(item, Event):
            picture = handed is not None and item.kind == "result"
            keeping = picture and handed is not None and not handed.spool.size
            hiding = picture or (handed is not None and item.last) or (item.kind == "accepted" and not first)
            if keeping and handed is not None:
                handed.media_type = str(item.get("media_type", handed.media_type))
            if not hiding:
                yield item
        elif keeping and handed is not None:
            await handed.spool.write(bytes(item))
        elif not hiding:
            yield item
