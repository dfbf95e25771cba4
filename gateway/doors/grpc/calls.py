"""Around each call over gRPC: whose key, may it now, the account of it, and the last catch of every error.

    request ──> id, key, rate ──> the method ──> code and details ──> access line, metrics

It does for gRPC what access.py and front.py do for HTTP, with the same keys, limits, lines and numbers; an error
counts under the status that it has over HTTP.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc import StatusCode

from gateway import logs, request_id, telemetry
from gateway.callers import LOCAL, Caller
from gateway.doors.grpc.errors import DETAILS, code_of, encode
from gateway.doors.grpc.messages import CHUNK
from gateway.front import REFUSED, secret
from gateway.problems import translate
from gateway.state import GatewayState
from services.errors import DarkroomError, Draining, Malformed, TooLarge

LARGEST_MESSAGE = 4 * CHUNK
IN_A_THREAD = 4 * CHUNK  # bytes from which a message is read off the event loop
OK, GONE, LATE = 200, 499, 504

Requests = AsyncIterator[Any]
Send = Callable[[Any], Awaitable[None]]


@dataclass(slots=True)
class Rpc:
    """One call on its way."""

    context: Any  # grpc.aio's
    request_id: str
    headers: list[tuple[bytes, bytes]]
    caller: Caller = LOCAL
    received: int = 0
    sent: int = 0

    @property
    def seconds_left(self) -> float | None:
        """Until the client's deadline; None where it set none."""
        left: float | None = self.context.time_remaining()
        return left


Method = Callable[[Rpc, Requests, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Served:
    """A method as the server is told of it."""

    path: str
    method: Method
    read: Callable[[bytes], Any]  # a message from its bytes; DecodeError where they are none
    streams_out: bool = True
    door: str = "grpc"
    largest: int = LARGEST_MESSAGE


class Calls:
    def __init__(self, state: GatewayState, lines: logs.Logs) -> None:
        self._state, self._lines = state, lines

    def handler(self, served: Served) -> Any:
        """What grpc's server calls.

        Messages pass it as bytes, so that one that cannot be read is told as ours. Every method takes a stream, which
        on the wire one message is, too: so nothing is read of a caller whose key was not looked at.
        """

        async def answer_many(given: AsyncIterator[bytes], context: Any) -> None:
            await self._serve(served, given, context, context.write)

        async def answer_one(given: AsyncIterator[bytes], context: Any) -> bytes:
            answers: list[bytes] = []

            async def keep(data: bytes) -> None:
                answers.append(data)

            await self._serve(served, given, context, keep)
            return answers[0] if answers else b""  # nobody reads it where the client is gone

        if served.streams_out:
            return grpc.stream_stream_rpc_method_handler(answer_many)
        return grpc.stream_unary_rpc_method_handler(answer_one)

    async def _serve(
        self,
        served: Served,
        given: AsyncIterator[bytes],
        context: Any,
        write: Callable[[bytes], Awaitable[None]],
    ) -> None:
        began = time.perf_counter()
        headers = [
            (key.encode(), value if isinstance(value, bytes) else value.encode("latin-1", "replace"))
            for key, value in context.invocation_metadata() or ()
        ]
        rpc = Rpc(context, request_id.choose(dict(headers).get(request_id.HEADER)), headers)
        request_id.enter(rpc.request_id)
        about = logs.begin()
        logs.tell(door=served.door)
        self._state.metrics.request_began()

        async def send(message: Any) -> None:
            data = message.SerializeToString()
            rpc.sent += len(data)
            await write(data)

        status, fault = OK, None
        with telemetry.serving(f"GRPC {served.path}", headers, _traced(served.path)) as span:
            try:
                await self._admit(rpc)
                await served.method(rpc, _parsed(rpc, served, given), send)
            except asyncio.CancelledError:
                left = rpc.seconds_left
                status = LATE if left is not None and left <= 0 else GONE
                raise
            except grpc.aio.InternalError:  # what is sent to a client that is gone
                status = GONE
                return
            except Exception as error:  # noqa: BLE001 - the last catch; translate logs what it does not know
                fault = translate(error)
                status = fault.status
                if status in REFUSED:
                    self._state.metrics.refused(fault.slug)
            finally:
                code = StatusCode.OK if fault is None else code_of(fault)
                code = {GONE: StatusCode.CANCELLED, LATE: StatusCode.DEADLINE_EXCEEDED}.get(status, code)
                telemetry.answered(span, {"rpc.grpc.status_code": code.value[0]}, fault=status >= 500)
                self._ended(served, rpc, about, status, time.perf_counter() - began)
        if fault is not None:
            await self._abort(rpc, fault)

    async def _admit(self, rpc: Rpc) -> None:
        told: list[tuple[str, str]] = [("x-request-id", rpc.request_id)]
        rpc.caller = await self._state.keys.caller(secret(rpc.headers))
        logs.tell(key=rpc.caller.key_id)
        if (standing := await self._state.limits.admit(rpc.caller)) is not None:
            told += [(name.decode(), value.decode()) for name, value in standing.headers()]
        if self._state.refusing:
            raise Draining("This gateway shuts down.", retry_after=5)
        await rpc.context.send_initial_metadata(tuple(told))

    async def _abort(self, rpc: Rpc, fault: DarkroomError) -> None:
        code, sentence, details = encode(fault, rpc.request_id)
        with suppress(grpc.aio.InternalError):  # the client may be gone
            await rpc.context.abort(code, sentence, ((DETAILS, details), ("x-request-id", rpc.request_id)))

    def _ended(self, served: Served, rpc: Rpc, about: dict[str, Any], status: int, seconds: float) -> None:
        operation = about.get("operation", "")
        self._state.metrics.request_ended(operation, served.door, status, seconds, rpc.received, rpc.sent)
        self._lines.access(
            {
                "request_id": rpc.request_id,
                "message": f"GRPC {served.path} {status}",
                "method": "GRPC",
                "path": served.path,
                "status": status,
                "ms": round(seconds * 1000, 2),
                "in": rpc.received,
                "out": rpc.sent,
                "client": _address(rpc.context.peer()),
                **about,
            }
        )


async def _parsed(rpc: Rpc, served: Served, given: AsyncIterator[bytes]) -> Requests:
    async for data in given:
        rpc.received += len(data)
        if len(data) > served.largest:
            raise TooLarge(f"A message may have {served.largest} bytes at most.", help=_CHUNKS)
        try:
            large = len(data) > IN_A_THREAD
            read = await asyncio.to_thread(served.read, data) if large else served.read(data)
        except DecodeError as error:
            raise Malformed("This is no message of that method.", help=_HELP) from error
        del data
        yield read


def _traced(path: str) -> dict[str, telemetry.Attribute]:
    _, service, method = path.split("/")
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}


_HELP = "Make the client anew from this installation's darkroom.proto, or ask its reflection."
_CHUNKS = "Send what is larger in chunks, as docs/doors.md tells."


def _address(peer: str | None) -> str:
    """`ipv4:127.0.0.1:5000` and `ipv6:%5B::1%5D:5000` without family and port."""
    place = (peer or "").partition(":")[2].rpartition(":")[0]
    return place.replace("%5B", "").replace("%5D", "").strip("[]")
