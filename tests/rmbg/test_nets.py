"""Nets of the rmbg service, on tiny ONNX files with the inputs and outputs of the real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from PIL import Image

from services.errors import Unavailable
from services.models import ModelEntry, NetInput, read_catalogue
from services.onnx import open_net
from services.rmbg.nets import NetEngine, alpha, prepared

# sides, names and outputs of the files that the catalogue names
REAL: dict[str, dict[str, Any]] = {
    "rmbg-1.4": {"side": 1024, "input": "input", "outputs": ["output"], "batch": 1},
    "rmbg-2.0": {"side": 1024, "input": "pixel_values", "outputs": ["alphas"], "batch": "N"},
    "birefnet": {"side": 1024, "input": "input_image", "outputs": ["output_image"], "batch": "N"},
    "isnet": {"side": 1024, "input": "input", "outputs": ["output"], "batch": 1},
    "u2net": {"side": 320, "input": "input.1", "outputs": list("1234567"), "batch": 1},
    "u2netp": {"side": 320, "input": "input.1", "outputs": list("1234567"), "batch": 1},
    "u2net_human_seg": {"side": 320, "input": "input.1", "outputs": list("1234567"), "batch": 1},
    "silueta": {"side": 320, "input": "input.1", "outputs": list("1234567"), "batch": 1},
}
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# by the papers' and model cards' own words: mean, deviation, what is 1, what the output is
MEANT = {
    "rmbg-1.4": ((0.5, 0.5, 0.5), (1, 1, 1), "255", "levels"),
    "rmbg-2.0": (*IMAGENET, "255", "alpha"),
    "birefnet": (*IMAGENET, "255", "logits"),
    "isnet": ((0.5, 0.5, 0.5), (1, 1, 1), "brightest", "levels"),
    "u2net": (*IMAGENET, "brightest", "levels"),
    "u2netp": (*IMAGENET, "brightest", "levels"),
    "u2net_human_seg": (*IMAGENET, "brightest", "levels"),
    "silueta": (*IMAGENET, "brightest", "levels"),
}
PLAIN = NetInput(side=64, mean=(0, 0, 0), std=(1, 1, 1))


def entry(name: str) -> ModelEntry:
    return next(one for one in read_catalogue() if one.name == name)


def takes(name: str) -> NetInput:
    found = entry(name).takes
    assert found is not None
    return found


def quiet(_done: int, _total: int) -> None:
    """No progress."""


@pytest.fixture
def red_net(write_net: Any) -> Any:
    """A net with a real one's form whose every output is the first plane of its input."""

    def make(name: str, side: int | None = None) -> Path:
        real = REAL[name]
        sides = [side or real["side"]] * 2
        nodes = [
            helper.make_node("Slice", [real["input"], "from", "to", "axis"], [output])
            for output in real["outputs"]
        ]
        path: Path = write_net(
            nodes,
            inputs={real["input"]: [real["batch"], 3, *sides]},
            outputs={output: [real["batch"], 1, *sides] for output in real["outputs"]},
            constants={"from": np.array([0]), "to": np.array([1]), "axis": np.array([1])},
        )
        return path

    return make


def engine_of(path: Path, how: NetInput, name: str = "toy") -> NetEngine:
    return NetEngine(open_net(path, name), how, name)


@pytest.mark.parametrize("name", REAL)
def test_the_catalogue_knows_how_a_net_takes_its_pixels(name: str) -> None:
    how = takes(name)
    assert (how.mean, how.std, how.peak, how.gives) == MEANT[name]
    assert how.side == REAL[name]["side"]


@pytest.mark.parametrize("name", REAL)
def test_what_reaches_the_net_is_the_pictures_pixels_exactly_normalised(name: str, red_net: Any) -> None:
    how, side = takes(name), REAL[name]["side"]
    levels = np.random.default_rng(3).integers(0, 201, (side, side, 3), dtype=np.uint8)
    levels[0, 0] = 200  # the brightest
    one = prepared(levels, (side, side), how)
    seen = open_net(red_net(name), name).run(one[None])[0][0, 0]  # what the net says that it was given
    red = levels[..., 0] / (200 if how.peak == "brightest" else 255)
    np.testing.assert_allclose(seen, (red - how.mean[0]) / how.std[0], atol=2e-6)
    for channel in (1, 2):
        plane = levels[..., channel] / (200 if how.peak == "brightest" else 255)
        np.testing.assert_allclose(one[channel], (plane - how.mean[channel]) / how.std[channel], atol=2e-6)


@pytest.mark.parametrize("name", REAL)
def test_a_mask_comes_back_upright_and_in_the_pictures_size(name: str, red_net: Any) -> None:
    pixels = np.zeros((90, 150, 3), np.uint8)
    pixels[:45, :75] = 255  # above, on the left
    engine = engine_of(red_net(name, 64), takes(name))
    mask = np.asarray(engine.mask(Image.fromarray(pixels), quiet))
    assert mask.shape == (90, 150)
    inside, below, beside = mask[5:38, 5:65], mask[52:, 5:65], mask[5:38, 85:]
    assert inside.min() > 200, name
    assert max(below.max(), beside.max()) < (60 if takes(name).gives != "logits" else 130), name


