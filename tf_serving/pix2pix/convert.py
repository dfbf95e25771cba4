"""Conversion: a generator in; out come TFLite files for LiteRT, each held against the Keras model and timed.

Four files: float32, float16 (weights only), dynamic (int8 weights, float activations) and int8 (both). What is slower
than float32 is called slow in the table; that happens where LiteRT has no fast kernel, small as the file may be.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from tf_serving.pix2pix.errors import ExportError
from tf_serving.pix2pix.export import PICTURES, SIGNATURES, version_folder
from tf_serving.pix2pix.ranges import shares_of_net

Floats = NDArray[np.float32]
FILES = {
    "float32": "model.tflite",
    "float16": "model.float16.tflite",
    "dynamic": "model.dynamic.tflite",
    "int8": "model.int8.tflite",
}
BYTES = {"float32": 4, "float16": 2, "dynamic": 1, "int8": 1}  # for each number that was learned
ENOUGH = {"float32": 80.0, "float16": 50.0, "dynamic": 25.0, "int8": 20.0}  # decibels
SLOW = 1.25  # times as long as float32


@dataclass(frozen=True)
class Converted:
    kind: str
    file: str
    bytes: int
    sha256: str
    psnr: float  # decibels, against the Keras model
    milliseconds: float  # of processor time for a picture, one at a time
    batched: float  # the same, eight at a time
    slow: bool


def convert(
    generator: keras.Model,
    base: Path,
    name: str,
    facts: dict[str, Any],
    sketches: Floats,
    version: int | None = None,
) -> Path:
    """Writes the next version (or `version`) below `base`, for the embedded server, and returns its folder.

    `sketches` are in the net's range; they calibrate int8, and all files are judged on them.
    """
    side = int(generator.input_shape[1])
    with version_folder(base, version) as (part, number):
        results: list[Converted] = []
        for kind, file in FILES.items():
            content = converted(generator, kind, sketches)
            (part / file).write_bytes(content)
            results.append(judged(generator, kind, content, sketches, results[0] if results else None))
        said = {
            "name": name,
            "version": number,
            "side": side,
            "signatures": list(SIGNATURES),
            "pictures": PICTURES,
        }
        files = {one.file: asdict(one) for one in results}
        (part / "model.json").write_text(json.dumps({**said, **facts, "files": files}, indent=2) + "\n")
        (part / "conversion.md").write_text(table(results))
    return base / str(number)


def converted(generator: keras.Model, kind: str, sketches: Floats) -> bytes:
    """The TFLite file."""
    # Not from tf.saved_model.save's folder: that conversion succeeds and leaves the weights out.
    converter = tf.lite.TFLiteConverter.from_keras_model(generator)
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if kind == "int8":

        def examples() -> Iterator[list[Floats]]:
            for sketch in sketches:
                yield [sketch[None]]

        converter.representative_dataset = examples
    content: bytes = converter.convert()
    least = BYTES[kind] * sum(math.prod(w.shape) for w in generator.trainable_weights)
    if len(content) < 0.95 * least:
        raise ExportError(
            f"{kind}: {len(content)} bytes cannot hold the weights, which are {least}: the converter has lost them."
        )
    return content


def judged(
    generator: keras.Model, kind: str, content: bytes, sketches: Floats, first: Converted | None
) -> Converted:
    """Its numbers against the Keras model's, and its time; what is too far off is refused."""
    run = Runner(content)
    wanted, made = generator(sketches, training=False), np.concatenate([run(one[None]) for one in sketches])
    if not np.isfinite(made).all():
        raise ExportError(f"{kind}: the converted model gives numbers that are not finite.")
    together = run(sketches[:2])
    if kind in ("float32", "float16") and not np.allclose(together, made[:2], atol=1e-3):
        raise ExportError(f"{kind}: two pictures together do not give what each gives alone.")
    quality = psnr(shares_of_net(wanted).numpy(), shares_of_net(made).numpy())
    if quality < ENOUGH[kind]:
        raise ExportError(
            f"{kind}: {quality:.1f} dB from the Keras model, where {ENOUGH[kind]:.0f} are wanted."
        )
    alone, batched = timed(run, sketches[:1]), timed(run, np.resize(sketches, (8, *sketches.shape[1:]))) / 8
    return Converted(
        kind, FILES[kind], len(content), hashlib.sha256(content).hexdigest(), round(quality, 1),
        round(alone, 2), round(batched, 2), first is not None and alone > SLOW * first.milliseconds,
    )  # fmt: skip


class Runner:
    """A TFLite model as a function of a batch, in the net's range."""

    def __init__(self, content: bytes, threads: int = 1) -> None:
        self._interpreter = Interpreter(model_content=content, num_threads=threads)
        inside = self._interpreter.get_input_details()[0]
        self._in, self._out = inside["index"], self._interpreter.get_output_details()[0]["index"]
        self._shape: tuple[int, ...] = ()
        self.side = int(inside["shape"][1])

    def __call__(self, batch: Floats) -> Floats:
        if batch.shape != self._shape:
            self._interpreter.resize_tensor_input(self._in, batch.shape)
            self._interpreter.allocate_tensors()
            self._shape = batch.shape
        self._interpreter.set_tensor(self._in, batch.astype(np.float32))
        self._interpreter.invoke()
        return np.asarray(self._interpreter.get_tensor(self._out))


def timed(run: Callable[[Floats], Floats], batch: Floats, times: int = 7) -> float:
    """The least of some runs, in milliseconds of processor time: LiteRT has one thread here, and others may be busy."""
    run(batch)
    spent = []
    for _ in range(times):
        began = time.process_time()
        run(batch)
        spent.append(1000 * (time.process_time() - began))
    return min(spent)


def psnr(wanted: Floats, made: Floats) -> float:
    """In decibels, of shares; equal ones have 120."""
    error = float(np.mean(np.square(wanted - made)))
    return -10 * math.log10(max(error, 1e-12))


def table(results: list[Converted]) -> str:
    rows = [
        f"| {one.kind} | `{one.file}` | {one.bytes / 2**20:.2f} MiB | {one.psnr:.1f} dB | {one.milliseconds:.1f} ms "
        f"| {one.batched:.1f} ms | {'**slow**' if one.slow else ''} |"
        for one in results
    ]
    head = "| kind | file | size | against Keras | a picture alone | of eight | |\n|---|---|---|---|---|---|---|\n"
    return head + "\n".join(rows) + "\n"


def install(version: Path, base: Path) -> Path:
    """Copies a converted version to another place, whole or not at all: what `make up` serves."""
    with version_folder(base, int(version.name)) as (part, number):
        shutil.copytree(version, part, dirs_exist_ok=True)
    return base / str(number)
