"""AUTOMATIC1111's dialect makes and changes pictures, asked by `webuiapi`, the client on PyPI, and by hand where that
does not reach."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import numpy as np
import pytest
import webuiapi
from PIL import Image, ImageFilter

from tests.end_to_end.doors.a1111.asking import (
    ASK,
    RED,
    base64_of,
    drawn,
    hole,
    opened,
    outside,
    red,
    scene,
    stroke,
)


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


def test_what_is_left_out_is_the_models_own_and_what_is_unknown_is_ignored(door: httpx.Client) -> None:
    told = drawn(door, prompt=RED, firstphase_width=0, s_churn=0, eta=1.0, of_nobody={"a": [1]})
    assert (told["info"]["steps"], told["info"]["cfg_scale"], told["info"]["sampler_name"]) == (
        20,
        4,
        "Euler",
    )
    assert "of_nobody" not in told["parameters"]
    assert told["info"]["seed"] >= 0


def test_batches_are_counted_together_and_each_has_its_seed(api: webuiapi.WebUIApi) -> None:
    made = api.txt2img(batch_size=2, n_iter=2, **ASK)
    assert made.info["all_seeds"] == [7, 8, 9, 10]
    assert len({image.tobytes() for image in made.images}) == 4


def test_a_size_too_large_for_the_model_keeps_its_shape_and_is_told(api: webuiapi.WebUIApi) -> None:
    made = api.txt2img(prompt=RED, steps=4, width=1024, height=512)
    assert made.image.width / made.image.height == pytest.approx(2, rel=0.12)
    assert (made.info["width"], made.info["height"]) == made.image.size
    assert "1024x512" in made.info["notes"][0]


@pytest.mark.parametrize(
    ("named", "scheduler", "told"),
    [
        ("Euler a", None, "Euler a"),
        ("DPM++ 2M", "Karras", "DPM++ 2M Karras"),
        ("DPM++ 2M", "Automatic", "DPM++ 2M Karras"),
        ("DPM++ 2M", "Uniform", "DPM++ 2M"),
        ("DPM++ SDE Karras", None, "DPM++ SDE Karras"),
        ("euler_ancestral", "Beta", "Euler a"),
    ],
)
def test_samplers_and_schedulers(door: httpx.Client, named: str, scheduler: str | None, told: str) -> None:
    made = drawn(door, sampler_name=named, scheduler=scheduler, **ASK | {"steps": 3})
    assert made["info"]["sampler_name"] == told


def test_a_lora_in_the_prompt_changes_the_picture(api: webuiapi.WebUIApi) -> None:
    names = {lora["alias"] for lora in api.get_loras()}
    assert "outlined" in names
    plain = api.txt2img(**ASK)
    rimmed = api.txt2img(**ASK | {"prompt": f"{RED} <lora:outlined:1>"})
    assert rimmed.image.tobytes() != plain.image.tobytes()
    assert (
        "<lora:micro-outlined:1>" in rimmed.info["infotexts"][0] or "outlined" in rimmed.info["infotexts"][0]
    )


def test_a_picture_is_changed_as_far_as_the_strength_allows(api: webuiapi.WebUIApi) -> None:
    before = scene()
    asked = ASK | {"prompt": "a green square on a white background"}
    near = api.img2img(images=[before], denoising_strength=0.1, **asked)
    far = api.img2img(images=[before], denoising_strength=0.9, **asked)

    def off(image: Image.Image) -> float:
        pixels = np.asarray(image.convert("RGB")).astype(int)
        return float(np.abs(pixels - np.asarray(before).astype(int)).mean())

    assert off(near.image) < off(far.image) / 2
    assert near.info["denoising_strength"] == 0.1
    assert near.parameters.get("init_images") is None


@pytest.mark.parametrize("mask", [hole, stroke])
def test_what_the_mask_shows_is_painted_and_nothing_else(
    api: webuiapi.WebUIApi, mask: Callable[[], Image.Image]
) -> None:
    asked = ASK | {"prompt": "a green circle on a blue background", "denoising_strength": 1}
    made = api.img2img(images=[scene()], mask_image=mask(), mask_blur=4, **asked)
    assert np.array_equal(outside(made.image), outside(scene()))
    assert red(made.image) < red(scene()) / 2


def test_a_mask_of_another_size_is_brought_to_the_pictures(api: webuiapi.WebUIApi) -> None:
    made = api.img2img(
        images=[scene()],
        mask_image=hole().resize((256, 256)),
        **ASK | {"prompt": "a green star", "denoising_strength": 1},
    )
    kept = np.asarray(hole().filter(ImageFilter.MaxFilter(5))) == 0
    assert np.array_equal(np.asarray(made.image.convert("RGB"))[kept], np.asarray(scene())[kept])
    assert red(made.image) < red(scene()) / 2


def test_an_inverted_mask_paints_around(api: webuiapi.WebUIApi) -> None:
    made = api.img2img(images=[scene()], mask_image=hole(), inpainting_mask_invert=1, **ASK)
    assert (
        made.image.convert("RGB").crop((40, 40, 90, 90)).tobytes() == scene().crop((40, 40, 90, 90)).tobytes()
    )
    assert not np.array_equal(outside(made.image), outside(scene()))


def test_inpainting_only_the_mask_keeps_the_pictures_own_size(door: httpx.Client) -> None:
    asked = ASK | {"init_images": [base64_of(scene())], "mask": base64_of(hole()), "width": 64, "height": 64}
    for full, side in ((True, 128), (False, 64)):
        told = drawn(door, "img2img", inpaint_full_res=full, **asked)
        assert opened(told["images"][0]).size == (side, side)
    assert drawn(door, "img2img", **asked | {"width": 2048, "height": 2048})["info"]["notes"] == []


def test_a_refiner_finishes_the_picture(door: httpx.Client) -> None:
    script = {"alwayson_scripts": {"Refiner": {"args": [True, "micro", 0.5]}}}
    for asked in ({"refiner_checkpoint": "micro.safetensors", "refiner_switch_at": 0.5}, script):
        told = drawn(door, **ASK | asked)
        assert "Refiner: micro, Refiner switch at: 0.5" in told["info"]["infotexts"][0]


def test_pictures_are_not_sent_where_nobody_wants_them(door: httpx.Client) -> None:
    told = drawn(
        door, send_images=False, save_images=False, do_not_save_samples=True, do_not_save_grid=True, **ASK
    )
    assert told["images"] == []
    assert told["info"]["all_seeds"] == [7]
