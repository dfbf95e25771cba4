"""Makes the two nets beside it, of one convolution each, with TensorFlow: `python
tests/tf_serving/nets/make.py`.

They map [N, 16, 16, 3] in [-1, 1] to the same, as a Pix2Pix net does, and so simply that a test can say what
comes out: `swap` keeps red, turns green around and halves blue; `same` gives what it gets.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

SIDE = 16
WEIGHTS = {"swap": (1.0, -1.0, 0.5), "same": (1.0, 1.0, 1.0)}
HERE = Path(__file__).parent


def net(name: str) -> tf.keras.Model:
    made = tf.keras.Sequential(
        [tf.keras.Input((SIDE, SIDE, 3)), tf.keras.layers.Conv2D(3, 1, use_bias=False, name="mix")]
    )
    made.get_layer("mix").set_weights([np.diag(WEIGHTS[name]).astype(np.float32).reshape(1, 1, 3, 3)])
    return made


if __name__ == "__main__":
    for name in WEIGHTS:
        (HERE / f"{name}.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(net(name)).convert())
