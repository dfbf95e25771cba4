"""The portrait studio: what each stage costs at 1, 4 and 12 megapixels, and what the tones do, in CIELAB.

`python -m bench.portrait`: time of one core from JPEG bytes to PNG bytes, peak memory above what was loaded, and the
tables that docs/portrait.md holds. `--sheet FILE` makes that page's picture instead, of the public-domain photograph in
docs/samples.
"""

from __future__ import annotations

import argparse
import io
import math
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
from PIL import Image, ImageDraw

from services.images import decode, encode
from services.operations import Portrait
from services.pictures import Picture
from services.portrait import studio
from services.portrait.cutters import Cutters
from services.portrait.haar import HaarFinder
from services.portrait.light import coded, exposed, linear
from services.portrait.skin import Features
from services.portrait.tone import MOST_CHROMA, MOST_TURN, REACH, graded, white_point
from services.settings import Limits

SAMPLE = Path(__file__).parent.parent / "docs" / "samples" / "astronaut.jpg"
SIDES = {"1 MP": 1000, "4 MP": 2000, "12 MP": 3464}
ROUNDS = 5
STUDIO: dict[str, Any] = {"size": "passport", "tone": "warm", "smooth": 0.5, "exposure": 0.2}
# on the sample, by hand: the pupils, and places with skin
FACE = Features((202.5, 100.0), (246.5, 102.5))
SKIN = {
    "cheek": (190, 130),
    "other cheek": (258, 132),
    "nose": (224, 118),
    "chin": (226, 165),
    "brow": (222, 88),
}


# ── time and memory ───────────────────────────────────────────────────────────────────────────────────────────


def photograph(side: int) -> bytes:
    """The sample, enlarged, with a camera's grain, as JPEG."""
    large = Image.open(SAMPLE).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    grain = np.random.default_rng(0).integers(-3, 4, (side, side, 1))
    pixels = np.clip(np.asarray(large).astype(np.int16) + grain, 0, 255).astype(np.uint8)
    return encode(Image.fromarray(pixels), "jpeg", 90)


def times(data: bytes, cutter: str) -> dict[str, float]:
    """The middle of some rounds, in milliseconds of a core, by stage."""
    finder, cutters, limits = HaarFinder(), Cutters(Path("models")), Limits()
    rounds: list[dict[str, float]] = []
    for _ in range(ROUNDS + 1):
        marks = [time.process_time()]
        photo = decode(data, limits)
        marks.append(time.process_time())
        ask = Portrait(image=Picture("part:image", photo), cutter=cutter, **STUDIO)
        at: dict[int, float] = {}

        def step(done: int, _total: int, at: dict[int, float] = at) -> None:
            at.setdefault(done, time.process_time())

        made = studio.portrait(ask, finder, cutters.engine(cutter), step)
        marks += [at[1], at[2], time.process_time()]
        encode(made.image, "png")
        marks.append(time.process_time())
        names = ("decode", "face", "cut", "person", "encode")
        rounds.append({name: marks[n + 1] - marks[n] for n, name in enumerate(names)})
    return {name: float(np.median([one[name] for one in rounds[1:]])) * 1000 for name in rounds[0]}


def memory(data: bytes) -> float:
    """MB above what a process of its own holds that has made one small portrait."""
    here = [sys.executable, "-m", "bench.portrait", "--memory"]
    return float(subprocess.run(here, input=data, capture_output=True, check=True).stdout)


def peak(data: bytes) -> float:
    finder, cutters = HaarFinder(), Cutters(Path("models"))
    small = io.BytesIO()
    Image.open(SAMPLE).save(small, "JPEG")
    with Watch() as watch:
        for file in (small.getvalue(), data):
            watch.begin()
            ask = Portrait(image=Picture("part:image", decode(file, Limits())), **STUDIO)
            made = studio.portrait(ask, finder, cutters.engine("auto"), lambda _done, _total: None)
            encode(made.image, "png")
    return watch.most


