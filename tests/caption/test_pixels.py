"""Pictures are prepared exactly as transformers' own processors prepare them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from PIL import Image

from services.caption.pixels import Preparation

SIZES = [(64, 64), (90, 70), (33, 200), (512, 511), (7, 5), (1, 1)]


def processor(name: str, **settings: Any) -> Any:
    """The one that works on PIL pictures, as this version of transformers calls it."""
    kind = getattr(transformers, f"{name}ImageProcessorPil", None) or getattr(
        transformers, f"{name}ImageProcessor"
    )
    return kind(**settings)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("CLIP", {}),
        ("CLIP", {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 48}}),
        ("CLIP", {"size": {"height": 64, "width": 64}, "do_center_crop": False, "image_mean": [0.5] * 3}),
        ("CLIP", {"resample": 2, "image_std": [0.5, 0.4, 0.3]}),
        ("Blip", {}),
    ],
)
def test_it_equals_transformers_own(
    name: str, settings: dict[str, Any], size: tuple[int, int], tmp_path: Path
) -> None:
    rng = np.random.default_rng(sum(size))
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    theirs = processor(name, **settings)
    theirs.save_pretrained(tmp_path)
    expected = np.asarray(theirs(image, return_tensors="np")["pixel_values"])
    got = Preparation.read(tmp_path, otherwise=224)(image)
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() < 1e-5


def test_an_older_files_numbers_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"size": 224, "crop_size": 200, "do_center_crop": True})
    )
    assert Preparation.read(tmp_path, otherwise=1)(Image.new("RGB", (500, 300))).shape == (1, 3, 200, 200)


def test_what_the_file_does_not_tell_comes_from_the_model(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text("{}")
    assert Preparation.read(tmp_path, otherwise=96)(Image.new("L", (96, 192))).shape == (1, 3, 192, 96)
