"""What grows on a creature and tells its kind: a tail (behind all), ears (behind the head), a crest (before it)."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np

from tf_serving.pix2pix.creatures.outlines import at_rim, leaf, limb, oval, shard, smooth, turned
from tf_serving.pix2pix.creatures.parts import Frame, Part, Point

Growth = Callable[[Frame, random.Random], list[Part]]


def _ears(frame: Frame) -> tuple[tuple[Point, float], tuple[Point, float]]:
    """The roots of a pair of ears, and where they point."""
    return (at_rim(frame.head, frame.head_size, 48, 0.85), 62.0), (
        at_rim(frame.head, frame.head_size, 132, 0.85),
        118.0,
    )


def leaf_tail(frame: Frame, rng: random.Random) -> list[Part]:
    stem = at_rim(frame.tail, (0.12, 0.12), frame.tail_angle)
    parts = [Part(limb(frame.tail, stem, 0.022, 0.018), "body")]
    for turn in (-32, 32, 0):
        blade = leaf(stem, frame.tail_angle + turn, rng.uniform(0.13, 0.16), 0.075)
        parts += [Part(blade, "growth"), _vein(stem, frame.tail_angle + turn, 0.10)]
    return parts


def leaf_ears(frame: Frame, rng: random.Random) -> list[Part]:
    parts = []
    for root, angle in _ears(frame):
        lean = angle + (-22 if angle < 90 else 22)
        parts += [Part(leaf(root, lean, rng.uniform(0.15, 0.19), 0.09), "growth"), _vein(root, lean, 0.12)]
    return parts


def leaf_crest(frame: Frame, rng: random.Random) -> list[Part]:
    top = at_rim(frame.head, frame.head_size, 90, 0.95)
    tip = (top[0] + rng.uniform(-0.02, 0.02), top[1] - 0.06)
    parts = [Part(limb((top[0], top[1] + 0.02), tip, 0.013, 0.011), "growth")]
    for angle in (28 + rng.uniform(-8, 8), 152 + rng.uniform(-8, 8)):
        parts += [Part(leaf(tip, angle, 0.13, 0.07), "growth"), _vein(tip, angle, 0.09)]
    return parts


def _vein(root: Point, angle: float, length: float) -> Part:
    return Part(
        (at_rim(root, (0.03, 0.03), angle), at_rim(root, (length, length), angle)), "ink", closed=False
    )


def ember_tail(frame: Frame, rng: random.Random) -> list[Part]:
    bent = at_rim(frame.tail, (0.13, 0.13), frame.tail_angle - 10)
    tip = at_rim(bent, (0.07, 0.07), 88)
    return [
        Part(limb(frame.tail, bent, 0.036, 0.026), "body", shaded=True),
        Part(limb(bent, tip, 0.026, 0.02), "body"),
        *_flame((tip[0], tip[1] + 0.01), rng.uniform(0.17, 0.21), rng),
    ]


def _flame(root: Point, height: float, rng: random.Random) -> list[Part]:
    lean = rng.uniform(-0.15, 0.15)
    shape = [(0, 0), (0.30, 0.14), (0.36, 0.40), (0.22, 0.62), (0.16 + lean, 0.80), (lean, 1.05)]
    shape += [(-0.10, 0.74), (-0.24, 0.86), (-0.36, 0.46), (-0.28, 0.14)]
    outer = smooth([(root[0] + height * x, root[1] - height * y) for x, y in shape], pieces=4)
    inner = smooth(
        [(root[0] + height * 0.5 * x, root[1] - height * (0.03 + 0.55 * y)) for x, y in shape], pieces=4
    )
    return [Part(outer, "growth"), Part(inner, "flame")]


def ember_ears(frame: Frame, rng: random.Random) -> list[Part]:
    parts = []
    for root, angle in _ears(frame):
        parts.append(
            Part(leaf(root, angle + (-30 if angle < 90 else 30), rng.uniform(0.11, 0.14), 0.07), "body")
        )
    return parts


def ember_crest(frame: Frame, rng: random.Random) -> list[Part]:
    parts = []
    length = rng.uniform(0.11, 0.14)
    for at, bend in ((66, 0.75), (114, -0.75)):
        parts.append(
            Part(leaf(at_rim(frame.head, frame.head_size, at, 0.9), at, length, 0.055, bend), "bone")
        )
    parts += _flame(at_rim(frame.head, frame.head_size, 90, 0.86), rng.uniform(0.11, 0.14), rng)
    return parts


def tide_tail(frame: Frame, rng: random.Random) -> list[Part]:
    stem = at_rim(frame.tail, (0.12, 0.12), frame.tail_angle)
    parts = [Part(limb(frame.tail, stem, 0.05, 0.026), "body", shaded=True)]
    fins = [leaf(stem, frame.tail_angle + turn, rng.uniform(0.15, 0.19), 0.09) for turn in (-42, 42)]
    return [*parts, *(Part(fin, "growth") for fin in fins)]


def tide_ears(frame: Frame, rng: random.Random) -> list[Part]:
    """Gills that stand out like fans."""
    parts = []
    spread = rng.uniform(24, 32)
    for s in (1, -1):
        root = at_rim(frame.head, frame.head_size, 8 if s > 0 else 172, 0.86)
        middle = 8 if s > 0 else 172
        rim = []
        for i, turn in enumerate((-1.4, -0.7, 0, 0.7, 1.4)):
            rim.append(at_rim(root, (0.15, 0.15), middle + turn * spread))
            if i < 4:
                rim.append(at_rim(root, (0.115, 0.115), middle + (turn + 0.35) * spread))
        parts.append(Part((root, *rim), "growth"))
        parts += [
            Part((root, at_rim(root, (0.13, 0.13), middle + turn * spread)), "ink", closed=False)
            for turn in (-0.7, 0, 0.7)
        ]
    return parts


def tide_crest(frame: Frame, rng: random.Random) -> list[Part]:
    """A sail on its head."""
    high = rng.uniform(0.11, 0.15)
    a, b = at_rim(frame.head, frame.head_size, 112, 0.93), at_rim(frame.head, frame.head_size, 66, 0.93)
    top = ((a[0] + b[0]) / 2 + rng.choice((-1, 1)) * 0.03, min(a[1], b[1]) - high)
    low = at_rim(frame.head, frame.head_size, 90, 0.86)

    def halfway(point: Point, aside: float) -> Point:
        return (point[0] + top[0]) / 2 + aside, (point[1] + top[1]) / 2

    sail = smooth([a, halfway(a, -0.012), top, halfway(b, 0.012), b, low], pieces=4)
    ribs = []
    for share in (0.3, 0.7):
        x = a[0] * (1 - share) + b[0] * share
        rib = ((x, low[1] - 0.005), (0.7 * top[0] + 0.3 * x, top[1] + high * 0.35))
        ribs.append(Part(rib, "ink", closed=False))
    return [Part(sail, "growth"), *ribs]


def spark_tail(frame: Frame, rng: random.Random) -> list[Part]:
    """A thin zigzag with a bolt at its end."""
    length, at, line = rng.uniform(0.06, 0.075), frame.tail, [frame.tail]
    way = 1 if frame.tail_angle < 90 else -1
    for turn in (-40, 70, -40):
        at = at_rim(at, (length, length), frame.tail_angle + way * turn)
        line.append(at)
    rim = [(x, y - 0.017) for x, y in line] + [(x, y + 0.017) for x, y in line[::-1]]
    return [Part(tuple(rim), "body"), Part(_bolt(at, frame.tail_angle, rng.uniform(0.13, 0.16)), "growth")]


def _bolt(root: Point, angle: float, length: float) -> tuple[Point, ...]:
    shape = [(0.0, 0.06), (0.45, 0.30), (0.42, 0.04), (1.0, 0.12), (0.50, -0.28), (0.55, -0.03), (0.0, -0.10)]
    return tuple(turned((length * x, length * y), -math.radians(angle), root) for x, y in shape)


def spark_ears(frame: Frame, rng: random.Random) -> list[Part]:
    """Long and narrow, each with a ball at its end."""
    parts = []
    length, spread = rng.uniform(0.16, 0.20), rng.uniform(0, 24)
    for root, angle in _ears(frame):
        tip = at_rim(root, (length, length), angle + (-spread if angle < 90 else spread))
        parts += [
            Part(limb(root, tip, 0.03, 0.016), "body"),
            Part(oval(tip, (0.038, 0.038), count=20), "growth"),
        ]
    return parts


def spark_crest(frame: Frame, rng: random.Random) -> list[Part]:
    """A bolt that stands on its head."""
    top = at_rim(frame.head, frame.head_size, 90, 0.93)
    return [
        Part(_bolt((top[0], top[1] + 0.01), 90 + rng.uniform(-12, 12), rng.uniform(0.12, 0.15)), "growth")
    ]


def shade_tail(frame: Frame, rng: random.Random) -> list[Part]:
    """Bat's wings, and a thin tail with a spade."""
    parts = []
    length = rng.uniform(0.24, 0.28)
    for s in (1, -1):
        root = (frame.torso[0] + s * frame.torso_size[0] * 0.35, frame.torso[1] - frame.torso_size[1] * 0.55)
        fingers = [52, 22, -6, -30]
        rim = [root]
        for i, angle in enumerate(fingers):
            reach = length * (1.0, 1.05, 0.95, 0.75)[i]
            rim.append(at_rim(root, (reach, reach), angle if s > 0 else 180 - angle))
            if i < 3:
                dip = (angle + fingers[i + 1]) / 2
                rim.append(at_rim(root, (length * 0.72, length * 0.72), dip if s > 0 else 180 - dip))
        parts.append(Part(tuple(rim), "growth"))
        for angle in fingers[1:3]:
            reach = length * 0.97
            parts.append(
                Part(
                    (root, at_rim(root, (reach, reach), angle if s > 0 else 180 - angle)), "ink", closed=False
                )
            )
    stem = at_rim(frame.tail, (0.14, 0.14), frame.tail_angle)
    parts += [
        Part(limb(frame.tail, stem, 0.018, 0.014), "body"),
        Part(shard(at_rim(stem, (-0.01, -0.01), frame.tail_angle), frame.tail_angle, 0.10, 0.10), "growth"),
    ]
    return parts


