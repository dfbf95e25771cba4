"""The rmbg service, as a process, on real photographs; and what its engine makes of pictures that are none."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from services.pictures import Picture
from services.rmbg.compose import colour, on, trim_box
from services.rmbg.engines import engines
from services.rmbg.refine import guided_filter
from services.rmbg.saliency import barrier_distance


def saved(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def quiet(_done: int, _total: int) -> None:
    """No progress."""


@pytest.fixture(scope="module")
def astronaut(rmbg: Any, samples: Path) -> Any:
    """The mask of the astronaut."""
    data = (samples / "astronaut.jpg").read_bytes()
    return np.asarray(rmbg.run("remove-background", {"output": "mask"}, {"image": data}).picture())


@pytest.mark.parametrize(
    ("part", "box"),
    [("face", (200, 80, 245, 150)), ("hair", (190, 25, 250, 50)), ("chest", (150, 250, 260, 400))],
)
def test_a_person_is_kept(astronaut: Any, part: str, box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    assert astronaut[top:bottom, left:right].mean() > 240, part


@pytest.mark.parametrize(
    ("part", "box"),
    [("wall", (300, 10, 350, 150)), ("flag", (0, 0, 60, 200)), ("shuttle", (390, 30, 430, 200))],
)
def test_what_is_behind_a_person_goes(astronaut: Any, part: str, box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    assert astronaut[top:bottom, left:right].mean() < 15, part


def test_the_edge_is_soft(astronaut: Any) -> None:
    between = (astronaut > 20) & (astronaut < 235)
    assert 0.001 < between.mean() < 0.08


def test_a_thing_on_a_table_is_found_without_a_face(rmbg: Any, samples: Path) -> None:
    data = (samples / "coffee.jpg").read_bytes()
    mask = np.asarray(rmbg.run("remove-background", {"output": "mask"}, {"image": data}).picture())
    assert mask[60:120, 200:380].mean() > 240, "the cup"
    assert mask[280:320, 150:300].mean() > 230, "the saucer"
    assert mask[:100, :60].mean() < 15, "the table"
    assert mask[300:, 520:].mean() < 15, "the table"


def test_a_cutout_keeps_the_subjects_colours(rmbg: Any, samples: Path) -> None:
    data = (samples / "astronaut.jpg").read_bytes()
    photo = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    cut = np.asarray(rmbg.run("remove-background", {}, {"image": data}).picture())
    assert cut.shape == (512, 512, 4)
    solid = cut[..., 3] == 255
    assert (cut[solid][:, :3] == photo[solid]).all()


def test_nothing_of_the_background_is_left_where_the_cutout_is_transparent(rmbg: Any, samples: Path) -> None:
    data = (samples / "astronaut.jpg").read_bytes()
    cut = np.asarray(rmbg.run("remove-background", {}, {"image": data}).picture())
    assert (cut[..., 3] == 0).mean() > 0.2
    assert not cut[cut[..., 3] == 0].any()


@pytest.mark.slow  # pymatting compiles itself when it is first asked for
def test_matting_decides_the_edge_anew_and_keeps_the_subject(
    rmbg: Any, samples: Path, astronaut: Any
) -> None:
    data = (samples / "astronaut.jpg").read_bytes()
    fine = np.asarray(
        rmbg.run("remove-background", {"output": "mask", "matting": True}, {"image": data}).picture()
    )
    assert fine.shape == astronaut.shape
    assert fine[80:150, 200:245].mean() > 240, "the face"
    assert fine[10:150, 300:350].mean() < 15, "the wall"
    assert (fine != astronaut).mean() > 0.001


def test_soft_edges_do_not_carry_the_old_background(rmbg: Any) -> None:
    y, x = np.mgrid[0:300, 0:300].astype(np.float32)
    alpha = np.clip((100 - np.hypot(x - 150, y - 150)) / 5 + 0.5, 0, 1)[..., None]
    blue, yellow = np.array([20, 30, 200]), np.array([235, 225, 40])
    seen = Image.fromarray((alpha * blue + (1 - alpha) * yellow).astype(np.uint8))
    cut = np.asarray(
        rmbg.run("remove-background", {"model": "grabcut"}, {"image": saved(seen)}).picture()
    ).astype(int)
    soft = (cut[..., 3] > 60) & (cut[..., 3] < 200)
    assert soft.any()
    before = np.abs(np.asarray(seen).astype(int)[soft] - blue).mean()
    assert np.abs(cut[soft][:, :3] - blue).mean() < max(12, 0.5 * before)


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (5000, 2), (40, 30)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
@pytest.mark.parametrize(
    "fields", [{"output": "mask"}, {"trim": True}, {"background": "#123456", "matting": True}]
)
def test_the_shipped_net_takes_pictures_of_every_shape_and_mode(
    rmbg: Any, size: tuple[int, int], mode: str, fields: dict[str, Any]
) -> None:
    image = saved(Image.new(mode, size, 3))
    answer = rmbg.run("remove-background", fields | {"model": "micro-matte"}, {"image": image})
    assert answer.error.get("status") is None, answer.error
    if "trim" not in fields:
        assert answer.picture().size == size


def test_the_service_says_which_models_it_has_and_under_which_licence(rmbg: Any) -> None:
    told = {one["name"]: one for one in rmbg.describe()["models"]}
    assert told["grabcut"]["loaded"] and told["micro-matte"]["loaded"]
    assert "non-commercial" in told["rmbg-1.4"]["licence"]
    refused = rmbg.run(
        "remove-background", {"model": "bria-rmbg"}, {"image": saved(Image.new("RGB", (9, 9)))}
    )
    assert refused.error["status"] == 422
    assert "darkroom models pull rmbg-2.0" in refused.error["help"]


def test_the_same_picture_gives_the_same_mask(rmbg: Any, samples: Path) -> None:
    data = (samples / "coffee.jpg").read_bytes()
    first, second = (rmbg.run("remove-background", {}, {"image": data}).frames[-2][1] for _ in range(2))
    assert first == second


def test_trim_crops_to_the_subject(rmbg: Any, samples: Path) -> None:
    data = (samples / "coffee.jpg").read_bytes()
    cut = rmbg.run("remove-background", {"trim": True}, {"image": data}).picture()
    whole = Image.open(io.BytesIO(data)).size
    assert cut.size < whole
    alpha = np.asarray(cut.getchannel("A"))
    assert min(alpha[0].max(), alpha[-1].max(), alpha[:, 0].max(), alpha[:, -1].max()) > 0


def test_a_colour_lies_behind_the_subject(rmbg: Any, samples: Path) -> None:
    data = (samples / "astronaut.jpg").read_bytes()
    answer = rmbg.run(
        "remove-background", {"background": "#00ff00", "format": "png"}, {"image": data}
    ).picture()
    assert (answer.mode, answer.getpixel((330, 50))) == ("RGB", (0, 255, 0))


def test_a_picture_behind_the_subject_covers_the_frame(rmbg: Any, samples: Path) -> None:
    data = (samples / "astronaut.jpg").read_bytes()
    behind = saved(Image.new("RGB", (30, 200), (1, 2, 250)))
    answer = rmbg.run("remove-background", {}, {"image": data, "background": behind}).picture()
    assert answer.size == (512, 512)
    assert answer.getpixel((330, 50)) == (1, 2, 250)


@pytest.mark.parametrize("output", ["cutout", "mask"])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (2000, 1), (3, 3), (7, 9), (100, 100)])
@pytest.mark.parametrize("shade", [0, 128, 255])
def test_a_picture_of_one_surface_is_all_subject(
    rmbg: Any, output: str, size: tuple[int, int], shade: int
) -> None:
    image = saved(Image.new("RGB", size, (shade,) * 3))
    answer = rmbg.run("remove-background", {"output": output, "trim": True}, {"image": image})
    assert answer.picture().size == size


@pytest.mark.parametrize("seed", range(4))
def test_noise_and_stripes_get_some_answer(seed: int) -> None:
    chance = np.random.default_rng(seed)
    noise = chance.integers(0, 256, (60, 90, 3), dtype=np.uint8)
    stripes = np.repeat(chance.integers(0, 256, (1, 90, 3), dtype=np.uint8), 60, axis=0)
    for pixels in (noise, stripes):
        mask = engines()["grabcut"].mask(Image.fromarray(pixels), quiet)
        assert (mask.mode, mask.size) == ("L", (90, 60))


def test_a_picture_that_is_transparent_already_stays_so(rmbg: Any) -> None:
    image = Image.new("RGBA", (50, 40), (200, 30, 30, 0))
    answer = rmbg.run("remove-background", {"trim": True}, {"image": saved(image)}).picture()
    assert answer.size == (50, 40)
    assert answer.getchannel("A").getextrema() == (0, 0)


def test_a_disc_on_plain_ground_is_cut_exactly() -> None:
    image = Image.new("RGB", (300, 240), (230, 230, 225))
    y, x = np.mgrid[0:240, 0:300]
    disc = np.hypot(x - 150, y - 120) < 70
    pixels = np.array(image)
    pixels[disc] = (180, 40, 40)
    mask = np.asarray(engines()["grabcut"].mask(Image.fromarray(pixels), quiet)) > 127
    assert (mask & disc).sum() / (mask | disc).sum() > 0.97


def test_a_large_photograph_takes_about_two_seconds_of_one_core(samples: Path) -> None:
    photo = Image.open(samples / "astronaut.jpg").convert("RGB").resize((4000, 3000))
    started = time.process_time()
    mask = engines()["grabcut"].mask(photo, quiet)
    assert mask.size == (4000, 3000)
    assert time.process_time() - started < 4


def test_the_barrier_is_the_step_that_every_path_must_take() -> None:
    field = np.zeros((9, 9), np.float32)
    field[3:6, 3:6] = 10  # a plateau, reached only over a step of ten
    found = barrier_distance(field[None])[0]
    assert found[4, 4] == 10
    assert found[1, 1] == 0


def test_the_guided_filter_follows_the_guides_edge() -> None:
    guide = np.zeros((40, 40, 3), np.float32)
    guide[:, 20:] = 1
    rough = np.zeros((40, 40), np.float32)
    rough[:, 17:] = 1  # three pixels off
    smooth = guided_filter(guide, rough, 6, 1e-4)
    assert smooth[20, 21] > 0.9
    assert smooth[20, 10] < 0.35


@pytest.mark.parametrize(
    ("name", "rgba"),
    [
        ("#fff", (255, 255, 255, 255)),
        ("#01020304", (1, 2, 3, 4)),
        ("red", (255, 0, 0, 255)),
        ("transparent", (0, 0, 0, 0)),
    ],
)
def test_colours_are_read(name: str, rgba: tuple[int, int, int, int]) -> None:
    assert colour(name) == rgba


def test_a_see_through_background_stays_see_through() -> None:
    subject = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert on(subject, "#ff000080").getpixel((0, 0)) == (255, 0, 0, 128)
    assert on(subject, Picture(pixels=Image.new("RGB", (1, 1), (5, 6, 7)))).getpixel((3, 3)) == (5, 6, 7)


@pytest.mark.slow
def test_every_hostile_picture_gets_4xx_or_a_picture_and_memory_stays_bounded(
    start_service: Callable[..., Any], hostile_pictures: list[Any]
) -> None:
    with start_service("rmbg", DARKROOM_CAPACITY="1", DARKROOM_MAX_PIXELS="4000000") as (caller, process):
        service = psutil.Process(process.pid)
        idle = service.memory_info().rss
        for one in hostile_pictures:
            answer = caller.run("remove-background", {"output": "mask"}, {"image": one.data})
            if answer.error:
                assert 400 <= answer.error["status"] < 500, f"{one.name}: {answer.error}"
                assert one.expect != "picture" or one.size == (7000, 7000), f"{one.name}: {answer.error}"
            else:
                assert one.expect != "refused", one.name
                assert one.size is None or answer.picture().size == one.size, one.name
        assert service.memory_info().rss - idle < 200 * 2**20


def test_nothing_to_see_has_no_box() -> None:
    assert trim_box(Image.new("L", (5, 5), 3)) is None
