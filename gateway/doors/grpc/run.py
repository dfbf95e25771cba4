"""`Run`: an operation done while its client waits. In go the ask and its pictures, out come the desk's events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from gateway.arriving import File
from gateway.desk import Desk, Guest
from gateway.doors.grpc.arrive import Arrivals
from gateway.doors.grpc.calls import Requests, Rpc, Send
from gateway.doors.grpc.convert import Converter
from gateway.doors.grpc.messages import CHUNK
from gateway.doors.grpc.wire import Passed, field_head
from services.errors import DeadlineExceeded
from services.frames import Event


class Run:
    def __init__(self, desk: Desk, arrivals: Arrivals, converter: Converter) -> None:
        self._desk, self._arrivals, self._converter = desk, arrivals, converter
        self._event_fields, self._chunk_fields = (
            {field.name: field.number for field in converter.message(name, {}).DESCRIPTOR.fields}
            for name in ("RunEvent", "Chunk")
        )

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
                async for told in self._told(event, body, results):
                    await send(told)
                results += event.kind == "result"

    async def _told(self, event: Event, body: File, index: int) -> AsyncIterator[Any]:
        """The messages of one event: a large result is followed by its chunks."""
        match event.kind:
            case "preview":
                data = (await self._desk.keep(body)).data
                yield self._event("preview", {**event.fields, "data": data})
            case "result":
                about = {
                    **event.fields,
                    "index": index,
                    "size": body.size,
                    "role": event.get("role", "picture"),
                }
                if body.size <= CHUNK:
                    about["data"] = (await self._desk.keep(body)).data
                    yield self._event("result", about)
                    return
                yield self._event("result", about)
                async for piece in body.views():
                    yield Passed(self._chunk(f"result.{index}", piece))
                    del piece
            case "accepted" | "progress" | "alive" | "done":
                yield self._event(event.kind, event.fields)

    def _chunk(self, name: str, data: bytes | memoryview) -> bytes:
        """A RunEvent with a chunk."""
        chunk, named = self._chunk_fields, name.encode()
        inner = [field_head(chunk["name"], len(named)), named, field_head(chunk["data"], len(data)), data]
        return b"".join([field_head(self._event_fields["chunk"], sum(map(len, inner))), *inner])

    def _event(self, kind: str, values: dict[str, Any]) -> Any:
        return self._converter.message("RunEvent", {kind: values})
