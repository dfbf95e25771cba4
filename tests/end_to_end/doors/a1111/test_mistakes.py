"""Mistakes are refused as AUTOMATIC1111 refuses them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.end_to_end.doors.a1111.asking import ASK, base64_of, refused, scene


@pytest.mark.parametrize(
    ("asked", "status", "field"),
    [
        ({"sampler_name": "Nobody's"}, 404, ""),
        ({"batch_size": 5, "n_iter": 4}, 422, "batch_size"),
        ({"batch_size": "many"}, 422, "batch_size"),
        ({"steps": 0}, 422, "steps"),
        ({"steps": 151}, 422, "steps"),
        ({"cfg_scale": 31}, 422, "cfg_scale"),
        ({"seed": -7}, 422, "seed"),
        ({"width": -8}, 422, "width"),
        ({"width": 65535, "height": 65535}, 422, "width"),
        ({"prompt": 7}, 422, "prompt"),
        ({"prompt": "<lora:of-nobody:1>"}, 422, "prompt"),
        ({"script_name": "x/y/z plot"}, 422, "script_name"),
        ({"alwayson_scripts": {"ADetailer": {"args": []}}}, 422, "alwayson_scripts"),
        ({"override_settings": {"sd_model_checkpoint": "of-nobody"}}, 404, "sd_model_checkpoint"),
        ({"override_settings": {"samples_format": "gif"}}, 422, "samples_format"),
        ({"refiner_checkpoint": "of-nobody"}, 404, "refiner_checkpoint"),
        (
            {"alwayson_scripts": {"controlnet": {"args": [{"module": "depth"}]}}},
            422,
            "alwayson_scripts.controlnet.args.0.module",
        ),
        (
            {"alwayson_scripts": {"controlnet": {"args": [{"module": "canny"}]}}},
            422,
            "alwayson_scripts.controlnet.args.0.image",
        ),
        (
            {
                "alwayson_scripts": {
                    "controlnet": {"args": [{"module": "canny", "image": "A" * 32, "weight": 9}]}
                }
            },
            422,
            "alwayson_scripts.controlnet.args.0.weight",
        ),
    ],
)
def test_a_mistake_is_refused_in_its_own_form_and_the_field_is_named(
    door: httpx.Client, asked: dict[str, Any], status: int, field: str
) -> None:
    answer = refused(door, "/sdapi/v1/txt2img", ASK | asked)
    assert (answer.status_code, answer.json()["body"]) == (status, field), answer.text
    if status == 404 and not field:
        assert answer.json()["detail"] == "Sampler not found"


@pytest.mark.parametrize(
    ("path", "asked", "status"),
    [
        ("/sdapi/v1/img2img", {}, 404),
        ("/sdapi/v1/img2img", {"init_images": []}, 422),
        ("/sdapi/v1/img2img", {"init_images": ["no picture"]}, 422),
        ("/sdapi/v1/img2img", {"init_images": [base64_of(scene())], "mask": "no picture"}, 422),
        ("/sdapi/v1/img2img", {"init_images": [base64_of(scene())], "denoising_strength": 2}, 422),
        ("/sdapi/v1/png-info", {"image": "AAAA"}, 422),
        ("/sdapi/v1/png-info", {}, 422),
        ("/sdapi/v1/interrogate", {}, 404),
        ("/sdapi/v1/interrogate", {"image": "AAAA", "model": "deepdanbooru"}, 404),
        ("/sdapi/v1/extra-single-image", {}, 404),
        ("/controlnet/detect", {"controlnet_module": "depth"}, 422),
        ("/controlnet/detect", {"controlnet_module": "canny"}, 422),
        ("/rembg", {"input_image": "", "model": "grabcut"}, 422),
        ("/rembg", {"input_image": base64_of(scene()), "model": "of-nobody"}, 404),
        ("/sdapi/v1/txt2img", [1], 400),
    ],
)
def test_other_mistakes_too(door: httpx.Client, path: str, asked: Any, status: int) -> None:
    assert refused(door, path, asked).status_code == status


@pytest.mark.parametrize(
    ("path", "instead"),
    [
        ("/sdapi/v1/extra-single-image", "/rembg"),
        ("/sdapi/v1/unload-checkpoint", "services"),
        ("/controlnet/txt2img", "alwayson_scripts"),
        ("/sdapi/v1/of-nobody", "/sdapi/v1/txt2img"),
    ],
)
def test_a_path_that_is_not_here_says_what_is(door: httpx.Client, path: str, instead: str) -> None:
    told = refused(door, path, {}).json()
    assert path in told["detail"]
    assert instead in told["errors"]


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/sdapi/v1/txt2img", {"steps": 0}),
        ("/sdapi/v1/txt2img", [1]),
        ("/sdapi/v1/img2img", {"init_images": ["no picture"]}),
        ("/rembg", {"input_image": 7}),
        ("/api/v1/inpaint", {"image": "no", "mask": "no"}),
        ("/api/v1/gen-info", {}),
        ("/api/remove", {}),
        ("/v1/images/generations", {"prompt": 7}),
        ("/v1/images/generations", [1]),
    ],
)
def test_no_words_of_the_native_door_come_out_of_a_foreign_one(
    door: httpx.Client, path: str, asked: Any
) -> None:
    answer = door.post(path, json=asked)
    assert 400 <= answer.status_code < 500
    for word in ("asset:ID", "/docs", "/v1/operations", "jobs and assets", ".."):
        assert word not in answer.text.replace("docs/doors", ""), answer.text
