"""What AUTOMATIC1111's dialect has beside pictures: options, lists, words, and backgrounds."""

from __future__ import annotations

import httpx
import pytest
import webuiapi
from PIL import Image

from services.micro import world
from tests.end_to_end.doors.a1111.asking import (
    ASK,
    RED,
    SAMPLE,
    base64_of,
    drawn,
    opened,
    refused,
    scene,
)


def test_options_are_kept_and_override_settings_hold_for_one_call(
    api: webuiapi.WebUIApi, door: httpx.Client
) -> None:
    assert api.util_get_current_model() == "micro"
    try:
        api.set_options(
            {"samples_format": "webp", "sd_model_checkpoint": "micro.safetensors [0123456789]", "of": 1}
        )
        assert api.get_options()["samples_format"] == "webp"
        assert api.txt2img(**ASK).image.format == "WEBP"
        once = drawn(door, override_settings={"samples_format": "jpg", "CLIP_stop_at_last_layers": 2}, **ASK)
        assert opened(once["images"][0]).format == "JPEG"
        assert "Clip skip: 2" in once["info"]["infotexts"][0]
        assert api.get_options()["samples_format"] == "webp"
    finally:
        api.set_options({"samples_format": "png"})
    assert api.txt2img(**ASK).image.format == "PNG"
    wrong = refused(door, "/sdapi/v1/options", {"sd_model_checkpoint": "of-nobody"})
    assert (wrong.status_code, wrong.json()["detail"]) == (404, "Model not found")


def test_what_there_is_is_listed(api: webuiapi.WebUIApi) -> None:
    assert "micro" in api.util_get_model_names()
    assert {"Euler", "Euler a", "DPM++ 2M Karras"} <= set(api.util_get_sampler_names())
    assert {"automatic", "karras"} <= set(api.util_get_scheduler_names())
    assert "controlnet" in api.get_scripts()["txt2img"]
    assert api.get_memory()["ram"]["total"] > 0
    assert api.get_embeddings() == {"loaded": {}, "skipped": {}}
    assert api.refresh_checkpoints() is None


@pytest.mark.parametrize(
    "name",
    [
        "get_upscalers",
        "get_latent_upscale_modes",
        "get_hypernetworks",
        "get_face_restorers",
        "get_realesrgan_models",
        "get_prompt_styles",
        "get_sd_vae",
    ],
)
def test_what_there_is_not_is_an_empty_list(api: webuiapi.WebUIApi, name: str) -> None:
    assert getattr(api, name)() == []


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
def test_a_picture_tells_how_it_was_made(door: httpx.Client, kind: str) -> None:
    told = drawn(door, override_settings={"samples_format": kind}, **ASK)
    read = door.post("/sdapi/v1/png-info", json={"image": told["images"][0]}).json()
    assert read["info"] == told["info"]["infotexts"][0] != ""
    assert (read["parameters"]["Prompt"], read["parameters"]["Size-1"], read["parameters"]["Seed"]) == (
        RED,
        "128",
        "7",
    )
    assert door.post("/sdapi/v1/png-info", json={"image": base64_of(scene())}).json()["info"] == ""


def test_interrogate_says_what_is_seen(api: webuiapi.WebUIApi) -> None:
    thing = world.Thing("circle", "red", "center", "large", 0.5, 0.5, 0.24)
    told = api.interrogate(world.draw(world.Scene("blue", (thing,)), 200, 200))
    assert "red circle" in told.info


def test_the_rembg_extension_cuts_out(api: webuiapi.WebUIApi) -> None:
    rembg = webuiapi.RemBGInterface(api)
    photo = Image.open(SAMPLE)
    cut = rembg.rembg(input_image=photo, model="grabcut")
    assert (cut.image.mode, cut.image.size) == ("RGBA", photo.size)
    assert rembg.rembg(input_image=photo, model="grabcut", return_mask=True).image.mode == "L"
