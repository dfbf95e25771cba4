"""What one broken service costs the callers of the others: two faults, ours beside a plain pass-through.

    python -m bench.faults              at the level of the upstream pool
    python -m bench.faults --gateway    through the real gateway, over HTTP

(a) 256 callers wait on a service that accepts and never answers, while 16 use a live one: which share of its rate alone
    does the live one keep? Peer: one plain httpx.AsyncClient for both, with its default pool.
(b) One of two replicas accepts calls and never answers them; calls come at 20 a second: which share is answered within
    ten seconds, of all and in the last third? Once the replica is dead altogether (`all`: its health checks hang too),
    once only its work hangs (`run`), which no health check shows. Peer: a pass-through with round robin.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import itertools
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
from httpx_aiohttp import AiohttpTransport
from PIL import Image

from gateway.blobs import MemoryBlob
from gateway.callers import LOCAL
from gateway.settings import Settings
from gateway.upstream import Call, Upstream
from services.errors import DarkroomError
from services.operations import Caption, SketchToImage
from services.pictures import Picture

PATIENCE = 10.0
LIVE, DEAD = "caption", "sketch-to-image"
SERVICE = {LIVE: "caption", DEAD: "pix2pix"}
Ask = Callable[[str], Coroutine[Any, Any, bool]]


def _picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (32, 32), "teal").save(file, "PNG")
    return file.getvalue()


PICTURE = _picture()


# ── what is started ──────────────────────────────────────────────────────────────────────────────────────────


@contextlib.asynccontextmanager
async def process(*arguments: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env=os.environ | environment,
    )  # fmt: skip
    try:
        yield started
    finally:
        if started.returncode is None:
            started.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(started.wait(), 10)
            except TimeoutError:
                started.kill()
                await started.wait()


@contextlib.asynccontextmanager
async def stub(*options: str) -> AsyncIterator[str]:
    async with process("bench.stub", *options) as started:
        assert started.stdout is not None
        yield f"http://127.0.0.1:{int(await asyncio.wait_for(started.stdout.readline(), 20))}"


# ── the ways that are compared ───────────────────────────────────────────────────────────────────────────────


@contextlib.asynccontextmanager
async def pool(services: dict[str, list[str]]) -> AsyncIterator[Ask]:
    """Ours: the gateway's upstream pool."""
    upstream = Upstream(Settings(_env_file=None, services=services))
    await upstream.start()
    loop = asyncio.get_running_loop()
    asks = {LIVE: Caption(image=Picture("part:image")), DEAD: SketchToImage(image=Picture("part:image"))}

    async def ask(operation: str) -> bool:
        deadline = loop.time() + PATIENCE
        call = Call(asks[operation], {"image": MemoryBlob(PICTURE, "image/png")}, LOCAL, deadline, "bench")
        try:
            async with (
                upstream.pool(call.service).turn(key_id="bench", deadline=deadline) as turn,
                turn.send(call) as stream,
            ):
                async for _ in stream:
                    pass
        except DarkroomError:
            return False
        return True

    yield ask
    await upstream.close()


