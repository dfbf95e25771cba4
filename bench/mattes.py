"""How well each engine of the rmbg service cuts out, how long it takes and how much memory: the table of
docs/background.md.

`python -m bench.mattes [--models FOLDER] [--only NAME ...] [--write]`: mean absolute error of the alpha and
intersection over union on three sets; then, in a process of its own on one thread, a photograph of four megapixels.

drawn        scenes of services/rmbg/micro/scenes.py that no training saw
on photos    drawn subjects laid over photographs that come with scikit-image
photos       the astronaut, the cat, the cup and the cameraman of scikit-image, by outlines set by hand: their error
             has a floor, since an outline knows no hair

It needs `pip install scikit-image`. Engines whose files are in the models' folder are measured too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from services.models import Models, read_catalogue
from services.rmbg.engines import Engine, engines
from services.rmbg.matting import matted
from services.rmbg.micro.scenes import UNSEEN, painted, scene, subject, taken

Pair = tuple[Any, Any]  # RGB bytes, alpha from 0 to 1
Points = list[tuple[float, float]]

SIDE, DRAWN, LAID = 512, 40, 25
LARGE = (2309, 1732)  # four megapixels
PAGE = Path(__file__).parent.parent / "docs" / "background.md"
BEGIN, END = "<!-- mattes: begin -->", "<!-- mattes: end -->"
MATTING = " + matting"
GROUNDS = ("coffee", "rocket", "grass", "gravel", "brick")

# outlines in each photograph's own pixels: what is subject, and holes in it
OUTLINES: dict[str, tuple[list[Points], list[Points]]] = {
    "astronaut": (
        [
            [
                (153, 62),
                (160, 50),
                (185, 38),
                (200, 25),
                (225, 17),
                (245, 16),
                (262, 23),
                (283, 40),
                (296, 62),
                (301, 85),
                (298, 105),
                (287, 122),
                (277, 130),
                (270, 136),
                (262, 150),
                (257, 172),
                (270, 183),
                (285, 197),
                (300, 222),
                (304, 236),
                (315, 239),
                (335, 252),
                (345, 270),
                (354, 300),
                (360, 332),
                (363, 348),
                (385, 344),
                (415, 344),
                (445, 358),
                (470, 382),
                (487, 410),
                (494, 440),
                (497, 455),
                (504, 462),
                (508, 480),
                (508, 512),
                (62, 512),
                (55, 505),
                (35, 480),
                (25, 450),
                (20, 425),
                (20, 395),
                (25, 345),
                (38, 300),
                (47, 270),
                (62, 245),
                (85, 225),
                (108, 208),
                (115, 203),
                (113, 190),
                (121, 180),
                (128, 165),
                (145, 153),
                (165, 149),
                (184, 149),
                (182, 132),
                (172, 127),
                (165, 112),
                (155, 100),
                (153, 80),
            ]
        ],
        [],
    ),
    "chelsea": (
        [
            [
                (40, 0),
                (398, 0),
                (385, 20),
                (362, 60),
                (357, 72),
                (361, 95),
                (363, 120),
                (360, 150),
                (350, 170),
                (335, 190),
                (320, 210),
                (313, 230),
                (309, 248),
                (298, 265),
                (290, 280),
                (285, 300),
                (0, 300),
                (0, 124),
                (20, 115),
                (35, 105),
                (32, 80),
                (34, 30),
            ]
        ],
        [],
    ),
    "coffee": ([[(402, 70), (412, 67), (424, 75), (420, 100), (412, 125), (400, 120)]], []),
    "camera": (
        [
            [
                (0, 247),
                (20, 232),
                (45, 205),
                (55, 185),
                (70, 150),
                (90, 133),
                (125, 123),
                (140, 110),
                (155, 105),
                (165, 90),
                (178, 75),
                (195, 66),
                (210, 64),
                (235, 70),
                (255, 85),
                (268, 103),
                (270, 125),
                (262, 131),
                (256, 140),
                (325, 140),
                (325, 150),
                (320, 152),
                (320, 170),
                (330, 172),
                (331, 195),
                (320, 215),
                (302, 232),
                (300, 245),
                (304, 272),
                (285, 290),
                (247, 312),
                (228, 306),
                (207, 294),
                (190, 325),
                (165, 355),
                (141, 381),
                (148, 410),
                (150, 512),
                (0, 512),
            ],
            [(288, 215), (296, 215), (297, 485), (288, 485)],
            [(284, 330), (291, 330), (244, 512), (231, 512)],
            [(303, 330), (310, 330), (406, 512), (397, 512)],
            [(278, 314), (312, 314), (312, 344), (278, 330)],
            [(306, 316), (328, 301), (338, 301), (337, 307), (328, 307), (309, 322)],
        ],
        [
            [(100, 447), (120, 470), (140, 500), (145, 512), (90, 512)],
            [(241, 219), (262, 207), (262, 238), (248, 247)],
        ],
    ),
}
# middle and half axes
ROUNDS = {"coffee": [((278, 222), (201, 166)), ((291, 112), (118, 95))]}
FINE = 4


# ── the sets ──────────────────────────────────────────────────────────────────────────────────────────────────


def photograph(name: str) -> Any:
    """One of scikit-image's, as RGB bytes."""
    try:
        from skimage import data
    except ImportError as error:
        raise SystemExit(
            "bench.mattes needs the photographs of scikit-image: pip install scikit-image"
        ) from error
    found = np.asarray(getattr(data, name)())
    return np.dstack([found] * 3) if found.ndim == 2 else np.ascontiguousarray(found[..., :3])


