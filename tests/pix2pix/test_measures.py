"""Measures: held against scikit-image, and in the order that eyes would give."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from PIL import ImageFilter

from tf_serving.pix2pix import creatures
from tf_serving.pix2pix.measures import NAMES, mean, measure


def shares(pictures: list) -> tf.Tensor:  # type: ignore[type-arg]
    return tf.constant(np.stack([np.asarray(one) for one in pictures]) / 255, tf.float32)


@pytest.fixture(scope="module")
def true() -> list:  # type: ignore[type-arg]
    return [creatures.picture(creatures.creature(seed), 64) for seed in range(4)]


def test_what_is_equal_has_no_distance(true: list) -> None:  # type: ignore[type-arg]
    seen = mean([measure(shares(true), shares(true))])
    assert (seen.l1, seen.inside, seen.pictures) == (0, 0, 4)
    assert seen.ssim == pytest.approx(1) and seen.features == pytest.approx(0, abs=1e-6)


def test_ssim_is_scikit_images(true: list) -> None:  # type: ignore[type-arg]
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    soft = [one.filter(ImageFilter.GaussianBlur(2)) for one in true]
    ours = measure(shares(soft), shares(true))[2].numpy()
    for one, other, value in zip(shares(soft).numpy(), shares(true).numpy(), ours, strict=True):
        _, full = metrics.structural_similarity(
            one, other, channel_axis=-1, data_range=1.0, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False, full=True,
        )  # fmt: skip
        # TensorFlow leaves out the rim, where the window of 11 does not fit
        assert value == pytest.approx(float(full[5:-5, 5:-5].mean()), abs=0.002)


def test_worse_pictures_are_farther_by_every_measure(true: list) -> None:  # type: ignore[type-arg]
    soft = [one.filter(ImageFilter.GaussianBlur(1)) for one in true]
    softer = [one.filter(ImageFilter.GaussianBlur(3)) for one in true]
    near, far = (mean([measure(shares(one), shares(true))]) for one in (soft, softer))
    assert (
        near.l1 < far.l1
        and near.inside < far.inside
        and near.features < far.features
        and near.ssim > far.ssim
    )


def test_a_wrong_colour_shows_inside_where_paper_hides_it(true: list) -> None:  # type: ignore[type-arg]
    wrong = [creatures.picture(creatures.creature(seed, "shade"), 64) for seed in range(4)]
    seen = mean([measure(shares(wrong), shares(true))])
    assert seen.inside > 1.5 * seen.l1


def test_means_are_over_pictures_and_not_over_batches(true: list) -> None:  # type: ignore[type-arg]
    blank = tf.ones([4, 64, 64, 3])
    whole = mean([measure(blank, shares(true))])
    parts = mean([measure(blank[:3], shares(true)[:3]), measure(blank[3:], shares(true)[3:])])
    for name in NAMES:
        assert getattr(whole, name) == pytest.approx(getattr(parts, name), rel=1e-5)
