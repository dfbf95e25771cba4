"""What txt2img and img2img answer: in go a drawing and what came of it, out come the bytes of the answer.

{"images": [base64, ...], "parameters": what was asked, "info": JSON text: seeds, texts, model ...}
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import orjson
from PIL import Image

from gateway.arriving import File
from gateway.desk import Made
from gateway.doors import a1111_info
from gateway.doors.a1111_ask import Drawing
from gateway.doors.a1111_work import Work
from gateway.doors.splice import Coded
from gateway.kept import Kept
from services import images
from services.operations import Diffusion
from services.samplers import SPELLINGS

# what the original repeats of a request, with its values of what was left out
PARAMETERS: dict[str, Any] = {
    "prompt": "",
    "negative_prompt": "",
    "styles": None,
    "seed": -1,
    "subseed": -1,
    "subseed_strength": 0,
    "sampler_name": None,
    "sampler_index": None,
    "scheduler": None,
    "batch_size": 1,
    "n_iter": 1,
    "steps": None,
    "cfg_scale": None,
    "width": None,
    "height": None,
    "denoising_strength": None,
    "mask_blur": None,
    "inpainting_fill": None,
    "inpaint_full_res": None,
    "inpainting_mask_invert": None,
    "refiner_checkpoint": None,
    "refiner_switch_at": None,
    "override_settings": None,
    "send_images": True,
    "save_images": False,
}


def answer(drawing: Drawing, ask: Diffusion | None, work: Work) -> dict[str, Any]:
    """The document; where a preview is enlarged it takes its time: call it in a thread."""
    pictures = [one for one in work.pictures if one.role == "picture"]
    maps: list[File] = [one.file for one in work.pictures if one.role == "map"]
    maps += drawing.maps
    texts = ["" if one.withheld else a1111_info.read(_looked_at(one.file)).text for one in pictures]
    shown = [one.file for one in pictures]
    if work.interrupted and work.preview and len(shown) < work.count:
        shown.append(Kept.of(_enlarged(work.preview, drawing)))
        texts.append("")
    parameters = {name: _shallow(drawing.asked.get(name, usual)) for name, usual in PARAMETERS.items()}
    sent = (*shown, *maps) if drawing.send else ()
    coded = [Coded(file) for file in sent]
    return {"images": coded, "parameters": parameters, "info": _info(drawing, ask, work, pictures, texts)}


def _looked_at(file: File) -> bytes:
    return file.data if isinstance(file, Kept) else file.seen


def _enlarged(preview: bytes, drawing: Drawing) -> bytes:
    """The last preview at the size that was asked for, since clients lay pictures out by it."""
    with Image.open(io.BytesIO(preview), formats=("JPEG", "PNG")) as small:
        size = drawing.fields.get("width") or small.width, drawing.fields.get("height") or small.height
        return images.encode(
            small.convert("RGB").resize(size, Image.Resampling.BICUBIC), drawing.fields["format"]
        )


def _info(
    drawing: Drawing, ask: Diffusion | None, work: Work, pictures: Sequence[Made], texts: list[str]
) -> str:
    """The JSON text that the original calls info. `notes` is ours: what was done otherwise than asked."""
    said = a1111_info.fields(next(iter(texts), ""))
    asked, count = drawing.asked, len(texts)
    first = None if ask is None else getattr(ask, "seed", None)
    seeds = [one.seed for one in pictures] + [
        first + n for n in range(len(pictures), count) if first is not None
    ]
    prompt, negative = drawing.fields["prompt"], drawing.fields["negative_prompt"]
    sampler = drawing.fields.get("sampler")
    subseed = given if isinstance(given := asked.get("subseed"), int) else -1
    document = {
        "prompt": prompt,
        "all_prompts": [prompt] * count,
        "negative_prompt": negative,
        "all_negative_prompts": [negative] * count,
        "seed": seeds[0] if seeds else first,
        "all_seeds": seeds,
        "subseed": subseed,
        "all_subseeds": [subseed] * count,
        "subseed_strength": 0,
        "width": pictures[0].width if pictures else drawing.fields.get("width"),
        "height": pictures[0].height if pictures else drawing.fields.get("height"),
        "sampler_name": said.get("Sampler", SPELLINGS.get(sampler) if sampler else None),
        "cfg_scale": _number(said.get("CFG scale", drawing.fields.get("guidance"))),
        "steps": _number(said.get("Steps", drawing.fields.get("steps"))),
        "batch_size": asked.get("batch_size") or 1,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": work.model,
        "sd_model_hash": "",
        "sd_vae_name": None,
        "sd_vae_hash": None,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": drawing.fields.get("strength"),
        "extra_generation_params": {},
        "index_of_first_image": 0,
        "infotexts": texts,
        "styles": [],
        "job_timestamp": work.stamp,
        "clip_skip": drawing.fields.get("clip_skip", 1),
        "is_using_inpainting_conditioning": False,
        "version": said.get("Version"),
        "notes": drawing.notes,
    }
    return orjson.dumps(document, default=str).decode()


def _shallow(value: Any) -> Any:
    """What a client sent, but not what it wrapped into itself a thousand times."""
    match value:
        case dict():
            return {name: inner for name, inner in value.items() if not isinstance(inner, dict | list)}
        case list():
            return [inner for inner in value if not isinstance(inner, dict | list)]
        case _:
            return value


def _number(said: Any) -> Any:
    """A number that a picture's text told."""
    try:
        number = float(said)
    except (TypeError, ValueError):
        return said
    return int(number) if number == int(number) else number
