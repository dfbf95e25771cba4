"""The photo services beside their peers, in the same run: rembg's library call, IOPaint's server, a loop over the net.

    python -m bench.photo [--only rembg cleanup stages crowd] [--seconds 6]

Photographs of 1, 4 and 12 megapixels go in as JPEG bytes and come back as PNG bytes (cleaned up, as JPEG). The peers
pin libraries of their own, so each has its own environment, which this script makes once under .bench/ (about 3 GB for
IOPaint; DARKROOM_BENCH_REMBG and DARKROOM_BENCH_IOPAINT name a Python that has them instead). Darkroom answers over
HTTP, through its gateway, as `darkroom up` starts it; rembg answers from a loop in one process, with nothing between.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image, ImageDraw

from bench.codecs import photograph
from bench.pix2pix import started
from bench.processes import ROOT, free_port, running

SIZES = {1: (1154, 866), 4: (2310, 1732), 12: (4000, 3000)}
NET = ROOT / "services" / "rmbg" / "weights" / "micro.onnx"
MATTE = "micro-matte"
PEERS = ROOT / ".bench"
REMBG_TARGET, CLEANUP_TARGET = 1.5, 1.3


@dataclass(frozen=True, slots=True)
class Row:
    """What one way of doing it gave, at one size."""

    per_second: float
    p50_ms: float
    peak_mb: float

    def cells(self) -> str:
        return f"{self.per_second:.2f} | {self.p50_ms:.0f} | {self.peak_mb:.0f}"


def jpeg(megapixels: int) -> bytes:
    out = io.BytesIO()
    photograph().resize(SIZES[megapixels], Image.Resampling.LANCZOS).save(out, "JPEG", quality=92)
    return out.getvalue()


def strokes(megapixels: int) -> bytes:
    """A mask as people draw them: two strokes and a blot, some three per cent of the picture."""
    width, height = SIZES[megapixels]
    mask = Image.new("L", (width, height))
    pen, thick = ImageDraw.Draw(mask), max(2, height // 90)
    pen.line([(width * 0.1, height * 0.2), (width * 0.45, height * 0.35)], fill=255, width=thick)
    pen.line([(width * 0.6, height * 0.7), (width * 0.9, height * 0.5)], fill=255, width=thick)
    pen.ellipse((width * 0.7, height * 0.1, width * 0.7 + height * 0.12, height * 0.22), fill=255)
    out = io.BytesIO()
    mask.save(out, "PNG")
    return out.getvalue()


# ── who is measured ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Stack:
    """A gateway and its services, as `darkroom up` starts them."""

    url: str
    pid: int

    def service(self, name: str) -> int:
        """The process of one service."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != self.pid:
                words = (entry / "cmdline").read_bytes().split(b"\0") if (entry / "cmdline").exists() else []
                if b"services.serve" in words and name.encode() in words and _above(entry.name, self.pid):
                    return int(entry.name)
        raise RuntimeError(f"{name} is not running")


def _above(pid: str, wanted: int) -> bool:
    """Whether `wanted` is among the process's ancestors."""
    while pid not in ("0", "1"):
        try:
            pid = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            return False
        if int(pid) == wanted:
            return True
    return False


@contextmanager
def darkroom(*services: str) -> Iterator[Stack]:
    port = free_port()
    with tempfile.TemporaryDirectory() as data:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
        env = kept | {"DARKROOM_PORT": str(port), "DARKROOM_DATA": data}
        command = [str(Path(sys.executable).with_name("darkroom")), "up", "gateway", *services]
        with started(command, env, f"http://127.0.0.1:{port}/readyz") as process:
            yield Stack(f"http://127.0.0.1:{port}", process.pid)


def peer(name: str, *packages: str) -> str:
    """The Python of an environment that has the peer; made once."""
    named = os.environ.get(f"DARKROOM_BENCH_{name.upper()}")
    if named:
        return named
    folder = PEERS / name
    if not (folder / "bin" / "python").exists():
        print(f"Making an environment for {name} in {folder} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", *packages], check=True)
    return str(folder / "bin" / "python")


def peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def timed(call: Callable[[], object], seconds: float, callers: int = 1) -> tuple[float, float]:
    """Calls a second, and the median's milliseconds."""
    call()
    taken: list[float] = []
    began = time.perf_counter()

    def caller(_: int) -> None:
        while time.perf_counter() - began < seconds or len(taken) < 3:
            start = time.perf_counter()
            call()
            taken.append((time.perf_counter() - start) * 1000)

    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(caller, range(callers)))
    return len(taken) / (time.perf_counter() - began), statistics.median(taken)


