"""What AUTOMATIC1111's dialect is asked for a picture with, and for one that is changed; and its options."""

from __future__ import annotations

from typing import Any

import httpx
from PIL import Image

from tests.end_to_end.doors.conformance.asking_a1111 import (
    ASK,
    HOLE,
    RED,
    SCENE,
    ask,
    changed,
    drawn,
    in_its_form,
    same_drawing,
    stopped,
    told,
)
from tests.end_to_end.doors.conformance.checks import (
    House,
    Table,
    base64_of,
    hole,
    opened,
    pixels,
    png,
    red,
    scene,
)

picture = Table("of a picture at AUTOMATIC1111")


@picture.works("prompt", "negative_prompt", slow=True)
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


@change.works("mask", slow=True)
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


@options.works("show_progress_every_n_steps", slow=True)
def _(house: House) -> None:
    stopped(house, "interrupt")


def with_options(house: House, more: dict[str, Any]) -> bytes:
    return drawn(house, override_settings=more).tobytes()


options.ignored(
    with_options, sd_vae="x.vae", eta_noise_seed_delta=31337, directories_filename_pattern="[seed]"
)