def drawn() -> list[Pair]:
    return [scene(UNSEEN + 1000 + at, SIDE) for at in range(DRAWN)]


def on_photographs() -> list[Pair]:
    """Drawn subjects, each before a piece of a photograph."""
    pairs = []
    for at in range(LAID):
        chance = np.random.default_rng(UNSEEN + 5000 + at)
        ground = photograph(GROUNDS[at % len(GROUNDS)])
        least = min(ground.shape[:2])
        wide = int(chance.integers(least * 2 // 3, least + 1))
        top, left = (int(chance.integers(0, size - wide + 1)) for size in ground.shape[:2])
        piece = cv2.resize(
            ground[top : top + wide, left : left + wide], (SIDE, SIDE), interpolation=cv2.INTER_CUBIC
        )
        kind = str(chance.choice(["person", "animal", "thing", "plant", "heap", "figure"]))
        alpha, parts = subject(chance, kind, SIDE)
        front = painted(chance, alpha, parts, kind)
        made = front * alpha[..., None] + piece.astype(np.float32) / 255 * (1 - alpha[..., None])
        pairs.append((taken(chance, made), alpha))
    return pairs


def photographs() -> list[Pair]:
    return [(photograph(name), outline(name)) for name in OUTLINES]


def outline(name: str) -> Any:
    """A photograph's alpha, by hand."""
    height, width = photograph(name).shape[:2]
    large = np.zeros((height * FINE, width * FINE), np.uint8)
    shapes, holes = OUTLINES[name]
    for middle, axes in ROUNDS.get(name, []):
        at, half = (tuple(round(value * FINE) for value in pair) for pair in (middle, axes))
        cv2.ellipse(large, at, half, 0, 0, 360, 255, -1)
    for points in shapes:
        cv2.fillPoly(large, [np.round(np.array(points) * FINE).astype(np.int32)], 255)
    for points in holes:
        cv2.fillPoly(large, [np.round(np.array(points) * FINE).astype(np.int32)], 0)
    return cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


# ── measures ──────────────────────────────────────────────────────────────────────────────────────────────────


def cut(engine: Engine, pixels: Any, matting: bool) -> Any:
    mask = np.asarray(engine.mask(Image.fromarray(pixels), lambda _done, _total: None))
    return matted(pixels, mask, lambda: None)[0] if matting else mask


def judged(engine: Engine, pairs: list[Pair], matting: bool) -> tuple[float, float]:
    """Mean absolute error, and intersection over union at one half."""
    errors, overlaps = [], []
    for pixels, alpha in pairs:
        found = cut(engine, pixels, matting).astype(np.float32) / 255
        errors.append(float(np.abs(found - alpha).mean()))
        one, other = found > 0.5, alpha > 0.5
        overlaps.append(float((one & other).sum() / max(1, (one | other).sum())))
    return float(np.mean(errors)), float(np.mean(overlaps))


def alone(name: str, models: Path) -> dict[str, float]:
    """Seconds and memory for a large photograph, in a process of its own."""
    command = [sys.executable, "-m", "bench.mattes", "--models", str(models), "--one", name]
    told = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    found: dict[str, float] = json.loads(told.stdout.splitlines()[-1])
    return found


def measured(name: str, models: Path) -> dict[str, float]:
    plain = name.removesuffix(MATTING)
    cv2.setNumThreads(1)
    pixels = cv2.resize(photograph("astronaut"), LARGE, interpolation=cv2.INTER_CUBIC)
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark starts anew
    before = status("VmRSS")
    engine = opened(models)[plain]
    cut(engine, pixels, name != plain)  # the first is slower
    times = []
    for _ in range(3):
        started = time.perf_counter()
        cut(engine, pixels, name != plain)
        times.append(time.perf_counter() - started)
    return {"seconds": min(times), "mb": status("VmHWM") - before}


def status(field: str) -> float:
    """Of this process, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


def opened(models: Path) -> Any:
    return engines(Models("rmbg", read_catalogue(), models))


# ── the table ─────────────────────────────────────────────────────────────────────────────────────────────────


def rows(models: Path, only: list[str]) -> Iterator[str]:
    there = opened(models)
    sets = {"drawn": drawn(), "on photos": on_photographs(), "photos": photographs()}
    yield "| engine | drawn: error, IoU | on photos: error, IoU | photos: error, IoU | 4 megapixels | memory |"
    yield "|---|---|---|---|---|---|"
    names = [*there, *(f"{name}{MATTING}" for name in there if name == there.best())]
    for name in names:
        if only and name not in only:
            continue
        engine = there[name.removesuffix(MATTING)]
        figures = [judged(engine, pairs, name.endswith(MATTING)) for pairs in sets.values()]
        cost = alone(name, models)
        told = " | ".join(f"{error:.3f}, {overlap:.2f}" for error, overlap in figures)
        yield f"| `{name}` | {told} | {cost['seconds'] * 1000:,.0f} ms | {cost['mb']:,.0f} MB |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.mattes", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"), help="the folder with the nets' files")
    parser.add_argument("--only", nargs="*", default=[], help="engines, by name")
    parser.add_argument("--write", action="store_true", help="write the table into docs/background.md")
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(measured(chosen.one, chosen.models)))
        return
    cv2.setNumThreads(1)
    table = []
    for row in rows(chosen.models, chosen.only):
        print(row, flush=True)
        table.append(row)
    if chosen.write:
        before, rest = PAGE.read_text().split(BEGIN)
        PAGE.write_text(before + "\n".join([BEGIN, *table, END]) + rest.split(END)[1])


if __name__ == "__main__":
    main()
