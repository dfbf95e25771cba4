"""Several callers of one net at the same time: what they share is its call, never their pictures."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image

from services.batching import Batcher
from services.rmbg.engines import engines
from services.rmbg.nets import NetEngine


def no_step(_: int, __: int) -> None:
    return


def scene(seed: int, width: int, height: int) -> Image.Image:
    chance = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), chance.integers(0, 255, 3), np.uint8)
    y, x = np.mgrid[0:height, 0:width]
    inside = ((x / width - 0.5) ** 2 + (y / height - 0.5) ** 2) < chance.uniform(0.03, 0.12)
    pixels[inside] = chance.integers(0, 255, 3)
    return Image.fromarray(pixels)


def test_pictures_of_mixed_sizes_share_a_call_and_each_gets_the_mask_it_gets_alone() -> None:
    engine = engines()["micro-matte"]
    assert isinstance(engine, NetEngine)
    pictures = [scene(at, 64 + 37 * at, 200 - 11 * at) for at in range(8)]
    alone = [np.asarray(engine.mask(picture, no_step)) for picture in pictures]
    batches: list[int] = []

    def infer(batch: list[Any]) -> list[Any]:
        batches.append(len(batch))
        return engine.infer(batch)

    engine.ask = Batcher(infer, 8)
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda picture: np.asarray(engine.mask(picture, no_step)), pictures))
    assert sum(batches) == 8
    assert max(batches) > 1
    for one, other in zip(alone, together, strict=True):
        assert one.shape == other.shape
        assert int(np.abs(one.astype(int) - other).max()) <= 1
