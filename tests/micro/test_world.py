"""The micro family's world: seeded, and what it says of a picture is true."""

from __future__ import annotations

import random

import numpy as np
import pytest

from services.micro import control, world


def scenes(count: int, seed: int = 0, **how: object) -> list[world.Scene]:
    rng = random.Random(seed)
    return [world.sample(rng, **how) for _ in range(count)]  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_pictures_and_captions() -> None:
    first, second = scenes(20), scenes(20)
    assert first == second
    assert [world.draw(s).tobytes() for s in first] == [world.draw(s).tobytes() for s in second]
    assert world.draw(first[0]).tobytes() != world.draw(scenes(1, seed=1)[0]).tobytes()


def test_the_colours_of_a_picture_are_those_of_its_caption() -> None:
    for scene in scenes(60, single=True):
        pixels = np.asarray(world.draw(scene)).reshape(-1, 3)
        colours, counts = np.unique(pixels, axis=0, return_counts=True)
        by_size = [tuple(colour) for colour in colours[counts.argsort()[::-1]][:3]]
        assert by_size[0] == world.COLOURS[scene.background]
        assert world.COLOURS[scene.things[0].colour] in by_size
        assert scene.background in world.caption(scene)
        assert scene.things[0].colour in world.caption(scene)


def test_a_thing_stands_where_its_caption_says() -> None:
    for scene in scenes(60, single=True, person=0.0):
        pixels = np.asarray(world.draw(scene)).astype(int)
        other = np.abs(pixels - np.array(world.COLOURS[scene.background])).sum(2) > 60
        rows, columns = other.nonzero()
        middle = (columns.min() + columns.max()) / 2 / world.SIDE, (rows.min() + rows.max()) / 2 / world.SIDE
        nearest = min(
            world.POSITIONS,
            key=lambda name: sum((a - b) ** 2 for a, b in zip(middle, world.POSITIONS[name], strict=True)),
        )
        assert nearest == scene.things[0].position


def test_a_persons_eighteen_points_lie_on_the_person() -> None:
    rng = random.Random(4)
    for _ in range(20):
        person = world.sample_person(rng, "red")
        picture = np.asarray(world.draw(world.Scene("white", (person,))))
        points = world.keypoints(person)
        assert len(points) == 18
        for x, y in points:
            if 1 <= x < world.SIDE - 1 and 1 <= y < world.SIDE - 1:
                assert picture[int(y), int(x), 1] < 200, "a point lies on the white background"


def test_a_wording_leaves_things_out_but_never_lies() -> None:
    rng = random.Random(5)
    for scene in scenes(300):
        words = set(world.varied_caption(scene, rng).replace(",", " ").split())
        told = {thing.colour for thing in scene.things} | {scene.background}
        assert words & set(world.COLOURS) <= told
        assert words & set(world.SHAPES) <= {thing.kind for thing in scene.things}


def test_one_combination_in_sixteen_is_kept_from_training() -> None:
    share = np.mean([scene.unseen for scene in scenes(4000)])
    assert 0.04 < share < 0.09


def test_a_pose_map_has_openposes_colours_and_edges_are_white_lines() -> None:
    person = world.sample_person(random.Random(6), "blue")
    pose = np.asarray(control.pose_map([world.keypoints(person)], 256, 256, 3)).reshape(-1, 3)
    for colour in ((255, 0, 0), (255, 85, 0), (0, 255, 255), (170, 0, 255), (255, 0, 85)):
        assert (pose == colour).all(1).any(), f"no point in {colour}"
    edges = np.asarray(control.canny(world.draw(world.Scene("white", (person,)))))
    assert set(np.unique(edges)) == {0, 255}


def test_a_mask_covers_its_thing() -> None:
    for scene in scenes(30, single=True, person=0.0):
        shape = np.asarray(world.mask(scene.things[0], whole=False)) > 0
        box = np.asarray(world.mask(scene.things[0])) > 0
        assert shape.any()
        assert (box[shape]).all()


def test_an_unknown_shape_is_named_in_the_error() -> None:
    scene = scenes(1, single=True, person=0.0)[0]
    thing = scene.things[0].__class__(**{**scene.things[0].__dict__, "kind": "spiral"})
    with pytest.raises(ValueError, match="spiral"):
        world.draw(world.Scene("red", (thing,)))
