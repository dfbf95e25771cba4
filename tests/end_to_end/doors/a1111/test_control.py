"""The ControlNet extension of AUTOMATIC1111's dialect."""

from __future__ import annotations

import httpx
import numpy as np
import webuiapi

from tests.end_to_end.doors.a1111.asking import ASK, base64_of, drawn, opened, person, refused, scene


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
