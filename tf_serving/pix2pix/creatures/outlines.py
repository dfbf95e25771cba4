"""Outlines: a few numbers in, the points of a rim out. Angles are in degrees, 90 is upwards."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np

from tf_serving.pix2pix.creatures.parts import Point


def smooth(points: Sequence[Point], closed: bool = True, pieces: int = 6) -> tuple[Point, ...]:
    """A Catmull-Rom curve through the points."""
    p = np.asarray(points, dtype=np.float64)
    count = len(p)
    if closed:
        before, after, beyond = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0)
    else:
        wide = np.concatenate([p[:1], p, p[-1:], p[-1:]])
        before, p, after, beyond = wide[:count], wide[1 : count + 1], wide[2 : count + 2], wide[3 : count + 3]
    t = np.linspace(0, 1, pieces, endpoint=False)[None, :, None]
    a, b, c, d = before[:, None], p[:, None], after[:, None], beyond[:, None]
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    if not closed:
        curve = np.concatenate([curve[:-1].reshape(-1, 2), p[-1:]])
    return tuple((float(x), float(y)) for x, y in curve.reshape(-1, 2))


def oval(middle: Point, size: Point, turn: float = 0.0, count: int = 28) -> tuple[Point, ...]:
    out = []
    for i in range(count):
        angle = 2 * math.pi * i / count
        x, y = size[0] * math.cos(angle), size[1] * math.sin(angle)
        out.append(turned((x, y), turn, middle))
    return tuple(out)


def body(middle: Point, size: Point, rng: random.Random) -> tuple[Point, ...]:
    """An oval that nature made: a little heavier below, a little uneven."""
    heavy, uneven, phase = rng.uniform(0.0, 0.10), rng.uniform(0, 0.025), rng.uniform(0, 6.3)
    out = []
    for i in range(30):
        angle = 2 * math.pi * i / 30
        swell = 1 + heavy * math.sin(angle) + uneven * math.sin(3 * angle + phase)
        out.append(
            (middle[0] + size[0] * swell * math.cos(angle), middle[1] + size[1] * swell * math.sin(angle))
        )
    return smooth(out, pieces=2)


def limb(start: Point, end: Point, wide: float, narrow: float) -> tuple[Point, ...]:
    """A limb with round ends."""
    angle = math.atan2(end[1] - start[1], end[0] - start[0])
    out = [
        (start[0] + wide * math.cos(angle + a), start[1] + wide * math.sin(angle + a))
        for a in np.linspace(math.pi / 2, 3 * math.pi / 2, 7)
    ]
    out += [
        (end[0] + narrow * math.cos(angle + a), end[1] + narrow * math.sin(angle + a))
        for a in np.linspace(-math.pi / 2, math.pi / 2, 7)
    ]
    return smooth(out, pieces=3)


def leaf(root: Point, angle: float, length: float, width: float, bend: float = 0.0) -> tuple[Point, ...]:
    """Pointed at its end, round at its sides; `angle` is in degrees, 90 points up."""
    over = [(0.0, 0.0), (0.25, 0.75), (0.55, 1.0), (0.85, 0.45)]
    under = [(1.0, 0.0), (0.85, -0.45), (0.55, -1.0), (0.25, -0.75)]
    local = [(length * x, width / 2 * y + bend * length * x * x) for x, y in over + under]
    return smooth([turned(p, -math.radians(angle), root) for p in local], pieces=4)


def shard(root: Point, angle: float, length: float, width: float, tip: float = 1.0) -> tuple[Point, ...]:
    """Straight sides: a thorn, or with `tip` below one a crystal, whose widest place is there."""
    if tip < 1:
        over = [(0.0, width * 0.3), (length * tip, width / 2)]
        local = [*over, (length, 0.0), *((x, -y) for x, y in over[::-1])]
    else:
        local = [(0.0, width / 2), (length, 0.0), (0.0, -width / 2)]
    return tuple(turned(p, -math.radians(angle), root) for p in local)


def turned(point: Point, turn: float, about: Point = (0.0, 0.0)) -> Point:
    cos, sin = math.cos(turn), math.sin(turn)
    return about[0] + point[0] * cos - point[1] * sin, about[1] + point[0] * sin + point[1] * cos


def at_rim(middle: Point, size: Point, angle: float, reach: float = 1.0) -> Point:
    """On the rim of an oval (or, with `reach`, inside or outside of it), in degrees, 90 is its top."""
    turn = math.radians(angle)
    return middle[0] + reach * size[0] * math.cos(turn), middle[1] - reach * size[1] * math.sin(turn)
