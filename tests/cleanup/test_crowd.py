"""Several callers of the small net at the same time, as on a GPU: parts of one size share its call."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from services import cleanup
from services.cleanup.engines.runners import OnnxRunner

FILE = Path(cleanup.__file__).parent / "weights" / "micro.onnx"
SIZES = [(64, 96), (96, 64), (64, 96), (128, 128), (64, 96), (96, 64), (128, 128), (64, 96)]


def test_parts_of_several_sizes_each_come_back_as_they_do_alone() -> None:
    chance = np.random.default_rng(5)
    asked = []
    for height, width in SIZES:
        mask = np.zeros((1, 1, height, width), np.float32)
        mask[..., 20:40, 20:40] = 1
        asked.append((chance.random((1, 3, height, width), dtype=np.float32), mask))
    one = OnnxRunner(FILE, "micro-lama", 32)
    alone = [one.run(*pair) for pair in asked]
    shared = OnnxRunner(FILE, "micro-lama", 32, at_once=4)
    with ThreadPoolExecutor(len(asked)) as pool:
        together = list(pool.map(lambda pair: shared.run(*pair), asked))
    for (image, _), apart, joined in zip(asked, alone, together, strict=True):
        assert joined.shape == image.shape
        assert float(np.abs(apart - joined).max()) < 1e-4
