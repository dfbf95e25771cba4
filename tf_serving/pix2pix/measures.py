"""How near made pictures are to the true ones: shares [n, h, w, 3] in, four numbers for each picture out.

L1 and SSIM are of the whole picture. "L1 inside" is L1 only where the true picture is not white paper: on
drawings most of the picture is paper, which is easily right, and this number is about the rest.

The features are those of a small net whose filters are random, orthogonal, and always the same: three layers that
answer to edges and colours at three sizes. Such features compare texture and form where L1 compares places; the
distance is only good for comparing models with each other here, and is not LPIPS, whose net is learned elsewhere.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tf_serving.pix2pix.ranges import Tensor

FEATURES = "random orthogonal filters, 3 layers (16, 32, 64 channels), seed 20170430"


@dataclass(frozen=True)
class Measures:
    """Means over pictures."""

    l1: float
    inside: float
    ssim: float
    features: float
    pictures: int


NAMES = ("l1", "inside", "ssim", "features")
PAPER = 0.98  # at least this bright is paper


def measure(made: Tensor, true: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """L1, L1 inside, SSIM and the feature distance of each picture."""
    apart = tf.reduce_mean(tf.abs(made - true), axis=-1)
    drawn = tf.cast(tf.reduce_min(true, axis=-1) < PAPER, tf.float32)
    inside = tf.math.divide_no_nan(tf.reduce_sum(apart * drawn, (1, 2)), tf.reduce_sum(drawn, (1, 2)))
    ssim = tf.image.ssim(made, true, max_val=1.0)
    return tf.reduce_mean(apart, (1, 2)), inside, ssim, feature_distance(made, true)


def mean(rows: Iterable[tuple[Tensor, ...]]) -> Measures:
    """Over all pictures of all batches."""
    columns = [
        np.concatenate([np.asarray(values) for values in column]) for column in zip(*rows, strict=True)
    ]
    l1, inside, ssim, features = (float(column.mean()) for column in columns)
    return Measures(l1, inside, ssim, features, len(columns[0]))


def feature_distance(made: Tensor, true: Tensor) -> Tensor:
    """The mean over layers of the squared distance between features of unit length, averaged over places."""
    total, one, other = 0.0, 2.0 * made - 1.0, 2.0 * true - 1.0  # centred for the filters, not for a net
    for filters in _filters():
        one = tf.nn.leaky_relu(tf.nn.conv2d(one, filters, 2, "SAME"), 0.2)
        other = tf.nn.leaky_relu(tf.nn.conv2d(other, filters, 2, "SAME"), 0.2)
        apart = tf.reduce_sum(
            tf.square(tf.nn.l2_normalize(one, -1, 1e-6) - tf.nn.l2_normalize(other, -1, 1e-6)), -1
        )
        total += tf.reduce_mean(apart, axis=(1, 2)) / 3.0
    return total


@functools.cache
def _filters() -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(20170430)
    out, channels = [], 3
    for wide in (16, 32, 64):
        basis, _ = np.linalg.qr(rng.normal(size=(max(9 * channels, wide), wide)))
        out.append((basis[: 9 * channels].reshape(3, 3, channels, wide) * 2).astype(np.float32))
        channels = wide
    return tuple(out)
