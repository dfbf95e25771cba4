"""What a service's events add up to: pictures kept as assets, data, model, timing; in the end a job document."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from gateway.assets import Asset
from gateway.upstream.call import Call
from services.errors import BadUpstream
from services.frames import Event

Keep = Callable[[Event, AsyncIterator[bytes]], Awaitable[dict[str, Any]]]
Tell = Callable[[Event, bytes], Awaitable[None]]


@dataclass(slots=True)
class Answer:
    pictures: list[dict[str, Any]] = field(default_factory=list)
    data: Any = None
    model: str | None = None
    timing: dict[str, Any] = field(default_factory=dict)

    def document(self, call: Call, began: float) -> dict[str, Any]:
        """The job document of a synchronous call, of which no row is kept."""
        now, start = time.time(), instant(began)
        return {
            "id": f"call_{call.request_id}",
            "operation": call.ask.name(),
            "service": call.service,
            "state": "succeeded",
            "params": orjson.Fragment(call.ask_json()),
            "priority": 0,
            "attempt": 1,
            "attempts_allowed": 1,
            "model": self.model,
            "progress": None,
            "pictures": self.pictures,
            "data": self.data,
            "error": None,
            "created_at": start,
            "started_at": start,
            "finished_at": instant(now),
            "timing": {**self.timing, "total_ms": round((now - began) * 1000, 1)},
            "webhook": None,
            "links": {},
        }


def instant(seconds: float) -> str:
    """RFC 3339, UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def picture_document(asset: Asset, role: str, base: str = "") -> dict[str, Any]:
    """A picture as a job document lists it; its address starts with `base`."""
    return {
        "id": asset.id,
        "url": f"{base}/v1/assets/{asset.id}",
        "role": role,
        "media_type": asset.media_type,
        "width": asset.width,
        "height": asset.height,
        "bytes": asset.size,
        "seed": asset.seed,
    }


async def collect(
    stream: AsyncIterator[Event | memoryview],
    keep: Keep,
    answer: Answer | None = None,
    tell: Tell | None = None,
) -> Answer:
    """Follow a stream to its end; each result's bytes go to `keep`, each event to `tell`."""
    answer = Answer() if answer is None else answer
    async for item in stream:
        if not isinstance(item, Event):
            raise BadUpstream("A service sent bytes that belong to no frame.")
        body = b""
        match item.kind:
            case "accepted":
                answer.model = item.get("model", answer.model)
            case "result":
                kept = await keep(item, taking(stream, item.size))
                answer.pictures.append(kept | {"withheld": True} if item.get("withheld") else kept)
            case "done":
                answer.model = item.get("model", answer.model)
                answer.data = item.get("data", answer.data)
                answer.timing = item.get("timing", {})
            case _ if item.size:
                body = b"".join([piece async for piece in taking(stream, item.size)])
        if tell is not None:
            await tell(item, body)
    return answer


async def taking(stream: AsyncIterator[Event | memoryview], size: int) -> AsyncIterator[bytes]:
    """The next `size` bytes of a stream: the body of the event that was just read."""
    while size > 0:
        piece = await anext(stream, None)
        if piece is None or isinstance(piece, Event):
            raise BadUpstream("A service's frame ended before its body was whole.")
        size -= len(piece)
        yield bytes(piece)
