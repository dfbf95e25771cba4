"""What AUTOMATIC1111's clients ask for, as Darkroom's parameters: in goes the body of txt2img or img2img, out comes an
operation with its fields. What is left out is the model's own; what is not known is ignored, as the original does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from gateway.blobs import Blob
from gateway.doors import a1111_mask, a1111_options, a1111_units, sizes
from gateway.doors.a1111_samplers import sampler
from gateway.doors.a1111_units import Units
from services.errors import BadInput, DarkroomError, NotFound
from services.operations import Control, Diffusion, ImageToImage, Inpaint, TextToImage
from services.settings import Limits

MOST_PICTURES = 16
_WHOLE = re.compile(r"-?[0-9]{1,18}\Z")
_SIDE = 512  # of a picture of which only the other side was named, as in the original
_LATENT_NOISE = 2  # and 3, latent nothing: fills of inpainting that forget what was there
# what the original can do and we cannot, where a client would see the difference
_MISSED = ("enable_hr", "restore_faces", "tiling", "subseed_strength")
REFINER = "refiner"
# always-on scripts that come with that page and say nothing here
_BUILT_IN = frozenset(
    {"seed", "sampler", REFINER, "comments", "extra options", "hypertile", "soft inpainting", "api payload"}
)
# our parameters by the names that the client knows
_THEIRS = {
    "guidance": "cfg_scale",
    "sampler": "sampler_name",
    "count": "batch_size",
    "strength": "denoising_strength",
    "clip_skip": "CLIP_stop_at_last_layers",
    "model": "sd_model_checkpoint",
    "refiner": "refiner_checkpoint",
    "refine_at": "refiner_switch_at",
    "image": "init_images",
    "previews": "show_progress_every_n_steps",
}


@dataclass(slots=True)
class Drawing:
    """What is asked of the services, and how its result is told."""

    operation: type[Diffusion]
    fields: dict[str, Any]
    asked: dict[str, Any]
    send: bool
    notes: list[str]
    files: dict[str, Blob] = field(default_factory=dict)
    units: Units = field(default_factory=Units)
    maps: list[bytes] = field(default_factory=list)  # that were read beside the drawing


@contextmanager
def named(theirs: Mapping[str, str] = _THEIRS, places: Sequence[int] = ()) -> Iterator[None]:
    """Errors that come out name the client's fields, and not ours."""
    try:
        yield
    except DarkroomError as error:
        ours = error.field
        if ours is not None:
            called = theirs.get(ours) or a1111_units.called(ours, places)
            error.detail = error.detail.replace(f"{ours}: ", f"{called}: ", 1)
            error.field = called
        raise


def text_to_image(asked: dict[str, Any], options: Mapping[str, Any], own: Mapping[str, Any]) -> Drawing:
    drawing = _common(asked, options, own)
    if _steered(drawing, a1111_units.read(asked)):
        drawing.operation = Control
    return drawing


async def image_to_image(
    asked: dict[str, Any], options: Mapping[str, Any], own: Mapping[str, Any], limits: Limits
) -> Drawing:
    pictures = asked.get("init_images")
    if pictures is None:
        raise NotFound("Init image not found")
    if not isinstance(pictures, list) or len(pictures) != 1 or not isinstance(pictures[0], str):
        raise BadInput("init_images is a list of one picture, as base64.", field="init_images")
    image, mask = pictures[0], asked.get("mask")
    # of an inpainted picture the answer has its own size then, there as here
    whole_picture = bool(mask) and bool(asked.get("inpaint_full_res", True))
    drawing = _common(asked, options, own, sized=not whole_picture)
    strength = asked.get("denoising_strength")
    drawing.fields |= {"image": image, "strength": 0.75 if strength is None else strength}
    _steered(drawing, a1111_units.read(asked, image))
    drawing.operation = ImageToImage
    if mask:
        drawing.operation = Inpaint
        drawing.files["mask"] = await a1111_mask.white_where_painted(
            mask, image, limits, inverted=bool(whole(asked, "inpainting_mask_invert", 0, 0, 1))
        )
        drawing.fields["mask"] = "part:mask"
        if whole(asked, "inpainting_fill", 0, 0, 3) >= _LATENT_NOISE:
            drawing.fields["strength"] = 1.0
    return drawing


def _steered(drawing: Drawing, units: Units) -> bool:
    drawing.units = units
    if units.controls:
        drawing.fields |= {"controls": units.controls, "guess_mode": units.alone}
    return bool(units.controls)


