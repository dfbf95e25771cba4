"""AUTOMATIC1111's dialect, asked by `webuiapi`, the client on PyPI, and by hand where that client does not reach."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import webuiapi
from PIL import Image, ImageDraw

SAMPLE = Path(__file__).parents[3] / "docs" / "samples" / "astronaut.jpg"
RED = "a red circle on a blue background"
OWN = {"width": 128, "height": 128, "cfg_scale": 4}  # of the micro family
ASK: dict[str, Any] = {"prompt": RED, "seed": 7, "steps": 8, **OWN}


@pytest.fixture(scope="module")
def api(stack: Any) -> webuiapi.WebUIApi:
    return webuiapi.WebUIApi(port=stack.port)


@pytest.fixture(scope="module")
def door(stack: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=120) as client:
        yield client


def scene() -> Image.Image:
    image = Image.new("RGB", (128, 128), (20, 60, 200))
    ImageDraw.Draw(image).ellipse((40, 40, 90, 90), fill="red")
    return image


def hole(mode: str = "L") -> Image.Image:
    image = Image.new("L", (128, 128))
    ImageDraw.Draw(image).rectangle((30, 30, 100, 100), fill=255)
    if mode == "L":
        return image
    painted = Image.new("RGBA", (128, 128), (0, 0, 0, 0))
    painted.putalpha(image)  # black, opaque where to paint: as that page's canvas sends a stroke
    return painted


def base64_of(image: Image.Image) -> str:
    out = io.BytesIO()
    image.save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def red(image: Image.Image) -> int:
    pixels = np.asarray(image.convert("RGB")).astype(int)
    return int(((pixels[..., 0] > 150) & (pixels[..., 1] < 110) & (pixels[..., 2] < 110)).sum())


def test_a_prompt_becomes_a_picture_that_obeys_it_and_says_how_it_was_made(api: webuiapi.WebUIApi) -> None:
    made = api.txt2img(sampler_name="Euler", **ASK)
    assert (made.image.format, made.image.size) == ("PNG", (128, 128))
    assert red(made.image) > 200
    assert made.info["all_seeds"] == [7]
    assert made.info["infotexts"] == [made.image.info["parameters"]]
    assert (made.info["sd_model_name"], made.info["sampler_name"], made.info["steps"]) == (
        "micro",
        "Euler",
        8,
    )
    assert (made.parameters["prompt"], made.parameters["steps"]) == (RED, 8)
