"""A portrait through the gateway, alone and as a chain that goes on to image-to-image with a named LoRA."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

QUICK = {"cutter": "none", "side": 128}
STYLE = QUICK | {"style": "a woman, red", "style_strength": 0.5, "seed": 7}


@pytest.fixture
def http(stack: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=90) as client:
        yield client


@pytest.fixture(scope="module")
def astronaut(samples: Path) -> bytes:
    return (samples / "astronaut.jpg").read_bytes()


def ask(http: httpx.Client, image: bytes, fields: dict[str, Any]) -> httpx.Response:
    parts: dict[str, Any] = {name: (None, str(value)) for name, value in fields.items()}
    return http.post("/v1/portrait", files=parts | {"image": ("photo.jpg", image)})


def picture(answer: httpx.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))


def test_a_portrait_comes_with_its_dpi(http: httpx.Client, astronaut: bytes) -> None:
    made = picture(ask(http, astronaut, {"size": "passport", "dpi": 300, "format": "jpeg"}))
    assert (made.format, made.size) == ("JPEG", (413, 531))
    assert made.info["dpi"] == (300, 300)


def test_a_style_goes_on_to_image_to_image(http: httpx.Client, astronaut: bytes) -> None:
    plain = np.asarray(picture(ask(http, astronaut, QUICK))).astype(int)
    styled = picture(ask(http, astronaut, STYLE))
    assert styled.size == (128, 128)
    assert "a woman, red" in styled.text["parameters"], "the diffusion service made it"  # type: ignore[attr-defined]
    other = np.asarray(styled.convert("RGB")).astype(int)
    assert np.abs(other - plain).mean() > 5
    again = np.asarray(picture(ask(http, astronaut, STYLE)).convert("RGB")).astype(int)
    assert (again == other).all(), "a seed holds through the chain"


def test_the_named_lora_acts_with_its_weight(http: httpx.Client, astronaut: bytes) -> None:
    without, full, faint = (
        np.asarray(picture(ask(http, astronaut, STYLE | more)).convert("RGB")).astype(int)
        for more in ({}, {"style_lora": "outlined"}, {"style_lora": "outlined", "style_weight": 0.1})
    )
    assert np.abs(full - without).mean() > np.abs(faint - without).mean() > 0


def test_no_strength_keeps_the_portrait(http: httpx.Client, astronaut: bytes) -> None:
    plain = np.asarray(picture(ask(http, astronaut, QUICK))).astype(int)
    kept = picture(ask(http, astronaut, STYLE | {"style_strength": 0}))
    assert np.abs(np.asarray(kept.convert("RGB")).astype(int) - plain).mean() < 25


@pytest.mark.parametrize("field", ["style_lora", "style_model"])
def test_what_the_second_link_refuses_is_told_at_the_portraits_own_field(
    http: httpx.Client, astronaut: bytes, field: str
) -> None:
    answer = ask(http, astronaut, STYLE | {field: "nobodys"})
    assert answer.status_code == 422
    assert "nobodys" in answer.json()["detail"]
    assert answer.json()["field"] == field


def test_no_face_is_told_through_the_gateway_and_nothing_is_painted(
    http: httpx.Client, samples: Path
) -> None:
    problem = ask(http, (samples / "coffee.jpg").read_bytes(), STYLE)
    assert problem.status_code == 422
    told = problem.json()
    assert (told["field"], told["faces"]) == ("image", [])


def test_as_a_job_the_chain_is_one_job(http: httpx.Client, astronaut: bytes) -> None:
    asset = http.post("/v1/assets", content=astronaut, headers={"content-type": "image/jpeg"}).json()["id"]
    job = http.post(
        "/v1/jobs", json={"operation": "portrait", "params": STYLE | {"image": f"asset:{asset}"}}
    ).json()
    until = time.monotonic() + 60
    while job["state"] not in ("succeeded", "failed"):
        assert time.monotonic() < until
        time.sleep(0.2)
        job = http.get(f"/v1/jobs/{job['id']}").json()
    assert job["state"] == "succeeded", job
    assert len(job["pictures"]) == 1