def shade_ears(frame: Frame, rng: random.Random) -> list[Part]:
    """Large, three-cornered."""
    parts = []
    length = rng.uniform(0.16, 0.20)
    for root, angle in _ears(frame):
        parts.append(Part(shard(root, angle, length, 0.13), "body"))
        parts.append(Part(shard(at_rim(root, (0.02, 0.02), angle), angle, length * 0.68, 0.07), "growth"))
    return parts


def shade_crest(frame: Frame, rng: random.Random) -> list[Part]:
    """Fangs."""
    width, height = frame.head_size
    size = rng.uniform(0.03, 0.038)
    return [
        Part(
            shard((frame.head[0] + s * width * 0.20, frame.head[1] + height * 0.50), -90, size, 0.026),
            "white",
        )
        for s in (-1, 1)
    ]


def blossom_tail(frame: Frame, rng: random.Random) -> list[Part]:
    """A curl."""
    side = 1 if frame.tail_angle < 90 else -1
    turns = np.linspace(0, 1.45 * math.pi, 12)
    middle = (frame.tail[0] + side * 0.075, frame.tail[1] - 0.03)
    inner: list[Point] = []
    outer: list[Point] = []
    for turn in turns:
        radius = 0.075 * (1 - 0.055 * turn)
        for rim, wide in ((outer, 0.02), (inner, -0.02)):
            reach = radius + wide
            rim.append((middle[0] - side * reach * math.cos(turn), middle[1] + reach * math.sin(turn)))
    return [Part(smooth(outer + inner[::-1], pieces=3), "body")]


