"""Outlines: in goes a generator of chance, out comes a subject's alpha, whole and by its parts (0 to 1).

Parts are drawn at twice the size and shrunk, so that edges are as soft as a lens makes them; hair and fur are drawn as
thin lines along the outline.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from services.rmbg.micro.textures import Chance, Map, cloud

Points = Map
FINE = 2  # drawn so many times larger
SHIFT = 4  # OpenCV's points in sixteenths of a pixel


def blob(chance: Chance, wobble: float = 0.3) -> Points:
    """A closed smooth line about the origin, of a radius of about 1."""
    turns = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    radius = np.ones_like(turns)
    for wave in range(1, 7):
        radius += wobble / wave * chance.normal() * np.cos(wave * turns + chance.uniform(0, 2 * np.pi)) * 0.6
    radius = np.clip(radius, 0.25, 2.0)
    return np.stack([np.cos(turns) * radius, np.sin(turns) * radius], 1)


def ellipse(wide: float, high: float) -> Points:
    turns = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    return np.stack([np.cos(turns) * wide, np.sin(turns) * high], 1)


def box(wide: float, high: float, taper: float = 0.0) -> Points:
    """A trapezium; `taper` is by how much its top is narrower."""
    top = wide * (1 - taper)
    return np.array([[-top, -high], [top, -high], [wide, high], [-wide, high]])


def leaf(long: float, wide: float) -> Points:
    along = np.linspace(0, 1, 24)
    half = np.sin(along * np.pi) ** 0.8 * wide
    return np.concatenate([np.stack([along * long, half], 1), np.stack([along * long, -half], 1)[::-1]])


def limb(start: Points, end: Points, first: float, last: float) -> Points:
    """A thick line with a thickness at each end."""
    way = np.asarray(end, float) - start
    across = np.array([-way[1], way[0]]) / (np.linalg.norm(way) + 1e-6)
    around = np.linspace(0, np.pi, 12)
    turn = np.arctan2(across[1], across[0])
    near = np.stack([np.cos(turn + around), np.sin(turn + around)], 1) * first + start
    far = np.stack([np.cos(turn + np.pi + around), np.sin(turn + np.pi + around)], 1) * last + end
    return np.concatenate([near, far])


def by(right: float, down: float) -> Points:
    """A way to move."""
    return np.array([right, down])


def turned(points: Points, angle: float) -> Points:
    c, s = np.cos(angle), np.sin(angle)
    return np.asarray(points @ np.array([[c, s], [-s, c]]))


# ── what stands in the picture: lists of (points, part's number, whether it is a hole) ────────────────────────────

Part = tuple[Points, int, bool]


def person(chance: Chance) -> list[Part]:
    """Head, hair, neck, shoulders and chest, down past the lower border."""
    head = chance.uniform(0.26, 0.38)
    long = chance.uniform(0.15, 0.9)
    shoulder, neck = chance.uniform(0.65, 1.05), head * chance.uniform(0.5, 0.75)
    lean = chance.normal(0, 0.06)
    chest = np.array(
        [
            [-neck, 0.42],
            [neck, 0.42],
            [shoulder * 0.8, 0.62],
            [shoulder, 0.85],
            [shoulder * 1.05, 2.6],
            [-shoulder * 1.05, 2.6],
            [-shoulder, 0.85],
            [-shoulder * 0.8, 0.62],
        ]
    )
    hair = blob(chance, 0.16) * [head * chance.uniform(1.1, 1.5), head * 1.35] + by(lean, -0.06)
    parts: list[Part] = [(hair, 0, False)]
    if chance.random() < 0.5:
        fall = box(head * chance.uniform(1.0, 1.5), long / 2, -0.1) + by(lean, long / 2)
        parts.append((fall, 0, False))
    parts += [
        (box(neck, 0.25) + by(0, 0.35), 1, False),
        (chest, 2, False),
        (ellipse(head, head * 1.28) + by(lean, 0.06), 1, False),
    ]
    if chance.random() < 0.4:
        for side in (-1, 1):
            if chance.random() < 0.7:
                elbow = np.array([side * shoulder * chance.uniform(1.1, 1.6), chance.uniform(0.9, 1.5)])
                hand = elbow + chance.uniform(-0.6, 0.6, 2)
                parts.append((limb(np.array([side * shoulder * 0.85, 0.8]), elbow, 0.2, 0.15), 2, False))
                parts.append((limb(elbow, hand, 0.15, 0.1), 1, False))
    return parts


def figure(chance: Chance) -> list[Part]:
    """Somebody standing, from head to feet."""
    parts: list[Part] = [(ellipse(0.13, 0.17) + by(0, -0.85), 1, False)]
    parts.append((blob(chance, 0.15) * 0.17 + by(0, -0.92), 0, False))
    wide = chance.uniform(0.2, 0.34)
    parts.append((box(wide, 0.38, chance.uniform(-0.3, 0.3)) + by(0, -0.3), 2, False))
    for side in (-1, 1):
        elbow = np.array([side * (wide + chance.uniform(0.02, 0.35)), chance.uniform(-0.6, -0.1)])
        hand = elbow + by(side * chance.uniform(-0.1, 0.25), chance.uniform(-0.4, 0.35))
        parts.append((limb(np.array([side * wide * 0.9, -0.6]), elbow, 0.09, 0.07), 2, False))
        parts.append((limb(elbow, hand, 0.07, 0.05), 1, False))
        foot = np.array([side * chance.uniform(0.05, 0.4), chance.uniform(0.8, 1.05)])
        parts.append((limb(np.array([side * wide * 0.5, 0.0]), foot, 0.13, 0.08), 3, False))
    return parts


def animal(chance: Chance) -> list[Part]:
    """A body with a head, ears, legs and a tail."""
    if chance.random() < 0.45:  # its face and shoulders alone
        ear = chance.uniform(0.25, 0.6)
        parts: list[Part] = [(blob(chance, 0.12) * [0.75, 0.68], 0, False)]
        for side in (-1, 1):
            points = np.array([[side * 0.2, -0.5], [side * 0.68, -0.25], [side * 0.6, -0.55 - ear]])
            parts.append((points, 0 if chance.random() < 0.7 else 1, False))
        parts.append((blob(chance, 0.2) * [1.1, 0.9] + by(chance.normal(0, 0.3), 1.0), 0, False))
        parts.append((ellipse(0.3, 0.22) + by(0, 0.25), 2, False))
        return parts
    parts = [(blob(chance, 0.15) * [0.85, 0.42], 0, False)]
    for at in (-0.65, -0.4, 0.4, 0.65):
        foot = np.array([at + chance.normal(0, 0.12), chance.uniform(0.75, 1.0)])
        parts.append((limb(np.array([at, 0.1]), foot, 0.14, 0.07), 0, False))
    way = chance.choice([-1, 1])
    nose = np.array([way * chance.uniform(0.85, 1.15), chance.uniform(-0.75, -0.2)])
    parts.append((limb(np.array([way * 0.6, -0.1]), nose, 0.25, 0.2), 0, False))
    parts.append((blob(chance, 0.15) * 0.3 + nose, 0, False))
    parts.append((np.array([[0.1, 0.0], [-0.15, 0.0], [0.0, -0.4]]) + nose - by(0, 0.2), 1, False))
    tail = np.array([-way * chance.uniform(1.0, 1.5), chance.uniform(-0.7, 0.3)])
    parts.append((limb(np.array([-way * 0.75, -0.1]), tail, 0.12, 0.05), 0, False))
    return parts


def thing(chance: Chance) -> list[Part]:
    """A cup, a bottle, a ring, a box, a lamp: turned and moulded things, some with holes to look through."""
    kind = chance.integers(5)
    if kind == 0:  # a cup on its saucer
        parts: list[Part] = [(ellipse(1.1, 0.3) + by(0, 0.62), 3, False)] if chance.random() < 0.6 else []
        parts += [(ellipse(0.4, 0.38) + by(0.72, 0), 1, False), (ellipse(0.22, 0.22) + by(0.74, 0), 1, True)]
        parts += [(box(0.5, 0.55, -0.4), 1, False), (ellipse(0.5, 0.16) + by(0, 0.55), 1, False)]
        parts += [
            (ellipse(0.7, 0.24) + by(0, -0.55), 1, False),
            (ellipse(0.6, 0.19) + by(0, -0.54), 2, False),
        ]
    elif kind == 1:  # a bottle, a vase, a rocket
        high = np.linspace(-1, 1, 20)
        wide = np.clip(0.3 + 0.2 * np.cumsum(chance.normal(0, 0.35, 20)), 0.08, 0.7)
        wide = np.convolve(np.pad(wide, 2, mode="edge"), np.ones(5) / 5, "valid")
        outline = np.concatenate([np.stack([wide, high], 1), np.stack([-wide, high], 1)[::-1]])
        parts = [(outline, 0, False)]
        cut = int(chance.integers(4, 16))
        band = slice(cut, cut + int(chance.integers(2, 5)))
        parts.append(
            (
                np.concatenate([np.stack([wide, high], 1)[band], np.stack([-wide, high], 1)[band][::-1]]),
                1,
                False,
            )
        )
    elif kind == 2:  # a ring
        hole = chance.uniform(0.3, 0.8)
        around = blob(chance, 0.1)
        parts = [(around, 0, False), (around * hole, 0, True)]
    elif kind == 3:  # a chair, a table, scissors: bars
        parts = []
        for _ in range(int(chance.integers(3, 8))):
            start, end = chance.uniform(-0.9, 0.9, (2, 2))
            if chance.random() < 0.6:
                end[chance.integers(2)] = start[chance.integers(2)]
            thick = chance.uniform(0.04, 0.2)
            parts.append((limb(start, end, thick, thick), int(chance.integers(3)), False))
        parts.append((box(chance.uniform(0.3, 0.8), chance.uniform(0.1, 0.6)), 3, False))
    else:  # a box seen from a corner
        wide, high, deep = chance.uniform(0.4, 0.8, 3)
        parts = [
            (np.array([[0, -high / 2], [wide, -high / 2 - deep / 3], [wide, high / 2], [0, high]]), 0, False),
            (
                np.array([[0, -high / 2], [-wide, -high / 2 - deep / 3], [-wide, high / 2], [0, high]]),
                1,
                False,
            ),
            (
                np.array(
                    [[0, -high / 2], [wide, -high / 2 - deep / 3], [0, -high], [-wide, -high / 2 - deep / 3]]
                ),
                2,
                False,
            ),
        ]
    return parts


def plant(chance: Chance) -> list[Part]:
    """A leaf or a twig of them, a flower."""
    if chance.random() < 0.4:
        count, inner = int(chance.integers(4, 12)), chance.uniform(0.1, 0.4)
        parts: list[Part] = [
            (limb(np.zeros(2), np.array([chance.normal(0, 0.2), 1.6]), 0.05, 0.06), 1, False)
        ]
        around = np.arange(count) * 2 * np.pi / count
        parts += [(turned(leaf(1.0, chance.uniform(0.15, 0.35)), turn), 0, False) for turn in around]
        return [*parts, (ellipse(inner, inner), 2, False)]
    stem = np.array([[0, 1.1], [chance.normal(0, 0.3), 0.0], [chance.normal(0, 0.4), -1.0]])
    parts = [(limb(stem[0], stem[1], 0.06, 0.045), 1, False), (limb(stem[1], stem[2], 0.045, 0.02), 1, False)]
    for share in np.linspace(0, 1, int(chance.integers(3, 10))):
        at = stem[0] * (1 - share) ** 2 + 2 * stem[1] * share * (1 - share) + stem[2] * share**2
        turn = -np.pi / 2 + chance.choice([-1, 1]) * chance.uniform(0.3, 1.4)
        points = turned(leaf(chance.uniform(0.4, 0.9), chance.uniform(0.08, 0.25)), turn) + at
        parts.append((points, int(chance.choice([0, 0, 2])), False))
    return parts


def heap(chance: Chance) -> list[Part]:
    """Blobs grown together."""
    parts: list[Part] = [(blob(chance, 0.4) * chance.uniform(0.6, 0.9, 2), 0, False)]
    for number in range(int(chance.integers(0, 4))):
        at = chance.normal(0, 0.55, 2)
        parts.append((blob(chance, 0.4) * chance.uniform(0.2, 0.6) + at, number % 4, False))
    if chance.random() < 0.25:
        parts.append((blob(chance, 0.3) * chance.uniform(0.12, 0.3) + chance.normal(0, 0.25, 2), 0, True))
    return parts


KINDS: dict[str, Callable[[Chance], list[Part]]] = {
    "person": person,
    "figure": figure,
    "animal": animal,
    "thing": thing,
    "plant": plant,
    "heap": heap,
}


def drawn(parts: list[Part], side: int, scale: float, at: Points, tilt: float) -> tuple[Map, Map]:
    """The whole alpha, and for each pixel the number of the part on top."""
    large = side * FINE
    alpha, number = np.zeros((large, large), np.uint8), np.zeros((large, large), np.uint8)
    for points, part, hole in parts:
        placed = (turned(points, tilt) * scale + at) * FINE * 2**SHIFT
        polygon = [np.round(placed).astype(np.int32)]
        cv2.fillPoly(alpha, polygon, 0 if hole else 255, cv2.LINE_AA, SHIFT)
        if not hole:
            cv2.fillPoly(number, polygon, part + 1, cv2.LINE_8, SHIFT)
    size = (side, side)
    whole = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return whole, cv2.resize(number, size, interpolation=cv2.INTER_NEAREST)


def furred(chance: Chance, alpha: Map) -> Map:
    """With hairs that stand off its outline, one way or all ways."""
    side = alpha.shape[0]
    lines, _ = cv2.findContours((alpha > 0.5).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    hair = np.zeros((side * FINE, side * FINE), np.uint8)
    length = side * chance.uniform(0.015, 0.09)
    dense, curl = chance.uniform(0.3, 1.6), chance.normal(0, 0.6)
    part = chance.random() < 0.4  # only on some of the outline, as on a head
    blown = cloud(chance, side, 2, 0.4)
    for line in lines:
        points = line[:, 0, :].astype(np.float32)
        if len(points) < 12:
            continue
        ahead, back = np.roll(points, -4, 0), np.roll(points, 4, 0)
        along = ahead - back
        out = np.stack([along[:, 1], -along[:, 0]], 1)
        out /= np.linalg.norm(out, axis=1, keepdims=True) + 1e-6
        probe = np.clip(np.round(points + 2 * out), 0, side - 1).astype(int)
        if alpha[probe[:, 1], probe[:, 0]].mean() > 0.5:
            out = -out
        limit = points[:, 1].min() + 0.5 * np.ptp(points[:, 1]) if part else side
        for at in chance.integers(0, len(points), int(len(points) * dense)):
            if points[at, 1] > limit:
                continue
            here = points[at] - 2 * out[at]
            spread = blown[int(points[at, 1]), int(points[at, 0])] * 0.5 + chance.normal(0, 0.25, 2)
            way = out[at] + spread
            reach = length * chance.uniform(0.3, 1.3)
            middle = here + way * reach * 0.5
            bent = np.array([way[0] - curl * way[1], way[1] + curl * way[0]])
            strand = np.stack([here, middle, middle + bent * reach * 0.5]) * FINE * 2**SHIFT
            thick = 1 + int(chance.random() < 0.35)
            shade = int(chance.uniform(110, 255))
            cv2.polylines(hair, [np.round(strand).astype(np.int32)], False, shade, thick, cv2.LINE_AA, SHIFT)
    fine = cv2.resize(hair, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return np.maximum(alpha, fine)
