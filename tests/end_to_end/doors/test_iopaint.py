"""IOPaint's dialect, asked as its own page asks."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw

SAMPLE = Path(__file__).parents[3] / "docs" / "samples" / "astronaut.jpg"


@pytest.fixture(scope="module")
def door(stack: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=120) as client:
        yield client


@pytest.fixture(autouse=True)
def usual(door: httpx.Client) -> None:
    """Each test begins with the choice that a key has at first."""
    assert door.post("/api/v1/model", json={"name": "auto"}).status_code == 200


def picture(side: int = 128) -> Image.Image:
    image = Image.new("RGB", (side, side), (40, 90, 160))
    ImageDraw.Draw(image).rectangle((50, 50, 70, 70), fill=(250, 250, 250))
    return image


def mask(side: int = 128) -> Image.Image:
    image = Image.new("L", (side, side))
    ImageDraw.Draw(image).rectangle((46, 46, 74, 74), fill=255)
    return image


def base64_of(image: Image.Image, kind: str = "PNG", head: bool = True) -> str:
    out = io.BytesIO()
    image.save(out, kind)
    text = base64.b64encode(out.getvalue()).decode()
    return f"data:image/{kind.lower()};base64,{text}" if head else text


def opened(answer: httpx.Response, kind: str = "png") -> Image.Image:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == f"image/{kind}"
    return Image.open(io.BytesIO(answer.content))


def inpaint(door: httpx.Client, **more: Any) -> httpx.Response:
    return door.post(
        "/api/v1/inpaint", json={"image": base64_of(picture()), "mask": base64_of(mask()), **more}
    )


@pytest.mark.parametrize("head", [True, False])
def test_what_the_mask_covers_is_gone_and_the_rest_is_untouched(door: httpx.Client, head: bool) -> None:
    before, hole = picture(), np.asarray(mask()) > 0
    answer = inpaint(door, image=base64_of(before, head=head), mask=base64_of(mask(), head=head))
    after = np.asarray(opened(answer).convert("RGB")).astype(int)
    assert np.array_equal(after[~hole], np.asarray(before)[~hole])
    assert after[60, 60].max() < 220
    assert "x-seed" in answer.headers


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_the_answer_has_the_files_own_format(door: httpx.Client, kind: str) -> None:
    opened(inpaint(door, image=base64_of(picture(), kind)), kind.lower())


@pytest.mark.parametrize("strategy", ["Original", "Resize", "Crop"])
def test_each_of_its_strategies_works(door: httpx.Client, strategy: str) -> None:
    more = {
        "hd_strategy_resize_limit": 256,
        "hd_strategy_crop_margin": 64,
        "hd_strategy_crop_trigger_size": 300,
    }
    opened(inpaint(door, hd_strategy=strategy, **more))


@pytest.mark.parametrize("flag", ["INPAINT_NS", "INPAINT_TELEA"])
def test_cv2_is_a_model_with_its_flags(door: httpx.Client, flag: str) -> None:
    assert door.post("/api/v1/model", json={"name": "cv2"}).json()["name"] == "cv2"
    opened(inpaint(door, cv2_flag=flag))


def test_a_model_that_paints_follows_the_prompt_and_its_seed(door: httpx.Client) -> None:
    told = door.post("/api/v1/model", json={"name": "micro"}).json()
    assert (told["need_prompt"], told["model_type"]) == (True, "diffusers_sdxl_inpaint")
    asked = {"prompt": "a red circle", "sd_steps": 8, "sd_sampler": "Euler a", "sd_seed": 7}
    one, other = inpaint(door, **asked), inpaint(door, **asked)
    assert one.headers["x-seed"] == "7"
    assert opened(one).tobytes() == opened(other).tobytes()


@pytest.mark.parametrize("model", ["auto", "cv2", "micro"])
def test_painting_beyond_the_edge_is_refused_whatever_the_model(door: httpx.Client, model: str) -> None:
    assert door.post("/api/v1/model", json={"name": model}).status_code == 200
    refused = inpaint(door, use_extender=True)
    assert (refused.status_code, refused.json()["body"]) == (422, "use_extender"), refused.text
    opened(inpaint(door, use_extender=False, sd_steps=2))


@pytest.mark.parametrize(
    ("model", "field", "value"),
    [("auto", "image", "nonsense"), ("micro", "sd_steps", 0), ("micro", "sd_sampler", "x")],
)
def test_a_mistake_is_told_of_the_field_as_it_came(
    door: httpx.Client, model: str, field: str, value: Any
) -> None:
    assert door.post("/api/v1/model", json={"name": model}).status_code == 200
    refused = inpaint(door, **{field: value})
    assert (refused.status_code, refused.json()["body"]) == (422, field), refused.text


def test_the_plugin_cuts_out_and_shows_its_mask_as_a_stroke(door: httpx.Client) -> None:
    text = base64.b64encode(SAMPLE.read_bytes()).decode()
    cut = opened(door.post("/api/v1/run_plugin_gen_image", json={"name": "RemoveBG", "image": text}))
    assert cut.mode == "RGBA"
    stroke = opened(door.post("/api/v1/run_plugin_gen_mask", json={"name": "RemoveBG", "image": text}))
    assert {colour for _, colour in stroke.getcolors() or []} == {(0, 0, 0, 0), (0, 203, 255, 186)}
    assert (
        door.post("/api/v1/run_plugin_gen_image", json={"name": "GFPGAN", "image": text}).status_code == 422
    )


def test_the_configuration_lists_what_can_be_chosen_and_the_choice_is_kept(door: httpx.Client) -> None:
    told = door.get("/api/v1/server-config").json()
    names = {model["name"] for model in told["modelInfos"]}
    assert {"auto", "cv2", "telea", "micro-lama", "micro"} <= names
    assert "grabcut" in told["removeBGModels"]
    assert told["samplers"] == door.get("/api/v1/samplers").json()
    chosen = {"plugin_name": "RemoveBG", "model_name": "grabcut"}
    assert door.post("/api/v1/switch_plugin_model", json=chosen).status_code == 200
    assert door.get("/api/v1/server-config").json()["removeBGModel"] == "grabcut"
    assert door.post("/api/v1/switch_plugin_model", json=chosen | {"model_name": "auto"}).status_code == 200
    assert door.get("/api/v1/model").json()["name"] == "auto"


@pytest.mark.parametrize(
    "asked",
    [
        {"image": None},
        {"image": "data:image/png;base64,"},
        {"mask": 7},
        {"mask": "nonsense"},
        {"mask": base64_of(mask(64))},
        {"hd_strategy": "Magic"},
        {"hd_strategy": "Resize", "hd_strategy_resize_limit": -3},
        {"hd_strategy": "Resize", "hd_strategy_resize_limit": "many"},
    ],
)
def test_nonsense_is_told_in_its_own_form(door: httpx.Client, asked: dict[str, Any]) -> None:
    refused = inpaint(door, **asked)
    assert 400 <= refused.status_code < 500, refused.text
    assert set(refused.json()) == {"error", "detail", "body", "errors"}


def test_a_model_that_is_not_here_is_refused_and_the_choice_stays(door: httpx.Client) -> None:
    assert door.post("/api/v1/model", json={"name": "sd1.5-of-nobody"}).status_code == 422
    assert door.get("/api/v1/model").json()["name"] == "auto"