def blossom_ears(frame: Frame, rng: random.Random) -> list[Part]:
    """Round."""
    parts = []
    size = rng.uniform(0.065, 0.085)
    for root, angle in _ears(frame):
        middle = at_rim(root, (0.03, 0.03), angle)
        parts += [
            Part(oval(middle, (size, size)), "body", shaded=True),
            Part(oval(middle, (size * 0.58, size * 0.58)), "belly"),
        ]
    return parts


def blossom_crest(frame: Frame, rng: random.Random) -> list[Part]:
    """A flower above one ear, and one at the neck's other side."""
    side = rng.choice((-1, 1))
    parts = _flower(
        at_rim(frame.head, frame.head_size, 90 - side * rng.uniform(18, 30), 0.98),
        rng.uniform(0.055, 0.07),
        rng,
    )
    if rng.random() < 0.5:
        parts += _flower(at_rim(frame.torso, frame.torso_size, 200 if side > 0 else -20, 0.75), 0.045, rng)
    return parts


def _flower(middle: Point, size: float, rng: random.Random) -> list[Part]:
    start = rng.uniform(0, 72)
    petals = [
        Part(
            oval(
                at_rim(middle, (size * 0.75, size * 0.75), start + 72 * i),
                (size * 0.55, size * 0.55),
                count=18,
            ),
            "growth",
        )
        for i in range(5)
    ]
    return [*petals, Part(oval(middle, (size * 0.45, size * 0.45), count=16), "flame")]


