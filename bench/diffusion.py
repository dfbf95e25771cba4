"""What the diffusion engine costs above diffusers' own pipeline, what a crowd gains, and how much of a GPU is used.

    python -m bench.diffusion                       all three, on what is found
    python -m bench.diffusion --only overhead crowd --rounds 9
    python -m bench.diffusion --only shape --compile

**overhead**: pictures a second through the service sdxl over HTTP, one after another (30 steps, previews off), beside
the pipeline called in a loop in a process of its own, with the same weights, threads and core. The two take turns. CPU
seconds are shown too: they tell the same where other work disturbs the clock.

**crowd**: eight callers at once, who ask for 10 to 38 steps, beside the same requests one at a time, in a service that
has all cores; and how long a request of 4 steps waits that comes while six of 50 are on their way, beside a service
that takes one request after another.

**shape**: SDXL with random weights, in this process: seconds, pictures a second at batch 1 and 8, memory, and the share
of what the device reaches when it only multiplies matrices. On CUDA in the true shape, 1024 x 1024, 30 steps, bfloat16;
elsewhere in a small one, which only shows that it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from bench.load import at
from bench.peers.pipeline import GUIDANCE, NEGATIVE, PROMPT
from bench.processes import ROOT, Running, free_port, running
from services.frames import Event, FrameDecoder

STEPS = 30
CROWD = (10, 14, 18, 22, 26, 30, 34, 38)
LONG, SHORT = 50, 4
LONG_AT_ONCE, SHORT_A_ROUND = 6, 5


@dataclass(frozen=True, slots=True)
class Under:
    """What is measured, and where."""

    model: str
    folder: Path
    device: str
    dtype: str
    threads: int
    side: int
    rounds: int
    core: int | None = None  # the one core that what is measured has; None: all


# ── the service ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Answer:
    seconds: float
    picture: bytes
    timing: dict[str, float]


@contextlib.contextmanager
def service(under: Under) -> Iterator[Running]:
    """sdxl, ready."""
    port = free_port()
    environment = {
        "DARKROOM_MODEL": under.model,
        "DARKROOM_DEVICE": under.device,
        "DARKROOM_DTYPE": under.dtype,
        "DARKROOM_THREADS": str(under.threads),
        "DARKROOM_CAPACITY": "16",
        "DARKROOM_SAFETY": "off",
    }
    command = [sys.executable, "-m", "services.serve", "sdxl", "--port", str(port)]
    with running(command, core=under.core, port=port, environment=environment, patience=120) as process:
        until = time.monotonic() + 300
        while not (said := _described(process))["ready"]:
            if time.monotonic() > until:
                raise RuntimeError(f"sdxl is not ready: {said['reason']}")
            time.sleep(0.2)
        yield process


def _described(process: Running) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=10)
    connection.request("GET", "/darkroom/v1/describe")
    said: dict[str, Any] = json.load(connection.getresponse())
    connection.close()
    return said


def ask(url: str, *, steps: int, side: int, seed: int) -> Answer:
    """One picture, from the request's first byte to the answer's last."""
    wanted = {
        "prompt": PROMPT,
        "negative_prompt": NEGATIVE,
        "steps": steps,
        "width": side,
        "height": side,
        "guidance": GUIDANCE,
        "sampler": "dpm++-2m-karras",
        "seed": seed,
        "previews": 0,
    }
    mark = "darkroom-bench"
    body = (
        f'--{mark}\r\ncontent-disposition: form-data; name="ask"\r\ncontent-type: application/json\r\n\r\n'
        f"{json.dumps(wanted)}\r\n--{mark}--\r\n"
    )
    headers = {"content-type": f"multipart/form-data; boundary={mark}", "x-darkroom-timeout": "600"}
    began = time.perf_counter()
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=600)
    connection.request("POST", "/darkroom/v1/run/text-to-image", body.encode(), headers)
    response = connection.getresponse()
    content = response.read()
    seconds = time.perf_counter() - began
    connection.close()
    if response.status != http.client.OK:
        raise RuntimeError(f"{response.status}: {content[:500].decode(errors='replace')}")
    picture, timing, kind = b"", {}, ""
    for item in FrameDecoder().feed(content):
        if not isinstance(item, Event):
            picture += bytes(item) if kind == "result" else b""
            continue
        kind = item.kind
        if kind == "error":
            raise RuntimeError(item["problem"]["detail"])
        if kind == "done":
            timing = item["timing"]
    return Answer(seconds, picture, timing)


# ── overhead ──────────────────────────────────────────────────────────────────────────────────────────────────


class Pipeline:
    """The peer's process."""

    def __init__(self, under: Under) -> None:
        arguments = [str(under.folder), under.device, under.dtype, str(under.threads)]
        pinned = ["taskset", "-c", str(under.core)] if under.core is not None else []
        self._process = subprocess.Popen(
            [*pinned, sys.executable, "-m", "bench.peers.pipeline", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.running = Running(self._process, 0)
        self._line()

    def seconds(self, **asked: Any) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        self._process.stdin.flush()
        return float(self._line()["seconds"])

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("The pipeline's process ended; `python -m bench.peers.pipeline` says why.")
        said: dict[str, Any] = json.loads(line)
        return said


def overhead(under: Under, pictures: int) -> None:
    print(f"\noverhead: {STEPS} steps, {under.side} x {under.side}, one picture after another", flush=True)
    ours, theirs, ratios = [], [], []
    used: dict[str, list[float]] = {"ours": [], "theirs": []}
    timing: dict[str, list[float]] = {}

    def serve(url: str) -> float:
        began = time.perf_counter()
        for n in range(pictures):
            for name, ms in ask(url, steps=STEPS, side=under.side, seed=n).timing.items():
                timing.setdefault(name, []).append(ms)
        return (time.perf_counter() - began) / pictures

    with service(under) as process, tempfile.TemporaryDirectory() as folder:
        peer = Pipeline(under)

        def loop() -> float:
            return peer.seconds(count=pictures, steps=STEPS, side=under.side, seed=0) / pictures

        try:
            kept = Path(folder) / "peer.png"
            made = ask(process.url, steps=STEPS, side=under.side, seed=7).picture
            peer.seconds(count=1, steps=STEPS, side=under.side, seed=7, keep=str(kept))
            print(
                f"  largest difference between the two pictures of one seed: {_difference(made, kept)} of 255"
            )
            for turn in range(under.rounds):
                order: list[Callable[[], float]] = [
                    lambda: _metered(used["ours"], process, pictures, lambda: serve(process.url)),
                    lambda: _metered(used["theirs"], peer.running, pictures, loop),
                ]
                found = [one() for one in (order if turn % 2 else reversed(order))]
                mine, yours = found if turn % 2 else found[::-1]
                ours.append(mine)
                theirs.append(yours)
                ratios.append(yours / mine)
        finally:
            peer.close()
    for name, times, cpu in (
        ("diffusers' pipeline in a loop", theirs, used["theirs"]),
        ("the service, over HTTP", ours, used["ours"]),
    ):
        middle = statistics.median(times)
        print(
            f"  {name:32} {1 / middle:8.3f} pictures/s   {middle * 1000:9.1f} ms a picture   "
            f"CPU {statistics.median(cpu) * 1000:9.1f} ms"
        )
    print(f"  of which, by the service: {_medians(timing)}")
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
    _verdict(
        "service / pipeline, median of the rounds", statistics.median(ratios), 0.97, above=True, more=spread
    )


def _metered(used: list[float], process: Running, pictures: int, work: Callable[[], float]) -> float:
    """What `work` says, and beside it the CPU seconds a picture that the process took."""
    before = process.cpu_seconds()
    found = work()
    used.append((process.cpu_seconds() - before) / pictures)
    return found


def _difference(ours: bytes, theirs: Path) -> int:
    first, second = (
        np.asarray(Image.open(file).convert("RGB")).astype(int) for file in (BytesIO(ours), theirs)
    )
    return int(np.abs(first - second).max())


def _medians(timing: dict[str, list[float]]) -> str:
    return ", ".join(
        f"{name.removesuffix('_ms')} {statistics.median(values):.1f} ms" for name, values in timing.items()
    )


# ── a crowd ───────────────────────────────────────────────────────────────────────────────────────────────────


def crowd(under: Under) -> None:
    with service(under) as process:
        ask(process.url, steps=SHORT, side=under.side, seed=0)
        print(
            f"\ncrowd: {len(CROWD)} at once, each asks for {CROWD[0]} to {CROWD[-1]} steps, twice", flush=True
        )
        many = 2 * len(CROWD)
        ratios, used = [], []
        for _ in range(under.rounds):
            before = process.cpu_seconds()
            alone = _together(process.url, under.side, at_once=1)
            between = process.cpu_seconds()
            together = _together(process.url, under.side, at_once=len(CROWD))
            ratios.append(alone / together)
            used.append((between - before) / (process.cpu_seconds() - between))
            print(
                f"  one at a time {many / alone:7.3f} pictures/s   together {many / together:7.3f}",
                flush=True,
            )
        _verdict(
            "throughput, together / one at a time",
            statistics.median(ratios),
            1.3,
            above=True,
            more=f"by CPU seconds {statistics.median(used):.3f}",
        )

        print(
            f"\nwait: {SHORT} steps behind {LONG_AT_ONCE} requests of {LONG} steps, "
            f"{SHORT_A_ROUND * under.rounds} times",
            flush=True,
        )
        alone_waits: list[float] = []
        waits: list[float] = []
        for _ in range(under.rounds):
            alone_waits += _waits(process.url, under.side, at_once=1)
            waits += _waits(process.url, under.side, at_once=LONG_AT_ONCE + SHORT_A_ROUND)
        alone_waits.sort()
        waits.sort()
        for name, found in (("one at a time", alone_waits), ("together", waits)):
            print(f"  {name:16} p50 {at(0.5, found):8.3f} s   p95 {at(0.95, found):8.3f} s")
        share = at(0.95, waits) / at(0.95, alone_waits)
        _verdict("p95 wait, together / one at a time", share, 0.2, above=False)


def _together(url: str, side: int, *, at_once: int) -> float:
    """Seconds for the crowd: each of the eight asks for one picture and then another, all for as many steps in sum, so
    that the crowd stays one to the end. One at a time they come in the same order."""

    def asks(*each: int) -> None:
        for steps in each:
            ask(url, steps=steps, side=side, seed=steps)

    began = time.perf_counter()
    with ThreadPoolExecutor(at_once) as threads:
        if at_once == 1:
            pending = [threads.submit(asks, steps) for steps in (*CROWD, *CROWD[::-1])]
        else:
            pending = [threads.submit(asks, *both) for both in zip(CROWD, CROWD[::-1], strict=True)]
        for one in pending:
            one.result()
    return time.perf_counter() - began


def _waits(url: str, side: int, *, at_once: int) -> list[float]:
    """Seconds that each short request took from its arrival, its time in our line included."""
    waits: list[float] = []

    def short(arrived: float) -> None:
        ask(url, steps=SHORT, side=side, seed=1)
        waits.append(time.perf_counter() - arrived)

    with ThreadPoolExecutor(at_once) as threads:
        pending = [threads.submit(ask, url, steps=LONG, side=side, seed=n) for n in range(LONG_AT_ONCE)]  # type: list[Any]
        for _ in range(SHORT_A_ROUND):
            time.sleep(0.1)
            pending.append(threads.submit(short, time.perf_counter()))
        for one in pending:
            one.result()
    return waits


def _verdict(what: str, found: float, bound: float, *, above: bool, more: str = "") -> None:
    met = found >= bound if above else found <= bound
    sign = "≥" if above else "≤"
    print(
        f"  {what}: {found:.3f}{f' ({more})' if more else ''}   target {sign} {bound:g}: "
        f"{'reached' if met else 'MISSED'}",
        flush=True,
    )


# ── the command ───────────────────────────────────────────────────────────────────────────────────────────────


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.diffusion", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parts = ("overhead", "crowd", "shape")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts, help="what to measure")
    parser.add_argument("--rounds", type=int, default=5, help="how often the two take turns")
    parser.add_argument("--pictures", type=int, default=3, help="overhead: pictures a turn")
    parser.add_argument("--model", default="micro", help="its name in the catalogue")
    parser.add_argument(
        "--folder",
        type=Path,
        default=ROOT / "services/micro/weights/sdxl",
        help="the same weights, for the pipeline",
    )
    parser.add_argument("--threads", type=int, default=1, help="overhead: of PyTorch, on a processor")
    parser.add_argument("--compile", action="store_true", help="shape: with torch.compile too")
    parser.add_argument("--small", action="store_true", help="shape: the small form, on CUDA too")
    given = parser.parse_args()

    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    cores = sorted(os.sched_getaffinity(0))
    under = Under(
        given.model,
        given.folder,
        device,
        "bfloat16" if device == "cuda" else "float32",
        given.threads,
        _side(given.folder),
        given.rounds,
    )
    if "overhead" in given.only:
        if device == "cpu" and len(cores) > 1:
            os.sched_setaffinity(0, cores[1:])  # the first is for what is measured
            overhead(replace(under, core=cores[0]), given.pictures)
            os.sched_setaffinity(0, cores)
        else:
            overhead(under, given.pictures)
    if "crowd" in given.only:
        crowd(replace(under, threads=len(cores)))
    if "shape" in given.only:
        from bench.saturation import saturation
        from bench.shapes import SMALL, TRUE

        torch.set_num_threads(given.threads)
        small = given.small or device == "cpu"
        saturation(
            SMALL if small else TRUE,
            torch.device(device),
            steps=4 if small else STEPS,
            rounds=given.rounds,
            compiled=given.compile,
        )


def _side(folder: Path) -> int:
    """The pixels of a side that the model was made for."""
    unet = json.loads((folder / "unet" / "config.json").read_text())
    vae = json.loads((folder / "vae" / "config.json").read_text())
    return int(unet["sample_size"]) * int(2 ** (len(vae["block_out_channels"]) - 1))


if __name__ == "__main__":
    main()
