"""Surfaces: in goes a size and a generator of chance, out comes a picture without a subject (RGB, 0 to 1).

What is drawn has the statistics of photographs more than their look: power falls with frequency, things of all sizes
hide each other ("dead leaves", Lee, Mumford, Huang 2001), light falls from one side, far things are out of focus.
"""

from __future__ import annotations

import colorsys
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Map = NDArray[Any]  # of float32
Chance = np.random.Generator
FALLS = (0.3, 0.45, 0.6, 0.75, 0.9)  # by how much each octave is weaker than the one before
FIELDS, FIELD_SIDE = 4, 640


def colour(chance: Chance, like: Map | None = None, near: float = 0.15) -> Map:
    """A colour as photographs have them, seldom a loud one; `like` is one that it shall be near to."""
    if like is not None:
        return np.clip(like + chance.normal(0, near, 3), 0, 1).astype(np.float32)
    saturation = float(chance.beta(1.0, 2.6))
    value = float(chance.beta(1.6, 1.3))
    return np.array(colorsys.hsv_to_rgb(float(chance.random()), saturation, value), np.float32)


def cloud(chance: Chance, side: int, channels: int = 1, slope: float | None = None, first: int = 0) -> Map:
    """Noise whose power falls with frequency, about 0 with a deviation of about 1; a larger `first` is finer."""
    fall = float(chance.uniform(0.35, 0.9)) if slope is None else slope
    step = min(range(len(FALLS)), key=lambda at: abs(FALLS[at] - fall))
    made = np.empty((side, side, channels), np.float32)
    for channel in range(channels):
        field = _field(step, first, int(chance.integers(FIELDS)))
        top, left = chance.integers(0, FIELD_SIDE - side + 1, 2)
        piece = field[top : top + side, left : left + side]
        made[..., channel] = piece if chance.random() < 0.5 else piece.T[::-1]
    return made


@cache
def _field(step: int, first: int, number: int) -> Map:
    """A large field of noise, of which `cloud` takes pieces: to make one for each call takes ten times as long."""
    chance = np.random.default_rng([step, first, number])
    total = np.zeros((FIELD_SIDE, FIELD_SIDE), np.float32)
    weight, squares, cells = 1.0, 0.0, 2 ** (2 + first)
    while cells < FIELD_SIDE:
        coarse = chance.standard_normal((cells + 1, cells + 1), dtype=np.float32)
        total += np.float32(weight) * cv2.resize(coarse, total.shape, interpolation=cv2.INTER_CUBIC)
        squares, weight, cells = squares + weight**2, weight * FALLS[step], cells * 2
    return np.asarray(total / np.float32(max(squares, 1e-6) ** 0.5))


def gradient(chance: Chance, side: int, first: Map, second: Map) -> Map:
    """From one colour to another, across or out of a point."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side - 0.5
    if chance.random() < 0.6:
        turn = chance.uniform(0, 2 * np.pi)
        run = x * np.cos(turn) + y * np.sin(turn) + 0.5
    else:
        run = np.hypot(x - chance.uniform(-0.4, 0.4), y - chance.uniform(-0.4, 0.4)) * 1.4
    run = np.clip(run, 0, 1)[..., None].astype(np.float32)
    return np.asarray(first * (1 - run) + second * run, np.float32)


def grain(chance: Chance, side: int, base: Map) -> Map:
    """One material: its colour, with noise in lightness and a little in hue."""
    strength = float(chance.gamma(1.5, 0.07))
    light = cloud(chance, side, 1, first=int(chance.integers(0, 4)))
    tint = cloud(chance, side, 3, 0.5) * chance.uniform(0, 0.05)
    return np.asarray(base + light * strength + tint, np.float32)


def pattern(chance: Chance, side: int, first: Map, second: Map) -> Map:
    """Stripes, checks, dots, planks or bricks, a little bent."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    bend = cloud(chance, side, 2, 0.3) * chance.choice([0.0, 0.01, 0.04])
    x, y = x + bend[..., 0], y + bend[..., 1]
    turn = chance.choice([0.0, np.pi / 2, chance.uniform(0, np.pi)])
    x, y = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    times = np.exp(chance.uniform(np.log(3), np.log(28)))
    hard = chance.uniform(1.5, 12)
    kind = chance.integers(5)
    if kind == 0:
        wave = np.sin(x * times * 2 * np.pi)
    elif kind == 1:
        wave = np.sin(x * times * np.pi) * np.sin(y * times * np.pi)
    elif kind == 2:
        wave = 0.35 - np.hypot((x * times) % 1 - 0.5, (y * times) % 1 - 0.5)
        hard *= 3
    elif kind == 3:
        wave = 0.42 - np.abs((x * times / 2) % 1 - 0.5)
        hard *= 3
    else:
        row = np.floor(y * times)
        wave = np.minimum(
            0.46 - np.abs((y * times) % 1 - 0.5), 0.48 - np.abs((x * times / 2 + row * 0.5) % 1 - 0.5)
        )
        hard *= 6
    share = (1 / (1 + np.exp(-np.clip(wave * hard, -30, 30))))[..., None].astype(np.float32)
    return np.asarray(first * (1 - share) + second * share, np.float32)


