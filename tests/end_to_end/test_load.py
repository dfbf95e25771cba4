"""Two thousand callers at once at a real gateway: all are answered, and it stays awake."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.load import Request, form
from bench.processes import Running, free_port, running

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
CALLERS = 2000
# asks /healthz twenty times a second from a process of its own, so that the callers' work does not blur it
WATCH = """
import http.client, sys, time
taken = []
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=30)
until = time.time() + float(sys.argv[2])
while time.time() < until:
    began = time.perf_counter()
    connection.request("GET", "/healthz")
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200
    taken.append((time.perf_counter() - began) * 1000)
    time.sleep(0.05)
print(" ".join(f"{t:.1f}" for t in sorted(taken)))
"""


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Running]:
    service, port = free_port(), free_port()
    stub = [sys.executable, "-m", "bench.stub", "--port", str(service), "--delay", "3"]
    env = {
        "DARKROOM_DATA": str(tmp_path),
        "DARKROOM_PORT": str(port),
        "DARKROOM_SERVICES": json.dumps({"caption": [f"http://127.0.0.1:{service}"]}),
    }
    with (
        running(stub, core=None, port=service),
        running([sys.executable, "-m", "gateway"], core=None, port=port, environment=env) as process,
    ):
        yield process


async def call(port: int, request: Request) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = f"POST {request.path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(request.body)}\r\n"
        writer.write((head + "".join(f"{k}: {v}\r\n" for k, v in request.headers.items()) + "\r\n").encode())
        writer.write(request.body)
        async with asyncio.timeout(60):
            return int((await reader.readline()).split()[1])
    finally:
        writer.close()


async def test_two_thousand_calls_at_once_are_all_answered_and_health_stays_quick(
    gateway: Running, png: bytes
) -> None:
    watch = subprocess.Popen(
        [sys.executable, "-c", WATCH, str(gateway.port), "8"], stdout=subprocess.PIPE, text=True
    )
    request = form({"image": png}, "/v1/caption", accept="application/json")
    began = time.monotonic()

    async def come(after: float) -> int:
        await asyncio.sleep(after)
        return await call(gateway.port, request)

    statuses = await asyncio.gather(*(come(n / 1000) for n in range(CALLERS)))
    assert statuses == [200] * CALLERS
    # they did wait together: the stub works three seconds at each, and they were all there after two
    assert time.monotonic() - began < 30
    said, _ = await asyncio.to_thread(watch.communicate, timeout=60)
    taken = [float(t) for t in said.split()]
    assert len(taken) > 20
    assert taken[int(len(taken) * 0.95)] < 100, taken[-10:]
