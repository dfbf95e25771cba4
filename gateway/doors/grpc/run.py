"""`Run`: an operation done while its client waits. In go the ask and its pictures, out come the desk's events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.desk import Desk, Guest
from gateway.doors.grpc.arrive import Arrivals
from gateway.doors.grpc.calls import Requests, Rpc, Send
from gateway.doors.grpc.convert import Converter
from gateway.doors.grpc.messages import CHUNK
from services.errors import DeadlineExceeded
from services.frames import Event


class Run:
    def __init__(self, desk: Desk, arrivals: Arrivals, converter: Converter) -> None:
        self._desk, self._arrivals, self._converter = desk, arrivals, converter

    async def __call__(self, rpc: Rpc, requests: Requests, send: Send) -> None:
        came = await self._arrivals.take(rpc, requests, "ask")
        left = rpc.seconds_left
        if left is not None and left <= 0:
            for blob in came.files.values():
                blob.discard()
            raise DeadlineExceeded()
        guest = Guest(rpc.caller, rpc.request_id, seconds=left or 0.0)
        results = 0
        async with self._desk.stream(came.operation, came.fields, guest, came.files) as (_, events):
            async for event, body in events:
                for told in self._told(event, body, results):
                    await send(told)
                results += event.kind == "result"

    def _told(self, event: Event, body: bytes, index: int) -> Iterator[Any]:
        """The messages of one event: a large result is followed by its chunks."""
        match event.kind:
            case "preview":
                yield self._event("preview", {**event.fields, "data": body})
            case "result":
                about = {
                    **event.fields,
                    "index": index,
                    "size": len(body),
                    "role": event.get("role", "picture"),
                }
                whole = len(body) <= CHUNK
                yield self._event("result", {**about, "data": body} if whole else about)
                if not whole:
                    for data in pieces(body):
                        yield self._event("chunk", {"name": f"result.{index}", "data": data})
            case "accepted" | "progress" | "alive" | "done":
                yield self._event(event.kind, event.fields)

    def _event(self, kind: str, values: dict[str, Any]) -> Any:
        return self._converter.message("RunEvent", {kind: values})


def pieces(body: bytes) -> Iterator[bytes]:
    view = memoryview(body)
    for at in range(0, len(view), CHUNK):
        yield bytes(view[at : at + CHUNK])
