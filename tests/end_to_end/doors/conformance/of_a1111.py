"""AUTOMATIC1111's `/sdapi/v1`, ControlNet's and rembg's extensions: endpoints."""

from __future__ import annotations

from typing import Any

import httpx

from tests.end_to_end.doors.conformance.asking_a1111 import (
    ASK,
    RED,
    SCENE,
    ask,
    changed,
    cut,
    detect,
    drawn,
    in_its_form,
    stopped,
    told,
)
from tests.end_to_end.doors.conformance.checks import (
    House,
    Table,
    base64_of,
    figure,
    opened,
    pixels,
    png,
    red,
    scene,
)

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


@endpoints.works("GET /sdapi/v1/progress", "POST /sdapi/v1/interrupt")
def _(house: House) -> None:
    stopped(house, "interrupt")


@endpoints.works("POST /sdapi/v1/skip", slow=True)
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
