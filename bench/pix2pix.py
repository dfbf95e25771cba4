"""What `sketch-to-image` costs: end to end, beside loops over the same net in one process; and what batching gives.

    python -m bench.pix2pix [--seconds 8] [--size 256] [--saved-model FOLDER]

A sketch goes in as a PNG file and a PNG comes back, in every row. The loops have no server at all: one process, one
picture after the other, on LiteRT (the committed model) and on TensorFlow (a SavedModel; a fresh one of the same shape
if none is named, since weights cost no time). Everything shares the machine's cores with what asks.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from PIL import Image, ImageDraw

from bench.load import as_fast_as_it_goes, at, form
from bench.processes import ROOT, free_port

MODEL = ROOT / "tf_serving" / "models" / "creatures" / "1"
CONFIG = ROOT / "tf_serving" / "config"
CROWD = 16
BATCH = 8
TARGET = 1.3


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    per_second: float
    p50_ms: float
    p99_ms: float

    def line(self) -> str:
        return f"| {self.name} | {self.per_second:.1f} | {self.p50_ms:.1f} | {self.p99_ms:.1f} |"


def sketch(size: int, seed: int = 7) -> bytes:
    """Some strokes of a pen on white, as a PNG."""
    chance = random.Random(seed)
    paper = Image.new("RGB", (size, size), "white")
    pen = ImageDraw.Draw(paper)
    for _ in range(12):
        x, y, r = (chance.uniform(0.2, 0.8) * size for _ in range(3))
        pen.ellipse((x - r / 4, y - r / 4, x + r / 4, y + r / 5), outline="black", width=max(1, size // 100))
    out = io.BytesIO()
    paper.save(out, "PNG")
    return out.getvalue()


# ── loops in one process, each in a fresh one ────────────────────────────────────────────────────────────────


def loop_on_litert(picture: bytes, seconds: float, _: Path | None) -> list[dict[str, Any]]:
    from ai_edge_litert.interpreter import Interpreter

    from tf_serving import pictures

    side = int(json.loads((MODEL / "model.json").read_text())["side"])
    net = Interpreter(model_path=str(MODEL / "model.tflite"), num_threads=1)
    net.allocate_tensors()
    given, made = net.get_input_details()[0]["index"], net.get_output_details()[0]["index"]

    def one() -> None:
        values, size = pictures.net_of_file(picture, side)
        net.set_tensor(given, values[None])
        net.invoke()
        pictures.file_of_net(net.get_tensor(made)[0], size)

    return [{"name": "LiteRT, a loop in one process", **timed(one, seconds)}]


def loop_on_tensorflow(picture: bytes, seconds: float, folder: Path | None) -> list[dict[str, Any]]:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    with tempfile.TemporaryDirectory() as made:
        served = tf.saved_model.load(str(folder or _fresh(Path(made), picture)))
        alone, batch = served.signatures["picture"], served.signatures["serving_default"]
        one, several = tf.constant(picture), tf.constant([picture] * BATCH)
        return [
            {
                "name": "SavedModel, a loop in one process",
                **timed(lambda: alone(image_bytes=one), seconds),
            },
            {
                "name": f"SavedModel, a loop over batches of {BATCH}",
                **timed(lambda: batch(image_bytes=several), seconds, pictures=BATCH),
            },
        ]


def _fresh(folder: Path, picture: bytes) -> Path:
    from tf_serving.pix2pix.export import export
    from tf_serving.pix2pix.model import Shape, generator

    shape = json.loads((MODEL / "model.json").read_text())["shape"]
    return export(generator(Shape(**shape)), folder / "creatures", "creatures", {}, [picture])


LOOPS: dict[str, Callable[[bytes, float, Path | None], list[dict[str, Any]]]] = {
    "litert": loop_on_litert,
    "tensorflow": loop_on_tensorflow,
}


def timed(work: Callable[[], object], seconds: float, pictures: int = 1) -> dict[str, float]:
    for _ in range(3):
        work()
    taken: list[float] = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        start = time.perf_counter()
        work()
        taken.append((time.perf_counter() - start) * 1000)
    rate = len(taken) * pictures / (time.perf_counter() - began)
    taken.sort()
    return {"per_second": rate, "p50_ms": at(0.5, taken), "p99_ms": at(0.99, taken)}


def looped(which: str, arguments: argparse.Namespace) -> list[Row]:
    command = [sys.executable, "-m", "bench.pix2pix", "--loop", which]
    command += ["--seconds", str(arguments.seconds), "--size", str(arguments.size)]
    command += [] if arguments.saved_model is None else ["--saved-model", str(arguments.saved_model)]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=os.environ | quiet, stdout=subprocess.PIPE, check=True)
    return [Row(**row) for row in json.loads(done.stdout.splitlines()[-1])]


# ── servers ──────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def darkroom() -> Iterator[str]:
    """The gateway and the embedded server, as `darkroom up` starts them; gives the gateway's address."""
    port = free_port()
    with tempfile.TemporaryDirectory() as data:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
        env = kept | {"DARKROOM_PORT": str(port), "DARKROOM_DATA": data}
        command = [str(Path(sys.executable).with_name("darkroom")), "up", "gateway", "pix2pix"]
        with started(command, env, f"http://127.0.0.1:{port}/readyz"):
            yield f"http://127.0.0.1:{port}"


