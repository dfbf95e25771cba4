"""What is drawn on the skin: patterns, a belly, a face."""

from __future__ import annotations

import random

from tf_serving.pix2pix.creatures.outlines import at_rim, oval, shard, smooth
from tf_serving.pix2pix.creatures.parts import Creature, Frame, Part

PATTERNS = ("plain", "spots", "stripes")
# how far below the torso's middle, how wide, how high, in shares of the torso
SPOTS = ((152, 0.74, 0.034), (118, 0.80, 0.026), (70, 0.82, 0.024), (32, 0.76, 0.036), (5, 0.86, 0.024))
BELLIES = {"hopper": (0.62, 0.58, 0.44), "biped": (0.42, 0.64, 0.62), "quadruped": (0.85, 0.72, 0.50)}


def decorate(made: Creature, frame: Frame, torso: int, rng: random.Random) -> None:
    (x, y), (width, height) = frame.torso, frame.torso_size
    if made.pattern == "stripes":
        for s in (-1, 1):
            for share in (-0.32, 0.08, 0.48):
                root = (x + s * width * 1.02, y + height * share)
                made.add(Part(shard(root, 180 if s > 0 else 0, width * 0.48, 0.05), "mark", clip=torso))
    low, wide, high = BELLIES[made.build]
    made.add(Part(oval((x, y + height * low), (width * wide, height * high)), "belly", clip=torso))
    if made.pattern == "spots":
        for at, reach, size in SPOTS:
            middle = at_rim(frame.torso, frame.torso_size, at + rng.uniform(-8, 8), reach)
            made.add(Part(oval(middle, (size, size * 0.9), count=16), "mark", clip=torso))


def mark_head(made: Creature, frame: Frame, head: int, rng: random.Random) -> None:
    if made.pattern == "stripes":
        for at in (72, 90, 108):
            made.add(
                Part(
                    shard(at_rim(frame.head, frame.head_size, at, 1.03), at + 180, 0.075, 0.032),
                    "mark",
                    clip=head,
                )
            )
    elif made.pattern == "spots":
        for at in (58, 124):
            middle = at_rim(frame.head, frame.head_size, at + rng.uniform(-6, 6), 0.70)
            made.add(Part(oval(middle, (0.022, 0.02), count=16), "mark", clip=head))


def face(frame: Frame, rng: random.Random) -> list[Part]:
    (x, y), (width, height) = frame.head, frame.head_size
    apart, size = width * rng.uniform(0.36, 0.46), rng.uniform(0.036, 0.048)
    look, up = rng.uniform(-0.3, 0.3), y + height * rng.uniform(-0.08, 0.08)
    parts = []
    for s in (-1, 1):
        eye = (x + s * apart, up)
        pupil = (eye[0] + look * size * 0.5, eye[1] + size * 0.08)
        glint = (pupil[0] - size * 0.2, pupil[1] - size * 0.28)
        parts += [
            Part(oval(eye, (size, size * 1.12)), "white"),
            Part(oval(pupil, (size * 0.62, size * 0.72), count=20), "pupil"),
            Part(oval(glint, (size * 0.24, size * 0.24), count=12), "white", rim=False),
        ]  # fmt: skip
    mouth, wide = y + height * rng.uniform(0.40, 0.50), width * rng.uniform(0.16, 0.26)
    if rng.random() < 0.35:  # open, with a tongue
        low = mouth + wide * 0.8
        upper = [(x - wide, mouth), (x, mouth + 0.006), (x + wide, mouth)]
        lower = [(x + wide * 0.6, low), (x, low + 0.01), (x - wide * 0.6, low)]
        parts.append(Part(smooth(upper + lower), "tongue"))
    else:
        smile = [(x - wide, mouth), (x, mouth + wide * rng.uniform(0.2, 0.5)), (x + wide, mouth)]
        parts.append(Part(smooth(smile, closed=False), "ink", closed=False))
    return parts
