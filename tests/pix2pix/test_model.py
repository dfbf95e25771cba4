"""The nets: the paper's size, the small one's, and what they promise when they are served."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tf_serving.pix2pix import model
from tf_serving.pix2pix.errors import ShapeError

TINY = model.Shape(side=32, width=4, depth=3, judge_width=4, judge_depth=1)


def noise(count: int, side: int = 32, seed: int = 0) -> tf.Tensor:
    return tf.random.stateless_uniform([count, side, side, 3], [seed, 1], -1, 1)


def test_the_papers_generator_has_54_million_parameters_and_ends_in_one_pixel() -> None:
    made = model.generator(model.PAPER)
    assert round(model.parameters(made) / 1e6, 1) == 54.4
    assert made.input_shape == made.output_shape == (None, 256, 256, 3)
    assert (None, 1, 1, 512) in [layer.output.shape for layer in made.layers]


def test_the_papers_discriminator_judges_patches_of_70_pixels() -> None:
    judge = model.discriminator(model.PAPER)
    assert judge.output_shape == (None, 30, 30, 1)
    reach = 1
    for layer in reversed([one for one in judge.layers if "conv2d" in one.name or one.name == "patches"]):
        reach = (reach - 1) * layer.strides[0] + layer.kernel_size[0]
    assert reach == 70


def test_the_small_model_is_small() -> None:
    assert model.parameters(model.generator(model.Shape())) < 1.5e6


@pytest.mark.parametrize("upsampling", model.UPSAMPLINGS)
@pytest.mark.parametrize("norm", model.NORMS)
def test_all_forms_give_pictures_in_the_nets_range(upsampling: str, norm: str) -> None:
    made = model.generator(replace(TINY, upsampling=upsampling, norm=norm))(noise(2))
    assert made.shape == (2, 32, 32, 3)
    assert float(tf.reduce_max(tf.abs(made))) <= 1
    assert float(tf.math.reduce_std(made)) > 0


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_a_served_picture_does_not_depend_on_its_neighbours(norm: str) -> None:
    net = model.generator(replace(TINY, norm=norm, dropout=0.5))
    for step in range(3):
        net(noise(4, seed=step), training=True)  # moves the averages of batch normalisation
    sketches = noise(3, seed=9)
    together = net(sketches, training=False)
    for i in range(3):
        assert np.allclose(together[i], net(sketches[i : i + 1], training=False)[0], atol=1e-5)
    assert np.array_equal(together, net(sketches, training=False)), "dropout is off"


def test_instance_statistics_are_of_each_picture_and_channel() -> None:
    values = model.InstanceNormalization()(5 + 3 * noise(2))
    assert np.allclose(tf.reduce_mean(values, (1, 2)), 0, atol=1e-5)
    assert np.allclose(tf.math.reduce_std(values, (1, 2)), 1, atol=1e-3)


def test_shapes_that_cannot_be_are_refused_with_what_to_do() -> None:
    with pytest.raises(ShapeError, match="divides"):
        model.Shape(side=100)
    with pytest.raises(ShapeError, match="instance, batch, none"):
        model.Shape(norm="layer")
    with pytest.raises(ShapeError, match="transpose"):
        model.Shape(upsampling="bicubic")
    with pytest.raises(ShapeError, match="discriminator"):
        model.Shape(side=16, depth=2, judge_depth=3)
