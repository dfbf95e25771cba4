"""AUTOMATIC1111's dialect, asked by `webuiapi`, the client on PyPI, and by hand where that client does not reach."""

from __future__ import annotations

import base64
import io
import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import webuiapi
from PIL import Image, ImageDraw, ImageFilter

from gateway.doors import a1111_told
from services.micro import world

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


# ── pictures ──────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── ControlNet ────────────────────────────────────────────────────────────────────────────────────────────────


def test_controlnet_steers_the_picture_and_its_map_comes_along(api: webuiapi.WebUIApi) -> None:
    unit = webuiapi.ControlNetUnit(image=scene(), module="canny", model="control_v11p_sd15_canny [d14c016b]")
    made = api.txt2img(controlnet_units=[unit], **ASK)
    picture, edges = made.images
    assert picture.size == edges.size == (128, 128)
    assert {colour for _, colour in edges.convert("RGB").getcolors()} == {(0, 0, 0), (255, 255, 255)}
    assert len(made.info["all_seeds"]) == 1
    assert "ControlNet 0" in made.info["infotexts"][0]
    again = api.txt2img(controlnet_units=[webuiapi.ControlNetUnit(image=edges, model="canny")], **ASK)
    assert np.array_equal(np.asarray(again.images[1].convert("L")), np.asarray(edges.convert("L")))


def test_a_unit_says_when_how_strongly_and_whether_it_leads_alone(api: webuiapi.WebUIApi) -> None:
    unit = webuiapi.ControlNetUnit(
        image=scene(),
        module="canny",
        model="canny",
        weight=0.7,
        guidance_start=0.1,
        guidance_end=0.8,
        control_mode=2,
    )
    text = api.txt2img(controlnet_units=[unit], **ASK).info["infotexts"][0]
    for said in ("Weight: 0.7", "Guidance Start: 0.1", "Guidance End: 0.8", "ControlNet is more important"):
        assert said in text
    unit.enabled = False
    assert "ControlNet" not in api.txt2img(controlnet_units=[unit], **ASK).info["infotexts"][0]


def test_controlnet_in_img2img_reads_the_picture_itself_where_it_has_none(door: httpx.Client) -> None:
    script = {"ControlNet": {"args": [{"module": "canny", "model": "canny"}]}}
    told = drawn(door, "img2img", init_images=[base64_of(scene())], alwayson_scripts=script, **ASK)
    assert "ControlNet 0" in told["info"]["infotexts"][0]
    _, edges = map(opened, told["images"])
    assert {colour for _, colour in edges.convert("L").getcolors() or []} == {0, 255}
    ready = {"ControlNet": {"args": [{"enabled": False}, {"model": "canny", "image": base64_of(edges)}]}}
    again = drawn(door, "img2img", init_images=[base64_of(scene())], alwayson_scripts=ready, **ASK)
    assert again["images"][1] == base64_of(edges)
    ready["ControlNet"]["args"][1]["weight"] = 9
    wrong = refused(door, "/sdapi/v1/txt2img", ASK | {"alwayson_scripts": ready})
    assert wrong.json()["body"] == "alwayson_scripts.controlnet.args.1.weight"


def test_detect_shows_maps_and_poses(api: webuiapi.WebUIApi, door: httpx.Client) -> None:
    found = api.controlnet_detect(images=[scene(), scene()], module="canny", threshold_a=200, threshold_b=50)
    assert [image.size for image in found.images] == [(128, 128)] * 2
    asked = {"controlnet_module": "openpose", "controlnet_input_images": [base64_of(person())]}
    told = door.post("/controlnet/detect", json=asked).json()
    assert told["info"] == "Success"
    (pose,) = told["poses"]
    assert (pose["canvas_width"], pose["canvas_height"]) == (256, 256)
    assert len(pose["people"][0]["pose_keypoints_2d"]) == 54


def test_the_extension_tells_what_it_has(api: webuiapi.WebUIApi, door: httpx.Client) -> None:
    assert api.controlnet_version() == 2
    assert api.controlnet_model_list() == ["canny", "openpose"]
    assert {"none", "canny", "openpose_full"} <= set(api.controlnet_module_list())
    kinds = door.get("/controlnet/control_types").json()["control_types"]
    assert kinds["Canny"]["default_option"] == "canny"
    assert door.get("/controlnet/settings").json() == {"control_net_unit_count": 3}


# ── work in progress ──────────────────────────────────────────────────────────────────────────────────────────


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


def test_progress_shows_the_picture_as_it_comes(api: webuiapi.WebUIApi, door: httpx.Client) -> None:
    idle = api.get_progress()
    assert (idle["progress"], idle["state"]["job_count"], idle["current_image"]) == (0, 0, None)
    with Running(api) as running:
        told = running.until(lambda told: told["current_image"] is not None)
        assert 0 < told["progress"] <= 1
        assert told["eta_relative"] > 0
        assert opened(told["current_image"]).width > 0
        assert told["state"]["job"] == "txt2img"
        bare = door.get("/sdapi/v1/progress?skip_current_image=true").json()
        assert bare["current_image"] is None
        api.interrupt()
    assert api.get_progress()["state"]["job_count"] == 0


