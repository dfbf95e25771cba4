"""Export: a trained generator in; out comes a version folder that TensorFlow Serving loads.

The graph takes files and gives files (`PICTURES.md`): decoding, white ground, resizing, ranges and PNG are inside it.
It runs the generator as in inference: dropout off, statistics of each picture alone (or, for a model trained with
batch normalisation, the averages gathered in training). So a result depends on its sketch, never on batch-mates.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tf_serving.pix2pix.errors import ExportError
from tf_serving.pix2pix.graph import ink_of_file, ink_of_shares, net_of_ink, png_of_shares, shares_of_output
from tf_serving.pix2pix.ranges import Tensor

PICTURES = 1  # the version of PICTURES.md that the graph follows
SIGNATURES = ("serving_default", "picture", "tensor")
AT_ONCE = 16  # pictures of one batch that are decoded or encoded at the same time


class Served(tf.Module):  # type: ignore[misc]  # TensorFlow has no types of its own
    """The generator with all that happens before and after it."""

    def __init__(self, generator: keras.Model, side: int) -> None:
        super().__init__()
        self.generator, self.side = generator, side

    def signatures(self) -> dict[str, Any]:
        files, file = (
            tf.TensorSpec([None], tf.string, "image_bytes"),
            tf.TensorSpec([], tf.string, "image_bytes"),
        )
        pixels = tf.TensorSpec([None, None, None, 3], tf.float32, "image")
        functions = (self.batch, self.picture, self.tensor)
        return {
            name: tf.function(function).get_concrete_function(spec)
            for name, function, spec in zip(SIGNATURES, functions, (files, file, pixels), strict=True)
        }

    def batch(self, image_bytes: Tensor) -> dict[str, Tensor]:
        """Files of any sizes in, PNGs out."""

        def read(contents: Tensor) -> tuple[Tensor, Tensor]:
            ink = ink_of_file(contents)
            return net_of_ink(ink, self.side), tf.shape(ink)[:2]

        def written(one: tuple[Tensor, Tensor]) -> Tensor:
            output, size = one
            return png_of_shares(shares_of_output(output, size[0], size[1]))

        # a batch of none would fail deep in a convolution, with words that help nobody
        some = tf.debugging.assert_positive(tf.size(image_bytes), "image_bytes holds no picture")
        kinds = (
            tf.TensorSpec([self.side, self.side, 3], tf.float32),
            tf.TensorSpec([2], tf.int32),
        )
        with tf.control_dependencies([some]):
            inputs, sizes = tf.map_fn(
                read, image_bytes, fn_output_signature=kinds, parallel_iterations=AT_ONCE
            )
        outputs = self.generator(inputs, training=False)
        pngs = tf.map_fn(
            written,
            (outputs, sizes),
            fn_output_signature=tf.TensorSpec([], tf.string),
            parallel_iterations=AT_ONCE,
        )
        return {"image_bytes": pngs}

    def picture(self, image_bytes: Tensor) -> dict[str, Tensor]:
        """One file in, one PNG out."""
        return {"image_bytes": self.batch(image_bytes[None])["image_bytes"][0]}

    def tensor(self, image: Tensor) -> dict[str, Tensor]:
        """Pictures of one size, as shares, in and out."""
        output = self.generator(net_of_ink(ink_of_shares(image), self.side), training=False)
        shape = tf.shape(image)
        return {"image": shares_of_output(output, shape[1], shape[2])}


def export(
    generator: keras.Model,
    base: Path,
    name: str,
    facts: dict[str, Any],
    sketches: Sequence[bytes],
    version: int | None = None,
) -> Path:
    """Writes the next version (or `version`) below `base` and returns its folder."""
    side = int(generator.input_shape[1])
    with version_folder(base, version) as (part, number):
        served = Served(generator, side)
        tf.saved_model.save(served, str(part), signatures=served.signatures())
        write_warmup(part, name, sketches)
        said = {
            "name": name,
            "version": number,
            "side": side,
            "signatures": list(SIGNATURES),
            "pictures": PICTURES,
        }
        (part / "model.json").write_text(json.dumps({**said, **facts}, indent=2) + "\n")
    return base / str(number)


@contextmanager
def version_folder(base: Path, version: int | None = None) -> Iterator[tuple[Path, int]]:
    """A folder to write into, which gets its number as a name only when all is in it.

    A server looks for folders with numbers as names; so it never sees a version that is not whole.
    """
    base.mkdir(parents=True, exist_ok=True)
    number = version or max((int(p.name) for p in base.iterdir() if p.name.isdecimal()), default=0) + 1
    final = base / str(number)
    if final.exists():
        raise ExportError(
            f"{final} is there already. Versions are not changed; take another number, or none."
        )
    part = Path(tempfile.mkdtemp(prefix="unfinished-", dir=base))
    try:
        yield part, number
        part.chmod(0o755)
        os.rename(part, final)  # noqa: PTH104  # Path.rename would replace an empty folder that came meanwhile
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def write_warmup(folder: Path, name: str, sketches: Sequence[bytes]) -> None:
    """Requests that TensorFlow Serving plays to the model before it says that it is available.

    One of each signature, and batches of several sizes, since a batch's first run of its size is slow.
    """
    from tf_serving.stubs import PredictionLog

    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    path.parent.mkdir()
    batches = [[sketches[i % len(sketches)] for i in range(size)] for size in (1, 2, 4, 8)]
    with tf.io.TFRecordWriter(str(path)) as writer:

        def log(signature: str, key: str, value: Any) -> None:
            one = PredictionLog()
            request = one.predict_log.request
            request.model_spec.name = name
            request.model_spec.signature_name = signature
            request.inputs[key].ParseFromString(tf.make_tensor_proto(value).SerializeToString())
            writer.write(one.SerializeToString())

        for batch in batches:
            log("serving_default", "image_bytes", batch)
        log("picture", "image_bytes", sketches[0])
        log("tensor", "image", (1.0 - ink_of_file(tf.constant(sketches[0]))).numpy()[None])
