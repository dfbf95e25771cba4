"""What a foreign door costs beside the native interface: time for a picture, memory of a crowd, the loop's lag.

    python -m bench.doors [--calls 60] [--only time memory lag] [--doors OIP rembg]

A stub service answers a picture that is already there, at once or after as long as the shortest real operations take
(cleanup and remove-background of one megapixel, bench/photo.py). The gateway has core 0, stub and clients core 1. Each
door is asked in turn with its native operation, so that what else the machine does is in both. A picture of 1 MB goes
in where the operation takes one, and one of 1 MB comes out; in the crowd and for the lag they have 4 MB, and small ones
go in. A client reads every byte and decodes none.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from bench.dialects import (
    INFER,
    LARGE,
    METADATA,
    RUN,
    Call,
    body_of,
    caller,
    covering,
    foreigners,
    infer_message,
    many_over_grpc,
    many_over_http,
    natives,
    run_messages,
)
from bench.gateway import ADMIN, GATEWAY, OTHERS, small_png
from bench.load import Request, at
from bench.processes import Running, free_port, running
from bench.uploads import Watch, png

MB = 1_000_000
DELAYS = (0.0, 0.065, 0.189)  # none; cleanup's and remove-background's, of one megapixel
CROWDS = (16, 64, 64)
SERVICES = ("sdxl", "cleanup", "rmbg")
NAMES = (
    *("native, text-to-image", "native, cleanup", "native, remove-background", "OpenAI, b64_json"),
    *("AUTOMATIC1111, txt2img", "IOPaint, inpaint", "rembg", "OIP, JSON", "OIP, binary", "gRPC, Run"),
    "OIP over gRPC",
)
TARGET = 1.15
Named = Callable[[str], bool]  # whether a door is wanted


@dataclass(frozen=True)
class Stage:
    """A gateway over stubs."""

    gateway: Running
    grpc: str
    inference: str


@contextlib.contextmanager
def staged(answer: bytes, delay: float) -> Iterator[Stage]:
    port, own, foreign, served = free_port(), free_port(), free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "answer.png"
        file.write_bytes(answer)
        stub = [sys.executable, "-m", "bench.stub", "--port", str(served), "--file", str(file)]
        with running([*stub, "--delay", str(delay)], core=OTHERS, port=served) as service:
            environment = {
                "DARKROOM_DATA": f"{folder}/data",
                "DARKROOM_PORT": str(port),
                "DARKROOM_GRPC_PORT": str(own),
                "DARKROOM_INFERENCE_PORT": str(foreign),
                "DARKROOM_SERVICES": json.dumps({name: [service.url] for name in SERVICES}),
                "DARKROOM_ADMIN_KEY": ADMIN,
            }
            with running(
                [sys.executable, "-m", "gateway"],
                core=GATEWAY,
                port=port,
                environment=environment,
                patience=90,
            ) as gateway:
                yield Stage(gateway, f"127.0.0.1:{own}", f"127.0.0.1:{foreign}")


# ── time ──────────────────────────────────────────────────────────────────────────────────────────────────────


def over_grpc(stage: Stage, picture: bytes) -> dict[str, Call]:
    run = grpc.insecure_channel(stage.grpc).stream_stream(RUN)
    infer = grpc.insecure_channel(stage.inference, LARGE).unary_unary(INFER)
    messages, whole = run_messages(picture), infer_message(picture)
    return {
        "gRPC, Run": lambda: sum(map(len, run(iter(messages), timeout=60, metadata=METADATA))),
        "OIP over gRPC": lambda: len(infer(whole, timeout=60, metadata=METADATA)),
    }


def times(calls: int, named: Named) -> None:
    picture = png(MB)
    mask = covering(picture)
    for delay in DELAYS:
        print(f"\na picture of {MB / 1e6:g} MB, one call at a time, the service takes {delay * 1000:g} ms")
        with staged(picture, delay) as stage:
            port = stage.gateway.port
            own = {name: caller(port, name, one) for name, one in natives(picture, mask).items()}
            doors = {
                name: (like, caller(port, name, one))
                for name, (like, one) in foreigners(picture, mask).items()
            }
            doors |= {name: ("remove-background", call) for name, call in over_grpc(stage, picture).items()}
            for name, (like, call) in doors.items():
                if not named(name):
                    continue
                mine, theirs = map(statistics.median, beside(own[like], call, calls))
                missed = "MISSED" if delay and theirs > TARGET * mine else ""
                print(
                    f"  {name:28} p50 {theirs:7.2f} ms   native {like:18} {mine:7.2f} ms"
                    f"   added {theirs - mine:6.2f} ms   ratio {theirs / mine:5.2f} {missed}",
                    flush=True,
                )


def beside(native: Call, foreign: Call, calls: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each, asked in turn."""
    found: tuple[list[float], list[float]] = ([], [])
    for turn in range(calls + 5):
        for call, into in zip((native, foreign), found, strict=True):
            began = time.perf_counter()
            size = call()
            if size < MB * 0.9:
                raise RuntimeError(f"only {size} bytes came")
            if turn >= 5:
                into.append((time.perf_counter() - began) * 1000)
    return found