@pytest.mark.parametrize("stop", ["interrupt", "skip"])
def test_an_interrupt_ends_the_work_and_the_call_has_the_last_preview(
    api: webuiapi.WebUIApi, stop: str
) -> None:
    with Running(api) as running:
        running.until(lambda told: told["current_image"] is not None)
        getattr(api, stop)()
        stopped = time.monotonic()
    assert time.monotonic() - stopped < 5
    assert running.made.image.size == (128, 128)
    assert len(running.made.images) == 1 == len(running.made.info["all_seeds"])
    assert red(api.txt2img(**ASK).image) > 200  # nothing of it is left in the way


def test_a_client_that_hangs_up_stops_its_work(api: webuiapi.WebUIApi, door: httpx.Client) -> None:
    with pytest.raises(httpx.ReadTimeout):
        door.post("/sdapi/v1/txt2img", json=ASK | {"steps": 150, "batch_size": 8}, timeout=1)
    for _ in range(100):
        running = re.findall(r'upstream_in_flight{service="sdxl"} (\S+)', door.get("/metrics").text)
        if api.get_progress()["state"]["job_count"] == 0 and running == ["0.0"]:
            return
        time.sleep(0.05)
    raise AssertionError(running)


def test_an_interrupt_where_nothing_is_done_says_so_with_nothing(api: webuiapi.WebUIApi) -> None:
    assert api.interrupt() == {}
    assert red(api.txt2img(**ASK).image) > 200


# ── options and lists ─────────────────────────────────────────────────────────────────────────────────────────


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


# ── words, and backgrounds ────────────────────────────────────────────────────────────────────────────────────


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


# ── mistakes ──────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── the table in docs/doors.md ────────────────────────────────────────────────────────────────────────────────


def rows() -> Iterator[str]:
    """The first cell of each row."""
    text = (SAMPLE.parents[1] / "doors.md").read_text()
    section = text.partition("## AUTOMATIC1111\n")[2].partition("\n## ")[0]
    for line in section.splitlines():
        if line.startswith("| ") and not line.startswith("| of its"):
            yield line.split("|")[1].strip()


def paths(cell: str) -> Iterator[tuple[str, str]]:
    """`GET /a/b`, `c` as (GET, /a/b) and (GET, /a/c)."""
    methods, base = [], ""
    for told in re.findall(r"`([^`]+)`", cell):
        *named, last = told.split(" ")
        if named or told in ("GET", "POST"):
            methods = [*methods, *named] if named else [told]
        if last.startswith("/"):
            base = last.rpartition("/")[0]
        if last not in ("GET", "POST") and methods:
            for method in methods:
                yield method, last if last.startswith("/") else f"{base}/{last}"


def test_every_path_of_the_table_is_there(door: httpx.Client) -> None:
    told = [path for cell in rows() for path in paths(cell)]
    assert len(told) > 35
    for method, path in told:
        if method == "GET":
            assert door.get(path).status_code == 200, path
        else:
            answer = door.post(path, json={})
            assert answer.json() is None or answer.json() == {} or "nothing here" not in answer.text, path
            assert answer.status_code != 405, path


def test_every_field_that_is_repeated_is_in_the_table() -> None:
    """What `parameters` repeats of a request is what this door knows of."""
    text = " ".join(rows())
    families = [name.removesuffix("*") for name in re.findall(r"`(\w+_)\*`", text)]
    for name in a1111_told.PARAMETERS:
        assert f"`{name}`" in text or any(name.startswith(family) for family in families), name


@pytest.mark.parametrize(
    "path", ["extra-single-image", "train/embedding", "create/embedding", "server-kill", "unload-checkpoint"]
)
def test_what_the_table_says_is_not_here_is_not_found(door: httpx.Client, path: str) -> None:
    assert refused(door, f"/sdapi/v1/{path}", {}).status_code == 404


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_key_is_the_password_and_sees_its_own_options_and_work_alone(start: Any) -> None:
    admin = "an-admin-key-for-tests-0123456789abcdef"
    stack = start("gateway", "sdxl", admin_key=admin)
    stack.wait(lambda: "Darkroom is ready" in stack.said)
    with httpx.Client(base_url=stack.url, headers={"authorization": f"Bearer {admin}"}) as http:
        secrets = [
            http.post("/v1/admin/keys", json={"name": name}).json()["secret"] for name in ("ann", "ben")
        ]
    ann, ben = (webuiapi.WebUIApi(port=stack.port, username="any", password=secret) for secret in secrets)
    ann.set_options({"samples_format": "webp"})
    assert (ann.get_options()["samples_format"], ben.get_options()["samples_format"]) == ("webp", "png")
    with Running(ann) as running:
        running.until(lambda told: told["current_image"] is not None)
        assert ben.get_progress()["progress"] == 0
        ben.interrupt()
        time.sleep(0.3)
        assert ann.get_progress()["state"]["job_count"] == 1
        ann.interrupt()
    assert running.made.info["all_seeds"] == [7]
    told = httpx.post(f"{stack.url}/sdapi/v1/txt2img", json=ASK, auth=("ann", "no key"))
    assert (told.status_code, told.json()["error"]) == (401, "Unauthorized")
    # the original's way to send a key comes first; any of ours is understood
    assert told.headers["www-authenticate"] == 'Basic realm="Darkroom", charset="UTF-8", Bearer'
