"""What the checks of AUTOMATIC1111's tables ask."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import httpx
from PIL import Image

from tests.end_to_end.doors.conformance.checks import (
    House,
    base64_of,
    hole,
    opened,
    photo,
    png,
    scene,
)

ASK: dict[str, Any] = {
    "prompt": "a red circle on a blue background",
    "seed": 7,
    "steps": 2,
    "width": 64,
    "height": 64,
    "cfg_scale": 4,
}
RED: dict[str, Any] = ASK | {"steps": 8, "width": 128, "height": 128}
SCENE, HOLE = base64_of(png(scene())), base64_of(png(hole()))


def ask(house: House, path: str = "txt2img", **asked: Any) -> httpx.Response:
    return house.http.post(f"/sdapi/v1/{path}", json=asked)


def told(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found | {"info": json.loads(found["info"])}


def drawn(house: House, **more: Any) -> Image.Image:
    return opened(told(ask(house, **ASK | more))["images"][0])


def changed(house: House, **more: Any) -> Image.Image:
    return opened(told(ask(house, "img2img", **ASK | {"init_images": [SCENE]} | more))["images"][0])


def same_drawing(house: House, more: dict[str, Any]) -> bytes:
    return drawn(house, **more).tobytes()


def in_its_form(answer: httpx.Response) -> httpx.Response:
    assert set(answer.json()) == {"error", "detail", "body", "errors"}, answer.text
    return answer


def detect(house: House, more: dict[str, Any]) -> dict[str, Any]:
    answer = house.http.post("/controlnet/detect", json={"controlnet_input_images": [SCENE]} | more)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def cut(house: House, more: dict[str, Any]) -> Image.Image:
    answer = house.http.post("/rembg", json={"input_image": base64_of(photo())} | more)
    assert answer.status_code == 200, answer.text
    return opened(answer.json()["image"])


def stopped(house: House, how: str) -> None:
    """A long call is seen, stopped, and answers with its last preview."""
    answers: list[httpx.Response] = []
    long = RED | {"steps": 150, "override_settings": {"show_progress_every_n_steps": 1}}
    thread = threading.Thread(target=lambda: answers.append(ask(house, **long)))
    thread.start()
    until, seen = time.monotonic() + 30, {}
    while not seen.get("current_image"):
        assert time.monotonic() < until
        time.sleep(0.02)
        seen = house.http.get("/sdapi/v1/progress").json()
    assert opened(seen["current_image"]).format == "JPEG"
    assert 0 < seen["progress"] < 1
    assert (seen["state"]["job_count"], seen["state"]["sampling_steps"]) == (1, 150)
    bare = house.http.get("/sdapi/v1/progress", params={"skip_current_image": "true"}).json()
    assert bare["current_image"] is None
    assert ask(house, how).status_code == 200
    thread.join(30)
    assert opened(told(answers[0])["images"][0]).size == (128, 128)
    assert house.http.get("/sdapi/v1/progress").json()["progress"] == 0
