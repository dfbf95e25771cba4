"""AUTOMATIC1111's `/sdapi/v1`, ControlNet's and rembg's extensions: endpoints, and what a picture is asked with."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import httpx
from PIL import Image

from tests.end_to_end.doors.conformance.checks import (
    House,
    Table,
    base64_of,
    figure,
    hole,
    opened,
    photo,
    pixels,
    png,
    red,
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


# ── endpoints ─────────────────────────────────────────────────────────────────────────────────────────────────

endpoints = Table("of AUTOMATIC1111's endpoints")


@endpoints.works("POST /sdapi/v1/txt2img")
def _(house: House) -> None:
    assert red(drawn(house, **RED)) > 200


@endpoints.works("POST /sdapi/v1/img2img")
def _(house: House) -> None:
    near = changed(house, denoising_strength=0.1, width=128, height=128)
    assert abs(pixels(near) - pixels(scene())).mean() < 25


@endpoints.works("POST /sdapi/v1/png-info")
def _(house: House) -> None:
    found = ask(house, "png-info", image=told(ask(house, **ASK))["images"][0]).json()
    assert (found["parameters"]["Seed"], found["parameters"]["Steps"]) == ("7", "2")
    assert found["info"].startswith(ASK["prompt"])


@endpoints.works("POST /sdapi/v1/interrogate")
def _(house: House) -> None:
    assert ask(house, "interrogate", image=SCENE).json()["caption"]
    assert in_its_form(ask(house, "interrogate", image=SCENE, model="deepdanbooru")).status_code == 404


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


@endpoints.works("GET /sdapi/v1/progress", "POST /sdapi/v1/interrupt")
def _(house: House) -> None:
    stopped(house, "interrupt")


@endpoints.works("POST /sdapi/v1/skip")
def _(house: House) -> None:
    stopped(house, "skip")


@endpoints.works("GET /sdapi/v1/options", "POST /sdapi/v1/options")
def _(house: House) -> None:
    try:
        assert ask(house, "options", jpeg_quality=33).status_code == 200
        assert house.http.get("/sdapi/v1/options").json()["jpeg_quality"] == 33
    finally:
        ask(house, "options", jpeg_quality=80)


def _lists(path: str, holds: Any) -> None:
    @endpoints.works(f"GET {path}")
    def _(house: House) -> None:
        answer = house.http.get(path)
        assert answer.status_code == 200
        assert holds(answer.json()), answer.text


_lists("/sdapi/v1/samplers", lambda found: "Euler a" in [one["name"] for one in found])
_lists("/sdapi/v1/schedulers", lambda found: {"karras", "uniform"} <= {one["name"] for one in found})
_lists("/sdapi/v1/sd-models", lambda found: "micro" in [one["model_name"] for one in found])
_lists("/sdapi/v1/loras", lambda found: all({"name", "alias", "path"} <= set(one) for one in found))
_lists("/sdapi/v1/scripts", lambda found: found["txt2img"] == found["img2img"] == ["controlnet"])
_lists("/sdapi/v1/cmd-flags", lambda found: found["api"])
_lists("/sdapi/v1/memory", lambda found: found["ram"]["total"] > 0)
_lists("/controlnet/version", lambda found: found == {"version": 2})
_lists("/controlnet/model_list", lambda found: found == {"model_list": ["canny", "openpose"]})
_lists("/controlnet/module_list", lambda found: {"canny", "openpose_full"} <= set(found["module_list"]))
_lists("/controlnet/control_types", lambda found: {"All", "Canny", "OpenPose"} == set(found["control_types"]))
_lists("/controlnet/settings", lambda found: found == {"control_net_unit_count": 3})
_lists("/sdapi/v1/embeddings", lambda found: found == {"loaded": {}, "skipped": {}})
for _name in (
    *("upscalers", "latent-upscale-modes", "hypernetworks", "prompt-styles", "face-restorers"),
    *("realesrgan-models", "sd-vae", "script-info", "extensions"),
):
    _lists(f"/sdapi/v1/{_name}", lambda found: found == [])


def _answers_at_once(name: str) -> None:
    @endpoints.works(f"POST /sdapi/v1/{name}")
    def _(house: House) -> None:
        assert ask(house, name).status_code == 200


for _name in ("refresh-checkpoints", "refresh-vae", "refresh-loras", "refresh-embeddings"):
    _answers_at_once(_name)


def _missing(method: str, path: str) -> None:
    @endpoints.refused(f"{method} {path}")
    def _(house: House) -> httpx.Response:
        answer = house.http.request(method, path, json={} if method == "POST" else None)
        return answer if path.startswith("/internal") else in_its_form(answer)


for _name in (
    *(
        "extra-single-image",
        "extra-batch-images",
        "train/embedding",
        "train/hypernetwork",
        "create/embedding",
    ),
    *("create/hypernetwork", "reload-checkpoint", "unload-checkpoint", "server-kill", "server-restart"),
    "server-stop",
):
    _missing("POST", f"/sdapi/v1/{_name}")
for _name in ("txt2img", "img2img", "render_openpose_json"):
    _missing("POST", f"/controlnet/{_name}")
for _name in ("/sdapi/v1/artists", "/sdapi/v1/artist-categories", "/internal/ping"):
    _missing("GET", _name)


@endpoints.works("POST /controlnet/detect")
def _(house: House) -> None:
    found = detect(house, {"controlnet_module": "canny"})
    assert opened(found["images"][0]).size == scene().size
    person = {"controlnet_module": "openpose", "controlnet_input_images": [base64_of(png(figure()))]}
    assert detect(house, person)["poses"][0]["people"][0]["pose_keypoints_2d"]


@endpoints.works("POST /rembg")
def _(house: House) -> None:
    assert cut(house, {}).mode == "RGBA"


# ── a picture ─────────────────────────────────────────────────────────────────────────────────────────────────

picture = Table("of a picture at AUTOMATIC1111")


@picture.works("prompt", "negative_prompt")
def _(house: House) -> None:
    assert red(drawn(house, **RED | {"prompt": "a green circle on a blue background"})) < 100
    assert drawn(house, negative_prompt="blue").tobytes() != same_drawing(house, {})
    unknown = in_its_form(ask(house, **ASK | {"prompt": "a circle <lora:nobody:1>"}))
    assert (unknown.status_code, unknown.json()["body"]) == (422, "prompt")


@picture.works("steps", "cfg_scale", "seed")
def _(house: House) -> None:
    plain = same_drawing(house, {})
    for more in ({"steps": 3}, {"cfg_scale": 9}, {"seed": 8}):
        assert same_drawing(house, more) != plain
    for wrong in ({"steps": 151}, {"cfg_scale": 31}):
        assert in_its_form(ask(house, **ASK | wrong)).status_code == 422


@picture.works("batch_size", "n_iter")
def _(house: House) -> None:
    assert told(ask(house, **ASK | {"batch_size": 2, "n_iter": 2}))["info"]["all_seeds"] == [7, 8, 9, 10]
    assert in_its_form(ask(house, **ASK | {"batch_size": 5, "n_iter": 4})).status_code == 422


@picture.works("width", "height")
def _(house: House) -> None:
    assert drawn(house, width=96, height=64).size == (96, 64)
    large = told(ask(house, **ASK | {"width": 1024, "height": 512}))["info"]
    assert (large["width"] < 1024, "1024x512" in large["notes"][0]) == (True, True)


@picture.works("sampler_name", "sampler_index", "scheduler")
def _(house: House) -> None:
    for field in ("sampler_name", "sampler_index"):
        assert told(ask(house, **ASK | {field: "DDIM"}))["info"]["sampler_name"] == "DDIM"
        assert in_its_form(ask(house, **ASK | {field: "Nobody"})).status_code == 404
    for scheduler, name in (("Karras", "DPM++ 2M Karras"), ("Uniform", "DPM++ 2M"), ("Beta", "DPM++ 2M")):
        found = told(ask(house, **ASK | {"sampler_name": "DPM++ 2M", "scheduler": scheduler}))
        assert found["info"]["sampler_name"] == name


@picture.works("override_settings")
def _(house: House) -> None:
    assert drawn(house, override_settings={"samples_format": "webp"}).format == "WEBP"
    assert drawn(house).format == "PNG"


@picture.works("refiner_checkpoint", "refiner_switch_at")
def _(house: House) -> None:
    found = told(ask(house, **ASK | {"refiner_checkpoint": "micro", "refiner_switch_at": 0.5}))
    assert "Refiner: micro, Refiner switch at: 0.5" in found["info"]["infotexts"][0]


@picture.works("alwayson_scripts")
def _(house: House) -> None:
    script = {"Refiner": {"args": [True, "micro", 0.5]}, "Seed": {"args": []}}
    assert "Refiner: micro" in told(ask(house, **ASK, alwayson_scripts=script))["info"]["infotexts"][0]


@picture.refused("alwayson_scripts: another")
def _(house: House) -> httpx.Response:
    return in_its_form(ask(house, **ASK, alwayson_scripts={"ADetailer": {"args": []}}))


@picture.refused("script_name")
def _(house: House) -> httpx.Response:
    return in_its_form(ask(house, **ASK, script_name="X/Y/Z plot"))


@picture.works("send_images")
def _(house: House) -> None:
    found = told(ask(house, **ASK, send_images=False))
    assert (found["images"], found["info"]["all_seeds"]) == ([], [7])


@picture.unheeded("enable_hr", "restore_faces", "tiling", "subseed_strength")
def _(house: House) -> None:
    missed: dict[str, Any] = {
        "enable_hr": True,
        "restore_faces": True,
        "tiling": True,
        "subseed_strength": 0.5,
    }
    found = told(ask(house, **ASK | missed))
    assert opened(found["images"][0]).tobytes() == same_drawing(house, {})
    assert [note.split()[0] for note in found["info"]["notes"]] == list(missed)


picture.ignored(
    same_drawing,
    hr_scale=2,
    hr_upscaler="Latent",
    hr_second_pass_steps=3,
    hr_resize_x=256,
    hr_resize_y=256,
    hr_checkpoint_name="x",
    hr_sampler_name="Euler",
    hr_scheduler="Karras",
    hr_prompt="green",
    hr_negative_prompt="red",
    firstphase_width=32,
    firstphase_height=32,
    firstpass_image=SCENE,
    subseed=3,
    seed_resize_from_w=32,
    seed_resize_from_h=32,
    styles=["x"],
    eta=0.5,
    s_churn=1,
    s_tmin=0.1,
    s_tmax=3,
    s_noise=1.1,
    s_min_uncond=0.5,
    do_not_save_samples=True,
    do_not_save_grid=True,
    save_images=True,
    override_settings_restore_afterwards=False,
    disable_extra_networks=True,
    comments={"a": "b"},
    infotext="a star\nSteps: 3",
    script_args=[1],
    force_task_id="x",
    of_nobody={"a": [1]},
)

# ── a picture that is changed ─────────────────────────────────────────────────────────────────────────────────

change = Table("of a picture that is changed at AUTOMATIC1111")
FILL: dict[str, Any] = {"mask": HOLE, "prompt": "a green star", "steps": 4}


def kept(image: Image.Image, *, inside: bool = False) -> bool:
    where = (pixels(hole())[..., 0] > 0) == inside
    return bool((pixels(image)[where] == pixels(scene())[where]).all())


@change.works("init_images", "denoising_strength")
def _(house: House) -> None:
    far, near = (
        abs(
            pixels(changed(house, denoising_strength=strength, width=128, height=128)) - pixels(scene())
        ).mean()
        for strength in (1.0, 0.1)
    )
    assert near < far


@change.refused("init_images: several")
def _(house: House) -> httpx.Response:
    return in_its_form(ask(house, "img2img", **ASK, init_images=[SCENE, SCENE]))


@change.refused("init_images: none")
def _(house: House) -> httpx.Response:
    return in_its_form(ask(house, "img2img", **ASK))


@change.works("mask")
def _(house: House) -> None:
    for mask in (HOLE, base64_of(png(hole().resize((256, 256))))):
        after = changed(house, **FILL | {"mask": mask, "denoising_strength": 1})
        assert red(after) < red(scene()) / 2
        assert kept(after) or mask != HOLE  # a mask that was made smaller is soft at its edge
    stroke = Image.new("RGBA", hole().size)
    stroke.putalpha(hole())
    assert kept(changed(house, **FILL | {"mask": base64_of(png(stroke))}))


@change.works("inpainting_mask_invert")
def _(house: House) -> None:
    assert kept(changed(house, **FILL | {"inpainting_mask_invert": 1}), inside=True)


@change.works("inpaint_full_res")
def _(house: House) -> None:
    sides = [changed(house, **FILL | {"inpaint_full_res": full}).width for full in (True, False)]
    assert sides == [128, 64]


@change.works("inpainting_fill")
def _(house: House) -> None:
    weak = FILL | {"denoising_strength": 0.2}
    from_it, anew = (changed(house, **weak | {"inpainting_fill": fill}) for fill in (1, 2))
    assert red(from_it) > red(anew)


def same_change(house: House, more: dict[str, Any]) -> bytes:
    return changed(house, **FILL | more).tobytes()


change.ignored(
    same_change,
    mask_blur=9,
    mask_blur_x=9,
    mask_blur_y=9,
    mask_round=False,
    inpaint_full_res_padding=64,
    initial_noise_multiplier=0.5,
    image_cfg_scale=3,
    latent_mask=HOLE,
    include_init_images=True,
    resize_mode=2,
)

# ── options ───────────────────────────────────────────────────────────────────────────────────────────────────

options = Table("of options at AUTOMATIC1111")


@options.works("sd_model_checkpoint")
def _(house: House) -> None:
    named = {"sd_model_checkpoint": "micro.safetensors [0123456789]"}
    assert told(ask(house, **ASK, override_settings=named))["info"]["sd_model_name"] == "micro"
    unknown = ask(house, **ASK, override_settings={"sd_model_checkpoint": "nobody"})
    assert in_its_form(unknown).status_code == 404


@options.works("CLIP_stop_at_last_layers")
def _(house: House) -> None:
    found = told(ask(house, **ASK, override_settings={"CLIP_stop_at_last_layers": 2}))
    assert found["info"]["clip_skip"] == 2
    assert opened(found["images"][0]).tobytes() != same_drawing(house, {})


@options.works("samples_format", "jpeg_quality", "webp_lossless")
def _(house: House) -> None:
    def size(**settings: Any) -> int:
        answer = told(ask(house, **ASK, override_settings=settings))
        assert opened(answer["images"][0]).format.lower() in settings["samples_format"].replace("jpg", "jpeg")
        return len(answer["images"][0])

    assert size(samples_format="jpg", jpeg_quality=10) < size(samples_format="jpg", jpeg_quality=95)
    assert size(samples_format="webp", jpeg_quality=50) < size(samples_format="webp", webp_lossless=True)


@options.works("show_progress_every_n_steps")
def _(house: House) -> None:
    stopped(house, "interrupt")


def with_options(house: House, more: dict[str, Any]) -> bytes:
    return drawn(house, override_settings=more).tobytes()


options.ignored(
    with_options, sd_vae="x.vae", eta_noise_seed_delta=31337, directories_filename_pattern="[seed]"
)