@contextmanager
def embedded(*, batching: bool) -> Iterator[str]:
    """The embedded server alone; gives its gRPC address."""
    port, rest = free_port(), free_port()
    command = [sys.executable, "-m", "tf_serving.server", f"--port={port}", f"--rest_api_port={rest}"]
    command += [f"--model_config_file={CONFIG / 'embedded.config'}"]
    command += ["--allow_version_labels_for_unavailable_models=true"]
    if batching:
        command += ["--enable_batching=true", f"--batching_parameters_file={CONFIG / 'batching.config'}"]
    with started(command, dict(os.environ), f"http://127.0.0.1:{rest}/v1/models/creatures"):
        yield f"127.0.0.1:{port}"


@contextmanager
def started(command: list[str], env: dict[str, str], ready: str) -> Iterator[subprocess.Popen[bytes]]:
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=said, stderr=said, start_new_session=True
        )
        try:
            until = time.monotonic() + 60
            while not _answers(ready):
                if process.poll() is not None or time.monotonic() > until:
                    said.seek(0)
                    sys.stderr.write(said.read().decode(errors="replace")[-4000:])
                    raise RuntimeError(f"{' '.join(command)} did not get ready")
                time.sleep(0.1)
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


async def asked(address: str, picture: bytes, at_once: int, seconds: float, name: str) -> Row:
    """Callers of the embedded server over gRPC, each with one call after the other."""
    from tf_serving.client import Client

    client, taken = Client(address), list[float]()

    async def caller(until: float) -> None:
        while time.perf_counter() < until:
            start = time.perf_counter()
            await client.predict(picture, "creatures", seconds=30)
            taken.append((time.perf_counter() - start) * 1000)

    await asyncio.gather(*(caller(time.perf_counter() + 1) for _ in range(at_once)))
    taken.clear()
    began = time.perf_counter()
    await asyncio.gather(*(caller(began + seconds) for _ in range(at_once)))
    rate = len(taken) / (time.perf_counter() - began)
    await client.close()
    taken.sort()
    return Row(name, rate, at(0.5, taken), at(0.99, taken))


def through_the_gateway(url: str, picture: bytes, at_once: int, seconds: float, name: str) -> Row:
    request = form({"image": picture}, "/v1/sketch-to-image", accept="image/png")
    core = (os.cpu_count() or 1) - 1
    as_fast_as_it_goes(url, request, concurrency=at_once, seconds=1, core=core)
    rate = as_fast_as_it_goes(url, request, concurrency=at_once, seconds=seconds, core=core)
    if rate.errors:
        raise RuntimeError(f"{rate.errors} calls failed")
    return Row(name, rate.per_second, rate.p50_ms, rate.p99_ms)


# ── the figures ──────────────────────────────────────────────────────────────────────────────────────────────


def measure(arguments: argparse.Namespace) -> None:
    picture, seconds = sketch(arguments.size), arguments.seconds
    rows: dict[str, Row] = {}

    def keep(key: str, row: Row) -> None:
        rows[key] = row
        print(row.line(), flush=True)

    print(f"A sketch of {arguments.size} x {arguments.size} pixels, {os.cpu_count()} cores.\n")
    print("| | pictures/s | p50 ms | p99 ms |\n|---|---|---|---|")
    keep("litert", looped("litert", arguments)[0])
    if importlib.util.find_spec("tensorflow"):
        for key, row in zip(("saved", "saved batch"), looped("tensorflow", arguments), strict=True):
            keep(key, row)
    else:
        print("| SavedModel | TensorFlow is not installed: pip install 'darkroom[pix2pix]' | | |")
    for batching in (False, True):
        how = "batched" if batching else "not batched"
        with embedded(batching=batching) as address:
            for n in (1, CROWD):
                name = f"the embedded server over gRPC, {n} at once, {how}"
                keep(f"grpc {n} {batching}", asyncio.run(asked(address, picture, n, seconds, name)))
    with darkroom() as url:
        for n in (1, CROWD):
            name = f"**sketch-to-image through the gateway, {n} at once**"
            keep(f"gateway {n}", through_the_gateway(url, picture, n, seconds, name))
    print("\n".join(["", *ratios(rows)]))


def ratios(rows: dict[str, Row]) -> Iterator[str]:
    one, crowd, litert = rows["gateway 1"], rows[f"gateway {CROWD}"], rows["litert"]
    yield f"end to end, alone: {one.p50_ms / litert.p50_ms:.2f} times the time of the LiteRT loop"
    yield f"end to end, {CROWD} at once: {crowd.per_second / litert.per_second:.2f} times its pictures a second"
    if "saved" in rows:
        saved = rows["saved"]
        yield f"end to end, alone: {one.p50_ms / saved.p50_ms:.2f} times the time of the SavedModel loop"
        yield f"end to end, {CROWD} at once: {crowd.per_second / saved.per_second:.2f} times its pictures a second"
        gain = rows["saved batch"].per_second / rows["saved"].per_second
        yield f"a batch of {BATCH} on one core: {gain:.2f} times the pictures a second of one by one (TensorFlow)"
    gained = crowd.per_second / one.per_second
    yield f"{CROWD} at once beside one at a time, end to end: {gained:.2f} times (target: {TARGET})"
    with_, without = rows[f"grpc {CROWD} True"], rows[f"grpc {CROWD} False"]
    yield (
        f"of it by batching alone, at the server: {with_.per_second / without.per_second:.2f} times; the rest is that "
        f"{os.cpu_count()} cores work at once"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--saved-model", type=Path)
    parser.add_argument("--loop", choices=LOOPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.loop:
        found = LOOPS[arguments.loop](sketch(arguments.size), arguments.seconds, arguments.saved_model)
        print(json.dumps(found))
        return
    measure(arguments)


if __name__ == "__main__":
    main()
