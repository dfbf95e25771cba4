"""How well each engine of the cleanup service fills, how long it takes and how much memory: the table of
docs/cleanup.md.

`python -m bench.holes [--models FOLDER] [--only NAME ...] [--write]`: PSNR inside the hole against what really was
there, the mean over all holes; then, in a process of its own on one thread, a photograph of four megapixels with a
scratch and a hole of 300 pixels.

drawn        pictures of services/cleanup/micro/pictures.py that no training saw, with strokes, boxes and blobs
scratches    strokes of 4 to 12 pixels over photographs that come with scikit-image
holes        boxes and blobs of 40 to 120 pixels in the same photographs

It needs `pip install scikit-image`. Engines whose files are in the models' folder are measured too, and an IOPaint
server where DARKROOM_IOPAINT_URL names one.
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
from PIL import Image, ImageDraw

from services.cleanup.engines.shelf import Engines
from services.cleanup.micro.pictures import Painter, hole
from services.cleanup.strategies import Plan, erase
from services.models import Models, read_catalogue
from services.settings import CleanupSettings

Pair = tuple[Any, Any]  # RGB bytes, and the mask as 0 and 1

UNSEEN = 77_000_000
DRAWN, SIDE = 60, 256
LARGE = 2000
PAGE = Path(__file__).parent.parent / "docs" / "cleanup.md"
BEGIN, END = "<!-- holes: begin -->", "<!-- holes: end -->"
PHOTOGRAPHS = ("astronaut", "camera", "chelsea", "coffee", "rocket", "brick", "grass", "gravel")
EACH = 4  # masks on each photograph
SETS = ("drawn", "scratches", "holes")


def quiet(_done: int, _total: int) -> None:
    """No progress."""


def drawn() -> Iterator[Pair]:
    painter = Painter(UNSEEN)
    for _ in range(DRAWN):
        yield painter.picture(SIDE), hole(painter.chance, SIDE)


def photographs() -> Iterator[Any]:
    from skimage import data

    for name in PHOTOGRAPHS:
        pixels = np.asarray(getattr(data, name)())
        yield np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels[..., :3]


def scratches() -> Iterator[Pair]:
    chance = np.random.default_rng(UNSEEN + 1)
    for pixels in photographs():
        for _ in range(EACH):
            height, width = pixels.shape[:2]
            mask = np.zeros((height, width), np.uint8)
            for _ in range(3):
                points = (chance.uniform(0.05, 0.95, (4, 2)) * (width, height)).astype(np.int32)
                cv2.polylines(mask, [points], False, 1, int(chance.integers(4, 13)))
            yield pixels, mask


def wide() -> Iterator[Pair]:
    chance = np.random.default_rng(UNSEEN + 2)
    for pixels in photographs():
        for at in range(EACH):
            height, width = pixels.shape[:2]
            mask = np.zeros((height, width), np.uint8)
            for _ in range(2):
                half = chance.integers(20, 61, 2)
                x, y = (int(chance.integers(60, length - 60)) for length in (width, height))
                if at % 2:
                    cv2.rectangle(
                        mask,
                        (x - int(half[0]), y - int(half[1])),
                        (x + int(half[0]), y + int(half[1])),
                        1,
                        -1,
                    )
                else:
                    cv2.ellipse(
                        mask,
                        (x, y),
                        (int(half[0]), int(half[1])),
                        float(chance.uniform(0, 180)),
                        0,
                        360,
                        1,
                        -1,
                    )
            yield pixels, mask


def psnr(engines: Engines, name: str, pairs: Iterator[Pair]) -> float:
    found = []
    for pixels, mask in pairs:
        spoiled = pixels.copy()
        spoiled[mask > 0] = (255, 0, 255)  # what is to go is nothing like what was there
        filled = np.asarray(
            erase(engines[name], Image.fromarray(spoiled), Image.fromarray(mask * 255), Plan(), quiet)
        )
        error = float(((filled[mask > 0].astype(float) - pixels[mask > 0]) ** 2).mean())
        found.append(10 * np.log10(255**2 / max(error, 0.01)))
    return float(np.mean(found))


def cost(engines: Engines, name: str) -> dict[str, float]:
    """Seconds and the peak of memory above what was there before, at four megapixels."""
    from skimage import data

    image = Image.fromarray(data.astronaut()).resize((LARGE, LARGE), Image.Resampling.LANCZOS)
    mask = Image.new("L", image.size)
    ImageDraw.Draw(mask).line((100, 1900, 1900, 1500), fill=255, width=10)
    mask.paste(255, (500, 1300, 800, 1600))
    engine = engines[name]
    before = _peak(anew=True)
    started = time.perf_counter()
    erase(engine, image, mask, Plan(), quiet)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "mb": (_peak() - before) / 1024}


def _peak(*, anew: bool = False) -> int:
    """The most memory that this process had, in kilobytes; `anew` begins to count from what it has now."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def opened(folder: Path, threads: int = 1) -> tuple[Engines, Models]:
    cv2.setNumThreads(threads)
    models = Models("cleanup", read_catalogue(), folder)
    engines = Engines(models, CleanupSettings.from_environment(), threads)
    engines.close()
    return engines, models


def measured(name: str, folder: Path) -> dict[str, float]:
    """All of one engine, its cost in a process of its own."""
    engines, _ = opened(folder)
    row = {
        key: psnr(engines, name, pairs()) for key, pairs in zip(SETS, (drawn, scratches, wide), strict=True)
    }
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "bench.holes", "--models", str(folder), "--cost", name],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    return row | json.loads(said.stdout.splitlines()[-1])


def table(rows: dict[str, dict[str, float]]) -> str:
    best = {key: max(row[key] for row in rows.values()) for key in SETS}
    lines = [
        "| model | drawn, dB | scratches, dB | holes, dB | 4 megapixels, s | memory, MB |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, row in rows.items():
        cells = [f"**{row[key]:.2f}**" if row[key] == best[key] else f"{row[key]:.2f}" for key in SETS]
        lines.append(f"| `{name}` | {' | '.join(cells)} | {row['seconds']:.2f} | {row['mb']:.0f} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.holes", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"), help="the models' folder")
    parser.add_argument("--only", nargs="*", help="models by name")
    parser.add_argument("--cost", help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help="put the table into docs/cleanup.md")
    chosen = parser.parse_args(arguments)
    engines, models = opened(chosen.models)
    if chosen.cost:
        print(json.dumps(cost(engines, chosen.cost)))
        return
    names = [entry.name for entry in models if models.is_offered(entry.name)]
    rows = {name: measured(name, chosen.models) for name in names if not chosen.only or name in chosen.only}
    text = table(rows)
    print(text)
    if chosen.write:
        page = PAGE.read_text()
        head, tail = page.split(BEGIN)[0], page.split(END)[1]
        PAGE.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}")


if __name__ == "__main__":
    main()