def _common(
    asked: dict[str, Any], options: Mapping[str, Any], own: Mapping[str, Any], *, sized: bool = True
) -> Drawing:
    count = whole(asked, "batch_size", 1, 1, MOST_PICTURES) * whole(asked, "n_iter", 1, 1, MOST_PICTURES)
    if count > MOST_PICTURES:
        raise BadInput(
            f"batch_size times n_iter is {count}; {MOST_PICTURES} pictures are the most.", field="batch_size"
        )
    _scripts(asked)
    notes = [f"{name} is not done here and was left out" for name in _MISSED if asked.get(name)]
    fields: dict[str, Any] = a1111_options.fields(options)
    fields |= {
        "prompt": asked.get("prompt") or "",
        "negative_prompt": asked.get("negative_prompt") or "",
        "count": count,
    }
    if sized:
        fields |= _size(asked, own, notes)
    for theirs, ours in (("steps", "steps"), ("cfg_scale", "guidance")):
        if asked.get(theirs) is not None:
            fields[ours] = asked[theirs]
    if (
        name := sampler(asked.get("sampler_name") or asked.get("sampler_index"), asked.get("scheduler"))
    ) is not None:
        fields["sampler"] = name
    if asked.get("seed") not in (None, "", -1, "-1"):
        fields["seed"] = asked["seed"]
    if (refiner := options.get(REFINER)) is not None:
        fields |= {"refiner": refiner}
        if (at := refining(asked)[1]) is not None:
            fields["refine_at"] = at
    return Drawing(TextToImage, fields, asked, asked.get("send_images", True) is not False, notes)


def refining(asked: dict[str, Any]) -> tuple[Any, Any]:
    """The refiner's checkpoint and when it takes over: the request's fields, or arguments of that page's script."""
    name, at = asked.get("refiner_checkpoint"), asked.get("refiner_switch_at")
    scripts = asked.get("alwayson_scripts")
    named = scripts if isinstance(scripts, dict) else {}
    script = next((named[key] for key in named if key.lower() == REFINER), None)
    args = script.get("args") if isinstance(script, dict) else None
    if name in (None, "", "None") and isinstance(args, list) and len(args) == 3 and args[0]:
        name, at = args[1], args[2]
    return (None, None) if name in (None, "", "None") else (name, at)


def _size(asked: dict[str, Any], own: Mapping[str, Any], notes: list[str]) -> dict[str, int]:
    if asked.get("width") is None and asked.get("height") is None:
        return {}
    size = whole(asked, "width", _SIDE, 1, 65_535), whole(asked, "height", _SIDE, 1, 65_535)
    if size[0] * size[1] > sizes.MOST_PIXELS:
        raise BadInput(f"A picture may have {sizes.MOST_PIXELS:,} pixels.", field="width")
    fitted = sizes.fitted(size, own.get("defaults", {}))
    drawn = fitted["width"], fitted["height"]
    if abs(drawn[0] - size[0]) >= sizes.SIDE or abs(drawn[1] - size[1]) >= sizes.SIDE:
        notes.append(
            f"{size[0]}x{size[1]} is no size for the model {own.get('name', 'auto')}; it draws {drawn[0]}x{drawn[1]}"
        )
    return fitted


def _scripts(asked: dict[str, Any]) -> None:
    """Scripts are parts of that page; those that change nothing that we do not do ourselves may be named."""
    if asked.get("script_name"):
        raise BadInput(f"Script '{str(asked['script_name'])[:80]}' not found", field="script_name")
    scripts = asked.get("alwayson_scripts") or {}
    if not isinstance(scripts, dict):
        raise BadInput("alwayson_scripts is an object.", field="alwayson_scripts")
    for name in scripts:
        if name.lower() not in _BUILT_IN | {a1111_units.SCRIPT}:
            raise BadInput(f"always on script {name[:80]} not found", field="alwayson_scripts")


def whole(asked: Mapping[str, Any], name: str, usual: int, least: int, most: int) -> int:
    given = asked.get(name)
    if given is None:
        return usual
    if isinstance(given, str) and _WHOLE.match(given):
        given = int(given)
    if not isinstance(given, int | float) or not least <= given <= most or given != int(given):
        raise BadInput(f"{name} is a whole number from {least} to {most}.", field=name)
    return int(given)
