"""LiteRT: `model.tflite` maps [N, side, side, 3] in [-1, 1] to the same; pictures on the way in and out are
`pictures.py`'s."""

from __future__ import annotations

import hashlib
import json
import queue
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tf_serving import pictures
from tf_serving.serving.engines import Arrays, Check, Means, Rows
from tf_serving.serving.signatures import DEFAULT, Signature, Tensor
from tf_serving.serving.status import Code, Refused, invalid
from tf_serving.serving.tensors import Array, strings
from tf_serving.stubs import DT_FLOAT, DT_STRING

PICTURE, TENSOR = "picture", "tensor"
_BYTES, _IMAGE = "image_bytes", "image"
SIGNATURES: Mapping[str, Signature] = {
    DEFAULT: Signature({_BYTES: Tensor(DT_STRING, (-1,))}, {_BYTES: Tensor(DT_STRING, (-1,))}),
    PICTURE: Signature({_BYTES: Tensor(DT_STRING, ())}, {_BYTES: Tensor(DT_STRING, ())}),
    TENSOR: Signature(
        {_IMAGE: Tensor(DT_FLOAT, (-1, -1, -1, 3))}, {_IMAGE: Tensor(DT_FLOAT, (-1, -1, -1, 3))}
    ),
}


class LiteEngine:
    """One model, as many interpreters as runs at a time: an interpreter is for one thread."""

    runtime = "LiteRT"
    signatures = SIGNATURES

    def __init__(self, folder: Path, means: Means) -> None:
        about = _about(folder / "model.json")
        self._side, self._max_pixels = int(about["side"]), means.max_pixels
        # read, not mapped: a file that is cut short while it is served would end the process
        self._content = (folder / "model.tflite").read_bytes()
        _check_whole(self._content, about)
        self._idle: queue.SimpleQueue[_Net] = queue.SimpleQueue()
        self._threads, self._left = max(1, means.threads), max(1, means.runs)
        self._try()

    def _try(self) -> None:
        """A first picture: what is damaged, or is no such net, shows here and not in a request."""
        try:
            net = self._net()
            out = net(np.ones((1, self._side, self._side, 3), np.float32))
        except Exception as error:
            raise Refused(Code.DATA_LOSS, f"model.tflite cannot be run: {error}") from error
        if out.shape != (1, self._side, self._side, 3) or not np.isfinite(out).all():
            raise Refused(
                Code.DATA_LOSS,
                f"model.tflite makes {out.shape} of a white picture, not {(1, self._side, self._side, 3)} of finite "
                "numbers: it is damaged, or its conversion lost the weights.",
            )
        self._idle.put(net)

    def _net(self) -> _Net:
        self._left -= 1
        return _Net(self._content, self._threads)

    def prepare(self, signature: str, inputs: Arrays, check: Check) -> Rows:
        if signature == TENSOR:
            given = [pictures.net_of_shares(image, self._side) for image in _checked(inputs[_IMAGE], self)]
        else:
            given = []
            for data in inputs[_BYTES].reshape(-1):
                check()
                try:
                    given.append(pictures.net_of_file(data, self._side, self._max_pixels))
                except pictures.BadPicture as error:
                    raise invalid(str(error)) from error
        shape = (0, self._side, self._side, 3)
        rows = np.stack([row for row, _ in given]) if given else np.zeros(shape, np.float32)
        return Rows(
            ("net",),
            {_IMAGE: rows},
            len(given),
            batchable=signature != PICTURE,
            aside=[size for _, size in given],
        )

    def run(self, key: tuple[Any, ...], arrays: Arrays) -> Arrays:
        rows = arrays[_IMAGE]
        if len(rows) == 0:
            return {_IMAGE: rows}
        try:
            net = self._idle.get_nowait()
        except queue.Empty:
            net = self._net() if self._left > 0 else self._idle.get()
        try:
            return {_IMAGE: net(rows)}
        finally:
            self._idle.put(net)

    def finish(self, signature: str, rows: Rows, outputs: Arrays, check: Check) -> Arrays:
        done: list[Any] = []
        for output, size in zip(outputs[_IMAGE], rows.aside, strict=True):
            check()
            made = pictures.shares_of_output if signature == TENSOR else pictures.file_of_net
            done.append(made(output, size))
        if signature == TENSOR:
            shape = (0, 0, 0, 3)
            return {_IMAGE: np.stack(done).astype(np.float32) if done else np.zeros(shape, np.float32)}
        found = strings(done)
        return {_BYTES: found.reshape(()) if signature == PICTURE else found}

    @property
    def max_pixels(self) -> int:
        return self._max_pixels

    def close(self) -> None:
        while not self._idle.empty():
            self._idle.get_nowait()


class _Net:
    """One interpreter. Rows go through it one by one: on a processor a picture in eight costs what it costs alone, and
    an interpreter takes longer to change its shape than to run."""

    def __init__(self, content: bytes, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_content=content, num_threads=threads)
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]
        self._interpreter.allocate_tensors()

    def __call__(self, rows: Array) -> Array:
        return np.concatenate([self._one(rows[n : n + 1]) for n in range(len(rows))])

    def _one(self, row: Array) -> Array:
        self._interpreter.set_tensor(self._input, row)
        self._interpreter.invoke()
        found: Array = self._interpreter.get_tensor(self._output)
        return found


def _checked(images: Array, engine: LiteEngine) -> Array:
    if images.shape[0] and 0 in images.shape[1:3]:
        raise invalid(
            f"The pictures are {images.shape[1]} x {images.shape[2]} pixels: there is nothing in them."
        )
    try:
        pictures.check_pixels(images.shape[2], images.shape[1], engine.max_pixels)
    except pictures.BadPicture as error:
        raise invalid(str(error)) from error
    return images


def _about(path: Path) -> dict[str, Any]:
    try:
        about: Any = json.loads(path.read_bytes())
        side, version = int(about["side"]), about["pictures"]
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(Code.DATA_LOSS, f"model.json cannot be read: {error!r}") from error
    if version != pictures.VERSION:
        raise Refused(
            Code.FAILED_PRECONDITION,
            f"model.json asks for version {version} of PICTURES.md; this server knows {pictures.VERSION}.",
        )
    if not 8 <= side <= 4096:
        raise Refused(Code.FAILED_PRECONDITION, f"model.json has a side of {side}; 8 to 4096 can be served.")
    return dict(about)


def _check_whole(content: bytes, about: Mapping[str, Any]) -> None:
    """Where model.json tells the file's size and sum, a copy that stopped half-way is known before LiteRT sees it."""
    told = about.get("files", {}).get("model.tflite", {})
    size, digest = told.get("bytes"), told.get("sha256")
    if size is not None and size != len(content):
        raise Refused(Code.DATA_LOSS, f"model.tflite has {len(content)} bytes; model.json says {size}.")
    if digest is not None and digest != hashlib.sha256(content).hexdigest():
        raise Refused(Code.DATA_LOSS, "model.tflite is not the file whose SHA-256 model.json gives.")
    if content[4:8] != b"TFL3":
        raise Refused(Code.DATA_LOSS, "model.tflite is no TensorFlow Lite file.")
