"""IOPaint's server, asked as its own page asks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from PIL import Image

from tests.end_to_end.doors.conformance.checks import (
    House,
    Table,
    base64_of,
    hole,
    opened,
    photo,
    pixels,
    png,
    scene,
)

BASE = {"image": base64_of(png(scene())), "mask": base64_of(png(hole()))}
PAINT: dict[str, Any] = {"prompt": "a green circle on a blue background", "sd_steps": 4, "sd_seed": 7}


@contextmanager
def chosen(house: House, name: str) -> Iterator[None]:
    told = house.http.post("/api/v1/model", json={"name": name})
    assert (told.status_code, told.json()["name"]) == (200, name)
    try:
        yield
    finally:
        house.http.post("/api/v1/model", json={"name": "auto"})


def inpaint(house: House, more: dict[str, Any]) -> httpx.Response:
    return house.http.post("/api/v1/inpaint", json=BASE | more)


def picture(answer: httpx.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    return opened(answer.content)


def erased(house: House, more: dict[str, Any]) -> bytes:
    with chosen(house, "telea"):
        return picture(inpaint(house, more)).tobytes()


def painted(house: House, more: dict[str, Any]) -> bytes:
    with chosen(house, "micro"):
        return picture(inpaint(house, PAINT | more)).tobytes()


def in_its_form(answer: httpx.Response) -> httpx.Response:
    assert set(answer.json()) == {"error", "detail", "body", "errors"}, answer.text
    return answer


def plugin(house: House, what: str, name: str = "RemoveBG", **more: Any) -> httpx.Response:
    asked = {"name": name, "image": base64_of(photo()), **more}
    return house.http.post(f"/api/v1/run_plugin_gen_{what}", json=asked)


# ── endpoints ─────────────────────────────────────────────────────────────────────────────────────────────────

endpoints = Table("of IOPaint's server")


@endpoints.works("POST /api/v1/inpaint")
def _(house: House) -> None:
    answer = inpaint(house, {})
    after, kept = pixels(picture(answer)), pixels(hole())[..., 0] == 0
    assert (after[kept] == pixels(scene())[kept]).all()
    assert (after[~kept] != pixels(scene())[~kept]).any()
    assert answer.headers["x-seed"]


@endpoints.works("GET /api/v1/model", "POST /api/v1/model")
def _(house: House) -> None:
    with chosen(house, "telea"):
        assert house.http.get("/api/v1/model").json()["name"] == "telea"
    assert in_its_form(house.http.post("/api/v1/model", json={"name": "nobody"})).status_code == 422


@endpoints.works("GET /api/v1/server-config", "GET /api/v1/samplers")
def _(house: House) -> None:
    told = house.http.get("/api/v1/server-config").json()
    assert {"auto", "cv2", "telea", "micro"} <= {model["name"] for model in told["modelInfos"]}
    assert told["samplers"] == house.http.get("/api/v1/samplers").json() != []


@endpoints.works("POST /api/v1/run_plugin_gen_image")
def _(house: House) -> None:
    assert picture(plugin(house, "image")).mode == "RGBA"


@endpoints.works("POST /api/v1/run_plugin_gen_mask")
def _(house: House) -> None:
    assert len(picture(plugin(house, "mask")).getcolors() or ()) == 2


@endpoints.works("POST /api/v1/switch_plugin_model")
def _(house: House) -> None:
    for name in ("grabcut", "auto"):
        asked = {"plugin_name": "RemoveBG", "model_name": name}
        assert house.http.post("/api/v1/switch_plugin_model", json=asked).status_code == 200
        assert house.http.get("/api/v1/server-config").json()["removeBGModel"] == name


def _missing(path: str, method: str) -> None:
    @endpoints.refused(f"{method} {path}")
    def _(house: House) -> httpx.Response:
        return house.http.request(method, path)


for _path, _method in (
    ("/api/v1/adjust_mask", "POST"),
    ("/api/v1/save_image", "POST"),
    ("/api/v1/gen-info", "POST"),
    ("/api/v1/inputimage", "GET"),
    ("/api/v1/medias", "GET"),
    ("/ws/socket.io", "GET"),
):
    _missing(_path, _method)

# ── what is asked ─────────────────────────────────────────────────────────────────────────────────────────────

erasing = Table("of an inpainting at IOPaint")


@erasing.works("image", "mask")
def _(house: House) -> None:
    for image, kind in ((BASE["image"], "png"), (base64_of(png(scene(), "JPEG")), "jpeg")):
        for head in ("", f"data:image/{kind};base64,"):
            answer = inpaint(house, {"image": head + image, "mask": head + BASE["mask"]})
            assert answer.headers["content-type"] == f"image/{kind}", answer.text
    assert in_its_form(inpaint(house, {"mask": base64_of(png(hole(64)))})).status_code == 422


@erasing.works("hd_strategy", "hd_strategy_resize_limit", "hd_strategy_crop_margin")
def _(house: House) -> None:
    with chosen(house, "telea"):
        large = png(scene().resize((512, 512))), png(hole().resize((512, 512)))
        asked = {"image": base64_of(large[0]), "mask": base64_of(large[1])}
        ways: list[dict[str, Any]] = [
            {"hd_strategy": "Original"},
            {"hd_strategy": "Resize", "hd_strategy_resize_limit": 64},
            {"hd_strategy": "Resize", "hd_strategy_resize_limit": 256},
        ]
        made = [picture(inpaint(house, asked | way)) for way in ways]
        assert {image.size for image in made} == {(512, 512)}
        assert len({image.tobytes() for image in made}) == 3
        margin = {"hd_strategy": "Crop", "hd_strategy_crop_margin": 8}
        assert picture(inpaint(house, asked | margin)).size == (512, 512)
        wrong = inpaint(house, asked | margin | {"hd_strategy_crop_margin": -1})
        assert in_its_form(wrong).status_code == 422


@erasing.refused("hd_strategy: another")
def _(house: House) -> httpx.Response:
    return in_its_form(inpaint(house, {"hd_strategy": "Magic"}))


@erasing.works("cv2_flag")
def _(house: House) -> None:
    with chosen(house, "cv2"):
        flags = ("INPAINT_NS", "INPAINT_TELEA")
        made = [picture(inpaint(house, {"cv2_flag": flag})).tobytes() for flag in flags]
    assert made[0] != made[1]


def _changes(name: str, one: Any, other: Any, **more: Any) -> None:
    @erasing.works(name)
    def _(house: House) -> None:
        assert painted(house, {name: one, **more}) != painted(house, {name: other, **more})


_changes("prompt", "a green circle", "a yellow star")
_changes("negative_prompt", "", "green")
_changes("sd_strength", 1.0, 0.4)
_changes("sd_steps", 3, 6)
_changes("sd_guidance_scale", 2.0, 9.0)
_changes("sd_sampler", "Euler", "DDIM")


@erasing.works("sd_seed", slow=True)
def _(house: House) -> None:
    with chosen(house, "micro"):
        one, again, other = (inpaint(house, PAINT | {"sd_seed": seed}) for seed in (5, 5, 6))
        assert one.headers["x-seed"] == "5"
        assert picture(one).tobytes() == picture(again).tobytes() != picture(other).tobytes()
        drawn = {inpaint(house, PAINT | {"sd_seed": -1}).headers["x-seed"] for _ in range(2)}
        assert len(drawn) == 2


@erasing.refused("use_extender")
def _(house: House) -> httpx.Response:
    assert in_its_form(inpaint(house, {"use_extender": True})).status_code == 422
    with chosen(house, "micro"):
        return in_its_form(inpaint(house, PAINT | {"use_extender": True}))


erasing.ignored(
    erased,
    hd_strategy_crop_trigger_size=64,
    cv2_radius=9,
    ldm_steps=3,
    ldm_sampler="ddim",
    zits_wireframe=False,
)
erasing.ignored(
    painted,
    use_croper=True,
    croper_x=9,
    croper_y=9,
    croper_width=32,
    croper_height=32,
    extender_x=9,
    extender_y=9,
    extender_width=256,
    extender_height=256,
    sd_scale=0.5,
    sd_mask_blur=3,
    sd_match_histograms=True,
    sd_outpainting_softness=3,
    sd_outpainting_space=3,
    sd_lcm_lora=True,
    sd_keep_unmasked_area=False,
    paint_by_example_example_image=BASE["image"],
    p2p_image_guidance_scale=3,
    enable_controlnet=True,
    controlnet_conditioning_scale=1,
    controlnet_method="canny",
    enable_brushnet=True,
    brushnet_method="random",
    brushnet_conditioning_scale=0.5,
    enable_powerpaint_v2=True,
    powerpaint_task="object-remove",
    fitting_degree=0.5,
)

plugins = Table("of a plugin at IOPaint")


@plugins.works("name", "image")
def _(house: House) -> None:
    assert picture(plugin(house, "image", image=f"data:image/jpeg;base64,{base64_of(photo())}")).size == (
        160,
        160,
    )


@plugins.refused("name: another than RemoveBG")
def _(house: House) -> httpx.Response:
    return in_its_form(plugin(house, "image", "GFPGAN"))


def cut_out(house: House, more: dict[str, Any]) -> bytes:
    return picture(plugin(house, "image", **more)).tobytes()


plugins.ignored(cut_out, clicks=[[3, 3, 1]], scale=4)

answers = Table("of IOPaint's answers")


@answers.works("X-Seed")
def _(house: House) -> None:
    assert inpaint(house, {"sd_seed": 77}).headers["x-seed"] == "77"


@answers.works("error", "detail", "body", "errors")
def _(house: House) -> None:
    in_its_form(inpaint(house, {"image": "nonsense"}))
