"""Composites: in goes a seed, out come a picture with a subject and the subject's true alpha.

`scene(seed, side)` is always the same picture. Training takes seeds from 0; whoever judges takes them from `UNSEEN` on,
which no training reaches.
"""

from __future__ import annotations

import cv2
import numpy as np

from services.rmbg.micro import shapes
from services.rmbg.micro.textures import Chance, Map, behind, cloud, colour, surface

UNSEEN = 2**40
KINDS = ("person", "figure", "animal", "thing", "plant", "heap")
WEIGHTS = (0.26, 0.14, 0.2, 0.18, 0.1, 0.12)


def scene(seed: int, side: int = 256, kind: str | None = None) -> tuple[Map, Map]:
    """RGB as bytes, and alpha from 0 to 1; both `side` pixels square."""
    chance = np.random.default_rng(seed)
    chosen = kind or str(chance.choice(KINDS, p=WEIGHTS))
    alpha, parts = subject(chance, chosen, side)
    front = painted(chance, alpha, parts, chosen)
    back = behind(chance, side)
    if chance.random() < 0.3:  # beside the subject, of its own colours: what is harder to tell apart
        share = chance.uniform(0.3, 0.8)
        mean = front[alpha > 0.5].mean(axis=0) if (alpha > 0.5).any() else front.mean(axis=(0, 1))
        back = back * (1 - share) + (back - back.mean(axis=(0, 1)) + mean) * share
    if chance.random() < 0.35:
        back = shaded(chance, back, alpha)
    made = front * alpha[..., None] + back * (1 - alpha[..., None])
    return taken(chance, made), alpha


def subject(chance: Chance, kind: str, side: int) -> tuple[Map, Map]:
    """A subject's alpha and its parts, somewhere about the middle, large enough to be one."""
    for _ in range(8):
        parts = shapes.KINDS[kind](chance)
        tilt = chance.normal(0, 0.12 if kind in ("person", "figure", "animal") else 0.5)
        if kind == "person":
            scale, at = side * chance.uniform(0.28, 0.55), np.array([0.5, 0.42]) * side
            at += chance.normal(0, [0.1, 0.06]) * side
        else:
            scale = side * float(np.clip(chance.normal(0.34, 0.12), 0.14, 0.75))
            at = np.array([0.5, 0.52]) * side + chance.normal(0, 0.1, 2) * side
        if chance.random() < 0.5:
            parts = [(points * [-1, 1], part, hole) for points, part, hole in parts]
        alpha, number = shapes.drawn(parts, side, scale, at, tilt)
        if 0.03 < alpha.mean() < 0.85:
            break
    hairy = {"person": 0.6, "animal": 0.75, "plant": 0.15, "heap": 0.25}.get(kind, 0.05)
    if chance.random() < hairy:
        alpha = shapes.furred(chance, alpha)
    soft = chance.random()
    if soft < 0.35:
        alpha = cv2.GaussianBlur(alpha, (0, 0), float(chance.uniform(0.4, 0.4 + side / 110)))
    if chance.random() < 0.04:  # glass, gauze
        alpha = alpha * np.float32(chance.uniform(0.55, 0.9))
    return np.clip(alpha, 0, 1).astype(np.float32), number


