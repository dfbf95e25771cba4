"""rembg's library call in a loop, on an ONNX file of ours: run with the Python of an environment that has rembg.

    PYTHON bench/peers/rembg_loop.py FILE.onnx SIDE PICTURE.jpg SECONDS MEAN STD

JPEG bytes go in and PNG bytes come out at each call; MEAN and STD are three numbers, with commas. It prints one line of
JSON: {"per_second", "p50_ms", "peak_mb", "bytes"}. It knows nothing of Darkroom: rembg is installed alone.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import rembg
from PIL import Image
from rembg.sessions.base import BaseSession


class Ours(BaseSession):
    """Any file whose net takes a picture and gives a map, at the size it was made for."""

    file = ""

    def __init__(self, side: int, norm: tuple[tuple[float, ...], tuple[float, ...]]) -> None:
        self._side, self._norm = side, norm
        super().__init__("ours", onnxruntime.SessionOptions())

    @classmethod
    def download_models(cls) -> str:  # type: ignore[override]
        return cls.file

    def predict(self, img: Image.Image) -> list[Image.Image]:  # type: ignore[override]
        given = self.normalize(img, *self._norm, (self._side, self._side))  # type: ignore[arg-type]
        found = self.inner_session.run(None, given)[0][0, 0]
        found = (found - found.min()) / (found.max() - found.min())
        mask = Image.fromarray((found * 255).astype(np.uint8))
        return [mask.resize(img.size, Image.Resampling.LANCZOS)]


def peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    file, side, picture, seconds = (
        sys.argv[1],
        int(sys.argv[2]),
        Path(sys.argv[3]).read_bytes(),
        float(sys.argv[4]),
    )
    Ours.file = file
    norm = tuple(tuple(map(float, each.split(","))) for each in sys.argv[5:7])
    session = Ours(side, norm)
    answer = rembg.remove(picture, session=session)
    taken = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds or len(taken) < 3:
        start = time.perf_counter()
        answer = rembg.remove(picture, session=session)
        taken.append(time.perf_counter() - start)
    rate = len(taken) / (time.perf_counter() - began)
    told = {"per_second": rate, "p50_ms": statistics.median(taken) * 1000, "peak_mb": peak_mb()}
    print(json.dumps(told | {"bytes": len(answer)}))


if __name__ == "__main__":
    main()
