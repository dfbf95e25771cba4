"""The two nets of Pix2Pix (Isola et al., 2017): a `Shape` in, the U-Net generator and the PatchGAN discriminator out.

Both are Keras models that read and write the net's range. What is normalised is normalised by each picture's own
statistics ("instance"), or by statistics gathered in training ("batch"); neither lets a picture's result depend on its
batch-mates when the model is served.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from tf_serving.pix2pix.errors import ShapeError

NORMS = ("instance", "batch", "none")
UPSAMPLINGS = ("transpose", "shuffle", "resize")
SLOPE = 0.2


@dataclass(frozen=True)
class Shape:
    """What decides the two nets. The defaults are the small model's; `PAPER` is the paper's."""

    side: int = 128
    width: int = 24  # channels of the outermost layer; they double inwards
    widest: int = 4  # times `width`, at most
    depth: int = 6  # how often the generator halves the picture
    dropout: float = 0.0  # in the three innermost decoding layers
    norm: str = "instance"
    upsampling: str = "transpose"
    judge_width: int = 24
    judge_depth: int = 2  # how often the discriminator halves the picture before its last two layers

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ShapeError(f"norm is one of {', '.join(NORMS)}, not {self.norm!r}")
        if self.upsampling not in UPSAMPLINGS:
            raise ShapeError(f"upsampling is one of {', '.join(UPSAMPLINGS)}, not {self.upsampling!r}")
        if self.depth < 2 or self.side % 2**self.depth:
            raise ShapeError(
                f"a side of {self.side} cannot be halved {self.depth} times: "
                f"take a side that {2 ** max(2, self.depth)} divides, or a smaller depth"
            )
        if self.side < 8 * 2**self.judge_depth:
            raise ShapeError(
                f"a side of {self.side} is too small for a discriminator of depth {self.judge_depth}"
            )

    def channels(self, level: int) -> int:
        """Of the generator's layer that has halved the picture `level` + 1 times."""
        return self.width * min(1 << level, self.widest)

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


PAPER = Shape(
    side=256, width=64, widest=8, depth=8, dropout=0.5, norm="batch", upsampling="transpose",
    judge_width=64, judge_depth=3,
)  # fmt: skip


@keras.saving.register_keras_serializable("darkroom")
class InstanceNormalization(layers.Layer):  # type: ignore[misc]
    """Each channel of each picture to mean 0 and variance 1, then scaled and moved as learned."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.gamma = self.add_weight(shape=(shape[-1],), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(shape[-1],), initializer="zeros", name="beta")

    def call(self, values: Any) -> Any:
        mean = keras.ops.mean(values, axis=(1, 2), keepdims=True)
        centred = values - mean
        variance = keras.ops.mean(keras.ops.square(centred), axis=(1, 2), keepdims=True)
        return centred * (keras.ops.rsqrt(variance + 1e-5) * self.gamma) + self.beta


@keras.saving.register_keras_serializable("darkroom")
class Shuffle(layers.Layer):  # type: ignore[misc]
    """Four channels of one pixel become one channel of four pixels."""

    def call(self, values: Any) -> Any:
        import tensorflow as tf

        return tf.nn.depth_to_space(values, 2)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, high, wide, channels = shape
        return batch, high and 2 * high, wide and 2 * wide, channels and channels // 4


def generator(shape: Shape, seed: int = 0) -> keras.Model:
    """Sketches in, pictures out: [n, side, side, 3] in the net's range."""
    build = _Builder(shape.norm, seed)
    sketch = keras.Input((shape.side, shape.side, 3), name="sketch")
    x, skips = sketch, []
    for level in range(shape.depth):
        if level:
            x = layers.LeakyReLU(negative_slope=SLOPE)(x)
        x = build.down(x, shape.channels(level), normalised=0 < level < shape.depth - 1)
        skips.append(x)
    for level in reversed(range(shape.depth - 1)):
        x = layers.ReLU()(x)
        x = build.up(x, shape.channels(level), shape.upsampling)
        if shape.dropout and level >= shape.depth - 4:
            x = layers.Dropout(shape.dropout, seed=build.next_seed())(x)
        x = layers.Concatenate()([x, skips[level]])
    x = layers.ReLU()(x)
    x = build.up(x, 3, shape.upsampling, normalised=False)
    return keras.Model(sketch, layers.Activation("tanh", name="picture")(x), name="generator")


def discriminator(shape: Shape, seed: int = 1) -> keras.Model:
    """A sketch and a picture in; out a map of logits, each for one patch: is this picture the true one?"""
    build = _Builder(shape.norm, seed)
    sketch = keras.Input((shape.side, shape.side, 3), name="sketch")
    picture = keras.Input((shape.side, shape.side, 3), name="picture")
    x = layers.Concatenate()([sketch, picture])
    for level in range(shape.judge_depth):
        x = build.down(x, shape.judge_width * min(2**level, 8), normalised=level > 0)
        x = layers.LeakyReLU(negative_slope=SLOPE)(x)
    x = build.convolution(
        layers.ZeroPadding2D()(x), shape.judge_width * min(2**shape.judge_depth, 8), 4, "valid"
    )
    x = layers.LeakyReLU(negative_slope=SLOPE)(build.normalised(x))
    x = layers.Conv2D(1, 4, padding="valid", kernel_initializer=build.normal(), name="patches")(
        layers.ZeroPadding2D()(x)
    )
    return keras.Model([sketch, picture], x, name="discriminator")


class _Builder:
    """Layers that share a way of normalising and a row of seeds."""

    def __init__(self, norm: str, seed: int) -> None:
        self.norm, self._seed = norm, seed * 1000

    def next_seed(self) -> int:
        self._seed += 1
        return self._seed

    def normal(self) -> Any:
        return keras.initializers.RandomNormal(0.0, 0.02, seed=self.next_seed())

    def normalised(self, x: Any) -> Any:
        if self.norm == "instance":
            return InstanceNormalization()(x)
        if self.norm == "batch":
            return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)
        return x

    def convolution(self, x: Any, channels: int, kernel: int, padding: str = "same", strides: int = 1) -> Any:
        return layers.Conv2D(
            channels, kernel, strides, padding, use_bias=self.norm == "none", kernel_initializer=self.normal()
        )(x)

    def down(self, x: Any, channels: int, normalised: bool) -> Any:
        x = self.convolution(x, channels, 4, "same", 2)
        return self.normalised(x) if normalised else x

    def up(self, x: Any, channels: int, way: str, normalised: bool = True) -> Any:
        """Twice as high and wide. `transpose` is the paper's."""
        bias = not normalised or self.norm == "none"
        if way == "transpose":
            x = layers.Conv2DTranspose(
                channels, 4, 2, "same", use_bias=bias, kernel_initializer=self.normal()
            )(x)
        elif way == "shuffle":
            x = layers.Conv2D(4 * channels, 3, 1, "same", use_bias=bias, kernel_initializer=self.normal())(x)
            x = Shuffle()(x)
        else:
            x = layers.UpSampling2D(interpolation="nearest")(x)
            x = layers.Conv2D(channels, 3, 1, "same", use_bias=bias, kernel_initializer=self.normal())(x)
        return self.normalised(x) if normalised else x


def parameters(model: keras.Model) -> int:
    """How many numbers are learned."""
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)
