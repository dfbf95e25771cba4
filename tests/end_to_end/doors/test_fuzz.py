"""Every door gets requests that are nearly right: none meets a fault of ours, and nothing is left running."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx
import pytest
from PIL import Image, ImageDraw

from tests.end_to_end.doors.fuzz import Good, fuzz


def picture(mode: str = "RGB", side: int = 64) -> bytes:
    image = Image.new(mode, (side, side), 0 if mode == "L" else (20, 60, 200))
    ImageDraw.Draw(image).ellipse((20, 20, 45, 45), fill=255 if mode == "L" else "red")
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


PICTURE, MASK = (base64.b64encode(picture(mode)).decode() for mode in ("RGB", "L"))
FILE = ("a.png", picture(), "image/png")
SMALL: dict[str, Any] = {"prompt": "a red circle", "steps": 1, "width": 64, "height": 64, "seed": 7}

# as MCP's clients send it, and all others do not mind
ACCEPT = {"accept": "application/json, text/event-stream, */*"}

A1111 = [
    Good(
        "POST",
        "/sdapi/v1/txt2img",
        SMALL
        | {
            "negative_prompt": "blurry",
            "sampler_name": "Euler a",
            "scheduler": "Karras",
            "cfg_scale": 4,
            "subseed": -1,
        }
        | {
            "batch_size": 1,
            "n_iter": 1,
            "styles": [],
            "override_settings": {"samples_format": "png"},
            "tiling": False,
        },
    ),
    Good(
        "POST",
        "/sdapi/v1/txt2img",
        SMALL
        | {
            "alwayson_scripts": {
                "controlnet": {
                    "args": [
                        {
                            "module": "canny",
                            "model": "canny",
                            "image": PICTURE,
                            "weight": 1.0,
                            "control_mode": 2,
                        }
                        | {"threshold_a": 60, "threshold_b": 120, "guidance_start": 0.0, "guidance_end": 1.0}
                    ]
                }
            }
        },
    ),
    Good(
        "POST",
        "/sdapi/v1/img2img",
        SMALL
        | {"init_images": [PICTURE], "mask": MASK, "denoising_strength": 0.9, "inpainting_mask_invert": 0}
        | {"inpainting_fill": 1, "inpaint_full_res": True, "mask_blur": 4},
    ),
    Good(
        "POST",
        "/sdapi/v1/options",
        {"samples_format": "png", "CLIP_stop_at_last_layers": 1, "jpeg_quality": 80},
    ),
    Good("POST", "/sdapi/v1/png-info", {"image": PICTURE}),
    Good("POST", "/sdapi/v1/interrogate", {"image": PICTURE, "model": "clip"}),
    Good(
        "POST",
        "/controlnet/detect",
        {"controlnet_module": "canny", "controlnet_input_images": [PICTURE], "controlnet_threshold_a": 60},
    ),
    Good(
        "POST",
        "/rembg",
        {"input_image": PICTURE, "model": "grabcut", "return_mask": False, "alpha_matting": False},
    ),
    Good("GET", "/sdapi/v1/progress", query={"skip_current_image": "false"}),
    Good("POST", "/sdapi/v1/interrupt"),
]
OPENAI = [
    Good(
        "POST",
        "/v1/images/generations",
        {"prompt": "a red circle", "n": 1, "size": "64x64", "quality": "low", "model": "micro", "user": "ann"}
        | {
            "output_format": "png",
            "background": "auto",
            "response_format": "b64_json",
            "output_compression": 90,
        },
    ),
    Good(
        "POST",
        "/v1/images/edits",
        form={"prompt": "a green circle", "size": "64x64", "quality": "low", "n": "1"},
        files={"image": FILE},
    ),
    Good("POST", "/v1/images/variations", form={"n": "1", "size": "64x64"}, files={"image": FILE}),
]
IOPAINT = [
    Good(
        "POST",
        "/api/v1/inpaint",
        {
            "image": PICTURE,
            "mask": MASK,
            "hd_strategy": "Resize",
            "hd_strategy_resize_limit": 256,
            "sd_seed": 42,
        }
        | {
            "hd_strategy_crop_margin": 32,
            "prompt": "",
            "sd_steps": 1,
            "sd_strength": 1.0,
            "cv2_flag": "INPAINT_NS",
        },
    ),
    Good("POST", "/api/v1/model", {"name": "auto"}),
    Good("POST", "/api/v1/run_plugin_gen_mask", {"name": "RemoveBG", "image": PICTURE}),
    Good("POST", "/api/v1/switch_plugin_model", {"plugin_name": "RemoveBG", "model_name": "auto"}),
]
REMBG = [
    Good(
        "POST",
        "/api/remove",
        form={"model": "grabcut", "om": "false", "bgc": "1,2,3,4"},
        files={"file": FILE},
    ),
    Good("POST", "/api/remove", query={"bgc": "10,20,30,255", "om": "true"}, files={"file": FILE}),
]


def message(method: str, **params: Any) -> Good:
    return Good("POST", "/mcp", {"jsonrpc": "2.0", "id": 1, "method": method, "params": params})


MCP = [
    message(
        "initialize",
        protocolVersion="2025-11-25",
        capabilities={"sampling": {}},
        clientInfo={"name": "a", "version": "1"},
    ),
    message("tools/list"),
    message("tools/call", name="text-to-image", arguments=SMALL, _meta={"progressToken": "p"}),
    message("tools/call", name="caption", arguments={"image": PICTURE, "mode": "caption"}),
    message(
        "tools/call", name="cleanup", arguments={"image": PICTURE, "mask": f"data:image/png;base64,{MASK}"}
    ),
    message("resources/list", cursor=None),
    message("resources/read", uri="darkroom://models"),
    message("prompts/get", name="product-photo", arguments={"picture": "darkroom://assets/x"}),
    message("logging/setLevel", level="debug"),
]


def is_mistake(answer: httpx.Response) -> bool:
    """Of AUTOMATIC1111's server, and of IOPaint's, which took it over."""
    return set(answer.json()) == {"error", "detail", "body", "errors"}


def is_openais(answer: httpx.Response) -> bool:
    return set(answer.json()["error"]) == {"message", "type", "param", "code"}


def is_fastapis(answer: httpx.Response) -> bool:
    detail = answer.json()["detail"]
    return isinstance(detail, str) or set(detail[0]) == {"loc", "msg", "type"}


def is_json_rpcs(answer: httpx.Response) -> bool:
    document = answer.json()
    return document["jsonrpc"] == "2.0" and {"code", "message"} <= set(document["error"])


DOORS: dict[str, tuple[Sequence[Good], Callable[[httpx.Response], bool]]] = {
    "a1111": (A1111, is_mistake),
    "openai": (OPENAI, is_openais),
    "iopaint": (IOPAINT, is_mistake),
    "rembg": (REMBG, is_fastapis),
    "mcp": (MCP, is_json_rpcs),
}


@pytest.fixture(autouse=True)
def as_it_was(stack: Any) -> Iterator[None]:
    """What a key chose at a door is chosen back."""
    yield
    with httpx.Client(base_url=stack.url) as client:
        usual = {
            "samples_format": "png",
            "jpeg_quality": 80,
            "show_progress_every_n_steps": 5,
            "webp_lossless": False,
        }
        client.post(
            "/sdapi/v1/options", json=usual | {"sd_model_checkpoint": "auto", "CLIP_stop_at_last_layers": 1}
        )
        client.post("/api/v1/model", json={"name": "auto"})


@pytest.mark.parametrize("door", DOORS)
def test_two_hundred_requests_that_are_nearly_right(stack: Any, door: str) -> None:
    fuzz(stack, *DOORS[door], count=200, headers=ACCEPT)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("door", DOORS)
def test_two_thousand_requests_that_are_nearly_right(stack: Any, door: str) -> None:
    fuzz(stack, *DOORS[door], count=2000, seed=1, headers=ACCEPT)
