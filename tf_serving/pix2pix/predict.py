"""One sketch to one picture, without a server: a run or a version folder in, a function of files out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from tf_serving.pix2pix.errors import DataError, ExportError
from tf_serving.pix2pix.export import Served
from tf_serving.pix2pix.graph import ink_of_file, net_of_ink, png_of_shares, shares_of_output
from tf_serving.pix2pix.ranges import Tensor
from tf_serving.pix2pix.run import Run

Files = Callable[[Tensor], Tensor]  # the bytes of a sketch -> the bytes of a PNG


def from_run(run: Run) -> Files:
    served = Served(run.generator()[0], run.shape.side)
    return lambda contents: served.picture(contents)["image_bytes"]


def from_version(folder: Path) -> Files:
    if (folder / "saved_model.pb").is_file():
        loaded = tf.saved_model.load(str(folder)).signatures["picture"]
        return lambda contents: loaded(image_bytes=contents)["image_bytes"]
    if not (folder / "model.tflite").is_file():
        raise ExportError(
            f"{folder} is not a version folder: it holds neither saved_model.pb nor model.tflite. Its name is a number."
        )
    from tf_serving.pix2pix.convert import Runner

    run = Runner((folder / "model.tflite").read_bytes(), threads=2)

    def files(contents: Tensor) -> Tensor:
        ink = ink_of_file(contents)
        output = run(net_of_ink(ink, run.side).numpy()[None])[0]
        return png_of_shares(shares_of_output(tf.constant(output), *ink.shape[:2]))

    return files


def coloured(net: Files, sketch: Path) -> bytes:
    try:
        png: bytes = net(tf.constant(sketch.read_bytes())).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise DataError(f"{sketch} cannot be decoded; it should be PNG, JPEG, GIF or BMP.") from error
    return png