def post(
    client: httpx.Client, path: str, files: dict[str, bytes], accept: str = "image/png", **fields: str
) -> bytes:
    answer = client.post(path, files=files, data=fields, headers={"accept": accept})
    if answer.status_code != 200:
        raise RuntimeError(f"{path}: {answer.status_code} {answer.text[:300]}")
    return answer.content


def through(
    stack: Stack, service: str, call: Callable[[httpx.Client], object], seconds: float, callers: int
) -> Row:
    pid = stack.service(service)
    with httpx.Client(base_url=stack.url, timeout=120) as client:
        call(client)
        forget_peak(pid)
        rate, median = timed(lambda: call(client), seconds, callers)
    return Row(rate, median, peak_mb(pid))


# ── the figures ──────────────────────────────────────────────────────────────────────────────────────────────


def beside_rembg(seconds: float) -> None:
    from services.models import read_catalogue

    entry = next(one for one in read_catalogue() if one.name == MATTE)
    assert entry.takes is not None
    side, mean, std = (
        str(entry.takes.side),
        *(",".join(map(str, each)) for each in (entry.takes.mean, entry.takes.std)),
    )
    print("\n## remove-background beside rembg's library call, the same ONNX file\n")
    print("| megapixels | rembg, pictures/s | ms | peak MB | Darkroom, pictures/s | ms | peak MB | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    python = peer("rembg", "rembg[cpu]>=2.0.86,<2.1")
    with darkroom("rmbg") as stack, tempfile.TemporaryDirectory() as folder:
        for megapixels in SIZES:
            picture = jpeg(megapixels)
            (file := Path(folder) / "picture.jpg").write_bytes(picture)
            loop = [python, str(ROOT / "bench" / "peers" / "rembg_loop.py"), str(NET), side, str(file)]
            told = subprocess.run(
                [*loop, str(seconds), mean, std],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            theirs = json.loads(told.splitlines()[-1])
            ours = through(
                stack,
                "rmbg",
                lambda client, picture=picture: post(  # type: ignore[misc]
                    client, "/v1/remove-background", {"image": picture}, model=MATTE
                ),
                seconds,
                1,
            )
            row = Row(theirs["per_second"], theirs["p50_ms"], theirs["peak_mb"])
            ratio = ours.per_second / row.per_second
            mark = "" if ratio >= REMBG_TARGET else " (missed)"
            print(f"| {megapixels} | {row.cells()} | {ours.cells()} | **{ratio:.2f}**{mark} |", flush=True)


def beside_iopaint(seconds: float) -> None:
    print(
        "\n## cleanup (Telea) beside IOPaint's cv2 engine (Telea), both over HTTP, JPEG in and JPEG of quality 95 out\n"
    )
    print("| megapixels | IOPaint, pictures/s | ms | peak MB | Darkroom, pictures/s | ms | peak MB | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    port = free_port()
    python = peer("iopaint", "-r", str(ROOT / "docker" / "iopaint" / "requirements.txt"))
    command = [
        python,
        "-m",
        "iopaint",
        "start",
        "--model=cv2",
        "--device=cpu",
        f"--port={port}",
        "--host=127.0.0.1",
    ]
    with running(command, core=None, port=port, patience=180) as server, darkroom("cleanup") as stack:
        client = httpx.Client(base_url=server.url, timeout=120)
        for megapixels in SIZES:
            picture, mask = jpeg(megapixels), strokes(megapixels)

            def theirs(picture: bytes = picture, mask: bytes = mask) -> bytes:
                asked = {
                    "image": base64.b64encode(picture).decode(),
                    "mask": base64.b64encode(mask).decode(),
                    "cv2_flag": "INPAINT_TELEA",
                }
                answer = client.post("/api/v1/inpaint", json=asked)
                if answer.status_code != 200:
                    raise RuntimeError(f"IOPaint: {answer.status_code} {answer.text[:300]}")
                return answer.content

            theirs()
            forget_peak(server.process.pid)
            row = Row(*timed(theirs, seconds), peak_mb(server.process.pid))
            ours = through(
                stack,
                "cleanup",
                lambda client, picture=picture, mask=mask: post(  # type: ignore[misc]
                    client,
                    "/v1/cleanup",
                    {"image": picture, "mask": mask},
                    "image/jpeg",
                    model="telea",
                    quality="95",
                ),
                seconds,
                1,
            )
            ratio = ours.per_second / row.per_second
            mark = "" if ratio >= CLEANUP_TARGET else " (missed)"
            print(f"| {megapixels} | {row.cells()} | {ours.cells()} | **{ratio:.2f}**{mark} |", flush=True)
        client.close()


def stages() -> None:
    """Where a picture's time goes inside the service, as it tells itself."""
    print("\n## stages, in milliseconds of the service's own clock, one picture at a time\n")
    print("| service | megapixels | decode | work | encode |\n|---|---|---|---|---|")
    with darkroom("rmbg", "cleanup") as stack, httpx.Client(base_url=stack.url, timeout=120) as client:
        for megapixels in SIZES:
            picture, mask = jpeg(megapixels), strokes(megapixels)
            asked: list[tuple[str, dict[str, bytes], str]] = [
                ("remove-background", {"image": picture}, MATTE),
                ("cleanup", {"image": picture, "mask": mask}, "telea"),
                ("cleanup", {"image": picture, "mask": mask}, "micro-lama"),
            ]
            for operation, files, model in asked:
                told = []
                for _ in range(4):
                    answer = client.post(
                        f"/v1/{operation}",
                        files=files,
                        data={"model": model},
                        headers={"accept": "application/json"},
                    )
                    answer.raise_for_status()
                    told.append(answer.json()["timing"])
                mid = {
                    name: statistics.median(one[f"{name}_ms"] for one in told[1:])
                    for name in ("decode", "run", "encode")
                }
                print(
                    f"| {operation}, {model} | {megapixels} | {mid['decode']:.0f} | {mid['run']:.0f} "
                    f"| {mid['encode']:.0f} |",
                    flush=True,
                )


def crowd(seconds: float) -> None:
    """What sharing the net's call gives: `Batcher` beside threads that each call it, and beside BentoML's batching."""
    from bench.peers.bento_batches import measured
    from services.batching import Batcher
    from services.onnx import open_net

    cores = os.cpu_count() or 1
    print(f"\n## eight callers of one net, {cores} cores\n")
    print("| how | calls/s | median ms |\n|---|---|---|")
    rows: dict[str, tuple[float, float]] = {}
    alone = open_net(NET, MATTE, threads=1)
    wide = open_net(NET, MATTE, threads=cores)
    height, width = alone.inputs[0].side or (320, 320)
    item = np.random.default_rng(0).random((1, 3, height, width), dtype=np.float32)
    rows["one caller, all cores"] = timed(lambda: wide.run(item), seconds)
    rows[f"8 callers, {cores} at a time, a core each"] = _slots(lambda: alone.run(item), seconds, cores)
    rows["8 callers, one at a time, all cores"] = _slots(lambda: wide.run(item), seconds, 1)
    for most in (4, 8):
        share = Batcher[Any, Any](lambda items: wide.run(np.concatenate(items))[0], most)
        rows[f"8 callers, in batches of up to {most}, all cores"] = timed(
            lambda share=share: share(item), seconds, 8
        )  # type: ignore[misc]
    rows["8 callers of BentoML's adaptive batching (typed method, over HTTP)"] = measured(NET, item, seconds)
    for name, (rate, median) in rows.items():
        print(f"| {name} | {rate:.1f} | {median:.1f} |", flush=True)


def _slots(call: Callable[[], object], seconds: float, at_once: int) -> tuple[float, float]:
    import threading

    room = threading.Semaphore(at_once)

    def one() -> None:
        with room:
            call()

    return timed(one, seconds, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", choices=["rembg", "cleanup", "stages", "crowd"])
    parser.add_argument("--seconds", type=float, default=6, help="of each measurement")
    arguments = parser.parse_args()
    parts: dict[str, Callable[[], None]] = {
        "rembg": lambda: beside_rembg(arguments.seconds),
        "cleanup": lambda: beside_iopaint(arguments.seconds),
        "stages": stages,
        "crowd": lambda: crowd(arguments.seconds),
    }
    for name, part in parts.items():
        if arguments.only is None or name in arguments.only:
            part()


if __name__ == "__main__":
    main()
