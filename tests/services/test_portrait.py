"""The portrait service, as a process, on a real photograph: sizes, sheets, backdrops, and no face or several."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

BACKDROP = (0xE8, 0xE4, 0xDC)


def saved(image: Image.Image, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


@pytest.fixture(scope="module")
def portrait(start_service: Callable[..., Any]) -> Iterator[Any]:
    with start_service("portrait", DARKROOM_CAPACITY="2") as (caller, _):
        yield caller


@pytest.fixture(scope="module")
def photo(samples: Path) -> Image.Image:
    """The astronaut: her chin lies at y = 177, her hair's top at 16, her eyes at (202, 100) and (246, 102)."""
    return Image.open(samples / "astronaut.jpg").convert("RGB")


@pytest.fixture(scope="module")
def astronaut(samples: Path) -> bytes:
    return (samples / "astronaut.jpg").read_bytes()


def test_an_avatar_is_square_and_its_ground_is_the_colour_that_was_asked_for(
    portrait: Any, astronaut: bytes
) -> None:
    image = portrait.run("portrait", {"backdrop": "#204060"}, {"image": astronaut}).picture()
    assert (image.size, image.mode) == ((512, 512), "RGB")
    for corner in ((0, 0), (511, 0), (30, 30), (480, 200)):
        assert image.getpixel(corner) == (0x20, 0x40, 0x60)
    red, green, blue = image.getpixel((256, 290))
    assert red > green > blue, "there is skin in the middle"


@pytest.mark.parametrize(
    ("size", "dpi", "pixels"),
    [
        ("passport", 300, (413, 531)),
        ("passport", 600, (827, 1063)),
        ("id-card", 300, (354, 472)),
        ("student-card", 300, (295, 354)),
    ],
)
def test_a_card_has_its_millimetres_in_pixels(
    portrait: Any, astronaut: bytes, size: str, dpi: int, pixels: tuple[int, int]
) -> None:
    fields = {"size": size, "dpi": dpi, "cutter": "none"}
    image = portrait.run("portrait", fields, {"image": astronaut}).picture()
    assert image.size == pixels
    assert image.info["dpi"][0] == pytest.approx(dpi, abs=0.1)


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_the_file_says_its_dpi(portrait: Any, astronaut: bytes, kind: str) -> None:
    fields = {"dpi": 240, "format": kind, "cutter": "none"}
    image = portrait.run("portrait", fields, {"image": astronaut}).picture()
    assert tuple(round(value) for value in image.info["dpi"]) == (240, 240)


def test_the_head_fills_as_much_of_a_passport_as_icao_says(portrait: Any, astronaut: bytes) -> None:
    fields = {"size": "passport", "level": False, "backdrop": "#00ff00"}
    answer = portrait.run("portrait", fields, {"image": astronaut})
    pixels = np.asarray(answer.picture()).astype(int)
    ground = (pixels[..., 1] > 200) & (pixels[..., 0] < 90) & (pixels[..., 2] < 90)
    top = int(np.flatnonzero(~ground[:, 120:290].all(axis=1))[0])
    # her chin is 75 pixels below her eyes, which are 44 apart; in the answer the scale is the head's
    scale = answer.done["data"]["head"] * 531 / ((1.78 + 1.75) * 43.7)
    eyes = 0.11 * 531 + 1.78 * 43.7 * scale
    chin = eyes + 75.5 * scale
    assert 0.7 <= (chin - top) / 531 <= 0.8
    assert 0.7 <= answer.done["data"]["head"] <= 0.8
    assert top > 0.01 * 531, "there is room above the hair"


def test_what_is_told_beside_the_picture_says_how_it_was_made(portrait: Any, astronaut: bytes) -> None:
    answer = portrait.run("portrait", {"cutter": "none"}, {"image": astronaut})
    told = answer.done["data"]
    assert told["model"] == "haar"
    assert abs(told["face"]["left"] + told["face"]["width"] / 2 - 224) < 6
    assert told["turned"] == pytest.approx(-3.2, abs=1)
    assert "progress" in answer.kinds()


def test_a_cut_without_a_ground_is_see_through(portrait: Any, astronaut: bytes) -> None:
    image = portrait.run("portrait", {"backdrop": "transparent"}, {"image": astronaut}).picture()
    assert image.mode == "RGBA"
    assert image.getpixel((5, 5))[3] == 0
    assert image.getpixel((256, 290))[3] == 255


def test_a_gradient_runs_from_one_colour_to_the_other(portrait: Any, astronaut: bytes) -> None:
    fields = {"backdrop": "#ffffff", "backdrop_to": "#000000", "gradient": "linear"}
    image = np.asarray(portrait.run("portrait", fields, {"image": astronaut}).picture()).astype(int)
    assert image[2, 2].min() > 245
    column = image[:300, 3].mean(axis=1)
    assert (np.diff(column[::20]) < 0).all(), "darker and darker"


def test_a_sheet_holds_as_many_as_fit_with_their_dpi(portrait: Any, astronaut: bytes) -> None:
    fields = {"size": "passport", "sheet": "10x15", "cutter": "none", "backdrop": "#e8e4dc"}
    sheet = portrait.run("portrait", fields, {"image": astronaut}).picture()
    assert sorted(sheet.size) == [1181, 1772]
    assert round(sheet.info["dpi"][0]) == 300
    one = portrait.run("portrait", {"size": "passport", "cutter": "none"}, {"image": astronaut}).picture()
    assert copies_on(sheet, one) == 8


