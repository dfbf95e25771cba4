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

from gateway import logs, request_id
from gateway.callers import LOCAL, Caller
from gateway.doors.grpc.errors import DETAILS, encode
from gateway.doors.grpc.messages import METHODS, SERVICE
from gateway.doors.grpc.schema import Schema
from gateway.front import REFUSED, secret
from gateway.problems import translate
from gateway.state import GatewayState
from services.errors import DarkroomError, Draining, Malformed

DOOR = "grpc"
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


class Calls:
    def __init__(self, state: GatewayState, lines: logs.Logs, schema: Schema) -> None:
        self._state, self._lines, self._schema = state, lines, schema

    def handler(self, name: str, method: Method) -> Any:
        """What grpc's server calls; messages pass it as bytes, so that one that cannot be read is told as ours."""
        _, streams_in, _, streams_out, _ = METHODS[name]

        async def answer_many(given: Any, context: Any) -> None:
            await self._serve(name, method, given if streams_in else _alone(given), context, context.write)

        async def answer_one(given: Any, context: Any) -> bytes:
            answers: list[bytes] = []

            async def keep(data: bytes) -> None:
                answers.append(data)

            await self._serve(name, method, given if streams_in else _alone(given), context, keep)
            return answers[0] if answers else b""  # nobody reads it where the client is gone

        kind = f"{'stream' if streams_in else 'unary'}_{'stream' if streams_out else 'unary'}"
        make: Any = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(answer_many if streams_out else answer_one)

    async def _serve(
        self,
        name: str,
        method: Method,
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
        logs.tell(door=DOOR)
        self._state.metrics.request_began()

        async def send(message: Any) -> None:
            data = message.SerializeToString()
            rpc.sent += len(data)
            await write(data)

        status, fault = OK, None
        try:
            await self._admit(rpc)
            await method(rpc, self._parsed(rpc, name, given), send)
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
            self._ended(name, rpc, about, status, time.perf_counter() - began)
        if fault is not None:
            await self._abort(rpc, fault)

    async def _admit(self, rpc: Rpc) -> None:
        told: list[tuple[str, str]] = [("x-request-id", rpc.request_id)]
        rpc.caller = await self._state.keys.caller(secret(rpc.headers))
        logs.tell(key=rpc.caller.key_id)
        if (standing := await self._state.limits.admit(rpc.caller)) is not None:
            told += [(name.decode(), value.decode()) for name, value in standing.headers()]
        if self._state.draining:
            raise Draining("This gateway shuts down.", retry_after=5)
        await rpc.context.send_initial_metadata(tuple(told))

    async def _parsed(self, rpc: Rpc, name: str, given: AsyncIterator[bytes]) -> Requests:
        message = self._schema.message(self._schema.request(name))
        async for data in given:
            rpc.received += len(data)
            try:
                read = message.FromString(data)
            except DecodeError as error:
                raise Malformed(f"This is no {message.DESCRIPTOR.name}.", help=_HELP) from error
            del data
            yield read

    async def _abort(self, rpc: Rpc, fault: DarkroomError) -> None:
        code, sentence, details = encode(fault, rpc.request_id)
        with suppress(grpc.aio.InternalError):  # the client may be gone
            await rpc.context.abort(code, sentence, ((DETAILS, details), ("x-request-id", rpc.request_id)))

    def _ended(self, name: str, rpc: Rpc, about: dict[str, Any], status: int, seconds: float) -> None:
        operation = about.get("operation", "")
        self._state.metrics.request_ended(operation, DOOR, status, seconds, rpc.received, rpc.sent)
        path = f"/{SERVICE}/{name}"
        self._lines.access(
            {
                "request_id": rpc.request_id,
                "message": f"GRPC {path} {status}",
                "method": "GRPC",
                "path": path,
                "status": status,
                "ms": round(seconds * 1000, 2),
                "in": rpc.received,
                "out": rpc.sent,
                "client": _address(rpc.context.peer()),
                **about,
            }
        )


_HELP = "Make the client anew from this installation's darkroom.proto, or ask its reflection."


async def _alone(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _address(peer: str | None) -> str:
    """`ipv4:127.0.0.1:5000` and `ipv6:%5B::1%5D:5000` without family and port."""
    place = (peer or "").partition(":")[2].rpartition(":")[0]
    return place.replace("%5B", "").replace("%5D", "").strip("[]")
