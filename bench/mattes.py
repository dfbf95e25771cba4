"""How well each engine of the rmbg service cuts out, how long it takes and how much memory: the table of
docs/background.md.

`python -m bench.mattes [--models FOLDER] [--only NAME ...] [--write | --sheet FILE]`: mean absolute error of the alpha
and intersection over union on three sets; then, in a process of its own on one thread, a photograph of four megapixels.

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
from services.rmbg.foreground import pure
from services.rmbg.matting import matted
from services.rmbg.micro.scenes import UNSEEN, painted, scene, subject, taken

Pair = tuple[Any, Any]  # RGB bytes, alpha from 0 to 1

SIDE, DRAWN, LAID = 512, 40, 25
LARGE = (2309, 1732)  # four megapixels
PAGE = Path(__file__).parent.parent / "docs" / "background.md"
BEGIN, END = "<!-- mattes: begin -->", "<!-- mattes: end -->"
MATTING = " + matting"
GREEN, TILE = (70, 190, 110), (240, 200)
GROUNDS = ("coffee", "rocket", "grass", "gravel", "brick")

# in each photograph's own pixels: shapes and holes by their corners, ellipses by their middle and half axes
OUTLINES: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("outlines.json").read_text())
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
    drawn = OUTLINES[name]
    for middle, axes in drawn["ellipses"]:
        at, half = (tuple(round(value * FINE) for value in pair) for pair in (middle, axes))
        cv2.ellipse(large, at, half, 0, 0, 360, 255, -1)
    for kind, level in (("shapes", 255), ("holes", 0)):
        for points in drawn[kind]:
            cv2.fillPoly(large, [np.round(np.array(points) * FINE).astype(np.int32)], level)
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
    """Seconds of one core and memory for a large photograph, in a process of its own."""
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
        started = time.process_time()
        cut(engine, pixels, name != plain)
        times.append(time.process_time() - started)
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


def sheet(models: Path, path: Path) -> None:
    """What each engine makes of the photographs, on green."""
    there = opened(models)
    columns = [name for name in there if name != there.best()]
    names = [*columns, there.best(), there.best() + MATTING]
    pictures = []
    for photo in OUTLINES:
        pixels = photograph(photo)
        row = [pixels]
        for name in names:
            mask = cut(there[name.removesuffix(MATTING)], pixels, name.endswith(MATTING))
            alpha = mask[..., None] / 255
            row.append((pure(pixels, mask) * alpha + np.array(GREEN) * (1 - alpha)).astype(np.uint8))
        pictures.append(np.hstack([cv2.resize(one, TILE, interpolation=cv2.INTER_AREA) for one in row]))
    Image.fromarray(np.vstack(pictures)).save(path, quality=80)
    print(f"{path}: photograph, {', '.join(names)}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.mattes", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"), help="the folder with the nets' files")
    parser.add_argument("--only", nargs="*", default=[], help="engines, by name")
    parser.add_argument("--write", action="store_true", help="write the table into docs/background.md")
    parser.add_argument(
        "--sheet", type=Path, help="write what they make of the photographs into this picture"
    )
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(measured(chosen.one, chosen.models)))
        return
    cv2.setNumThreads(1)
    if chosen.sheet:
        sheet(chosen.models, chosen.sheet)
        return
    table = []
    for row in rows(chosen.models, chosen.only):
        print(row, flush=True)
        table.append(row)
    if chosen.write:
        before, rest = PAGE.read_text().split(BEGIN)
        PAGE.write_text(before + "\n".join([BEGIN, *table, END]) + rest.split(END)[1])


if __name__ == "__main__":
    main()
