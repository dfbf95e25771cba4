"""Scenes, drawn by lot: one thing (a shape, or a person) on a plain background, or two things side by side.

Everything is measured in shares of the picture's shorter side, so that a scene can be drawn at any size.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, replace

Point = tuple[float, float]
Colour = tuple[int, int, int]

COLOURS: dict[str, Colour] = {
    "red": (220, 40, 40),
    "green": (40, 170, 70),
    "blue": (40, 80, 220),
    "yellow": (240, 210, 40),
    "purple": (150, 60, 190),
    "orange": (245, 140, 30),
    "white": (245, 245, 245),
    "black": (20, 20, 20),
}
SHAPES = ("circle", "square", "triangle", "star", "heart", "cross")
KINDS = (*SHAPES, "person")
POSITIONS: dict[str, Point] = {
    "left": (0.28, 0.5),
    "right": (0.72, 0.5),
    "top": (0.5, 0.28),
    "bottom": (0.5, 0.72),
    "center": (0.5, 0.5),
}
PERSON_POSITIONS = ("left", "center", "right")
SIZES = {"small": 0.15, "large": 0.245}  # the radius of a shape
HEIGHTS = {"small": 0.56, "large": 0.8}  # the height of a person
TEXTURES = ("plain", "striped", "dotted")
# Angles in degrees, from hanging straight down outwards: upper arm and forearm, right and left; thighs.
POSES: dict[str, tuple[float, float, float, float]] = {
    "arms down": (18, 10, 18, 10),
    "arms up": (145, 165, 145, 165),
    "arms out": (88, 92, 88, 92),
    "one arm up": (18, 10, 145, 165),
}


@dataclass(frozen=True)
class Joints:
    """How a person holds the limbs: the angles of both arms (upper, fore) and both legs (thigh, shin)."""

    right_arm: tuple[float, float]
    left_arm: tuple[float, float]
    right_leg: tuple[float, float]
    left_leg: tuple[float, float]


@dataclass(frozen=True)
class Thing:
    kind: str
    colour: str
    position: str
    size: str
    x: float  # the middle, in shares of width and height
    y: float
    radius: float  # half the height, for a person
    texture: str = "plain"
    pose: str | None = None  # None: a pose that has no name
    joints: Joints | None = None


@dataclass(frozen=True)
class Scene:
    background: str
    things: tuple[Thing, ...]

    @property
    def key(self) -> str:
        """What the scene is, without where exactly its things stand."""
        parts = [self.background]
        for thing in self.things:
            parts += [thing.kind, thing.colour, thing.position, thing.size, thing.texture, thing.pose or ""]
        return "/".join(parts)

    @property
    def unseen(self) -> bool:
        """Whether this combination is kept from all training: one in sixteen, by a checksum of what it is."""
        return hashlib.sha256(self.key.encode()).digest()[0] < 16


def sample(rng: random.Random, *, single: bool = False, person: float = 0.2) -> Scene:
    """A scene; one in seven has two things, unless `single`."""
    if not single and rng.random() < 0.14:
        return _pair(rng)
    background, colour = rng.sample(list(COLOURS), 2)
    thing = (
        sample_person(rng, colour) if rng.random() < person else sample_shape(rng, colour, rng.choice(SHAPES))
    )
    return Scene(background, (thing,))


def sample_shape(rng: random.Random, colour: str, kind: str) -> Thing:
    size, position = rng.choice(list(SIZES)), rng.choice(list(POSITIONS))
    texture = rng.choice(("striped", "dotted")) if size == "large" and rng.random() < 0.3 else "plain"
    x, y = POSITIONS[position]
    jitter = 0.03
    return Thing(
        kind,
        colour,
        position,
        size,
        x + rng.uniform(-jitter, jitter),
        y + rng.uniform(-jitter, jitter),
        SIZES[size] * rng.uniform(0.92, 1.08),
        texture,
    )


def sample_person(rng: random.Random, colour: str, *, pose: str | None = "any") -> Thing:
    """A person; with `pose="any"` three in four hold one of the named poses, with None no named one."""
    size, position = rng.choice(list(HEIGHTS)), rng.choice(PERSON_POSITIONS)
    if pose == "any":
        pose = rng.choice(list(POSES)) if rng.random() < 0.75 else None
    x = 0.5 + (POSITIONS[position][0] - 0.5) * 0.95
    return Thing(
        "person",
        colour,
        position,
        size,
        x + rng.uniform(-0.02, 0.02),
        0.5 + rng.uniform(-0.03, 0.03),
        HEIGHTS[size] / 2 * rng.uniform(0.94, 1.04),
        "plain",
        pose,
        _joints(rng, pose),
    )


def _joints(rng: random.Random, pose: str | None) -> Joints:
    def legs() -> tuple[float, float]:
        thigh = rng.uniform(6, 24)
        return thigh, thigh + rng.uniform(-8, 4)

    if pose is None:

        def arm() -> tuple[float, float]:
            upper = rng.uniform(10, 165)
            return upper, upper + rng.uniform(-75, 75)

        return Joints(arm(), arm(), (rng.uniform(4, 45), rng.uniform(-10, 35)), legs())
    angles = [angle + rng.uniform(-7, 7) for angle in POSES[pose]]
    return Joints((angles[0], angles[1]), (angles[2], angles[3]), legs(), legs())


def _pair(rng: random.Random) -> Scene:
    background, first, second = rng.sample(list(COLOURS), 3)
    things = []
    for colour, position in ((first, "left"), (second, "right")):
        kind = rng.choice(KINDS)
        thing = (
            sample_person(rng, colour, pose=rng.choice(["arms down", "arms up"]))
            if kind == "person"
            else sample_shape(rng, colour, kind)
        )
        x = (0.26 if position == "left" else 0.74) + rng.uniform(-0.02, 0.02)
        radius = (0.34 if kind == "person" else 0.175) * rng.uniform(0.95, 1.05)
        y = 0.5 + rng.uniform(-0.03, 0.03)
        things.append(
            replace(thing, position=position, size="large", texture="plain", x=x, y=y, radius=radius)
        )
    return Scene(background, tuple(things))


# What a judge, or a head beside a tower, is asked about a scene: each question and the number of its answers
QUESTIONS = {
    "background": len(COLOURS),
    "kind": len(KINDS),
    "colour": len(COLOURS),
    "position": len(POSITIONS),
    "size": len(SIZES),
    "texture": len(TEXTURES),
    "pose": len(POSES) + 1,
    "second kind": len(KINDS) + 1,
    "second colour": len(COLOURS) + 1,
}


def answers(scene: Scene) -> list[int]:
    """The index of the true answer to each of `QUESTIONS`; the last answer of the last three means none."""
    names, first = list(COLOURS), scene.things[0]
    second = scene.things[1] if len(scene.things) == 2 else None
    return [
        names.index(scene.background),
        KINDS.index(first.kind),
        names.index(first.colour),
        list(POSITIONS).index(first.position),
        list(SIZES).index(first.size),
        TEXTURES.index(first.texture),
        list(POSES).index(first.pose) if first.pose else len(POSES),
        KINDS.index(second.kind) if second else len(KINDS),
        names.index(second.colour) if second else len(names),
    ]
