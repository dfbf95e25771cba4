"""The hot route, `POST /v1/{operation}`: a form in; a picture's bytes, a job document or server-sent events out.

It is plain ASGI, since at thousands of small calls a second a framework's routing and validation would cost more
than all of the gateway's own work; its OpenAPI is made from the operations (openapi.py). Bytes of pictures go
from the service's socket to the client's in the pieces in which they come.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from gateway import logs
from gateway.answers import Answer, collect, picture_document
from gateway.blobs import Blob
from gateway.callers import Caller
from gateway.chain import Single, run_chain
from gateway.desk import GRACE, ended, paid
from gateway.doors.accept import Wanted, preference, wanted
from gateway.doors.jobs import respond
from gateway.doors.sse import HEADERS, KEEP_ALIVE, encode_event, preview_event
from gateway.doors.watch import ClientGone, Watch
from gateway.forms import Reader
from gateway.intake import Intake, draw_seed
from gateway.problems import encode, translate
from gateway.state import GatewayState
from gateway.upstream.call import Call
from services.errors import (
    BadUpstream,
    DeadlineExceeded,
    MethodNotAllowed,
    TooSlow,
)
from services.frames import Event
from services.operations import OPERATIONS, Encoded, Operation

Headers = list[tuple[bytes, bytes]]

PREFIX = "/v1/"
NO_STORE = (b"cache-control", b"no-store")
QUIET = 2.0  # seconds of waiting after which an event stream begins without an event


@dataclass(slots=True)
class Exchange:
    """One request on its way through the hot route."""

    receive: Receive
    send: Send
    caller: Caller
    request_id: str
    headers: Mapping[bytes, bytes]
    deadline: float = 0.0
    began: float = field(default_factory=time.time)

    def header(self, name: bytes) -> str:
        return self.headers.get(name, b"").decode("latin-1")

    async def body(self) -> AsyncIterator[bytes]:
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            if message.get("body"):
                yield message.pop("body")  # nothing of it stays here while the next is waited for
            if not message.get("more_body"):
                return

    async def start(self, status: int, headers: Headers) -> None:
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, body: bytes | memoryview, *, more: bool) -> None:
        await self.send({"type": "http.response.body", "body": body, "more_body": more})


class RunDoor:
    """An ASGI application for every operation's own path."""

    def __init__(self, state: GatewayState, reader: Reader, intake: Intake) -> None:
        self._state, self._reader, self._intake = state, reader, intake
        self._folder = state.settings.data / "uploads"
        self._routes = {f"{PREFIX}{name}": operation for name, operation in OPERATIONS.items()}

    def takes(self, path: str) -> bool:
        return path in self._routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        operation = self._routes[scope["path"]]
        logs.tell(operation=operation.name())
        if scope["method"] != "POST":
            status, headers, body = encode(
                MethodNotAllowed("An operation is asked for with POST."), scope["request_id"]
            )
            await send(
                {"type": "http.response.start", "status": status, "headers": [*headers, (b"allow", b"POST")]}
            )
            await send({"type": "http.response.body", "body": body})
            return
        exchange = Exchange(receive, send, scope["caller"], scope["request_id"], dict(scope["headers"]))
        await self._run(operation, exchange)

    async def _run(self, operation: type[Operation], exchange: Exchange) -> None:
        state, preferred = self._state, preference(exchange.header(b"prefer"))
        seconds = min(preferred.wait or state.settings.deadline, state.settings.deadline)
        exchange.deadline = asyncio.get_running_loop().time() + seconds
        ask, parts = await self._receive(operation, exchange)
        try:
            if preferred.respond_async:
                known = {
                    name.decode("latin-1"): value.decode("latin-1")
                    for name, value in exchange.headers.items()
                }
                known["x-request-id"] = exchange.request_id
                status, headers, body = await respond(state, ask, parts, exchange.caller, known)
                await exchange.start(status, headers)
                await exchange.write(body, more=False)
                return
            want = wanted(exchange.header(b"accept"), ask)
            if want.format and isinstance(ask, Encoded) and "format" not in ask.model_fields_set:
                ask.format = want.format
            draw_seed(ask)
            async with paid(state, ask, exchange.caller) as bill:
                bill.made = await self._answer(ask, parts, exchange, want)
        finally:
            for blob in parts.values():
                blob.discard()

    async def _receive(
        self, operation: type[Operation], exchange: Exchange
    ) -> tuple[Operation, dict[str, Blob]]:
        try:
            async with asyncio.timeout_at(exchange.deadline):
                form = await self._reader.form(exchange.header(b"content-type"), exchange.body())
                return await self._intake.receive(operation, form, exchange.caller)
        except TimeoutError as error:
            raise TooSlow("The request's body did not arrive within the call's deadline.") from error

    async def _answer(self, ask: Operation, parts: dict[str, Blob], exchange: Exchange, want: Wanted) -> int:
        """Run the work while watching for the client to go away; says how many pictures were made."""
        call = Call(
            ask=ask,
            parts=parts,
            caller=exchange.caller,
            deadline=exchange.deadline,
            request_id=exchange.request_id,
        )
        logs.tell(service=call.service)
        try:
            with Watch(exchange.receive):
                if want.form == "events":
                    return await self._events(call, exchange)
                async with asyncio.timeout_at(exchange.deadline + GRACE):
                    return await (self._bytes if want.form == "bytes" else self._document)(call, exchange)
        except (asyncio.CancelledError, TimeoutError) as error:
            raise ended(self._state, error, ask) from None

    async def _bytes(self, call: Call, exchange: Exchange) -> int:
        """The first result's bytes, its seed and size in headers, passed on as they arrive."""
        model, version, left, made, queued, worked = "", None, 0, 0, time.perf_counter(), 0.0
        last = memoryview(b"")
        async with self._stream(call) as stream:
            async for item in stream:
                if isinstance(item, Event):
                    if item.kind == "accepted":
                        model, version = str(item.get("model", "")), item.get("version")
                        accepted, worked = time.perf_counter(), float(item.get("run_ms", 0.0))
                    elif item.kind == "result" and not made:
                        made, left = 1, item.size
                        queue, run = accepted - queued, time.perf_counter() - accepted
                        spent = max(0.0, queue * 1000 - worked), run * 1000 + worked
                        headers = _picture_headers(item, model, spent)
                        if version is not None:
                            headers.append((b"x-darkroom-version", str(version).encode()))
                        await exchange.start(200, headers)
                elif left:
                    left -= len(item)
                    if left:
                        await exchange.write(item, more=True)
                    else:
                        last = item
        if not made:
            raise BadUpstream(f"The service {call.service!r} ended its answer without a picture.")
        # not before the call has ended: who has all of a picture may leave, which would seem to end it
        await exchange.write(last, more=False)
        return made

    async def _document(self, call: Call, exchange: Exchange) -> int:
        async with self._stream(call) as stream:
            answer = await collect(stream, self._keeper(call))
        body = orjson.dumps(answer.document(call, exchange.began))
        await exchange.start(
            200,
            [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), NO_STORE],
        )
        await exchange.write(body, more=False)
        return len(answer.pictures)

    async def _events(self, call: Call, exchange: Exchange) -> int:
        """Server-sent events: progress and previews as they come, each result as the asset that it became.

        The answer begins with the first event, so that a refusal keeps its status; a call that waits long in line
        begins it before, lest a proxy takes the silence for death.
        """
        answer, begun = Answer(), False

        async def begin() -> None:
            nonlocal begun
            if not begun:
                begun = True
                await exchange.start(200, [*HEADERS])

        async def begin_anyway() -> None:
            await asyncio.sleep(QUIET)
            await begin()
            await exchange.write(KEEP_ALIVE, more=True)

        async def tell(event: Event, body: bytes) -> None:
            await begin()
            match event.kind:
                case "alive":
                    await exchange.write(KEEP_ALIVE, more=True)
                case "preview":
                    await exchange.write(
                        encode_event("preview", preview_event(event.fields, body)), more=True
                    )
                case "accepted" | "progress":
                    await exchange.write(encode_event(event.kind, event.fields), more=True)
                case "result":
                    await exchange.write(encode_event("result", answer.pictures[-1]), more=True)

        waiting = asyncio.create_task(begin_anyway())
        try:
            async with asyncio.timeout_at(exchange.deadline + GRACE), self._stream(call) as stream:
                await collect(stream, self._keeper(call), answer, tell)
            await exchange.write(encode_event("done", answer.document(call, exchange.began)), more=False)
        except ClientGone:
            raise
        except Exception as error:  # the answer may have begun: then whatever went wrong is told as an event
            if not begun:
                raise
            fault = DeadlineExceeded() if isinstance(error, TimeoutError) else translate(error)
            problem = fault.problem() | {"request_id": exchange.request_id}
            await exchange.write(encode_event("error", problem), more=False)
        finally:
            waiting.cancel()
        return len(answer.pictures)

    def _stream(self, call: Call) -> AbstractAsyncContextManager[AsyncIterator[Event | memoryview]]:
        if call.ask.then() is None:
            return Single(self._state.upstream, call)
        return aclosing(run_chain(self._state.upstream, call, folder=self._folder))

    def _keeper(self, call: Call) -> Callable[[Event, AsyncIterator[bytes]], Awaitable[dict[str, Any]]]:
        async def keep(event: Event, pieces: AsyncIterator[bytes]) -> dict[str, Any]:
            asset = await self._state.assets.put(
                pieces,
                owner=call.caller.key_id,
                media_type=event["media_type"],
                width=event.get("width"),
                height=event.get("height"),
                seed=event.get("seed"),
                operation=call.ask.name(),
            )
            return picture_document(asset, str(event.get("role", "picture")), self._state.settings.root_path)

        return keep


def _picture_headers(result: Event, model: str, spent: tuple[float, float]) -> Headers:
    headers = [
        (b"content-type", str(result["media_type"]).encode()),
        (b"content-length", str(result.size).encode()),
        (b"x-darkroom-model", model.encode()),
        (b"x-darkroom-size", f"{result.get('width')}x{result.get('height')}".encode()),
        (b"server-timing", f"queue;dur={spent[0]:.1f}, run;dur={spent[1]:.1f}".encode()),
        NO_STORE,
    ]
    if (seed := result.get("seed")) is not None:
        headers.append((b"x-darkroom-seed", str(seed).encode()))
    if result.get("withheld"):
        headers.append((b"x-darkroom-withheld", b"true"))
    return headers
