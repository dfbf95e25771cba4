"""A stub service: speaks the gateway's protocol to services and does no work. Benchmarks and tests share it.

    python -m bench.stub --port 3001                      answers small JSON
    python -m bench.stub --port 3001 --pictures 4000000   answers one picture of that size, which no reader would know
    python -m bench.stub --port 3001 --file photo.png     answers that picture
    python -m bench.stub --port 3001 --delay 0.2          works that long
    python -m bench.stub --port 3001 --hang all           accepts connections and never answers

It is a bare asyncio protocol, because in a benchmark the stub must not be what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

import orjson

from services.frames import CONTENT_TYPE, encode
from services.operations import OPERATIONS

Hang = Literal["", "all", "run", "middle"]
PIECE = 256 * 1024


@dataclass
class Behaviour:
    """What the stub does; a test may change it while it runs."""

    service: str = "stub"
    pictures: int = 0  # bytes of the one picture it answers; 0: it answers data
    picture: bytes = b""  # or the picture itself
    delay: float = 0.0
    capacity: int = 4096
    ready: bool = True
    hang: Hang = ""
    refuse: int = 0  # this status instead of a stream
    refuse_first: int = 0  # only the first so many calls
    fail: Literal["", "frame", "break", "early", "half"] = (
        ""  # an error frame; the connection closed midway, before any frame, or in the middle of the picture
    )
    hold: asyncio.Event | None = None  # for which it waits in the middle of the picture
    late: float = 0.0  # seconds from the picture to the end
    enforce: int = 0  # answers 429 to more calls at once than this
    steps: int = 0
    draining: bool = False
    slug: str = ""  # of what it refuses with, else what fits the status
    models: list[str] = field(default_factory=lambda: ["stub"])
    operations: dict[str, list[str]] = field(
        default_factory=lambda: {name: sorted(kind.accepted_digests()) for name, kind in OPERATIONS.items()}
    )


@dataclass
class Seen:
    """What reached the stub."""

    calls: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    cancelled: int = 0
    finished: int = 0
    connections: int = 0
    bodies: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


class Stub:
    def __init__(self, behaviour: Behaviour | None = None, *, keep_bodies: bool = False) -> None:
        self.behaviour, self.seen, self.keep_bodies = behaviour or Behaviour(), Seen(), keep_bodies
        self.port = 0
        self._server: asyncio.Server | None = None
        self._protocols: set[_Connection] = set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> Stub:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), host, port, backlog=4096)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for protocol in list(self._protocols):
                protocol.abort()
            self._server = None

    async def __aenter__(self) -> Stub:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


_CHAT = {
    "id": "stub", "object": "chat.completion", "created": 0, "model": "stub",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "a grey square"}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4},
}  # fmt: skip
_DONE = encode("done", model="stub", data={"caption": "a grey square"}, timing={"run_ms": 0.0})
_ACCEPTED = encode("accepted", model="stub")
_HEAD = (
    f"HTTP/1.1 200 OK\r\ncontent-type: {CONTENT_TYPE}\r\ntransfer-encoding: chunked\r\nserver: stub\r\n\r\n"
).encode()


def _chunk(pieces: list[bytes | memoryview]) -> list[bytes | memoryview]:
    return [f"{sum(map(len, pieces)):x}\r\n".encode(), *pieces, b"\r\n"]


_SMALL = b"".join([_HEAD, *_chunk([*_ACCEPTED, *_DONE]), b"0\r\n\r\n"])


class _Connection(asyncio.Protocol):
    """One connection: requests one after another."""

    def __init__(self, stub: Stub) -> None:
        self.stub = stub
        self.transport: asyncio.Transport | None = None
        self.held = bytearray()
        self.headers: dict[str, str] = {}
        self.path = ""
        self.body_left = -1  # -1: the head is being read
        self.body: list[bytes] = []
        self.work: asyncio.Task[None] | None = None
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self.stub.seen.connections += 1
        self.stub._protocols.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.stub._protocols.discard(self)
        self.writable.set()
        if self.work is not None and not self.work.done():
            self.stub.seen.cancelled += 1
            self.work.cancel()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.stub.behaviour.hang == "all":
            return
        if self.body_left < 0:
            self.held += data
            end = self.held.find(b"\r\n\r\n")
            if end < 0:
                return
            head, data = bytes(self.held[:end]), bytes(self.held[end + 4 :])
            self.held.clear()
            first, *lines = head.decode("latin-1").split("\r\n")
            self.path = first.split(" ")[1]
            self.headers = {
                k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)
            }
            self.body_left = int(self.headers.get("content-length", 0))
            self.body = []
        self.body_left -= len(data)
        if self.stub.keep_bodies and data:
            self.body.append(data)
        if self.body_left <= 0:
            self.body_left = -1
            self._answer()

    # ── answers ──────────────────────────────────────────────────────────────────────────────────────────────

    def _answer(self) -> None:
        stub, behaviour = self.stub, self.stub.behaviour
        if self.path == "/darkroom/v1/describe":
            said = {
                "service": behaviour.service,
                "version": "0",
                "operations": behaviour.operations,
                "ready": behaviour.ready,
                "capacity": behaviour.capacity,
                "in_flight": stub.seen.in_flight,
                "models": [{"name": name, "loaded": True} for name in behaviour.models],
                "reason": None,
                "draining": behaviour.draining,
            }
            self._json(200, said, "application/json")
            return
        if self.path.endswith("/chat/completions"):  # what LiteLLM asks for, a peer in bench/gateway.py
            self._json(200, _CHAT, "application/json")
            return
        if not self.path.startswith("/darkroom/v1/run/"):
            self._json(404, {"type": "urn:darkroom:problem:not-found", "detail": "no such path"})
            return
        seen = stub.seen
        seen.calls += 1
        if stub.keep_bodies:
            seen.bodies.append((self.headers, b"".join(self.body)))
        if behaviour.hang == "run":
            return
        if behaviour.refuse and (not behaviour.refuse_first or seen.calls <= behaviour.refuse_first):
            slug = behaviour.slug or {
                429: "at-capacity",
                503: "unavailable",
                422: "bad-picture",
                500: "service-fault",
            }.get(behaviour.refuse, "x")
            self._json(
                behaviour.refuse, {"type": f"urn:darkroom:problem:{slug}", "detail": "the stub refuses"}
            )
        elif behaviour.enforce and seen.in_flight >= behaviour.enforce:
            self._json(
                429, {"type": "urn:darkroom:problem:at-capacity", "detail": "full", "retry_after": 0.05}
            )
        elif behaviour.fail == "early":
            self.abort()
        elif not (
            behaviour.pictures
            or behaviour.picture
            or behaviour.delay
            or behaviour.fail
            or behaviour.hang
            or behaviour.steps
        ):
            self._write([_SMALL])
            seen.finished += 1
        else:
            seen.in_flight += 1
            seen.most_in_flight = max(seen.most_in_flight, seen.in_flight)
            self.work = asyncio.get_running_loop().create_task(self._stream(behaviour))
            self.work.add_done_callback(self._ended)

    async def _stream(self, behaviour: Behaviour) -> None:
        seen = self.stub.seen
        self._write([_HEAD, *_chunk(list(_ACCEPTED))])
        if behaviour.delay:
            await asyncio.sleep(behaviour.delay)
        for step in range(behaviour.steps):
            self._write(_chunk(encode("progress", step=step + 1, total=behaviour.steps)))
            await asyncio.sleep(0)
        if behaviour.hang == "middle":
            await asyncio.sleep(3600)
        if behaviour.fail == "break":
            self.abort()
            return
        if behaviour.fail == "frame":
            problem = {
                "type": "urn:darkroom:problem:bad-picture",
                "detail": "the stub dislikes it",
                "status": 422,
            }
            self._write(_chunk(encode("error", problem=problem)))
        else:
            if behaviour.pictures or behaviour.picture:
                await self._picture(behaviour.picture, behaviour.pictures)
                await asyncio.sleep(behaviour.late)
            self._write(_chunk(list(_DONE)))
        self._write([b"0\r\n\r\n"])
        seen.finished += 1

    def _ended(self, _: object) -> None:
        self.stub.seen.in_flight -= 1

    async def _picture(self, data: bytes, size: int) -> None:
        size = len(data) or size
        header, *_ = encode(
            "result", bytes(1), index=0, role="picture", media_type="image/png", width=64, height=64, seed=1
        )
        head = bytearray(header)
        head[4:8] = size.to_bytes(4, "big")
        self._write(_chunk([bytes(head)]))
        whole, nothing, behaviour = memoryview(data), bytes(PIECE), self.stub.behaviour
        for at in range(0, size, PIECE):
            if at >= size // 2:
                if behaviour.hold is not None:
                    await behaviour.hold.wait()
                if behaviour.fail == "half":
                    self.abort()
                    return
            await self.writable.wait()
            piece = whole[at : at + PIECE] if data else memoryview(nothing)[: min(PIECE, size - at)]
            self._write(_chunk([piece]))

    def _json(self, status: int, document: object, media_type: str = "application/problem+json") -> None:
        body = orjson.dumps(document)
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {media_type}\r\ncontent-length: {len(body)}\r\n\r\n"
        self._write([head.encode() + body])

    def _write(self, pieces: list[bytes | memoryview]) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.writelines(pieces)


async def serve(
    behaviour: Behaviour, port: int, *, host: str = "127.0.0.1", started: Callable[[int], None] = print
) -> None:
    stub = await Stub(behaviour).start(port, host)
    started(stub.port)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await stub.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.stub", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one and prints it")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--service", default="stub")
    parser.add_argument("--pictures", type=int, default=0, help="bytes of the picture that is answered")
    parser.add_argument("--file", type=Path, help="the picture that is answered")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds of work")
    parser.add_argument("--capacity", type=int, default=4096)
    parser.add_argument("--refuse", type=int, default=0, help="a status to answer instead")
    parser.add_argument("--hang", choices=["", "all", "run", "middle"], default="")
    given = vars(parser.parse_args())
    port, host, file = given.pop("port"), given.pop("host"), given.pop("file")
    given["picture"] = file.read_bytes() if file else b""
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.install()
    asyncio.run(serve(Behaviour(**given), port, host=host, started=lambda p: print(p, flush=True)))


if __name__ == "__main__":
    main()