def surface(chance: Chance, side: int, like: Map | None = None) -> Map:
    """Any one material."""
    base = colour(chance, like)
    kind = chance.random()
    if kind < 0.3:
        made = grain(chance, side, base)
    elif kind < 0.5:
        made = gradient(chance, side, base, colour(chance, base, 0.3))
    elif kind < 0.68:
        made = pattern(chance, side, base, colour(chance, base, chance.choice([0.1, 0.3, 0.6])))
    elif kind < 0.85:
        share = 1 / (
            1 + np.exp(-cloud(chance, side, 1, first=int(chance.integers(0, 3))) * chance.uniform(1, 8))
        )
        made = base * (1 - share) + colour(chance, base, 0.35) * share
    else:
        made = base + np.zeros((side, side, 3), np.float32)
    if chance.random() < 0.5:
        made = made * (1 + cloud(chance, side, 1, 0.3) * chance.uniform(0, 0.15))
    return np.clip(made, 0, 1).astype(np.float32)


def leaves(chance: Chance, side: int) -> Map:
    """Things of all sizes in front of each other."""
    palette = [colour(chance) for _ in range(int(chance.integers(2, 7)))]
    made = surface(chance, side)
    for _ in range(int(chance.integers(15, 90))):
        radius = float(min(0.4, 0.02 * (1 - chance.random()) ** -0.7)) * side
        middle = chance.uniform(-0.1, 1.1, 2) * side
        tone = np.clip(palette[int(chance.integers(len(palette)))] + chance.normal(0, 0.06, 3), 0, 1)
        given = tuple(float(value) for value in tone)
        if chance.random() < 0.5:
            axes = (max(1, round(radius)), max(1, round(radius * chance.uniform(0.3, 1))))
            turn = float(chance.uniform(0, 180))
            at = (round(middle[0]), round(middle[1]))
            cv2.ellipse(made, at, axes, turn, 0, 360, given, -1, cv2.LINE_AA)
        else:
            turns = np.sort(chance.uniform(0, 2 * np.pi, int(chance.integers(3, 7))))
            points = middle + radius * np.stack([np.cos(turns), np.sin(turns)], 1)
            cv2.fillPoly(made, [np.round(points).astype(np.int32)], given, cv2.LINE_AA)
    return made * (1 + 0.3 * cloud(chance, side, 1, 0.7) * chance.random()).astype(np.float32)


def room(chance: Chance, side: int) -> Map:
    """A wall or sky over a ground, with boxes or blobs standing far away."""
    above, below = surface(chance, side), surface(chance, side)
    line = chance.uniform(0.3, 0.85) * side
    slant = chance.normal(0, 0.05)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    edge = (
        y - line - slant * (x - side / 2) + cloud(chance, side, 1, 0.5)[..., 0] * chance.choice([0, 0, 4, 14])
    )
    share = np.clip(edge + 0.5, 0, 1)[..., None]
    made = np.ascontiguousarray(above * (1 - share) + below * share, np.float32)
    for _ in range(int(chance.integers(0, 7))):
        width, height = chance.uniform(0.03, 0.35, 2) * side
        left, bottom = chance.uniform(-0.1, 1) * side, line + chance.uniform(-0.1, 0.1) * side
        tone = tuple(float(value) for value in colour(chance))
        corner, other = (round(left), round(bottom - height)), (round(left + width), round(bottom))
        if chance.random() < 0.6:
            cv2.rectangle(made, corner, other, tone, -1)
        else:
            at = (round(left + width / 2), round(bottom - height / 2))
            cv2.ellipse(made, at, (round(width / 2), round(height / 2)), 0, 0, 360, tone, -1, cv2.LINE_AA)
    return made


def behind(chance: Chance, side: int) -> Map:
    """A background of any kind, in or out of focus."""
    kind = chance.random()
    if kind < 0.28:
        made = surface(chance, side)
    elif kind < 0.55:
        made = leaves(chance, side)
    elif kind < 0.85:
        made = room(chance, side)
    else:
        made = np.clip(0.5 + 0.2 * cloud(chance, side, 3), 0, 1)
        made = np.clip(colour(chance) + (made - 0.5) * chance.uniform(0.3, 1.5), 0, 1)
    if chance.random() < 0.5:
        made = cv2.GaussianBlur(made, (0, 0), float(chance.gamma(2, side / 110)) + 0.3)
    return np.clip(made, 0, 1).astype(np.float32)