def painted(chance: Chance, alpha: Map, number: Map, kind: str) -> Map:
    """The subject's colours: a material for each part, light from one side, darker towards the rim."""
    side = alpha.shape[0]
    base = colour(chance)
    near = chance.choice([0.08, 0.2, 0.5])
    front = np.zeros((side, side, 3), np.float32)
    for part in range(1, 6):
        mask = number == part
        if part == 1:  # where hairs stand off, the material of the first part goes on
            mask = mask | (number == 0)
        if not mask.any():
            continue
        if kind in ("person", "figure") and part == 2:
            tone = np.array([0.86, 0.64, 0.52]) * chance.uniform(0.35, 1.1) + chance.normal(0, 0.03, 3)
            made = np.clip(tone + 0.03 * cloud(chance, side), 0, 1).astype(np.float32)
        else:
            made = surface(chance, side, base if chance.random() < 0.7 else None)
            made = made * (1 - near) + surface(chance, side) * near if chance.random() < 0.3 else made
        front[mask] = made[mask]
    if kind == "person" and chance.random() < 0.8:
        face(chance, front, number)
    solid = (alpha > 0.5).astype(np.uint8)
    depth = cv2.distanceTransform(solid, cv2.DIST_L2, 3) / side
    round_ = np.sqrt(np.clip(depth * chance.uniform(4, 14), 0, 1)).astype(np.float32)
    smooth = cv2.GaussianBlur(round_, (0, 0), side / 60)
    turn = chance.uniform(0, 2 * np.pi)
    right, down = (np.asarray(cv2.Sobel(smooth, cv2.CV_32F, *way)) for way in ((1, 0), (0, 1)))
    slope = np.cos(turn) * right + np.sin(turn) * down
    light = 1 + chance.uniform(0, 0.35) * (smooth - 0.7) + chance.uniform(0, 1.6) * np.clip(slope, -0.4, 0.4)
    front = front * light[..., None]
    if kind == "animal" or chance.random() < 0.2:
        front = front * (1 + 0.12 * cloud(chance, side, 1, 0.9, first=3))
    return np.asarray(np.clip(front, 0, 1), np.float32)


def face(chance: Chance, front: Map, number: Map) -> None:
    """Eyes, brows and a mouth, drawn into the skin."""
    skin = np.argwhere(number == 2)
    if len(skin) < 200:
        return
    top, left = np.percentile(skin, 2, axis=0)
    low, right = np.percentile(skin, 98, axis=0)
    wide, middle = right - left, (left + right) / 2
    high = min(low - top, wide * 1.5)
    for way in (-1, 1):
        at = (round(middle + way * wide * 0.2), round(top + high * 0.4))
        cv2.ellipse(
            front, at, (max(1, round(wide * 0.07)), max(1, round(wide * 0.03))), 0, 0, 360, (0.12,) * 3, -1
        )
        brow = (at[0], round(at[1] - wide * 0.1))
        cv2.ellipse(
            front,
            brow,
            (max(1, round(wide * 0.1)), max(1, round(wide * 0.02))),
            0,
            0,
            360,
            (0.2, 0.14, 0.1),
            -1,
        )
    mouth = (round(middle), round(top + high * 0.75))
    red = (float(chance.uniform(0.45, 0.8)), 0.25, 0.25)
    cv2.ellipse(front, mouth, (max(1, round(wide * 0.15)), max(1, round(wide * 0.04))), 0, 0, 360, red, -1)


def shaded(chance: Chance, back: Map, alpha: Map) -> Map:
    """The subject's shadow on what is behind it: dark, and no part of the subject."""
    side = alpha.shape[0]
    move = np.array(
        [[1, 0, chance.normal(0, 0.06) * side], [0, 1, abs(chance.normal(0, 0.05)) * side]], np.float32
    )
    cast = cv2.GaussianBlur(
        cv2.warpAffine(alpha, move, (side, side)), (0, 0), side * chance.uniform(0.01, 0.06)
    )
    return np.asarray(back * (1 - chance.uniform(0.2, 0.7) * cast[..., None]), np.float32)


def taken(chance: Chance, made: Map) -> Map:
    """As a camera gives it: exposure, colour of the light, haze, noise, JPEG."""
    made = np.clip(made, 0, 1) ** np.float32(np.exp(chance.normal(0, 0.3)))
    made = made * chance.uniform(0.75, 1.2) * (1 + chance.normal(0, 0.06, 3))
    if chance.random() < 0.15:
        made = made * (1 - (haze := chance.uniform(0.1, 0.4))) + haze * chance.uniform(0.3, 0.9)
    if chance.random() < 0.12:
        made = np.repeat(made.mean(axis=2, keepdims=True), 3, axis=2)
    if chance.random() < 0.25:
        made = cv2.GaussianBlur(made, (0, 0), float(chance.uniform(0.3, made.shape[0] / 170)))
    if chance.random() < 0.5:
        made = made + chance.standard_normal(made.shape, dtype=np.float32) * chance.uniform(0, 0.05)
    picture = np.clip(made * 255 + 0.5, 0, 255).astype(np.uint8)
    if chance.random() < 0.4:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(chance.integers(35, 95))]
        _, coded = cv2.imencode(".jpg", picture, quality)
        picture = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return np.asarray(picture)
