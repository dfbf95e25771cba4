"""Drawing: a creature in; out come its picture in colour, and its sketch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from tf_serving.pix2pix.creatures.parts import Colour, Creature, Point

SUPERSAMPLING = 3
WHITE, INK, GROUND = (255, 255, 255), (38, 36, 46), (214, 216, 224)


def picture(made: Creature, side: int) -> Image.Image:
    """In colour, on white, lit from the upper left."""
    size = side * SUPERSAMPLING
    canvas = Image.new("RGB", (size, size), WHITE)
    x, y, half = made.ground
    ImageDraw.Draw(canvas).ellipse(
        [(x - half) * size, (y - half * 0.16) * size, (x + half) * size, (y + half * 0.16) * size], GROUND
    )
    line = max(1, round(size * 0.011))
    outlines = [[(px * size, py * size) for px, py in part.points] for part in made.parts]
    for part, points in zip(made.parts, outlines, strict=True):
        colour = made.tints[part.tint]
        if not part.closed:
            ImageDraw.Draw(canvas).line(points, _darker(made.tints["growth"], 0.55), line, joint="curve")
            continue
        box, mask = _mask(points, outlines[part.clip] if part.clip is not None else None, line)
        layer = Image.new("RGB", mask.size, colour)
        if part.shaded:
            _shade(layer, mask, colour, size)
        if part.rim:
            _rim(layer, points, box, _darker(colour, 0.5), line)
        canvas.paste(layer, box[:2], mask)
    return canvas.resize((side, side), Image.Resampling.BOX)


def sketch(made: Creature, side: int, seed: int) -> Image.Image:
    """Dark rims on paper. Each line is as thick as the hand wished, and trembles a little."""
    rng = np.random.default_rng(seed)
    size = side * SUPERSAMPLING
    canvas = Image.new("RGB", (size, size), WHITE)
    line = max(1, round(float(rng.uniform(0.007, 0.014)) * size))
    tremble = float(rng.uniform(0.0, 0.005)) * size
    outlines = [
        _trembling([(px * size, py * size) for px, py in part.points], tremble, part.closed, rng)
        for part in made.parts
    ]
    for part, points in zip(made.parts, outlines, strict=True):
        if not part.rim:
            continue
        if not part.closed:
            ImageDraw.Draw(canvas).line(points, INK, line, joint="curve")
            continue
        box, mask = _mask(points, outlines[part.clip] if part.clip is not None else None, line)
        layer = Image.new("RGB", mask.size, INK if part.tint == "pupil" else WHITE)
        _rim(layer, points, box, INK, line)
        canvas.paste(layer, box[:2], mask)
    return canvas.resize((side, side), Image.Resampling.BOX)


Box = tuple[int, int, int, int]


def _mask(points: Sequence[Point], under: Sequence[Point] | None, line: int) -> tuple[Box, Image.Image]:
    """Where a part covers the picture: a box, and a mask in it; not past the rim of what it lies on."""
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    box = (int(min(xs)) - 2, int(min(ys)) - 2, int(max(xs)) + 3, int(max(ys)) + 3)
    mask = Image.new("L", (box[2] - box[0], box[3] - box[1]), 0)
    ImageDraw.Draw(mask).polygon([(x - box[0], y - box[1]) for x, y in points], 255)
    if under is not None:
        room = Image.new("L", mask.size, 0)
        ImageDraw.Draw(room).polygon([(x - box[0], y - box[1]) for x, y in under], 255)
        _rim(room, under, box, 0, line)
        mask = ImageChops.multiply(mask, room)
    return box, mask


def _rim(layer: Image.Image, points: Sequence[Point], box: Box, colour: Colour | int, line: int) -> None:
    """Twice as wide as it will be seen: the mask cuts off its outer half."""
    moved = [(x - box[0], y - box[1]) for x, y in points]
    ImageDraw.Draw(layer).line([*moved, moved[0], moved[1]], colour, 2 * line, joint="curve")


def _shade(layer: Image.Image, mask: Image.Image, colour: Colour, size: int) -> None:
    """A soft crescent of shadow along the lower right, and light at the upper left."""
    offset = round(0.035 * min(mask.size) + 0.010 * size)
    soft = mask.filter(ImageFilter.BoxBlur(max(1, offset // 2)))
    dark = ImageChops.invert(ImageChops.offset(soft, -offset, -offset))
    light = ImageChops.invert(ImageChops.offset(soft, offset, offset))
    layer.paste(_darker(colour, 0.78), (0, 0), dark.point(lambda v: int(v * 0.8)))
    layer.paste(_lighter(colour), (0, 0), light.point(lambda v: int(v * 0.45)))


def _darker(colour: Colour, factor: float) -> Colour:
    return round(colour[0] * factor), round(colour[1] * factor), round(colour[2] * factor)


def _lighter(colour: Colour) -> Colour:
    red, green, blue = (round(c + (255 - c) * 0.5) for c in colour)
    return red, green, blue


def _trembling(points: Sequence[Point], by: float, closed: bool, rng: np.random.Generator) -> list[Point]:
    """The points moved by a slow wave, as a hand moves."""
    p = np.asarray(points)
    along = np.linspace(0, 2 * np.pi, len(p), endpoint=not closed)
    for waves in (1, 2, 3):
        phase = rng.uniform(0, 2 * np.pi, 2)
        p = p + by * rng.normal(0, 0.6 / waves, 2) * np.sin(waves * along[:, None] + phase)
    return [(float(x), float(y)) for x, y in p]
