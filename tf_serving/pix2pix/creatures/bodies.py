"""Bodies: out of a random generator come a frame, on which things grow, and limbs, behind the torso and before it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tf_serving.pix2pix.creatures.outlines import at_rim, limb, oval
from tf_serving.pix2pix.creatures.parts import Frame, Part, Point


@dataclass(frozen=True)
class Limbs:
    behind: tuple[Part, ...]
    ground: tuple[float, float, float]


Body = tuple[Frame, Limbs, tuple[Part, ...]]


def hopper(rng: random.Random) -> Body:
    """All head: a ball with feet."""
    middle = (0.5 + rng.uniform(-0.03, 0.03), rng.uniform(0.56, 0.60))
    size = (rng.uniform(0.23, 0.28), rng.uniform(0.21, 0.26))
    bottom, side = middle[1] + size[1], rng.choice((-1, 1))
    apart, foot = rng.uniform(0.10, 0.14), rng.uniform(0.055, 0.075)
    feet = tuple(
        Part(oval((middle[0] + s * apart, bottom + 0.01), (foot * 1.15, foot * 0.75)), "body", shaded=True)
        for s in (-1, 1)
    )
    lift = rng.uniform(-30, 55)
    arms = []
    for s in (-1, 1):
        angle = lift if s > 0 else 180 - lift
        root = at_rim(middle, size, -12 if s > 0 else 192, 0.93)
        arms.append(Part(limb(root, at_rim(root, (0.10, 0.10), angle), 0.04, 0.034), "body", shaded=True))
    frame = Frame(
        middle, size, at_rim(middle, size, -28 if side > 0 else 208, 0.9), 25 if side > 0 else 155,
        _back(middle, size, side), middle, size,
    )  # fmt: skip
    return frame, Limbs((*feet, *arms), (middle[0], bottom + 0.035, size[0] * 0.95)), ()


def biped(rng: random.Random) -> Body:
    """Stands: a head on a torso, arms that wave or rest."""
    x = 0.5 + rng.uniform(-0.03, 0.03)
    torso, torso_size = (x, 0.68), (rng.uniform(0.15, 0.185), rng.uniform(0.16, 0.18))
    head_size = (rng.uniform(0.17, 0.21), rng.uniform(0.145, 0.175))
    head = (x + rng.uniform(-0.02, 0.02), torso[1] - torso_size[1] - head_size[1] * rng.uniform(0.55, 0.7))
    side = rng.choice((-1, 1))
    bottom = torso[1] + torso_size[1]
    legs = []
    for s in (-1, 1):
        hip = (x + s * torso_size[0] * 0.55, bottom - 0.05)
        legs.append(Part(limb(hip, (hip[0] + s * 0.02, bottom + 0.04), 0.06, 0.05), "body", shaded=True))
        legs.append(Part(oval((hip[0] + s * 0.035, bottom + 0.06), (0.07, 0.038)), "body", shaded=True))
    arms = []
    for s in (-1, 1):
        angle = rng.uniform(-65, 50)
        root = at_rim(torso, torso_size, 38 if s > 0 else 142, 0.85)
        end = at_rim(root, (0.15, 0.15), angle if s > 0 else 180 - angle)
        arms.append(Part(limb(root, end, 0.045, 0.036), "body", shaded=True))
    frame = Frame(
        head, head_size, at_rim(torso, torso_size, -35 if side > 0 else 215, 0.85), 20 if side > 0 else 160,
        _back(torso, torso_size, side), torso, torso_size,
    )  # fmt: skip
    return frame, Limbs(tuple(legs), (x, bottom + 0.08, torso_size[0] * 1.25)), tuple(arms)


def quadruped(rng: random.Random) -> Body:
    """Stands on four, seen from its side, and looks at us."""
    side = rng.choice((-1, 1))  # where its head is
    torso = (0.5 - side * 0.04, 0.64)
    torso_size = (rng.uniform(0.21, 0.25), rng.uniform(0.125, 0.16))
    head_size = (rng.uniform(0.145, 0.175), rng.uniform(0.125, 0.155))
    head = (torso[0] + side * torso_size[0] * 0.85, torso[1] - torso_size[1] * rng.uniform(0.95, 1.25))
    bottom = torso[1] + torso_size[1]
    length = rng.uniform(0.07, 0.11)

    def leg(share: float, stride: float, shaded: bool) -> Part:
        hip = (torso[0] + side * torso_size[0] * share, bottom - 0.045)
        return Part(limb(hip, (hip[0] + side * stride, bottom + length), 0.052, 0.042), "body", shaded=shaded)

    stride = rng.uniform(-0.03, 0.04)
    far = (leg(0.78, -stride, True), leg(-0.40, stride, True))
    near = (leg(0.48, stride, True), leg(-0.70, -stride, True))
    along = (150.0, 128.0, 106.0, 84.0) if side > 0 else (30.0, 52.0, 74.0, 96.0)
    back = tuple((at_rim(torso, torso_size, angle, 0.93), angle) for angle in along)
    frame = Frame(
        head, head_size, at_rim(torso, torso_size, 160 if side > 0 else 20, 0.9), 140 if side > 0 else 40,
        back,
        torso, torso_size,
    )  # fmt: skip
    return frame, Limbs(far, (torso[0], bottom + length + 0.035, torso_size[0] * 1.1)), near


def _back(middle: Point, size: Point, side: int) -> tuple[tuple[Point, float], ...]:
    angles = (70, 45, 20, -5) if side > 0 else (110, 135, 160, 185)
    return tuple((at_rim(middle, size, a, 0.93), float(a)) for a in angles)


BODIES: dict[str, Callable[[random.Random], Body]] = {
    "hopper": hopper, "biped": biped, "quadruped": quadruped,
}  # fmt: skip
