"""`PICTURES.md` as TensorFlow operations: bytes of a file in, what the net wants out; and back.

The exported SavedModel is made of these, and training reads its files with them, so that a model is served with what
it has learned on.
"""

from __future__ import annotations

import tensorflow as tf

from tf_serving.pix2pix.ranges import Tensor, bytes_of_shares, net_of_shares, shares_of_bytes, shares_of_net


def ink_of_file(contents: Tensor) -> Tensor:
    """Steps 1 to 4: a picture file -> ink, float32 [h, w, 3] in [0, 1], 0 where the paper is white."""
    shares = shares_of_bytes(_decoded(contents))
    channels = tf.shape(shares)[-1]
    colours = tf.cond(
        channels < 3, lambda: tf.repeat(shares[..., :1], 3, axis=-1), lambda: tf.identity(shares[..., :3])
    )
    is_bmp = tf.equal(tf.strings.substr(contents, 0, 2), b"BM")
    has_alpha = tf.logical_and(tf.equal(channels % 2, 0), tf.logical_not(is_bmp))
    alpha = tf.cond(has_alpha, lambda: shares[..., -1:], lambda: tf.ones_like(shares[..., :1]))
    ink = (1.0 - colours) * alpha
    ink.set_shape([None, None, 3])
    return ink


def ink_of_shares(shares: Tensor) -> Tensor:
    """Step 4 for pictures without alpha: [..., h, w, 3] in [0, 1]."""
    return 1.0 - tf.clip_by_value(shares, 0.0, 1.0)


def _decoded(contents: Tensor) -> Tensor:
    """uint8 [h, w, 1 to 4]."""
    # decode_image would take libjpeg's fast, less exact transform. It is asked for the file's own channels: asked for
    # four it gives pictures of one bit an alpha of 1 of 255.
    is_jpeg = tf.equal(tf.strings.substr(contents, 0, 3), b"\xff\xd8\xff")
    decoded = tf.cond(
        is_jpeg,
        lambda: tf.io.decode_jpeg(contents, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_image(contents, channels=0, expand_animations=False),
    )
    decoded.set_shape([None, None, None])
    return decoded


def net_of_ink(ink: Tensor, side: int) -> Tensor:
    """Steps 5 and 6: ink [..., h, w, 3] -> the net's input [..., side, side, 3]."""
    high, wide = _size(ink)
    square = tf.maximum(high, wide)
    rows, columns = _filter(side, square, None, high), _filter(side, square, None, wide)
    fitted = tf.einsum("sh,...hwc->...swc", rows, ink)
    fitted = tf.einsum("tw,...swc->...stc", columns, fitted)
    return net_of_shares(1.0 - fitted)


def shares_of_output(output: Tensor, high: Tensor, wide: Tensor) -> Tensor:
    """Steps 7 and 8: the net's output [..., S, S, 3] -> [..., high, wide, 3] in [0, 1]."""
    side, square = _size(output)[0], tf.maximum(high, wide)
    rows, columns = _filter(square, side, high, None), _filter(square, side, wide, None)
    fitted = tf.einsum("hs,...stc->...htc", rows, shares_of_net(output))
    return tf.einsum("wt,...htc->...hwc", columns, fitted)


def png_of_shares(shares: Tensor) -> Tensor:
    """Steps 9 and 10: [h, w, 3] in [0, 1] -> a PNG file."""
    # level 1: the strongest compression takes ten times as long for a tenth of the size
    return tf.io.encode_png(bytes_of_shares(shares), compression=1)


def _size(picture: Tensor) -> tuple[Tensor, Tensor]:
    shape = tf.shape(picture)
    return shape[-3], shape[-2]


def _filter(out: Tensor | int, into: Tensor | int, rows: Tensor | None, columns: Tensor | None) -> Tensor:
    """R(out, in), or its `rows` or `columns` in the middle: those that meet the sketch, not the white around it."""
    out, into = tf.convert_to_tensor(out), tf.convert_to_tensor(into)
    i = tf.range(out) if rows is None else tf.range(rows) + (out - rows) // 2
    scale = tf.cast(into, tf.float32) / tf.cast(out, tf.float32)
    support = tf.maximum(1.0, scale)
    centre = (tf.cast(i, tf.float32) + 0.5) * scale - 0.5
    weights = _triangle(centre, tf.range(into), support)
    whole = tf.reduce_sum(weights, axis=1, keepdims=True)
    if columns is not None:
        first = (into - columns) // 2
        weights = weights[:, first : first + columns]
    return weights / whole


def _triangle(centre: Tensor, at: Tensor, support: Tensor) -> Tensor:
    return tf.maximum(0.0, 1.0 - tf.abs(tf.cast(at, tf.float32)[None, :] - centre[:, None]) / support)