@contextlib.asynccontextmanager
async def gateway(services: dict[str, list[str]]) -> AsyncIterator[Ask]:
    """Ours: the real gateway in a process of its own, over HTTP."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        settings = {"SERVICES": json.dumps(services), "PORT": str(port), "DATA": str(Path(folder) / "data")}
        async with process("gateway", **{f"DARKROOM_{name}": value for name, value in settings.items()}):
            # a client that does not limit: the gateway is what is measured
            transport = AiohttpTransport(limits=httpx.Limits(max_connections=4096))
            address = f"http://127.0.0.1:{port}"
            async with httpx.AsyncClient(transport=transport, base_url=address, timeout=PATIENCE) as client:
                await _ready(client)

                async def ask(operation: str) -> bool:
                    try:
                        answer = await client.post(
                            f"/v1/{operation}",
                            files={"image": ("picture.png", PICTURE, "image/png")},
                            headers={"accept": "application/json"},
                        )
                    except httpx.HTTPError:
                        return False
                    return answer.status_code == 200

                yield ask


async def _ready(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if (await client.get("/healthz")).status_code == 200:
                    return
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def plain_httpx(services: dict[str, list[str]]) -> AsyncIterator[Ask]:
    """The peer: one client for all services, endpoints in turn, as most pass-throughs are written."""
    turns = {service: itertools.cycle(addresses) for service, addresses in services.items()}
    async with httpx.AsyncClient(timeout=PATIENCE) as client:

        async def ask(operation: str) -> bool:
            address = next(turns[SERVICE[operation]])
            try:
                answer = await client.post(
                    f"{address}/darkroom/v1/run/{operation}",
                    data={"ask": '{"image":"part:image"}'},
                    files={"image": ("image", PICTURE, "image/png")},
                )
            except httpx.HTTPError:
                return False
            return answer.status_code == 200

        yield ask


# ── the faults ───────────────────────────────────────────────────────────────────────────────────────────────


async def rate(ask: Ask, seconds: float, callers: int = 16) -> float:
    """Answers a second that so many callers get from the live service."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    answers = 0

    async def caller() -> None:
        nonlocal answers
        while loop.time() < end:
            async with asyncio.timeout(seconds):
                answered = await ask(LIVE)  # a line of its own: `+=` would read the sum before it waits
            answers += answered

    await asyncio.gather(*(caller() for _ in range(callers)), return_exceptions=True)
    return answers / seconds


async def beside_a_dead_service(
    way: Callable[..., contextlib.AbstractAsyncContextManager[Ask]], seconds: float
) -> list[float]:
    async with (
        stub() as live,
        stub("--hang", "run") as dead,
        way({SERVICE[LIVE]: [live], SERVICE[DEAD]: [dead]}) as ask,
    ):
        await rate(ask, 0.5)
        alone = await rate(ask, seconds)

        async def wait_for_ever() -> None:
            while True:
                await ask(DEAD)

        waiting = [asyncio.create_task(wait_for_ever()) for _ in range(256)]
        await asyncio.sleep(1)
        beside = await rate(ask, seconds)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    return [alone, beside, beside / alone]


async def one_of_two_hangs(
    way: Callable[..., contextlib.AbstractAsyncContextManager[Ask]], hang: str, seconds: float
) -> list[float]:
    async with stub() as good, stub("--hang", hang) as black, way({SERVICE[LIVE]: [good, black]}) as ask:
        calls: list[asyncio.Task[bool]] = []
        for _ in range(int(seconds * 20)):
            calls.append(asyncio.create_task(ask(LIVE)))
            await asyncio.sleep(0.05)
        answered = await asyncio.gather(*calls)
    last = answered[-len(answered) // 3 :]
    return [sum(answered) / len(answered), sum(last) / len(last)]


async def main(*, through_gateway: bool, seconds: float) -> int:
    ours = gateway if through_gateway else pool
    name = "gateway" if through_gateway else "upstream pool"
    failed = False
    print("(a) 256 callers wait on a dead service, 16 use a live one")
    for label, way in ((name, ours), ("plain httpx", plain_httpx)):
        alone, beside, kept = await beside_a_dead_service(way, seconds / 5)
        print(
            f"    {label:14} {alone:6.0f}/s alone, {beside:6.0f}/s beside the dead one: keeps {kept:.3f}",
            flush=True,
        )
        failed |= way is ours and kept < 0.8
    for hang in ("all", "run"):
        print(
            f"(b) one of two replicas accepts and never answers (--hang {hang}), 20 calls a second for {seconds:g} s"
        )
        for label, way in ((name, ours), ("round robin", plain_httpx)):
            share, last = await one_of_two_hangs(way, hang, seconds)
            print(f"    {label:14} answers {share:7.2%}, in the last third {last:7.2%}", flush=True)
            failed |= way is ours and (share < 0.95 or last < 1)
    print("too low" if failed else "reached: at least 0.8 in (a), 95 % and all of the last third in (b)")
    return int(failed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__)
    parser.add_argument("--gateway", action="store_true", help="through the real gateway, over HTTP")
    parser.add_argument(
        "--seconds", type=float, default=20, help="how long (b) lasts; (a) lasts a fifth of it, twice"
    )
    given = parser.parse_args()
    raise SystemExit(asyncio.run(main(through_gateway=given.gateway, seconds=given.seconds)))
