"""What asks AUTOMATIC1111's dialect: pictures to send, and calls whose answer is looked at."""

from __future__ import annotations

import base64
import io
import json
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import webuiapi
from PIL import Image, ImageDraw

from services.micro import world

SAMPLE = Path(__file__).parents[4] / "docs" / "samples" / "astronaut.jpg"
RED = "a red circle on a blue background"
OWN = {"width": 128, "height": 128, "cfg_scale": 4}  # of the micro family
ASK: dict[str, Any] = {"prompt": RED, "seed": 7, "steps": 8, **OWN}


def scene() -> Image.Image:
    image = Image.new("RGB", (128, 128), (20, 60, 200))
    ImageDraw.Draw(image).ellipse((40, 40, 90, 90), fill="red")
    return image


def person() -> Image.Image:
    return world.draw(world.Scene("white", (world.sample_person(random.Random(3), "red"),)), 256, 256)


def hole() -> Image.Image:
    image = Image.new("L", (128, 128))
    ImageDraw.Draw(image).rectangle((30, 30, 100, 100), fill=255)
    return image


def stroke() -> Image.Image:
    """Black, and opaque where to paint, as that page's canvas sends one."""
    painted = Image.new("RGBA", (128, 128), (0, 0, 0, 0))
    painted.putalpha(hole())
    return painted


def base64_of(image: Image.Image, kind: str = "PNG") -> str:
    out = io.BytesIO()
    image.save(out, kind)
    return base64.b64encode(out.getvalue()).decode()


def opened(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text, validate=True)))


def red(image: Image.Image) -> int:
    pixels = np.asarray(image.convert("RGB")).astype(int)
    return int(((pixels[..., 0] > 150) & (pixels[..., 1] < 110) & (pixels[..., 2] < 110)).sum())


def outside(image: Image.Image) -> Any:
    return np.asarray(image.convert("RGB"))[np.asarray(hole()) == 0]


def drawn(door: httpx.Client, path: str = "txt2img", **asked: Any) -> dict[str, Any]:
    answer = door.post(f"/sdapi/v1/{path}", json=asked)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    assert set(told) == {"images", "parameters", "info"}
    return told | {"info": json.loads(told["info"])}


def refused(door: httpx.Client, path: str, asked: Any) -> httpx.Response:
    answer = door.post(path, json=asked)
    assert set(answer.json()) == {"error", "detail", "body", "errors"}, answer.text
    return answer


class Running:
    """A call of many steps, in a thread of its own."""

    def __init__(self, api: webuiapi.WebUIApi, **more: Any) -> None:
        self._api, self._more = api, more
        self._thread = threading.Thread(target=self._run)
        self.made: Any = None

    def _run(self) -> None:
        self.made = self._api.txt2img(**ASK | {"steps": 150, "batch_size": 4} | self._more)

    def __enter__(self) -> Running:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(100)
        assert self.made is not None

    def until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        for _ in range(1500):
            told: dict[str, Any] = self._api.get_progress()
            if holds(told):
                return told
            time.sleep(0.02)
        raise AssertionError(told)
