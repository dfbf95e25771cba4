"""The micro family's pose detector as a reader, with its trained weights."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from services.controlnet.readers import Readers, load_readers
from services.micro import world
from services.models import Models, read_catalogue


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Readers:
    return load_readers(Models("controlnet", read_catalogue(), tmp_path_factory.mktemp("models")))


def test_it_is_there_without_a_download(readers: Readers) -> None:
    assert readers.names == ["micro-pose"]


@pytest.mark.parametrize("size", [(128, 128), (400, 260), (260, 400), (512, 256)])
def test_a_figures_points_are_found(readers: Readers, size: tuple[int, int]) -> None:
    for seed in range(5):
        person = world.sample_person(random.Random(seed), "red")
        (found,) = readers.pose().read(
            world.draw(world.Scene("white", (person,)), *size), hands=False, face=False
        )
        off = [
            max(abs(x - a), abs(y - b))
            for (x, y, _), (a, b) in zip(found.body, world.keypoints(person, *size), strict=True)
        ]
        assert np.median(off) < min(size) / 32


def test_two_are_told_apart(readers: Readers) -> None:
    rng = random.Random(2)
    left, right = (
        replace(world.sample_person(rng, colour, pose="arms down"), x=x, y=0.5, radius=0.34)
        for colour, x in (("red", 0.26), ("blue", 0.74))
    )
    found = readers.pose().read(world.draw(world.Scene("white", (left, right))), hands=False, face=False)
    assert sorted(round(person.body[1][0] / 128, 1) for person in found) == [0.3, 0.7]


def test_nobody_is_found_where_nobody_is(readers: Readers, samples: Path) -> None:
    rng = random.Random(8)
    pictures = [world.draw(world.sample(rng, single=True, person=0)) for _ in range(8)]
    pictures += [Image.open(samples / "coffee.jpg").convert("RGB"), Image.new("RGB", (64, 64), "red")]
    assert not any(readers.pose().read(picture, hands=False, face=False) for picture in pictures)