def test_a_files_own_side_is_taken_before_the_catalogues(red_net: Any) -> None:
    assert engine_of(red_net("isnet", 96), takes("isnet")).side == (96, 96)


@pytest.mark.parametrize(
    ("gives", "given", "wanted"),
    [
        ("alpha", [[-0.2, 0.5], [1.0, 1.7]], [[0, 0.5], [1, 1]]),
        ("logits", [[-100, 0], [100, np.log(3)]], [[0, 0.5], [1, 0.75]]),
        ("levels", [[2, 4], [6, 3]], [[0, 0.5], [1, 0.25]]),
        ("levels", [[0.3, 0.3], [0.3, 0.3]], [[0.3, 0.3], [0.3, 0.3]]),
        ("alpha", [[np.nan, 1], [0, 1]], [[0, 1], [0, 1]]),
    ],
)
def test_what_a_net_gives_becomes_an_alpha(gives: str, given: Any, wanted: Any) -> None:
    np.testing.assert_allclose(alpha(np.array(given, np.float32), gives), wanted, atol=1e-6)


def test_several_pictures_of_other_sizes_in_one_batch_each_get_their_own_mask(red_net: Any) -> None:
    engine = engine_of(red_net("rmbg-2.0", 64), PLAIN)
    sizes = [(40, 30), (200, 10), (64, 64), (1, 1)]
    pictures = [np.full((high, wide, 3), 60 * at, np.uint8) for at, (wide, high) in enumerate(sizes, 1)]
    together = engine.infer([prepared(one, engine.side, PLAIN) for one in pictures])
    alone = [engine.infer([prepared(one, engine.side, PLAIN)])[0] for one in pictures]
    for at, (one, other) in enumerate(zip(together, alone, strict=True), 1):
        np.testing.assert_array_equal(one, other)
        assert one.mean() == pytest.approx(60 * at / 255, abs=1e-5)


def test_a_batcher_may_stand_before_the_net(red_net: Any) -> None:
    engine = engine_of(red_net("rmbg-2.0", 64), PLAIN)
    asked: list[int] = []
    own = engine.ask

    def counting(one: Any) -> Any:
        asked.append(len(one))
        return own(one)

    engine.ask = counting
    engine.mask(Image.new("RGB", (20, 10), (200, 0, 0)), quiet)
    assert asked == [3]


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (3000, 1), (3, 3), (4000, 20)])
@pytest.mark.parametrize("shade", [0, 130, 255])
def test_a_picture_of_any_shape_and_one_colour_gets_a_mask_of_its_size(
    red_net: Any, size: tuple[int, int], shade: int
) -> None:
    mask = engine_of(red_net("u2net", 64), takes("u2net")).mask(Image.new("RGB", size, (shade,) * 3), quiet)
    assert (mask.size, mask.mode) == (size, "L")


def test_where_a_net_finds_nothing_all_of_the_picture_is_the_subject(red_net: Any) -> None:
    mask = engine_of(red_net("rmbg-2.0", 64), PLAIN).mask(Image.new("RGB", (30, 20)), quiet)
    assert mask.getextrema() == (255, 255)


def test_a_net_that_answers_with_something_else_is_told(write_net: Any) -> None:
    path = write_net(
        [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1, 2, 3], keepdims=0)],
        inputs={"x": ["N", 3, 64, 64]},
        outputs={"y": ["N"]},
        kind=TensorProto.FLOAT,
    )
    with pytest.raises(Unavailable, match="no mask"):
        engine_of(path, PLAIN).mask(Image.new("RGB", (8, 8)), quiet)


def test_work_that_nobody_waits_for_ends_before_the_net_runs(red_net: Any) -> None:
    engine = engine_of(red_net("rmbg-2.0", 64), PLAIN)
    ran: list[int] = []
    engine.ask = lambda one: ran.append(1) or one  # type: ignore[func-returns-value]

    def gone(done: int, _total: int) -> None:
        if done == 1:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        engine.mask(Image.new("RGB", (8, 8)), gone)
    assert not ran


@pytest.mark.parametrize("name", ["rmbg-1.4", "rmbg-2.0"])
def test_a_net_that_is_not_for_commerce_says_so_and_is_never_taken_unasked(name: str) -> None:
    one = entry(name)
    assert "non-commercial" in one.licence
    assert "ot for commercial use" in one.summary
    assert one.rank < 0
    free = [other for other in read_catalogue() if other.service == "rmbg" and other.name not in MEANT]
    assert all(other.rank > 0 for other in free)


def test_every_file_that_is_fetched_is_pinned_by_its_checksum() -> None:
    fetched = [one for one in read_catalogue() if one.service == "rmbg" and one.fetched]
    assert len(fetched) == len(REAL)
    for one in fetched:
        assert [file.path for file in one.files] == [one.single_file]
        assert one.files[0].size > 1_000_000