def copies_on(sheet: Image.Image, one: Image.Image) -> int:
    """How often the very picture lies on the sheet."""
    paper, tile = np.asarray(sheet.convert("RGB")), np.asarray(one.convert("RGB"))
    high, wide = tile.shape[:2]
    match = (paper[: paper.shape[0] - high + 1, : paper.shape[1] - wide + 1] == tile[0, 0]).all(axis=2)
    return sum(
        (paper[y : y + high, x : x + wide] == tile).all() for y, x in zip(*np.nonzero(match), strict=True)
    )


def test_fewer_copies_than_fit_can_be_asked_for(portrait: Any, astronaut: bytes) -> None:
    fields = {"size": "id-card", "sheet": "a4", "copies": 5, "dpi": 100, "cutter": "none"}
    sheet = portrait.run("portrait", fields, {"image": astronaut}).picture()
    one = portrait.run("portrait", {"size": "id-card", "dpi": 100, "cutter": "none"}, {"image": astronaut})
    assert copies_on(sheet, one.picture()) == 5


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"sheet": "a4", "dpi": 601}, "dpi"),
        ({"copies": 2}, "copies"),
        ({"sheet": "10x15", "copies": 100, "size": "passport"}, "copies"),
        ({"sheet": "10x15", "side": 4096, "dpi": 300}, "side"),
        ({"size": "passport", "side": 600}, "side"),
        ({"cutter": "nobody"}, "cutter"),
        ({"cutter": "none", "backdrop_to": "white"}, "backdrop_to"),
        ({"style_lora": "ink"}, "style_lora"),
        ({"face": 3}, "face"),
        ({"tone": 1.5}, "tone"),
        ({"exposure": 9}, "exposure"),
        ({"smooth": 2}, "smooth"),
    ],
)
def test_what_cannot_be_is_refused_at_its_field(
    portrait: Any, astronaut: bytes, fields: dict[str, Any], field: str
) -> None:
    error = portrait.run("portrait", fields, {"image": astronaut}).error
    assert error["status"] == 422
    assert str(error.get("field") or error["errors"][0]["field"]).startswith(field)


def test_no_face_is_refused_with_what_to_send(portrait: Any, samples: Path) -> None:
    error = portrait.run("portrait", {}, {"image": (samples / "coffee.jpg").read_bytes()}).error
    assert (error["status"], error["field"], error["faces"]) == (422, "image", [])
    assert "No face" in error["detail"]
    assert "one face" in error["help"]


def test_two_faces_are_refused_with_where_they_are_and_can_be_chosen(
    portrait: Any, photo: Image.Image
) -> None:
    both = Image.new("RGB", (1024, 512), (200, 200, 205))
    both.paste(photo, (0, 0))
    larger = photo.crop((60, 0, 400, 340)).resize((512, 512), Image.Resampling.LANCZOS)
    both.paste(larger, (512, 0))
    data = saved(both)
    error = portrait.run("portrait", {}, {"image": data}).error
    assert (error["status"], error["field"]) == (422, "image")
    assert "2 faces" in error["detail"]
    left, right = error["faces"]
    assert left["left"] < 512 < right["left"]
    assert "face" in error["help"]
    for chosen, at in ((0, left), (1, right), ("largest", right)):
        answer = portrait.run("portrait", {"face": chosen, "cutter": "none"}, {"image": data})
        assert answer.done["data"]["face"] == at


def test_a_face_that_is_too_small_is_refused_with_its_size(portrait: Any, photo: Image.Image) -> None:
    small = photo.resize((150, 150), Image.Resampling.LANCZOS)
    wide = Image.new("RGB", (400, 300), (120, 130, 140))
    wide.paste(small, (100, 80))
    error = portrait.run("portrait", {}, {"image": saved(wide)}).error
    assert (error["status"], error["field"]) == (422, "image")
    assert "too small" in error["detail"]
    assert len(error["faces"]) == 1


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (40, 2), (64, 64)])
def test_a_picture_of_nothing_has_no_face(portrait: Any, mode: str, size: tuple[int, int]) -> None:
    error = portrait.run("portrait", {}, {"image": saved(Image.new(mode, size, 0))}).error
    assert (error["status"], error["field"]) == (422, "image")


def test_a_grey_photograph_gives_a_portrait(portrait: Any, photo: Image.Image) -> None:
    fields = {"tone": "warm", "smooth": 0.5, "exposure": 0.3}
    image = portrait.run("portrait", fields, {"image": saved(photo.convert("L"))}).picture()
    assert image.size == (512, 512)
    assert image.getpixel((3, 3)) == BACKDROP


def test_what_is_see_through_in_the_photograph_stays_ground(portrait: Any, photo: Image.Image) -> None:
    holed = photo.convert("RGBA")
    holed.paste((0, 0, 0, 0), (0, 200, 512, 512))
    image = portrait.run("portrait", {}, {"image": saved(holed)}).picture()
    assert image.getpixel((256, 500)) == BACKDROP
    assert image.getpixel((256, 290)) != BACKDROP


@pytest.mark.parametrize("box", [(150, 0, 512, 300), (0, 10, 290, 330), (100, 14, 512, 260)])
def test_a_face_in_a_corner_is_still_in_the_middle(
    portrait: Any, photo: Image.Image, box: tuple[int, int, int, int]
) -> None:
    answer = portrait.run("portrait", {}, {"image": saved(photo.crop(box))})
    image = np.asarray(answer.picture()).astype(int)
    assert image.shape == (512, 512, 3)
    red, _green, blue = image[270:330, 220:292].reshape(-1, 3).mean(axis=0)
    assert red > blue + 20, "skin is in the middle"


def test_the_same_photograph_gives_the_same_file(portrait: Any, astronaut: bytes) -> None:
    fields = {"backdrop_to": "#405060", "gradient": "radial", "tone": -0.4, "smooth": 0.7, "size": "id-card"}
    first, second = (portrait.run("portrait", fields, {"image": astronaut}).frames[-2][1] for _ in range(2))
    assert first == second
