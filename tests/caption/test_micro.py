"""The micro family's captions: sentences of its world, and its trained CLIP that tells which of them is true."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from services.caption.clip import Clip
from services.caption.closeup import SHARE, close_up, form
from services.caption.micro import MicroCaptioner, Saying
from services.micro import world

KINDS = {"shapes", "colours", "sizes", "textures", "positions", "poses", "backgrounds"}


def quiet(_done: int, _total: int) -> None:
    """No progress."""


@pytest.fixture(scope="module")
def captioner(micro_folder: Path) -> MicroCaptioner:
    return MicroCaptioner(Clip.load(micro_folder))


def told(
    captioner: MicroCaptioner, scene: world.Scene, mode: str = "fast", phrases: int = 8
) -> dict[str, Any]:
    return captioner.tell(world.draw(scene, 128, 128), mode, phrases, quiet)


def large(kind: str, colour: str, background: str) -> world.Scene:
    return world.Scene(background, (world.Thing(kind, colour, "center", "large", 0.5, 0.5, 0.24),))


def test_it_says_what_the_worlds_own_captions_say() -> None:
    rng = random.Random(4)
    for _ in range(200):
        scene = world.sample(rng, single=True)
        (thing,) = scene.things
        saying = Saying(
            thing.kind,
            thing.colour,
            scene.background,
            thing.size,
            thing.texture,
            thing.position,
            thing.pose or "",
        )
        assert str(saying) == world.caption(scene)


def test_a_pair_is_worded_as_the_world_words_it() -> None:
    saying = Saying("star", "orange", "white", beside=("blue", "heart"))
    assert str(saying) == "an orange star next to a blue heart on a white background"


def test_scenes_that_training_never_saw_are_told(captioner: MicroCaptioner) -> None:
    rng, right, asked = random.Random(7), Counter[str](), 0
    while asked < 12:
        scene = world.sample(rng, single=True)
        if not scene.unseen:
            continue
        asked += 1
        caption, (thing,) = told(captioner, scene)["caption"], scene.things
        right["background"] += f"{scene.background} background" in caption
        right["colour"] += (
            f" {thing.colour} {thing.kind}" in caption or f" {thing.colour} " in caption.split(" on a")[0]
        )
        right["position"] += f"at the {thing.position}" in caption
        right["size"] += f" {thing.size} " in caption
        right["kind"] += f" {thing.kind} " in caption
    assert right["background"] >= 11
    assert right["colour"] >= 11
    assert right["position"] >= 10
    assert right["size"] >= 10
    assert right["kind"] >= 10, right


def test_two_things_are_told_as_two(captioner: MicroCaptioner) -> None:
    rng, pairs, colours = random.Random(3), 0, 0
    scenes = [scene for scene in (world.sample(rng) for _ in range(150)) if len(scene.things) == 2][:6]
    for scene in scenes:
        caption = told(captioner, scene)["caption"]
        pairs += " next to a" in caption
        left, _, right = caption.partition(" next to ")
        colours += scene.things[0].colour in left and scene.things[1].colour in right
    assert pairs >= 5
    assert colours >= 4


def test_the_ranks_of_each_kind_are_in_order_and_as_many_as_asked(captioner: MicroCaptioner) -> None:
    ranked = told(captioner, large("star", "yellow", "black"), phrases=3)["ranked"]
    assert set(ranked) == KINDS
    assert ranked["colours"][0]["phrase"] == "yellow"
    assert ranked["backgrounds"][0]["phrase"] == "black background"
    for found in ranked.values():
        scores = [phrase["score"] for phrase in found]
        assert scores == sorted(scores, reverse=True)
        assert len(found) <= 3


def test_the_modes_word_the_same_truth_in_their_ways(captioner: MicroCaptioner) -> None:
    scene = large("square", "green", "white")
    prompts = {
        mode: told(captioner, scene, mode)["prompt"] for mode in ("best", "fast", "caption", "classic")
    }
    assert prompts["caption"] == prompts["fast"] == told(captioner, scene)["caption"]
    assert "green" in prompts["best"]
    assert prompts["classic"].endswith(", white background")
    negative = told(captioner, scene, "negative")["prompt"]
    assert "green" not in negative
    assert "white" not in negative


def test_progress_is_told_and_may_stop_it(captioner: MicroCaptioner) -> None:
    steps: list[tuple[int, int]] = []
    scene = large("square", "green", "white")
    captioner.tell(world.draw(scene), "fast", 1, lambda done, total: steps.append((done, total)))
    assert [done for done, _ in steps] == list(range(steps[-1][1] + 1))

    def stop(_done: int, _total: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        captioner.tell(world.draw(scene), "fast", 1, stop)


# ── the closer look ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_closer_look_puts_the_thing_large_in_the_middle() -> None:
    image = Image.new("RGB", (200, 120), (20, 20, 220))
    ImageDraw.Draw(image).rectangle((10, 70, 29, 89), fill=(220, 20, 20))
    close = close_up(image)
    assert close is not None
    red = np.asarray(close)[..., 0] > 120
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    side = close.width
    assert np.ptp(columns) == pytest.approx(2 * SHARE * side, abs=4)
    assert (rows.mean(), columns.mean()) == pytest.approx((side / 2, side / 2), abs=2)
    assert close.getpixel((2, 2)) == (20, 20, 220)


def test_a_form_alone_has_the_colours_that_it_is_given() -> None:
    striped = world.Thing("star", "red", "center", "large", 0.5, 0.5, 0.24, texture="striped")
    close = close_up(world.draw(world.Scene("yellow", (striped,))))
    assert close is not None
    painted = np.asarray(form(close, (0, 0, 255), (255, 255, 255)))
    assert tuple(painted[0, 0]) == (255, 255, 255)
    plain = replace(striped, texture="plain")
    expected = form(
        close_up(world.draw(world.Scene("yellow", (plain,)))) or close, (0, 0, 255), (255, 255, 255)
    )
    assert np.abs(painted.astype(int) - np.asarray(expected).astype(int)).mean() < 12, "its stripes are gone"


@pytest.mark.parametrize("case", ["flat", "noise", "wide", "at the rim"])
def test_where_no_one_thing_stands_out_there_is_no_closer_look(case: str) -> None:
    image = Image.new("RGB", (100, 100), "white")
    pen = ImageDraw.Draw(image)
    if case == "noise":
        image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8))
    elif case == "wide":
        pen.rectangle((10, 40, 90, 60), fill="black")
    elif case == "at the rim":
        pen.rectangle((40, 40, 100, 100), fill="black")
    assert close_up(image) is None
