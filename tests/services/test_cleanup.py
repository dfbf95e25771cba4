"""The cleanup service, as a process, on a real photograph; and its engines that need no file beside it."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
from PIL import Image, ImageDraw

from services.cleanup.engines import Engine
from services.cleanup.engines.opencv import OpenCVEngine
from services.cleanup.strategies import Plan, erase

OPENCV: dict[str, Engine] = {
    "telea": OpenCVEngine(cv2.INPAINT_TELEA),
    "navier-stokes": OpenCVEngine(cv2.INPAINT_NS),
}
MODELS = [*OPENCV, "micro-lama"]


def saved(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def quiet(_done: int, _total: int) -> None:
    """No progress."""


def boxes(size: tuple[int, int], *holes: tuple[int, int, int, int]) -> Image.Image:
    """A mask that is white in these boxes."""
    mask = Image.new("L", size)
    for hole in holes:
        mask.paste(255, hole)
    return mask


def filled(model: str, image: Image.Image, mask: Image.Image, **plan: Any) -> Any:
    return np.asarray(erase(OPENCV[model], image, mask, Plan(**plan), quiet))


# ── over HTTP ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("model", [*MODELS, "auto", "opencv", "ns", "darkroom-lama"])
def test_what_lies_outside_the_mask_comes_back_bit_for_bit(cleanup: Any, samples: Path, model: str) -> None:
    photo = Image.open(samples / "astronaut.jpg").convert("RGB")
    mask = Image.open(samples / "astronaut-mask.png")
    answer = cleanup.run("cleanup", {"model": model}, {"image": saved(photo), "mask": saved(mask)})
    before, after = np.asarray(photo), np.asarray(answer.picture())
    hole = np.asarray(mask) > 127
    assert (before[~hole] == after[~hole]).all()
    assert (before[hole] != after[hole]).any(axis=-1).mean() > 0.5
    assert answer.done["model"] in MODELS


@pytest.mark.parametrize("strategy", ["auto", "original", "resize", "crop"])
@pytest.mark.parametrize("model", MODELS)
def test_whatever_the_strategy_only_the_hole_changes(
    cleanup: Any, samples: Path, model: str, strategy: str
) -> None:
    photo = Image.open(samples / "astronaut.jpg").convert("RGB").crop((60, 300, 361, 501))
    mask = boxes(photo.size, (90, 60, 130, 110), (200, 20, 206, 190))
    fields = {"model": model, "strategy": strategy, "limit": 128}
    answer = cleanup.run("cleanup", fields, {"image": saved(photo), "mask": saved(mask)}).picture()
    before, after, hole = np.asarray(photo), np.asarray(answer), np.asarray(mask) > 127
    assert (before[~hole] == after[~hole]).all()
    assert (before[hole] != after[hole]).any(axis=-1).mean() > 0.5


@pytest.mark.parametrize("model", MODELS)
def test_the_badge_on_the_suit_becomes_suit(cleanup: Any, samples: Path, model: str) -> None:
    photo = Image.open(samples / "astronaut.jpg").convert("RGB")
    mask = Image.open(samples / "astronaut-mask.png")
    after = cleanup.run("cleanup", {"model": model}, {"image": saved(photo), "mask": saved(mask)}).picture()
    red, _, blue = np.asarray(after)[360:410, 147:197].reshape(-1, 3).mean(axis=0)
    assert red > blue + 80, "the blue badge is still there"


def test_transparency_stays(cleanup: Any) -> None:
    image = Image.new("RGBA", (40, 30), (200, 100, 50, 90))
    mask = boxes(image.size, (10, 10, 20, 20))
    fields = {"model": "telea"}
    after = cleanup.run("cleanup", fields, {"image": saved(image), "mask": saved(mask)}).picture()
    assert after.mode == "RGBA"
    assert after.getchannel("A").getextrema() == (90, 90)
    assert np.abs(np.asarray(after).astype(int) - np.asarray(image)).max() <= 2


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (64, 48)])
def test_a_black_mask_changes_nothing(cleanup: Any, model: str, size: tuple[int, int]) -> None:
    image = Image.effect_noise(size, 60).convert("RGB")
    asked = {"image": saved(image), "mask": saved(Image.new("L", size))}
    assert cleanup.run("cleanup", {"model": model, "grow": 5}, asked).picture().tobytes() == image.tobytes()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (64, 48)])
def test_a_white_mask_is_refused_because_nothing_is_left_to_fill_it_from(
    cleanup: Any, model: str, size: tuple[int, int]
) -> None:
    asked = {"image": saved(Image.new("RGB", size)), "mask": saved(Image.new("L", size, 255))}
    error = cleanup.run("cleanup", {"model": model}, asked).error
    assert (error["status"], error["field"]) == (422, "mask")
    assert "covers the whole image" in error["detail"]


def test_a_mask_that_grows_over_all_of_the_picture_is_refused_at_what_grew_it(cleanup: Any) -> None:
    mask = boxes((60, 40), (5, 5, 55, 35))
    asked = {"image": saved(Image.new("RGB", mask.size)), "mask": saved(mask)}
    error = cleanup.run("cleanup", {"grow": 20}, asked).error
    assert (error["status"], error["field"]) == (422, "grow")


def test_a_mask_of_another_size_is_refused(cleanup: Any) -> None:
    asked = {"image": saved(Image.new("RGB", (40, 30))), "mask": saved(boxes((30, 40), (1, 1, 5, 5)))}
    error = cleanup.run("cleanup", {}, asked).error
    assert (error["status"], error["field"]) == (422, "mask")


def test_what_is_transparent_in_a_mask_is_kept(cleanup: Any) -> None:
    image = Image.effect_noise((40, 30), 60).convert("RGB")
    mask = Image.new("RGBA", image.size, (255, 255, 255, 0))
    mask.paste((255, 255, 255, 255), (10, 10, 14, 14))
    after = cleanup.run("cleanup", {}, {"image": saved(image), "mask": saved(mask)}).picture()
    changed = np.argwhere((np.asarray(after) != np.asarray(image)).any(axis=-1))
    assert changed.min() >= 10
    assert changed.max() < 14


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("size", [(2, 1), (1, 40), (300, 2), (33, 31)])
def test_small_and_narrow_pictures_are_filled(cleanup: Any, model: str, size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (200, 30, 90))
    image.putpixel((0, 0), (0, 255, 0))
    mask = boxes(size, (0, 0, 1, 1))
    after = cleanup.run("cleanup", {"model": model}, {"image": saved(image), "mask": saved(mask)}).picture()
    assert after.size == size
    assert np.abs(np.array(after.getpixel((0, 0))) - (200, 30, 90)).max() < 60


def test_a_model_whose_file_is_not_here_is_named_with_the_command_that_fetches_it(cleanup: Any) -> None:
    asked = {"image": saved(Image.new("RGB", (9, 9))), "mask": saved(boxes((9, 9), (1, 1, 3, 3)))}
    error = cleanup.run("cleanup", {"model": "big-lama"}, asked).error
    assert (error["status"], error["field"]) == (422, "model")
    assert "darkroom models pull lama" in error["help"]


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_of_a_large_photograph_all_but_the_hole_comes_back_and_memory_stays_bounded(
    start_service: Callable[..., Any], samples: Path, model: str
) -> None:
    photo = (
        Image.open(samples / "astronaut.jpg").convert("RGB").resize((4000, 4000), Image.Resampling.LANCZOS)
    )
    mask = boxes(photo.size, (1000, 2800, 1500, 3200), (3000, 100, 3020, 3900))
    with start_service("cleanup", DARKROOM_CAPACITY="1", DARKROOM_THREADS="1") as (caller, process):
        service = psutil.Process(process.pid)
        idle = service.memory_info().rss
        asked = {"image": saved(photo), "mask": saved(mask)}
        after = np.asarray(caller.run("cleanup", {"model": model}, asked, x_darkroom_timeout="110").picture())
        # the picture, its mask and their copies; what the net needs does not grow with the picture
        assert service.memory_info().rss - idle < 700 * 2**20
    before, hole = np.asarray(photo), np.asarray(mask) > 127
    assert (before[~hole] == after[~hole]).all()
    assert (before[hole] != after[hole]).any(axis=-1).mean() > 0.5


# ── the plan ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_grown_mask_takes_the_shadow_along() -> None:
    image = Image.new("RGB", (80, 60), (120, 120, 120))
    image.paste((40, 40, 40), (28, 18, 52, 42))  # the shadow, 2 pixels around the thing
    image.paste((255, 0, 0), (30, 20, 50, 40))
    mask = boxes(image.size, (30, 20, 50, 40))
    assert filled("telea", image, mask)[30, 40, 0] < 110
    assert np.abs(filled("telea", image, mask, grow=4).astype(int) - 120).max() <= 3


def test_feather_goes_over_from_the_picture_to_the_fill() -> None:
    noise = np.random.default_rng(4).integers(0, 256, (100, 120), dtype=np.uint8)
    image = Image.fromarray(noise).convert("RGB")
    mask = boxes(image.size, (50, 40, 70, 60))
    before, after = np.asarray(image).astype(int), filled("telea", image, mask, feather=10).astype(int)
    plain = filled("telea", image, mask, grow=10).astype(int)
    change, whole = np.abs(after - before).mean(axis=-1), np.abs(plain - before).mean(axis=-1)
    shares = [change[42:59, 70 + far].mean() / whole[42:59, 70 + far].mean() for far in (1, 5, 8)]
    assert shares[0] > 0.75 > shares[1] > 0.25 > shares[2]
    assert (after[:29] == before[:29]).all(), "what lies further away is the picture"


def test_at_an_edge_a_crop_looks_further_the_other_way() -> None:
    seen: list[tuple[int, ...]] = []

    class Watching(OpenCVEngine):
        def fill(self, part: Any, hole: Any, check: Any, *, whole: bool = False) -> Any:
            seen.append(part.shape)
            return super().fill(part, hole, check, whole=whole)

    image = Image.effect_noise((500, 400), 20).convert("RGB")
    engine = Watching(cv2.INPAINT_TELEA)
    for box in ((0, 0, 20, 20), (480, 380, 500, 400), (200, 200, 220, 220)):
        erase(engine, image, boxes(image.size, box), Plan("crop", margin=50), quiet)
    assert seen == [(120, 120, 3)] * 3


def test_resize_and_limit_bound_what_the_model_is_shown() -> None:
    seen: list[tuple[int, ...]] = []

    class Watching(OpenCVEngine):
        def fill(self, part: Any, hole: Any, check: Any, *, whole: bool = False) -> Any:
            seen.append(part.shape[:2])
            return super().fill(part, hole, check, whole=whole)

    image, engine = Image.effect_noise((1600, 800), 20).convert("RGB"), Watching(cv2.INPAINT_TELEA)
    mask = boxes(image.size, (100, 100, 700, 700))
    for plan in (Plan("resize"), Plan("resize", limit=300), Plan("crop", limit=256), Plan("original")):
        erase(engine, image, mask, plan, quiet)
    assert seen == [(640, 1280), (150, 300), (220, 256), (800, 1600)]


# ── OpenCV's two ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("model", OPENCV)
def test_a_wire_over_a_gradient_is_gone(model: str) -> None:
    ramp = np.linspace(20, 230, 400, dtype=np.uint8)
    clean = np.repeat(np.repeat(ramp[None, :, None], 300, axis=0), 3, axis=2)
    spoiled = Image.fromarray(clean)
    mask = Image.new("L", spoiled.size)
    for picture, colour in ((spoiled, (0, 0, 0)), (mask, 255)):
        ImageDraw.Draw(picture).line((0, 20, 399, 280), fill=colour, width=7)
    assert np.abs(filled(model, spoiled, mask).astype(int) - clean).max() < 20


def test_each_piece_is_a_step() -> None:
    mask = boxes((600, 200), *((left, 90, left + 5, 95) for left in (50, 250, 450)))
    steps: list[tuple[int, int]] = []
    image = Image.new("RGB", mask.size)
    erase(OPENCV["telea"], image, mask, Plan(), lambda done, total: steps.append((done, total)))
    assert steps[0] == (0, 3)
    assert steps[-1] == (3, 3)
    assert steps == sorted(steps)


def test_dust_of_a_million_specks_does_not_take_minutes() -> None:
    chance = np.random.default_rng(0)
    image = Image.fromarray(chance.integers(0, 256, (1200, 1200, 3), dtype=np.uint8))
    mask = Image.fromarray(np.where(chance.random((1200, 1200)) < 0.2, 255, 0).astype(np.uint8))
    started = time.process_time()
    after = filled("telea", image, mask)
    assert time.process_time() - started < 8
    outside = np.asarray(mask) == 0
    assert (after[outside] == np.asarray(image)[outside]).all()


def test_a_wide_hole_takes_its_surroundings_colour() -> None:
    image = Image.new("RGB", (900, 700), (90, 140, 60))
    mask = boxes(image.size, (200, 100, 700, 600))
    image.paste((255, 0, 0), (200, 100, 700, 600))
    inside = filled("telea", image, mask).astype(int)[110:590, 210:690]
    assert np.abs(inside - (90, 140, 60)).max() < 40


@pytest.mark.parametrize("model", OPENCV)
def test_a_scratch_across_twelve_megapixels_is_quick(model: str) -> None:
    image = Image.effect_noise((4000, 3000), 20).convert("RGB")
    mask = Image.new("L", image.size)
    ImageDraw.Draw(mask).line((100, 100, 3900, 2900), fill=255, width=8)
    started = time.process_time()
    filled(model, image, mask)
    assert time.process_time() - started < 4