class Watch(threading.Thread):
    """The most memory, in MB above the last `begin`."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._process, self._over = psutil.Process(), threading.Event()
        self.begin()

    def begin(self) -> None:
        self._idle, self.most = self._now(), 0.0

    def _now(self) -> float:
        return float(self._process.memory_info().rss) / 2**20

    def run(self) -> None:
        while not self._over.wait(0.001):
            self.most = max(self.most, self._now() - self._idle)

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


def stages() -> None:
    print("| photograph | decode | face | cut | person, tone, backdrop | encode | all, ms | MB above idle |")
    print("|---|---|---|---|---|---|---|---|")
    for name, side in SIDES.items():
        data = photograph(side)
        told = times(data, "auto")
        cells = " | ".join(f"{told[stage]:.0f}" for stage in ("decode", "face", "cut", "person", "encode"))
        print(f"| {name} | {cells} | {sum(told.values()):.0f} | {memory(data):.0f} |")


# ── tones ─────────────────────────────────────────────────────────────────────────────────────────────────────


def lab(pixels: Any) -> Any:
    """CIELAB of sRGB, for D65."""
    value = np.asarray(pixels, np.float64) / 255
    light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = light @ to_xyz.T / (to_xyz @ np.ones(3))
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def tones() -> None:
    """What happens to grey, and to the sample's skin, with the care for skin and without it."""
    photo = np.asarray(Image.open(SAMPLE).convert("RGB"))
    print(
        f"\nBounds: {REACH:.0f} mireds; of skin {MOST_TURN:.0f}° of hue and {100 * MOST_CHROMA:.0f} % of chroma.\n"
    )
    print(
        "| tone | light, K | grey 200: ΔL*, Δa*, Δb* | white: ΔL*, Δa*, Δb* | skin: hue, ° | Δab | Δab uncared for |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, tone in (("cool", -0.6), ("-1", -1.0), ("warm", 0.6), ("1", 1.0)):
        kelvin = 1e6 / (153.8 + REACH * tone)
        greys = [_moved(np.full((64, 64, 3), grey, np.uint8), tone) for grey in (200, 255)]
        told = " | ".join(", ".join(f"{value:+.1f}" for value in grey) for grey in greys)
        kept, bare = graded(photo, tone, 0.0, FACE), _unkept(photo, tone)
        turn = max(abs(_hue(_at(kept, place)) - _hue(_at(photo, place))) for place in SKIN.values())
        moves = [
            max(math.dist(_at(made, place)[1:], _at(photo, place)[1:]) for place in SKIN.values())
            for made in (kept, bare)
        ]
        print(f"| {name} | {kelvin:,.0f} | {told} | {turn:.1f} | {moves[0]:.1f} | {moves[1]:.1f} |")


def _moved(patch: Any, tone: float) -> Any:
    nobody = Features((20.0, 20.0), (40.0, 20.0))
    return (lab(graded(patch, tone, 0.0, nobody)) - lab(patch))[50, 50]


def _unkept(photo: Any, tone: float) -> Any:
    """The white point's move alone."""
    light = np.asarray(exposed(linear(photo), 1.0) @ white_point(tone * REACH).T, np.float32)
    return np.clip(coded(light) * 255 + 0.5, 0, 255).astype(np.uint8)


def _at(pixels: Any, place: tuple[int, int]) -> Any:
    x, y = place
    return lab(pixels[y - 3 : y + 4, x - 3 : x + 4].reshape(-1, 3).mean(axis=0))


def _hue(colour: Any) -> float:
    return math.degrees(math.atan2(colour[2], colour[1]))


# ── the page's picture ────────────────────────────────────────────────────────────────────────────────────────

TILE = 232
SHOWN: tuple[tuple[str, dict[str, Any]], ...] = (
    ("as it is", {}),
    ("avatar", {}),
    ("passport", {"size": "passport"}),
    ("id-card", {"size": "id-card"}),
    ("tone warm", {"tone": "warm"}),
    ("tone cool", {"tone": "cool"}),
    ("tone 1, own ground", {"tone": 1.0, "cutter": "none"}),
    ("tone -1, own ground", {"tone": -1.0, "cutter": "none"}),
    ("smooth 1", {"smooth": 1.0}),
    ("exposure 1", {"exposure": 1.0}),
    ("radial gradient", {"backdrop": "#dfe8f2", "backdrop_to": "#3f5878", "gradient": "radial"}),
    ("sheet 10x15", {"size": "passport", "sheet": "10x15", "backdrop": "white"}),
)


def sheet(path: Path) -> None:
    finder, cutters = HaarFinder(), Cutters(Path("models"))
    photo = Image.open(SAMPLE).convert("RGB")
    columns, rows = 4, math.ceil(len(SHOWN) / 4)
    whole = Image.new("RGB", (columns * (TILE + 8) + 8, rows * (TILE + 26) + 8), "white")
    draw = ImageDraw.Draw(whole)
    for at, (name, fields) in enumerate(SHOWN):
        image = photo
        if name != "as it is":
            ask = Portrait(image=Picture("part:image", photo), **({"matting": True} | fields))
            engine = cutters.engine(ask.cutter)
            image = studio.printed(ask, studio.portrait(ask, finder, engine, lambda _a, _b: None).image)
        image = image.convert("RGB")
        image.thumbnail((TILE, TILE), Image.Resampling.LANCZOS)
        left, top = 8 + at % columns * (TILE + 8), 8 + at // columns * (TILE + 26)
        whole.paste(image, (left + (TILE - image.width) // 2, top + (TILE - image.height) // 2))
        draw.text((left + 2, top + TILE + 4), name, fill=(60, 60, 60))
    out = io.BytesIO()
    whole.save(out, "JPEG", quality=82, optimize=True)
    path.write_bytes(out.getvalue())
    print(f"{path}: {len(out.getvalue()):,} bytes")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--sheet", type=Path, metavar="FILE")
    asked.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    given = asked.parse_args()
    cv2.setNumThreads(1)
    if given.sheet:
        sheet(given.sheet)
    elif given.memory:
        print(peak(sys.stdin.buffer.read()))
    else:
        stages()
        tones()


if __name__ == "__main__":
    main()