def stone_tail(frame: Frame, rng: random.Random) -> list[Part]:
    """Plates along the back, and a club."""
    parts = []
    for (at, angle), high in zip(frame.back, (0.12, 0.14, 0.13, 0.10), strict=True):
        parts.append(Part(shard(at, angle, high * rng.uniform(0.9, 1.1), 0.11), "growth"))
    stem = at_rim(frame.tail, (0.13, 0.13), frame.tail_angle - 8)
    parts += [
        Part(limb(frame.tail, stem, 0.05, 0.03), "body", shaded=True),
        *(Part(shard(stem, frame.tail_angle + turn, 0.095, 0.05), "growth") for turn in (-75, 75, 0)),
        Part(oval(stem, (0.055, 0.05)), "growth"),
    ]
    return parts


def stone_ears(frame: Frame, rng: random.Random) -> list[Part]:
    """Stumps of horn at the sides."""
    length = rng.uniform(0.08, 0.11)
    return [
        Part(shard(at_rim(frame.head, frame.head_size, at, 0.85), at, length, 0.075), "growth")
        for at in (22, 158)
    ]


def stone_crest(frame: Frame, rng: random.Random) -> list[Part]:
    """A row of three plates, and cracks on the brow."""
    parts = [
        Part(
            shard(at_rim(frame.head, frame.head_size, at, 0.93), at, high * rng.uniform(0.9, 1.1), 0.085),
            "growth",
        )
        for at, high in ((118, 0.08), (62, 0.08), (90, 0.11))
    ]
    x, y = at_rim(frame.head, frame.head_size, 60, 0.62)
    crack = ((x, y - 0.02), (x + 0.02, y), (x + 0.005, y + 0.012), (x + 0.025, y + 0.03))
    parts.append(Part(crack, "ink", closed=False))
    return parts


def frost_tail(frame: Frame, rng: random.Random) -> list[Part]:
    """A cloud."""
    middle = at_rim(frame.tail, (0.12, 0.12), frame.tail_angle)
    size = rng.uniform(0.085, 0.10)
    rim = []
    for i in range(8):
        rim.append(at_rim(middle, (size, size), 45 * i))
        rim.append(at_rim(middle, (size * 1.22, size * 1.22), 45 * i + 22))
    return [Part(smooth(rim, pieces=4), "belly")]


def frost_ears(frame: Frame, rng: random.Random) -> list[Part]:
    """Fluffy, hanging."""
    parts = []
    length = rng.uniform(0.13, 0.17)
    for s in (1, -1):
        root = at_rim(frame.head, frame.head_size, 35 if s > 0 else 145, 0.9)
        parts.append(Part(leaf(root, -38 if s > 0 else 218, length, 0.095), "belly"))
    return parts


def frost_crest(frame: Frame, rng: random.Random) -> list[Part]:
    """A crown of crystals."""
    parts = []
    for at, high in ((122, 0.10), (58, 0.10), (90, 0.15)):
        root, high = at_rim(frame.head, frame.head_size, at, 0.92), high * rng.uniform(0.9, 1.15)
        parts.append(Part(shard(root, (at + 90) / 2, high, 0.06, tip=0.55), "growth"))
        parts.append(Part((root, at_rim(root, (high * 0.8, high * 0.8), (at + 90) / 2)), "ink", closed=False))
    return parts


GROWTHS: dict[str, tuple[Growth, Growth, Growth]] = {
    "leaf": (leaf_tail, leaf_ears, leaf_crest),
    "ember": (ember_tail, ember_ears, ember_crest),
    "tide": (tide_tail, tide_ears, tide_crest),
    "spark": (spark_tail, spark_ears, spark_crest),
    "shade": (shade_tail, shade_ears, shade_crest),
    "blossom": (blossom_tail, blossom_ears, blossom_crest),
    "stone": (stone_tail, stone_ears, stone_crest),
    "frost": (frost_tail, frost_ears, frost_crest),
}
