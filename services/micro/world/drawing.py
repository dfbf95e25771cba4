"""A scene as a picture, the mask of a thing in it, and OpenPose's 18 points of its people."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

from PIL import Image, ImageDraw, ImageFilter

from services.micro.world.scenes import COLOURS, SHAPES, Colour, Point, Scene, Thing

SIDE = 128  # of the pictures that the family is trained on
SUPERSAMPLING = 3
RIM = 0.05  # of the shorter side
LIMB = 0.075  # of a person's height


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
