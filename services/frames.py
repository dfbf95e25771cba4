"""What a service answers with: a stream of frames.

A frame is eight bytes of lengths (header, body; big-endian), a JSON header, and a raw body:

    ┌────────────┬──────────┬───────────────┬───────────┐
    │ u32 header │ u32 body │ header (JSON) │ body      │
    └────────────┴──────────┴───────────────┴───────────┘

The header's `kind` is one of

    accepted   the work has a place; `model` is what `auto` became
    progress   `step`, `total`
    preview    a small picture of work in progress, in the body
    result     one finished picture in the body: `index`, `role`, `media_type`, `width`, `height`, `seed`
    alive      nothing new; keeps deadlines and leases from running out
    done       the end, with `model`, `data` (what an operation that answers text says) and `timing`
    error      the end, with `problem` (see errors.py)

and the stream always ends with `done` or `error`. Bodies are passed on in the pieces in which they come:
`FrameDecoder` gives an `Event` as soon as its header is whole, then its body piece by piece.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from services.errors import BadUpstream

CONTENT_TYPE = "application/vnd.darkroom.frames"
MAX_HEADER = 1 << 20
_LENGTHS = struct.Struct(">II")


@dataclass(slots=True)
class Event:
    """A frame's header; `size` bytes of body follow it."""

    kind: str
    fields: dict[str, Any] = field(default_factory=dict)
    size: int = 0

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.fields.get(name, default)

    @property
    def last(self) -> bool:
        return self.kind in ("done", "error")


def encode(kind: str, body: bytes | memoryview = b"", /, **fields: Any) -> list[bytes | memoryview]:
    """The pieces of one frame, the body uncopied."""
    header = orjson.dumps({"kind": kind, **fields}, option=orjson.OPT_SERIALIZE_NUMPY)
    head = _LENGTHS.pack(len(header), len(body)) + header
    return [head, body] if body else [head]


class FrameDecoder:
    """Sans-IO: feed it what arrives, iterate what that completes."""

    def __init__(self) -> None:
        self._pending = b""
        self._body_left = 0
        self.ended = False

    def feed(self, data: bytes) -> Iterator[Event | memoryview]:
        """Yields an `Event` for each whole header, and a `memoryview` for each piece of a body."""
        view = memoryview(self._pending + data if self._pending else data)
        at, self._pending = 0, b""
        while at < len(view):
            if self._body_left:
                piece = view[at : at + self._body_left]
                self._body_left -= len(piece)
                at += len(piece)
                yield piece
                continue
            if len(view) - at < _LENGTHS.size:
                break
            header_size, body_size = _LENGTHS.unpack_from(view, at)
            if header_size > MAX_HEADER:
                raise BadUpstream(f"A service sent a frame header of {header_size} bytes.")
            end = at + _LENGTHS.size + header_size
            if end > len(view):
                break
            event = _event(view[at + _LENGTHS.size : end], body_size)
            at, self._body_left = end, body_size
            self.ended = self.ended or event.last
            yield event
        self._pending = bytes(view[at:])


def _event(header: memoryview, size: int) -> Event:
    try:
        fields = orjson.loads(header)
        return Event(fields.pop("kind"), fields, size)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise BadUpstream("A service sent a frame whose header cannot be read.") from error
