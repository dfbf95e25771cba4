"""Creatures: drawn from a seed, and their sketches tell their kinds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tf_serving.pix2pix import creatures


def ink(picture: Image.Image) -> np.ndarray:
    return 1 - np.asarray(picture.convert("L")) / 255


@pytest.mark.parametrize("build", creatures.BUILDS)
@pytest.mark.parametrize("kind", creatures.KINDS)
def test_each_kind_is_drawn_in_each_build_within_the_paper(kind: str, build: str) -> None:
    for seed in range(4):
        made = creatures.creature(seed, kind, build)
        painted, drawn = creatures.picture(made, 64), creatures.sketch(made, 64, seed)
        assert painted.size == drawn.size == (64, 64)
        rim = np.concatenate([ink(painted)[0], ink(painted)[-1], ink(painted)[:, 0], ink(painted)[:, -1]])
        assert (rim > 0.2).mean() < 0.06, "it is cut off by the paper's edge"
        assert 0.1 < (ink(painted) > 0.1).mean() < 0.8
        assert 0.03 < ink(drawn).mean() < 0.35


def test_a_seed_is_one_creature_for_ever() -> None:
    one, same = creatures.pair(7, 64), creatures.pair(7, 64)
    assert one[0].tobytes() == same[0].tobytes() and one[1].tobytes() == same[1].tobytes()
    assert one[1].tobytes() != creatures.pair(8, 64)[1].tobytes()


def test_a_sketch_has_no_colours_and_its_lines_lie_where_the_pictures_are() -> None:
    for seed in range(6):
        drawn, painted = creatures.pair(seed, 128)
        pixels = np.asarray(drawn).astype(int)
        assert (pixels.max(-1) - pixels.min(-1)).max() <= 12
        lines, filled = ink(drawn) > 0.5, ink(painted) > 0.03
        near = (
            np.asarray(Image.fromarray(filled).resize((128, 128)))
            | np.roll(filled, 2, 0)
            | np.roll(filled, -2, 0)
        )
        assert (lines & ~near).sum() <= 0.02 * lines.sum()


def test_the_kind_decides_the_colour_of_the_skin() -> None:
    skins = {
        kind: np.mean([creatures.creature(seed, kind).tints["body"] for seed in range(20)], axis=0)
        for kind in creatures.KINDS
    }
    for kind in creatures.KINDS:
        for seed in range(20, 40):
            tint = creatures.creature(seed, kind).tints["body"]
            assert min(skins, key=lambda name: np.abs(skins[name] - tint).sum()) == kind


@pytest.mark.parametrize("sketch_left", [True, False])
def test_a_file_holds_both_side_by_side(tmp_path: Path, sketch_left: bool) -> None:
    path = creatures.write_one(tmp_path, 3, 48, sketch_left)
    both = Image.open(path)
    assert both.size == (96, 48) and path.name == "creature-000003.png"
    left, right = both.crop((0, 0, 48, 48)), both.crop((48, 0, 96, 48))
    drawn, painted = creatures.pair(3, 48)
    assert (left.tobytes(), right.tobytes()) == (
        (drawn.tobytes(), painted.tobytes()) if sketch_left else (painted.tobytes(), drawn.tobytes())
    )
