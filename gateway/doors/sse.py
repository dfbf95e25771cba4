"""Server-sent events: a name, an id and data in; the bytes of one event out."""

from __future__ import annotations

import base64
from typing import Any

import orjson

HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would otherwise hold events back
)
KEEP_ALIVE = b": alive\n\n"


def encode_event(name: str, data: dict[str, Any], event_id: str | None = None) -> bytes:
    head = f"id: {event_id}\n" if event_id is not None else ""
    return (
        head.encode() + b"event: " + name.encode() + b"\ndata: " + orjson.dumps(data, default=str) + b"\n\n"
    )


def preview_event(fields: dict[str, Any], body: bytes) -> dict[str, Any]:
    """A preview travels inside its event, as a data URI that a page can show as it is."""
    uri = f"data:{fields.get('media_type', 'image/jpeg')};base64,{base64.b64encode(body).decode()}"
    return {**fields, "picture": uri}
