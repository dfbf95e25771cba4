"""The family as one folder: trained parts in, and out the layout that diffusers and transformers load.

sdxl/                 StableDiffusionXLPipeline
controlnet-canny/     ControlNetModel
controlnet-openpose/  ControlNetModel
ip-adapter/           ip-adapter.safetensors, image_encoder/, feature_extractor/
clip/                 CLIPModel and its processor
"""

# diffusers and transformers are typed only in part
# mypy: disable-error-code="no-untyped-call,attr-defined,no-any-return"

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPVisionModelWithProjection

from services.micro import adapter, clip, control, tokens, unet, vae
from services.micro.loop import keep

WEIGHTS = Path(__file__).parent / "weights"
LEDGER = WEIGHTS / "ledger.json"
PARTS = {
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
    "image_encoder": CLIPVisionModelWithProjection,
    "unet": UNet2DConditionModel,
    "controlnet-canny": ControlNetModel,
    "controlnet-openpose": ControlNetModel,
}
PIPELINE = {
    "_class_name": "StableDiffusionXLPipeline",
    "_diffusers_version": "0.36.0",
    "force_zeros_for_empty_prompt": True,
    "add_watermarker": None,
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
SCHEDULER = {
    "_class_name": "EulerDiscreteScheduler",
    **unet.SCHEDULE,
    "prediction_type": "epsilon",
    "interpolation_type": "linear",
    "timestep_spacing": "trailing",
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
}
PROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": clip.SIDE},
    "do_center_crop": True,
    "crop_size": {"height": clip.SIDE, "width": clip.SIDE},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": list(clip.MEAN),
    "image_std": list(clip.DEVIATION),
    "do_convert_rgb": True,
    "resample": 3,
}


def parts(work: Path) -> dict[str, Any]:
    """Each part as `work` has it, or, where it is not trained yet, with the random numbers that it starts from."""
    torch.manual_seed(0)
    if not (work / "tokenizer" / "vocab.json").exists():
        tokens.write(work / "tokenizer")
    found = {
        name: kind.from_pretrained(str(work / name))
        for name, kind in PARTS.items()
        if (work / name / "config.json").exists()
    }
    fresh: dict[str, Any] = {"vae": vae.build, "unet": unet.build}
    fresh |= {
        name: (lambda model=model: model)
        for name, model in clip.build(len(tokens.load(work / "tokenizer"))).items()
    }
    out: dict[str, Any] = {name: found[name] if name in found else make() for name, make in fresh.items()}
    for kind in control.KINDS:
        name = f"controlnet-{kind}"
        out[name] = found[name] if name in found else control.build(out["unet"])
    return out


def assemble(work: Path, weights: Path = WEIGHTS) -> None:
    """Writes the whole folder, half precision on disk, and its ledger."""
    models = parts(work)
    pipeline = weights / "sdxl"
    for name in ("vae", "unet", "text_encoder", "text_encoder_2"):
        keep(models[name], pipeline / name, torch.float16)
    for name in ("tokenizer", "tokenizer_2"):
        shutil.copytree(work / "tokenizer", pipeline / name, dirs_exist_ok=True)
    _json(pipeline / "scheduler" / "scheduler_config.json", SCHEDULER)
    _json(pipeline / "model_index.json", PIPELINE)
    for kind in control.KINDS:
        keep(models[f"controlnet-{kind}"], weights / f"controlnet-{kind}", torch.float16)
    _adapter(models, work, weights / "ip-adapter")
    _clip(models, work, weights / "clip")
    for extra in ("loras", "pose", "judge", "sdxl-inpaint"):
        if (work / extra).is_dir():
            shutil.copytree(work / extra, weights / extra, dirs_exist_ok=True)
    write_ledger(weights)


def _adapter(models: dict[str, Any], work: Path, folder: Path) -> None:
    keep(models["image_encoder"], folder / "image_encoder", torch.float16)
    _json(folder / "feature_extractor" / "preprocessor_config.json", PROCESSOR)
    trained = work / "ip-adapter.safetensors"
    numbers = load_file(trained) if trained.exists() else adapter.build(models["unet"])
    save_file(
        {key: value.to(torch.float16).contiguous() for key, value in numbers.items()},
        folder / "ip-adapter.safetensors",
    )


def _clip(models: dict[str, Any], work: Path, folder: Path) -> None:
    """The second text tower and the picture tower as the pair that they were trained as."""
    from transformers import CLIPConfig, CLIPModel

    text, image = models["text_encoder_2"], models["image_encoder"]
    pair = CLIPModel(
        CLIPConfig(
            text_config=text.config.to_dict(),
            vision_config=image.config.to_dict(),
            projection_dim=clip.SPACE,
            logit_scale_init_value=3.5,
        )
    )
    pair.text_model.load_state_dict(text.text_model.state_dict())
    pair.text_projection.load_state_dict(text.text_projection.state_dict())
    pair.vision_model.load_state_dict(image.vision_model.state_dict())
    pair.visual_projection.load_state_dict(image.visual_projection.state_dict())
    keep(pair, folder, torch.float16)
    _json(folder / "preprocessor_config.json", PROCESSOR)
    shutil.copytree(work / "tokenizer", folder, dirs_exist_ok=True)


def _json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def write_ledger(weights: Path = WEIGHTS) -> None:
    """What lies here: for each file its bytes and checksum, so that a damaged one is known before it is loaded."""
    files = {}
    for path in sorted(weights.rglob("*")):
        if path.is_file() and path.name != LEDGER.name:
            content = path.read_bytes()
            files[path.relative_to(weights).as_posix()] = {
                "bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "script": "services/micro/train.py",
            }
    _json(weights / LEDGER.name, {"files": files})
