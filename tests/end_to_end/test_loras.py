"""A LoRA's file with a request over real HTTP: however it is sent it acts, and then it is gone."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save

from services import micro

UNET = Path(micro.__file__).parent / "weights" / "sdxl" / "unet" / "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def lora() -> bytes:
    """Random, for the micro family's own cross-attentions."""
    generator, tensors = torch.Generator().manual_seed(3), {}
    with safe_open(UNET, "pt") as file:
        for key in file.keys():  # noqa: SIM118 - it is no dictionary
            if key.endswith(("attn2.to_q.weight", "attn2.to_v.weight")):
                rows, columns = file.get_slice(key).get_shape()
                name = f"unet.{key.removesuffix('.weight')}"
                tensors[f"{name}.lora_A.weight"] = torch.randn(4, columns, generator=generator)
                tensors[f"{name}.lora_B.weight"] = torch.randn(rows, 4, generator=generator)
    return save(tensors)


@pytest.fixture
def http(stack: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=90) as client:
        yield client


ASK: dict[str, Any] = {"prompt": "a red circle", "seed": 5, "steps": 4, "width": 64, "height": 64}
FIELDS = {name: str(value) for name, value in ASK.items()}


def pixels(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def plain(http: httpx.Client) -> Any:
    return pixels(http.post("/v1/text-to-image", files={name: (None, v) for name, v in FIELDS.items()}))


def with_part(http: httpx.Client, data: bytes, weight: float = 1.0) -> httpx.Response:
    fields = FIELDS | {"loras": json.dumps([{"file": "part:mine", "weight": weight}])}
    parts: dict[str, Any] = {name: (None, value) for name, value in fields.items()}
    return http.post("/v1/text-to-image", files=parts | {"mine": ("mine.safetensors", data)})


def test_a_lora_acts_on_the_request_that_it_came_with_and_on_no_other(
    http: httpx.Client, lora: bytes
) -> None:
    before = plain(http)
    styled = pixels(with_part(http, lora))
    assert (styled != before).any()
    assert (plain(http) == before).all()
    assert (pixels(with_part(http, lora)) == styled).all()
    assert (pixels(with_part(http, lora, weight=0.3)) != styled).any()


def test_as_base64_and_as_an_asset_it_is_the_same(http: httpx.Client, lora: bytes) -> None:
    styled = pixels(with_part(http, lora))
    asset = http.post("/v1/assets", content=lora, headers={"content-type": "application/octet-stream"})
    assert asset.status_code == 201, asset.text
    for file in (base64.b64encode(lora).decode(), f"asset:{asset.json()['id']}"):
        ask = ASK | {"loras": [{"file": file}]}
        answer = http.post("/v1/text-to-image", json=ask, headers={"accept": "image/png"})
        assert (pixels(answer) == styled).all()


def test_a_job_keeps_its_lora(http: httpx.Client, lora: bytes) -> None:
    ask = {
        "operation": "text-to-image",
        "params": ASK | {"loras": [{"file": base64.b64encode(lora).decode()}]},
    }
    job = http.post("/v1/jobs", json=ask)
    assert job.status_code == 202, job.text
    with http.stream("GET", f"{job.headers['location']}/events") as events:
        text = "".join(events.iter_text())
    assert "succeeded" in text
    [asset] = http.get(job.headers["location"]).json()["pictures"]
    assert (pixels(http.get(asset["url"])) == pixels(with_part(http, lora))).all()


@pytest.mark.parametrize("data", [b"PK\3\4 a zip", b"\x80\x04 a pickle", b""], ids=["zip", "pickle", "empty"])
def test_what_is_no_safetensors_file_is_refused_with_its_field(http: httpx.Client, data: bytes) -> None:
    answer = with_part(http, data)
    assert (answer.status_code, answer.json()["field"]) == (422, "loras.0.file")
    assert plain(http).size


def test_a_name_that_is_not_there_is_refused_with_its_field(http: httpx.Client) -> None:
    answer = http.post("/v1/text-to-image", json=ASK | {"loras": [{"name": "no-such-style"}]})
    assert (answer.status_code, answer.json()["field"]) == (422, "loras.0.name")
