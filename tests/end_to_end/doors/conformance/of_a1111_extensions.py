"""What two extensions of AUTOMATIC1111's page are asked: ControlNet's units and maps, rembg's cut-outs; and answers."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.end_to_end.doors.conformance.asking_a1111 import ASK, SCENE, ask, cut, detect, in_its_form, told
from tests.end_to_end.doors.conformance.checks import (
    House,
    Table,
    base64_of,
    hole,
    opened,
    photo,
    png,
)

UNIT: dict[str, Any] = {"module": "canny", "model": "canny", "image": SCENE}


def steered(house: House, *units: dict[str, Any]) -> httpx.Response:
    return ask(house, **ASK, alwayson_scripts={"controlnet": {"args": list(units)}})


def both(answer: httpx.Response) -> list[bytes]:
    """The picture and its maps."""
    return [opened(text).tobytes() for text in told(answer)["images"]]


def same_unit(house: House, more: dict[str, Any]) -> list[bytes]:
    return both(steered(house, UNIT | more))


unit = Table("of a ControlNet unit")


@unit.works("module", "model", "image", "enabled", "input_image")
def _(house: House) -> None:
    plain = opened(told(ask(house, **ASK))["images"][0]).tobytes()
    made, mapped = same_unit(house, {})
    assert made != plain
    read = told(steered(house, UNIT))["images"][1]
    assert same_unit(house, {"module": "none", "image": read})[1] == mapped
    assert both(steered(house, UNIT | {"enabled": False})) == [plain]
    old = {"module": "canny", "model": "control_v11p_sd15_canny [d14c016b]", "input_image": SCENE}
    assert both(steered(house, old)) == [made, mapped]
    assert len(both(steered(house, UNIT, UNIT, UNIT))) == 4
    assert in_its_form(steered(house, *[UNIT] * 4)).status_code == 422


@unit.works(
    "weight", "guidance_start", "guidance_end", "threshold_a", "threshold_b", "control_mode", slow=True
)
def _(house: House) -> None:
    made = same_unit(house, {})[0]
    for more in (
        {"weight": 0.2},
        {"guidance_start": 0.5},
        {"guidance_end": 0.5},
        {"control_mode": "ControlNet is more important"},
    ):
        assert same_unit(house, more)[0] != made, more
    assert same_unit(house, {"control_mode": 1})[0] == made
    shown = {"image": base64_of(photo())}
    assert same_unit(house, shown | {"threshold_a": 1, "threshold_b": 900})[1] != same_unit(house, shown)[1]


@unit.refused("module: another")
def _(house: House) -> httpx.Response:
    return in_its_form(steered(house, UNIT | {"module": "depth_midas"}))


@unit.refused("model: another")
def _(house: House) -> httpx.Response:
    return in_its_form(steered(house, UNIT | {"model": "control_v11f1p_sd15_depth"}))


unit.ignored(
    same_unit,
    processor_res=256,
    pixel_perfect=True,
    resize_mode="Just Resize",
    mask=base64_of(png(hole())),
    low_vram=True,
    hr_option="Both",
    save_detected_map=False,
)

detecting = Table("of `/controlnet/detect`")


def maps(house: House, more: dict[str, Any]) -> list[str]:
    found: list[str] = detect(house, {"controlnet_module": "canny"} | more)["images"]
    return found


@detecting.works(
    "controlnet_module", "controlnet_input_images", "controlnet_threshold_a", "controlnet_threshold_b"
)
def _(house: House) -> None:
    soft = {"controlnet_threshold_a": 1, "controlnet_threshold_b": 5}
    photos = {"controlnet_input_images": [base64_of(photo())] * 2}
    one, other = maps(house, photos)
    assert one == other != maps(house, photos | soft)[0]


@detecting.refused("controlnet_module: another")
def _(house: House) -> httpx.Response:
    asked = {"controlnet_module": "depth", "controlnet_input_images": [SCENE]}
    return in_its_form(house.http.post("/controlnet/detect", json=asked))


detecting.ignored(maps, controlnet_processor_res=64, controlnet_masks=[SCENE], low_vram=True)

cutting = Table("of `/rembg` at AUTOMATIC1111")


@cutting.works("input_image", "model", "return_mask", "alpha_matting", slow=True)
def _(house: House) -> None:
    assert cut(house, {"return_mask": True}).mode == "L"
    plain = cut(house, {"model": "grabcut"})
    assert plain.tobytes() != cut(house, {"model": "micro-matte"}).tobytes()
    assert plain.tobytes() != cut(house, {"model": "grabcut", "alpha_matting": True}).tobytes()
    assert cut(house, {}).size == (160, 160)
    unknown = house.http.post("/rembg", json={"input_image": base64_of(photo()), "model": "nobody"})
    assert in_its_form(unknown).status_code == 404


def matted(house: House, more: dict[str, Any]) -> bytes:
    return cut(house, {"model": "grabcut", "alpha_matting": True} | more).tobytes()


cutting.ignored(
    matted,
    alpha_matting_foreground_threshold=200,
    alpha_matting_background_threshold=40,
    alpha_matting_erode_size=3,
)
cutting.slow |= {
    name for name in cutting.checks if name.startswith("alpha_matting_")
}  # matting compiles for long

answers = Table("of AUTOMATIC1111's answers")


@answers.works("images", "parameters", "info")
def _(house: House) -> None:
    raw = ask(house, **ASK).json()
    assert set(raw) == {"images", "parameters", "info"}
    info = json.loads(raw["info"])
    assert (info["all_seeds"], info["sd_model_name"], info["sd_model_hash"]) == ([7], "micro", "")
    assert info["infotexts"] == [opened(raw["images"][0]).info["parameters"]]
    assert (raw["parameters"]["prompt"], raw["parameters"]["steps"]) == (ASK["prompt"], ASK["steps"])


@answers.works("error", "detail", "body", "errors")
def _(house: House) -> None:
    wrong = in_its_form(ask(house, **ASK | {"steps": 0}))
    assert (wrong.status_code, wrong.json()["body"]) == (422, "steps")
    assert "steps" in wrong.json()["detail"]
