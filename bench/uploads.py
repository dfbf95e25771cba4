"""What many uploads at once cost in memory: the gateway beside a plain FastAPI endpoint with an UploadFile.

    python -m bench.uploads [--uploads 200] [--megabytes 8] [--trickle 10]

Two rounds each: all as fast as they go, and trickled, so that all are in their middle at once for some seconds.
Memory is looked at every 20 ms; what counts is the highest above the idle process.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import struct
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from bench.gateway import darkroom, stub
from bench.load import BOUNDARY
from bench.processes import Running, free_port, running

EVERY = 0.02
PIECE = 64 * 1024
TARGET = 150e6

PEER = """
import sys, uvicorn
from fastapi import FastAPI, UploadFile

app = FastAPI()

@app.post("/v1/caption")
async def caption(image: UploadFile) -> dict:
    size = 0
    while piece := await image.read(65536):
        size += len(piece)
    return {"bytes": size}

uvicorn.run(app, port=int(sys.argv[1]), log_level="error", access_log=False, backlog=4096)
"""


def png(size: int) -> bytes:
    """A true PNG of about `size` bytes that no compression makes smaller."""
    width = 1000
    height = max(1, size // (width * 3 + 1))
    noise = random.Random(1)
    rows = b"".join(b"\0" + noise.randbytes(width * 3) for _ in range(height))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows, 0)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


class Watch:
    """The most memory that a process had while the block ran."""

    def __init__(self, process: Running) -> None:
        self._process, self.most, self._over = process, 0, threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._over.is_set():
            self.most = max(self.most, self._process.resident())
            time.sleep(EVERY)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


async def upload(process: Running, body: bytes, headers: str, seconds: float) -> int:
    """The status; the body takes `seconds` on its way, 0: as fast as it goes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
    try:
        head = (
            f"POST /v1/caption HTTP/1.1\r\nhost: 127.0.0.1:{process.port}\r\n{headers}"
            f"content-type: multipart/form-data; boundary={BOUNDARY}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        writer.write(head.encode())
        view, began = memoryview(body), time.monotonic()
        for at in range(0, len(body), PIECE):
            due = began + seconds * at / len(body)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            writer.write(view[at : at + PIECE])
            await writer.drain()
        status = int((await asyncio.wait_for(reader.readline(), 300)).split()[1])
        await reader.read()
        return status
    finally:
        writer.close()


async def round_of(process: Running, count: int, body: bytes, headers: str, seconds: float) -> list[int]:
    return await asyncio.gather(*(upload(process, body, headers, seconds) for _ in range(count)))


def measure(name: str, process: Running, count: int, body: bytes, headers: str, trickle: float) -> float:
    asyncio.run(round_of(process, 4, body, headers, 0))  # what the first call imports is no cost of the crowd
    time.sleep(1)
    idle, worst = process.resident(), 0.0
    for how, seconds in (("as fast as it goes", 0.0), (f"trickled over {trickle:g} s", trickle)):
        began = time.monotonic()
        with Watch(process) as watch:
            statuses = asyncio.run(round_of(process, count, body, headers, seconds))
        took, failed = time.monotonic() - began, sum(status != 200 for status in statuses)
        above = watch.most - idle
        worst = max(worst, above)
        print(
            f"  {name:22} {how:22} idle {idle / 1e6:6.1f} MB   highest {watch.most / 1e6:7.1f} MB"
            f"   above idle {above / 1e6:7.1f} MB   {took:5.1f} s   failed {failed}",
            flush=True,
        )
    return worst


@contextmanager
def plain() -> Iterator[Running]:
    port = free_port()
    with running([sys.executable, "-c", PEER, str(port)], core=None, port=port) as process:
        yield process


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.uploads", description=__doc__)
    parser.add_argument("--uploads", type=int, default=200)
    parser.add_argument("--megabytes", type=float, default=8)
    parser.add_argument(
        "--trickle", type=float, default=10, help="seconds for each upload of the second round"
    )
    given = parser.parse_args()
    picture = png(int(given.megabytes * 1e6))
    body = (
        f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="image"; filename="image.png"\r\n'
        f"content-type: image/png\r\n\r\n".encode()
        + picture
        + f"\r\n--{BOUNDARY}--\r\n".encode()
    )
    print(f"{given.uploads} uploads at once, {len(picture) / 1e6:.1f} MB each, {os.cpu_count()} cores")
    with stub(0) as service, darkroom({"caption": [service.url]}) as (gateway, key):
        headers = f"authorization: Bearer {key}\r\n"
        ours = measure("Darkroom", gateway, given.uploads, body, headers, given.trickle)
    with plain() as peer:
        measure("FastAPI UploadFile", peer, given.uploads, body, "", given.trickle)
    print(f"  target: at most {TARGET / 1e6:g} MB above idle: {'met' if ours <= TARGET else 'MISSED'}")


if __name__ == "__main__":
    main()
