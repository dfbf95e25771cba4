"""The only place where pictures change their range: bytes 0..255, shares 0..1, and the net's -1..1.

Everything else names its tensors for their range and calls one of these. (`tf_serving/pictures.py` is the same for
servers without TensorFlow; a test holds both to `PICTURES.md`.)
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

Tensor = Any  # TensorFlow has no types of its own


def shares_of_bytes(values: Tensor) -> Tensor:
    """uint8 -> float32 in [0, 1]."""
    return tf.cast(values, tf.float32) / 255.0


def bytes_of_shares(shares: Tensor) -> Tensor:
    """float32 in [0, 1] -> uint8, rounded to the nearest; what lies outside is clipped."""
    return tf.cast(tf.clip_by_value(tf.floor(shares * 255.0 + 0.5), 0.0, 255.0), tf.uint8)


def net_of_shares(shares: Tensor) -> Tensor:
    """[0, 1] -> the net's [-1, 1]."""
    return shares * 2.0 - 1.0


def shares_of_net(values: Tensor) -> Tensor:
    """The net's [-1, 1] -> [0, 1]."""
    return tf.clip_by_value((values + 1.0) / 2.0, 0.0, 1.0)
