"""Soft edges: masks enlarged along the picture's own edges, the subject's own colours, and matting of hair."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from services.rmbg.foreground import pure
from services.rmbg.matting import matted, trimap
from services.rmbg.micro.scenes import UNSEEN, scene
from services.rmbg.refine import enlarged, guided_filter, piece, tiles


def never() -> None:
    """Nobody stops it."""


@pytest.fixture(scope="module")
def disc() -> tuple[np.ndarray, np.ndarray]:
    """A red disc on green, large, with the true alpha."""
    y, x = np.mgrid[0:700, 0:900].astype(np.float32)
    alpha = np.clip(240 - np.hypot(x - 450, y - 350) + 0.5, 0, 1)
    red, green = np.array([200, 40, 40], np.float32), np.array([40, 160, 60], np.float32)
    return (alpha[..., None] * red + (1 - alpha[..., None]) * green).astype(np.uint8), alpha


def error(mask: np.ndarray, alpha: np.ndarray) -> float:
    return float(np.abs(mask / 255 - alpha).mean())


@pytest.mark.parametrize("side", [64, 128, 256])
def test_an_enlarged_mask_follows_the_pictures_edges_better_than_a_plain_one(side: int, disc: object) -> None:
    picture, alpha = disc  # type: ignore[misc]
    small = cv2.resize(alpha, (side, side), interpolation=cv2.INTER_AREA)
    plain = np.round(cv2.resize(small, (900, 700), interpolation=cv2.INTER_LINEAR) * 255)
    fine = enlarged(picture, small)
    assert error(fine, alpha) < 0.6 * error(plain, alpha)


def test_texture_does_not_shine_through_where_the_mask_is_sure() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    small = np.zeros((64, 64), np.float32)
    small[20:44, 20:44] = 1
    mask = enlarged(picture, small)
    assert (mask[160:240, 160:240] == 255).all()
    assert (mask[:90] == 0).all()


def test_a_mask_that_is_large_enough_is_only_resized(disc: object) -> None:
    picture, alpha = disc  # type: ignore[misc]
    same = enlarged(picture, alpha)
    np.testing.assert_array_equal(same, np.round(alpha * 255).astype(np.uint8))
    large = cv2.resize(alpha, (1800, 1400), interpolation=cv2.INTER_LINEAR)
    assert error(enlarged(picture, large), alpha) < 0.002


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (700, 3), (9, 3000), (257, 256)])
def test_pictures_of_every_shape_get_a_mask_of_their_size(shape: tuple[int, int]) -> None:
    picture = np.full((*shape, 3), 90, np.uint8)
    small = np.random.default_rng(1).random((16, 16), dtype=np.float32)
    assert enlarged(picture, small).shape == shape


def test_tiles_join_without_a_seam() -> None:
    small = np.random.default_rng(2).random((40, 50, 2), dtype=np.float32)
    whole = np.zeros((600, 700, 2), np.float32)
    for window in tiles(600, 700):
        whole[window] = piece(small, window, (600, 700))
    np.testing.assert_allclose(
        whole, cv2.resize(small, (700, 600), interpolation=cv2.INTER_LINEAR), atol=0.04
    )


def test_a_guide_without_edges_leaves_the_mask_soft() -> None:
    flat = np.full((40, 40, 3), 0.5, np.float32)
    step = np.zeros((40, 40), np.float32)
    step[:, 20:] = 1
    smooth = guided_filter(flat, step, 4, 1e-4)
    assert 0.3 < smooth[20, 19] < 0.7


# ── the subject's own colours ───────────────────────────────────────────────────────────────────────────────────────


def test_soft_edges_lose_the_old_backgrounds_colour_and_the_rest_is_untouched(disc: object) -> None:
    _, alpha = disc  # type: ignore[misc]
    soft = cv2.GaussianBlur(alpha, (0, 0), 8)  # a veil of some width
    red, green = np.array([200, 40, 40]), np.array([40, 160, 60])
    seen = (soft[..., None] * red + (1 - soft[..., None]) * green).astype(np.uint8)
    mask = np.round(soft * 255).astype(np.uint8)
    out = pure(seen, mask)
    edge = (mask > 40) & (mask < 215)
    before, after = (np.abs(one[edge].astype(int) - red).mean() for one in (seen, out))
    assert before > 40
    assert after < before / 5
    sure = (mask == 0) | (mask == 255)
    np.testing.assert_array_equal(out[sure], seen[sure])


def test_a_mask_without_soft_edges_leaves_the_picture_as_it_is() -> None:
    picture = np.random.default_rng(3).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    mask = np.zeros((30, 40), np.uint8)
    mask[:, 20:] = 255
    assert pure(picture, mask) is picture


@pytest.mark.parametrize("level", [1, 128, 254])
def test_a_mask_that_is_soft_all_over_gives_some_picture(level: int) -> None:
    picture = np.random.default_rng(4).integers(0, 256, (1, 9, 3), dtype=np.uint8)
    assert pure(picture, np.full((1, 9), level, np.uint8)).shape == (1, 9, 3)


# ── matting ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def hairy() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An animal with fur, its true alpha, and a mask that knows nothing of the fur."""
    picture, alpha = scene(UNSEEN + 3, 256, "animal")
    body = cv2.morphologyEx((alpha > 0.5).astype(np.float32), cv2.MORPH_OPEN, np.ones((7, 7)))
    return picture, alpha, (cv2.GaussianBlur(body, (0, 0), 1.5) * 255).astype(np.uint8)


@pytest.mark.slow  # pymatting compiles itself when it is first imported
def test_matting_brings_back_the_hair_that_a_mask_left_out() -> None:
    picture, alpha, rough = hairy()
    fine, colours = matted(picture, rough, never)
    assert fine.shape == rough.shape
    assert colours is not None
    reach = cv2.dilate((rough > 12).astype(np.uint8), np.ones((7, 7))) > 0
    hair = (rough < 60) & (alpha > 0.5) & reach
    bare = (alpha < 0.02) & reach
    assert hair.sum() > 200
    assert fine[hair].mean() > 2 * rough[hair].mean()
    assert fine[hair].mean() > 2 * fine[bare].mean()


@pytest.mark.slow
def test_several_mattings_at_once_give_what_each_gives_alone() -> None:
    picture, _, rough = hairy()
    alone, _ = matted(picture, rough, never)
    with ThreadPoolExecutor(4) as pool:
        for fine, colours in pool.map(lambda _: matted(picture, rough, never), range(8)):
            np.testing.assert_array_equal(fine, alone)
            assert colours is not None


@pytest.mark.slow
def test_matting_stops_when_nobody_waits_for_it() -> None:
    picture, _, rough = hairy()
    asked = [0]

    def gone() -> None:
        asked[0] += 1
        if asked[0] > 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        matted(picture, rough, gone)


@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize("shape", [(1, 1), (3, 400), (60, 60)])
def test_matting_leaves_a_mask_without_an_edge_as_it_is(level: int, shape: tuple[int, int]) -> None:
    mask = np.full(shape, level, np.uint8)
    fine, colours = matted(np.zeros((*shape, 3), np.uint8), mask, never)
    np.testing.assert_array_equal(fine, mask)
    assert colours is None


def test_what_is_to_be_decided_lies_along_the_edge_and_more_outside_than_inside() -> None:
    rough = np.zeros((200, 200), np.float32)
    rough[50:150, 50:150] = 1
    marks = trimap(rough)
    open_ = marks == 0.5
    assert (marks[100, 100], marks[10, 10]) == (1, 0)
    assert open_[100, 40:50].sum() > open_[100, 50:60].sum() > 0
