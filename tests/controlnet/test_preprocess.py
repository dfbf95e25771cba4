"""From controls to maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from services.controlnet.canny import edges
from services.controlnet.drawing import draw
from services.controlnet.preprocess import prepare_map, show
from services.controlnet.readers import Readers
from services.errors import BadInput, TooLarge, UnknownModel
from services.operations import ControlInput, Preprocess
from services.pictures import Picture
from services.poses import Person, Point, Poses

BODY: list[Point] = [(4.0 * at, 100.0 - 5 * at, 0.9) for at in range(18)]


class KnownReader:
    """Finds what it was told: a stand-in for nets with weights."""

    hands = face = False

    def __init__(self, *people: Person) -> None:
        self.people = list(people)

    def read(self, _image: Image.Image, *, hands: bool, face: bool) -> list[Person]:
        assert not hands
        assert not face
        return self.people


def readers(*people: Person) -> Readers:
    return Readers({"known": lambda: KnownReader(*people)})


def control(kind: str, image: Image.Image | None = None, **more: Any) -> ControlInput:
    return ControlInput(kind=kind, image=None if image is None else Picture("part:x", image), **more)  # type: ignore[arg-type]


def ask(kind: str, image: Image.Image | None = None, **more: Any) -> Preprocess:
    made = Preprocess(kind=kind, image=None if image is None else Picture("part:x", image), **more)  # type: ignore[arg-type]
    return made.model_copy(update={"model": readers().choose(made)})


@pytest.fixture
def photo(samples: Path) -> Image.Image:
    return Image.open(samples / "astronaut.jpg").convert("RGB")


def test_edges_are_found_at_the_results_size(photo: Image.Image) -> None:
    map_ = prepare_map(control("canny", photo, low=100, high=200), (256, 256), readers())
    small = photo.resize((256, 256), Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(map_), np.asarray(edges(small, 100, 200)))


def test_a_picture_of_another_form_is_cut_and_not_squeezed() -> None:
    wide = Image.new("RGB", (400, 200), "white")
    ImageDraw.Draw(wide).ellipse((150, 50, 250, 150), fill="black")
    lines = np.asarray(prepare_map(control("canny", wide), (128, 128), readers()).convert("L")) > 0
    rows, columns = np.flatnonzero(lines.any(axis=1)), np.flatnonzero(lines.any(axis=0))
    assert abs(np.ptp(rows) - np.ptp(columns)) <= 2, "the circle stays round"
    assert np.ptp(rows) == pytest.approx(64, abs=3)


def test_what_is_transparent_counts_as_white() -> None:
    cut = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    ImageDraw.Draw(cut).rectangle((20, 20, 40, 40), fill=(250, 250, 250, 255))
    assert not np.asarray(prepare_map(control("canny", cut, low=100, high=200), (64, 64), readers())).any()


def test_a_ready_map_of_the_right_size_is_taken_as_it_is() -> None:
    rng = np.random.default_rng(0)
    map_ = Image.fromarray(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8))
    for kind in ("canny-map", "openpose-map"):
        assert np.array_equal(
            np.asarray(prepare_map(control(kind, map_), (96, 64), readers())), np.asarray(map_)
        )


@pytest.mark.parametrize("side", [48, 90, 128, 200, 512])
def test_no_line_of_an_edge_map_gets_lost_when_it_is_resized(side: int) -> None:
    map_ = Image.new("RGB", (256, 256))
    pen = ImageDraw.Draw(map_)
    for at in range(10, 256, 47):
        pen.line((at, 0, at, 255), fill="white")
    pen.line((0, 100, 255, 100), fill="white")
    resized = np.asarray(prepare_map(control("canny-map", map_), (side, side), readers()))
    assert set(np.unique(resized)) == {0, 255}
    row = resized[side // 5, :, 0]
    starts = int((np.diff(row.astype(int), prepend=0) > 0).sum())
    assert starts == len(range(10, 256, 47))
    assert resized[:, side - 3, 0].any()


def test_soft_maps_stay_soft() -> None:
    soft = Image.fromarray(np.linspace(0, 255, 256).astype(np.uint8)[None].repeat(256, 0)).convert("RGB")
    resized = np.asarray(prepare_map(control("canny-map", soft), (128, 128), readers()))
    assert len(np.unique(resized)) > 30


def test_a_pose_is_drawn_at_the_results_size() -> None:
    pose = Poses(people=[Person(body=BODY)], width=200, height=100)
    map_ = prepare_map(control("openpose", keypoints=pose), (400, 200), readers())
    doubled: list[Point] = [(2 * x, 2 * y, seen) for x, y, seen in BODY]
    assert np.array_equal(
        np.asarray(map_), np.asarray(draw(Poses(people=[Person(body=doubled)]), (400, 200)))
    )


def test_a_pose_without_a_canvas_is_in_the_results_pixels() -> None:
    bare = prepare_map(control("openpose", keypoints=BODY), (96, 128), readers())
    assert np.array_equal(np.asarray(bare), np.asarray(draw(Poses(people=[Person(body=BODY)]), (96, 128))))


def test_a_pose_that_is_read_from_a_picture_goes_where_the_picture_goes() -> None:
    wide = Image.new("RGB", (400, 200))
    upright: list[Point] = [(200.0, 10.0 * at, 1.0) for at in range(18)]
    map_ = np.asarray(prepare_map(control("openpose", wide), (100, 100), readers(Person(body=upright))))
    columns = np.flatnonzero(map_.any(axis=(0, 2)))
    assert columns.min() > 40
    assert columns.max() < 60


def test_nobody_in_a_picture_is_told_and_not_drawn_as_black(photo: Image.Image) -> None:
    with pytest.raises(BadInput, match="No person") as caught:
        prepare_map(control("openpose", photo), (64, 64), readers(), "controls.1")
    assert caught.value.field == "controls.1.image"
    assert "keypoints" in caught.value.what_to_do
    with pytest.raises(BadInput, match="No person") as caught:
        show(ask("openpose", photo), readers())
    assert caught.value.field == "image"


def test_a_pose_of_which_nothing_can_be_seen_is_refused() -> None:
    unseen = [(x, y, 0.0) for x, y, _ in BODY]
    outside = [(x - 900, y, 1.0) for x, y, _ in BODY]
    for body in (unseen, outside):
        with pytest.raises(BadInput, match="No point") as caught:
            prepare_map(control("openpose", keypoints=body), (128, 128), readers(), "controls.0")
        assert caught.value.field == "controls.0.keypoints"


@pytest.mark.parametrize("part", ["hands", "face"])
def test_hands_without_weights_say_what_to_pull(photo: Image.Image, part: str) -> None:
    with pytest.raises(BadInput) as caught:
        prepare_map(control("openpose", photo, **{part: True}), (64, 64), readers(), "controls.0")
    assert caught.value.field == f"controls.0.{part}"
    assert "darkroom models pull openpose" in caught.value.what_to_do


def test_without_any_reader_a_pose_cannot_be_read(photo: Image.Image) -> None:
    with pytest.raises(UnknownModel) as caught:
        prepare_map(control("openpose", photo), (64, 64), Readers({}))
    assert "darkroom models pull openpose" in caught.value.what_to_do


def test_the_first_reader_that_can_is_taken_and_each_is_made_once(photo: Image.Image) -> None:
    made: list[str] = []

    class Handy(KnownReader):
        hands = True

        def read(self, _image: Image.Image, *, hands: bool, face: bool) -> list[Person]:
            return [Person(body=BODY, left_hand=[(5.0, 5.0, 1.0)] * 21 if hands else None)]

    def maker(name: str, kind: type[KnownReader]) -> Any:
        def make() -> KnownReader:
            made.append(name)
            return kind(Person(body=BODY))

        return make

    both = Readers({"plain": maker("plain", KnownReader), "handy": maker("handy", Handy)})
    for _ in range(2):
        assert both.pose() is both.pose("plain")
        assert both.pose(hands=True) is both.pose("handy")
    assert made == ["plain", "handy"]
    with pytest.raises(UnknownModel, match="plain, handy"):
        both.choose(ask("openpose", photo).model_copy(update={"model": "nobody"}))


def test_show_tells_the_thresholds_that_it_found(photo: Image.Image) -> None:
    map_, told = show(ask("canny", photo), readers())
    assert map_.size == photo.size
    assert told["low"] < told["high"]
    again, _ = show(ask("canny", photo, low=told["low"], high=told["high"]), readers())
    assert np.array_equal(np.asarray(map_), np.asarray(again))


def test_the_keypoints_that_show_tells_are_taken_back_unchanged(photo: Image.Image) -> None:
    people = [Person(body=BODY), Person(body=BODY, left_hand=[(5.5, 5.25, 0.5)] * 21)]
    map_, told = show(ask("openpose", photo), readers(*people))
    again, told_again = show(ask("openpose", keypoints=told["keypoints"]), readers())
    assert np.array_equal(np.asarray(map_), np.asarray(again))
    assert told["keypoints"] == told_again["keypoints"]
    assert told["keypoints"]["width"] == photo.width
    follow = prepare_map(control("openpose", keypoints=told["keypoints"]), photo.size, readers())
    assert np.array_equal(np.asarray(follow), np.asarray(map_))


def test_openposes_own_json_is_taken() -> None:
    flat = [number for point in BODY for number in point]
    own = {"people": [{"pose_keypoints_2d": flat}], "canvas_width": 96, "canvas_height": 128}
    map_, _ = show(ask("openpose", keypoints=own), readers())
    assert map_.size == (96, 128)


def test_keypoints_alone_must_say_how_large_their_canvas_is() -> None:
    with pytest.raises(BadInput) as caught:
        show(ask("openpose", keypoints=BODY), readers())
    assert caught.value.field == "keypoints.width"
    half = Poses(people=[Person(body=BODY)], width=100)
    with pytest.raises(BadInput) as caught:
        prepare_map(control("openpose", keypoints=half), (64, 64), readers())
    assert caught.value.field == "keypoints.height"
    with pytest.raises(TooLarge):
        show(
            ask("openpose", keypoints=Poses(people=[Person(body=BODY)], width=16_000, height=16_000)),
            readers(),
        )


def test_keypoints_are_no_edges() -> None:
    with pytest.raises(BadInput) as caught:
        show(ask("canny", keypoints=BODY), readers())
    assert caught.value.field == "kind"