# ── memory and lag ────────────────────────────────────────────────────────────────────────────────────────────


Crowd = Callable[[int, int], Any]  # so many callers, so often: what to await


def crowds(stage: Stage) -> dict[str, Crowd]:
    picture = small_png()
    mask = covering(picture)
    port = stage.gateway.port
    every = {f"native, {name}": one for name, one in natives(picture, mask).items() if "url" not in name}
    every |= {name: one for name, (_, one) in foreigners(picture, mask).items() if "url" not in name}
    found: dict[str, Crowd] = {name: _crowd(port, one) for name, one in every.items()}
    run, infer = run_messages(picture), [infer_message(picture)]
    found["gRPC, Run"] = lambda count, rounds: many_over_grpc(stage.grpc, RUN, run, count, rounds)
    found["OIP over gRPC"] = lambda count, rounds: many_over_grpc(
        stage.inference, INFER, infer, count, rounds
    )
    return found


def _crowd(port: int, request: Request) -> Crowd:
    return lambda count, rounds: many_over_http(port, request, count, rounds)


def memory(named: Named) -> None:
    """Each door's own gateway, so that none pays for what another left."""
    answer = png(4 * MB)
    print(f"\nmemory above idle, MB, while so many answers of {len(answer) / 1e6:.1f} MB are read")
    for name in filter(named, NAMES):
        with staged(answer, 0.2) as stage:
            crowd = crowds(stage)[name]
            asyncio.run(crowd(2, 1))
            time.sleep(0.5)
            idle, told = stage.gateway.resident(), []
            for count in CROWDS:
                with Watch(stage.gateway) as watch:
                    asyncio.run(crowd(count, 1))
                told.append(f"{count} at once {(watch.most - idle) / 1e6:6.0f}")
            time.sleep(1)
            left = (stage.gateway.resident() - idle) / 1e6
            print(f"  {name:28} {'   '.join(told)}   left {left:5.0f}", flush=True)


def lag(named: Named) -> None:
    """How long /healthz takes while 16 callers are answered 4 MB, again and again."""
    answer = png(4 * MB)
    print(f"\nms of a call to /healthz while 16 are answered {len(answer) / 1e6:.1f} MB, again and again")
    with staged(answer, 0.0) as stage:
        for name, crowd in crowds(stage).items():
            if not named(name):
                continue
            taken = asyncio.run(_probed(stage.gateway.port, crowd))
            print(f"  {name:28} p50 {at(0.5, taken):7.2f}   p99 {at(0.99, taken):7.2f}", flush=True)


async def _probed(port: int, crowd: Crowd) -> list[float]:
    await crowd(2, 1)
    work, taken = asyncio.ensure_future(crowd(16, 8)), []
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while not work.done():
        began = time.perf_counter()
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        await body_of(reader, (await reader.readuntil(b"\r\n\r\n")).lower())
        taken.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0.005)
    await work
    writer.close()
    return sorted(taken)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.doors", description=__doc__)
    parser.add_argument("--calls", type=int, default=60)
    parser.add_argument("--only", nargs="*", default=["time", "memory", "lag"])
    parser.add_argument(
        "--doors", nargs="*", default=[""], help="those with one of these words in their names"
    )
    given = parser.parse_args()

    def named(name: str) -> bool:
        return any(word.lower() in name.lower() for word in given.doors)

    if hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(0, {OTHERS})
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    if "time" in given.only:
        times(given.calls, named)
    if "memory" in given.only:
        memory(named)
    if "lag" in given.only:
        lag(named)


if __name__ == "__main__":
    main()
