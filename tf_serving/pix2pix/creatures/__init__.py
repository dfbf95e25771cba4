"""A world to learn: out of a seed comes a creature, and out of a creature its picture in colour and its sketch.

There are eight kinds. What grows on a creature tells its kind (leaves, flames, fins, bolts, bat's wings, flowers,
plates, crystals), and the kind tells its colours, so that a sketch says how it is to be coloured. Build, pose,
proportions, pattern and the shade within the kind's colours are free. A creature is a list of parts from back to
front; the picture fills each part and shades it, the sketch fills it with paper and draws its rim, by hand as it
were.
"""

from __future__ import annotations

import colorsys
import random
from pathlib import Path

from PIL import Image

from tf_serving.pix2pix.creatures.bodies import BODIES
from tf_serving.pix2pix.creatures.drawing import INK, WHITE, picture, sketch
from tf_serving.pix2pix.creatures.growths import GROWTHS
from tf_serving.pix2pix.creatures.outlines import body
from tf_serving.pix2pix.creatures.parts import Colour, Creature, Part
from tf_serving.pix2pix.creatures.skin import PATTERNS, decorate, face, mark_head

PUPIL = (34, 30, 44)
Shade = tuple[float, float, float]  # hue (0 to 360), saturation, value
TINTS = ("body", "belly", "growth", "mark")
PALETTES: dict[str, tuple[Shade, Shade, Shade, Shade]] = {
    "leaf": ((96, 0.52, 0.74), (72, 0.28, 0.95), (130, 0.68, 0.58), (112, 0.62, 0.56)),
    "ember": ((20, 0.72, 0.95), (42, 0.32, 0.99), (4, 0.78, 0.88), (12, 0.76, 0.74)),
    "tide": ((205, 0.58, 0.87), (188, 0.20, 0.98), (222, 0.68, 0.72), (214, 0.66, 0.64)),
    "spark": ((52, 0.66, 0.98), (56, 0.24, 1.00), (228, 0.34, 0.40), (40, 0.78, 0.74)),
    "shade": ((272, 0.42, 0.66), (285, 0.18, 0.88), (282, 0.55, 0.40), (268, 0.52, 0.46)),
    "blossom": ((338, 0.34, 0.97), (20, 0.10, 1.00), (326, 0.62, 0.86), (334, 0.56, 0.84)),
    "stone": ((32, 0.26, 0.66), (40, 0.18, 0.86), (24, 0.36, 0.44), (28, 0.32, 0.50)),
    "frost": ((176, 0.22, 0.95), (180, 0.06, 1.00), (192, 0.42, 0.88), (182, 0.38, 0.80)),
}  # fmt: skip
KINDS, BUILDS = tuple(PALETTES), tuple(BODIES)


def creature(seed: int, kind: str | None = None, build: str | None = None) -> Creature:
    """The creature of a seed."""
    rng = random.Random(seed)
    kind = kind or rng.choice(KINDS)
    build = build or rng.choice(BUILDS)
    made = Creature(kind, build, rng.choice(PATTERNS), tints(kind, rng))
    frame, limbs, front = BODIES[build](rng)
    tail, ears, crest = GROWTHS[kind]
    made.ground = limbs.ground
    made.add(*tail(frame, rng))
    made.add(*limbs.behind)
    torso = made.add(Part(body(frame.torso, frame.torso_size, rng), "body", shaded=True))
    decorate(made, frame, torso, rng)
    made.add(*front)
    made.add(*ears(frame, rng))
    if build != "hopper":
        head = made.add(Part(body(frame.head, frame.head_size, rng), "body", shaded=True))
        mark_head(made, frame, head, rng)
    made.add(*crest(frame, rng))
    made.add(*face(frame, rng))
    return made


def tints(kind: str, rng: random.Random) -> dict[str, Colour]:
    """The kind's colours, a little different in each creature."""
    turn, pale, light = rng.gauss(0, 3.5), rng.gauss(0, 0.03), rng.gauss(0, 0.02)
    out: dict[str, Colour] = {"white": WHITE, "pupil": PUPIL, "ink": INK}
    for name, (hue, saturation, value) in zip(TINTS, PALETTES[kind], strict=True):
        red, green, blue = colorsys.hsv_to_rgb(
            ((hue + turn) % 360) / 360, min(1, max(0, saturation + pale)), min(1, value + light)
        )
        out[name] = (round(255 * red), round(255 * green), round(255 * blue))
    out["flame"], out["cheek"], out["tongue"] = (255, 214, 84), (246, 140, 140), (226, 92, 104)
    out["bone"] = (250, 240, 214)
    return out


def pair(seed: int, side: int) -> tuple[Image.Image, Image.Image]:
    """The sketch and the picture of a seed."""
    made = creature(seed)
    return sketch(made, side, seed), picture(made, side)


def write_one(folder: Path, seed: int, side: int, sketch_left: bool = True) -> Path:
    """Both side by side in one file."""
    drawn, painted = pair(seed, side)
    both = Image.new("RGB", (2 * side, side))
    both.paste(drawn, (0 if sketch_left else side, 0))
    both.paste(painted, (side if sketch_left else 0, 0))
    path = folder / f"creature-{seed:06d}.png"
    both.save(path)
    return path
