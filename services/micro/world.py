"""The world that the micro family lives in: out of a random generator come scenes, and out of a scene a drawing,
its captions and, for its people, OpenPose's 18 points.

A scene is one thing (a shape, or a person) on a plain background, or two things side by side. Everything is
measured in shares of the picture's shorter side, so that a scene can be drawn at any size.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw, ImageFilter

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
SIDE = 128  # of the pictures that the family is trained on
SUPERSAMPLING = 3
RIM = 0.05  # of the shorter side
LIMB = 0.075  # of a person's height


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


# Captions


def caption(scene: Scene) -> str:
    """The whole truth about a scene, in one wording."""
    ground = f"on {_article(scene.background)} background"
    if len(scene.things) == 2:
        first, second = (_name(thing, size=False) for thing in scene.things)
        return f"{_article(first)} next to {_article(second)} {ground}"
    thing = scene.things[0]
    return f"{_article(_name(thing))} at the {thing.position} {ground}"


def varied_caption(scene: Scene, rng: random.Random) -> str:
    """A caption as people may word it: parts left out, other orders, words that mean nothing to this world."""
    if rng.random() < 0.35:
        return caption(scene)
    lead = rng.choice(
        ["", "", "", "", "a picture of ", "a drawing of ", "a photo of ", "an image of ", "draw "]
    )
    if len(scene.things) == 2:
        first, second = (_name(thing, size=False) for thing in scene.things)
        first, second = _article(first), _article(second)
        relation = rng.choice(
            [
                f"{first} next to {second}",
                f"{first} and {second}",
                f"{first} left of {second}",
                f"{second} right of {first}",
            ]
        )
        ground = rng.choice(
            [
                f" on {_article(scene.background)} background",
                f" on {scene.background}",
                f", {scene.background} background",
            ]
        )
        return lead + relation + ground
    thing = scene.things[0]
    name = _name(thing, size=rng.random() < 0.6, texture=rng.random() < 0.85, pose=rng.random() < 0.8)
    place = rng.choice(
        [f" at the {thing.position}", f" at the {thing.position}", f" on the {thing.position}", "", ""]
    )
    if thing.position == "center" and place:
        place = rng.choice([place, " in the center", " in the middle"])
    ground = rng.choice([f" on {_article(scene.background)} background", f" on {scene.background}", ""])
    words = lead + (_article(name) if rng.random() < 0.7 else name) + place + ground
    if rng.random() < 0.2:
        parts = [
            name,
            *([thing.position] if place else []),
            *([f"{scene.background} background"] if ground else []),
        ]
        rng.shuffle(parts)
        words = ", ".join(parts)
    if rng.random() < 0.06:
        words += rng.choice(
            [
                ", best quality",
                ", masterpiece",
                ", highly detailed",
                ", " + _nonsense(rng),
                " " + _nonsense(rng),
            ]
        )
    return words


def _name(thing: Thing, *, size: bool = True, texture: bool = True, pose: bool = True) -> str:
    words = [thing.size] if size else []
    if texture and thing.texture != "plain":
        words.append(thing.texture)
    words += [thing.colour, thing.kind]
    if pose and thing.pose:
        words.append(f"with {thing.pose}")
    return " ".join(words)


def _article(name: str) -> str:
    return ("an " if name[0] in "aeiou" else "a ") + name


def _nonsense(rng: random.Random) -> str:
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(3, 8)))


# Drawings


def draw(scene: Scene, width: int = SIDE, height: int = SIDE, *, outline: bool = False) -> Image.Image:
    """The scene as an RGB picture, its edges smooth; with `outline` everything has a thick rim."""
    scale = SUPERSAMPLING
    picture = Image.new("RGB", (width * scale, height * scale), COLOURS[scene.background])
    for thing in scene.things:
        _draw_thing(picture, thing, rim_colour(scene, thing) if outline else None)
    return picture.resize((width, height), Image.Resampling.BOX)


def mask(
    thing: Thing, width: int = SIDE, height: int = SIDE, *, margin: float = 0.05, whole: bool = True
) -> Image.Image:
    """A white box (`whole`) or the shape itself on black, to paint over a thing."""
    if not whole:
        black = Scene("black", (replace(thing, colour="white", texture="plain"),))
        return draw(black, width, height).convert("L").point(lambda value: 255 if value > 40 else 0)
    side = min(width, height)
    reach_x = thing.radius * (0.95 if thing.kind == "person" else 1.0) + margin
    reach_y = thing.radius + margin
    picture = Image.new("L", (width, height), 0)
    ImageDraw.Draw(picture).rectangle(
        (
            int(thing.x * width - reach_x * side),
            int(thing.y * height - reach_y * side),
            int(thing.x * width + reach_x * side),
            int(thing.y * height + reach_y * side),
        ),
        fill=255,
    )
    return picture


def rim_colour(scene: Scene, thing: Thing) -> Colour:
    """White, or black where white would not be seen."""
    return COLOURS["black" if "white" in (scene.background, thing.colour) else "white"]


def _draw_thing(picture: Image.Image, thing: Thing, rim: Colour | None) -> None:
    stencil = Image.new("L", picture.size, 0)
    pen = ImageDraw.Draw(stencil)
    if thing.kind == "person":
        _stencil_person(pen, thing, picture.size)
    else:
        _stencil_shape(pen, thing, picture.size)
    paint = Image.new("RGB", picture.size, COLOURS[thing.colour])
    if thing.texture != "plain":
        _texture(paint, thing)
    if rim:
        width = round(min(picture.size) * RIM)
        wide = stencil.filter(ImageFilter.GaussianBlur(width / 2)).point(
            lambda value: 255 if value > 8 else 0
        )
        picture.paste(rim, mask=wide)
    picture.paste(paint, mask=stencil)


def _texture(paint: Image.Image, thing: Thing) -> None:
    """Bands or dots in a second tone of the same colour: darker, or lighter on black."""
    colour = COLOURS[thing.colour]
    second = (110, 110, 110) if thing.colour == "black" else tuple(int(value * 0.55) for value in colour)
    width, height = paint.size
    side = min(width, height)
    pen = ImageDraw.Draw(paint)
    left, top = (thing.x * width - thing.radius * side, thing.y * height - thing.radius * side)
    if thing.texture == "striped":
        band = side * 0.07
        for index in range(12):
            y = top + band * (2 * index + 0.7)
            pen.rectangle((0, y, width, y + band), fill=second)
    else:
        step, dot = side * 0.13, side * 0.038
        for row in range(6):
            for column in range(6):
                x = left + step * (column + (0.4 if row % 2 else 0.9))
                y = top + step * 0.9 * (row + 0.6)
                pen.ellipse((x - dot, y - dot, x + dot, y + dot), fill=second)


def _stencil_shape(pen: ImageDraw.ImageDraw, thing: Thing, canvas: tuple[int, int]) -> None:
    side = min(canvas)
    x, y, r = thing.x * canvas[0], thing.y * canvas[1], thing.radius * side
    if thing.kind == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=255)
    elif thing.kind == "square":
        pen.rectangle((x - r * 0.88, y - r * 0.88, x + r * 0.88, y + r * 0.88), fill=255)
    elif thing.kind == "triangle":
        pen.polygon([(x, y - r), (x - r, y + r * 0.85), (x + r, y + r * 0.85)], fill=255)
    elif thing.kind == "star":
        points = []
        for corner in range(10):
            angle, reach = -math.pi / 2 + corner * math.pi / 5, r * (1.1 if corner % 2 == 0 else 0.46)
            points.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
        pen.polygon(points, fill=255)
    elif thing.kind == "heart":
        points = []
        for index in range(60):
            t = index * math.tau / 60
            across = 16 * math.sin(t) ** 3
            up = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
            points.append((x + across * r / 16.5, y - (up + 2.5) * r / 15.5))
        pen.polygon(points, fill=255)
    elif thing.kind == "cross":
        arm = r * 0.36
        pen.rectangle((x - r, y - arm, x + r, y + arm), fill=255)
        pen.rectangle((x - arm, y - r, x + arm, y + r), fill=255)
    else:
        raise ValueError(f"this world has no shape {thing.kind!r}; it has {', '.join(SHAPES)}")


def keypoints(thing: Thing, width: int = SIDE, height: int = SIDE) -> list[Point]:
    """OpenPose's 18 points of a person in pixels; right and left are the person's own, who looks at us."""
    if thing.joints is None:
        raise ValueError("only a person has keypoints")
    tall = thing.radius * 2 * min(width, height)
    x, y = thing.x * width, thing.y * height

    def at(across: float, down: float) -> Point:
        return x + across * tall, y + down * tall

    def limb(start: Point, angles: tuple[float, float], lengths: Point, outward: int) -> tuple[Point, Point]:
        joints = []
        for angle, length in zip(angles, lengths, strict=True):
            turn = math.radians(angle)
            start = (
                start[0] + outward * math.sin(turn) * length * tall,
                start[1] + math.cos(turn) * length * tall,
            )
            joints.append(start)
        return joints[0], joints[1]

    neck, nose = at(0, -0.25), at(0, -0.37)
    shoulders, hips = (at(-0.1, -0.235), at(0.1, -0.235)), (at(-0.065, 0.06), at(0.065, 0.06))
    arms, legs = (0.155, 0.15), (0.2, 0.2)
    pose = thing.joints
    right_elbow, right_wrist = limb(shoulders[0], pose.right_arm, arms, -1)
    left_elbow, left_wrist = limb(shoulders[1], pose.left_arm, arms, 1)
    right_knee, right_ankle = limb(hips[0], pose.right_leg, legs, -1)
    left_knee, left_ankle = limb(hips[1], pose.left_leg, legs, 1)
    eyes, ears = (at(-0.035, -0.4), at(0.035, -0.4)), (at(-0.075, -0.38), at(0.075, -0.38))
    return [
        nose,
        neck,
        shoulders[0],
        right_elbow,
        right_wrist,
        shoulders[1],
        left_elbow,
        left_wrist,
        hips[0],
        right_knee,
        right_ankle,
        hips[1],
        left_knee,
        left_ankle,
        *eyes,
        *ears,
    ]


def _stencil_person(pen: ImageDraw.ImageDraw, thing: Thing, canvas: tuple[int, int]) -> None:
    points = keypoints(thing, *canvas)
    tall = thing.radius * 2 * min(canvas)
    half = LIMB * tall / 2
    nose, neck = points[0], points[1]
    head = 0.095 * tall
    pen.ellipse((nose[0] - head, nose[1] - head, nose[0] + head, nose[1] + head), fill=255)
    chains = [(2, 3, 4), (5, 6, 7), (8, 9, 10), (11, 12, 13), (2, 5), (8, 11)]
    pen.polygon([points[2], points[5], points[11], points[8]], fill=255)
    _line(pen, nose, neck, half)
    for chain in chains:
        for start, end in itertools.pairwise(chain):
            _line(pen, points[start], points[end], half)


def _line(pen: ImageDraw.ImageDraw, start: Point, end: Point, half: float) -> None:
    pen.line((*start, *end), fill=255, width=round(half * 2))
    for x, y in (start, end):
        pen.ellipse((x - half, y - half, x + half, y + half), fill=255)
