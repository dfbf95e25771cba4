"""Small models of the true shapes with random weights: diffusers' pipelines, and our checkpoints of the same parts.

Random weights are enough where two computations must agree; what a picture shows is asked of the micro family.
"""

from __future__ import annotations

import copy
import inspect
from functools import cache
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image, ImageDraw
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from services.diffusion.checkpoint import Checkpoint, Family
from services.diffusion.decode import pixels
from services.diffusion.encode import encode
from services.diffusion.lane import Adapters, Lane
from services.diffusion.prepare import prepare
from services.diffusion.recipe import ControlUse, Recipe
from services.diffusion.step import step

SIZE = 64
TOLERANCE = 1e-3  # of a pixel's value of 0..1
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789.,:;!?()[]'\"-"
SCHEDULE = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "timestep_spacing": "leading",
    "steps_offset": 1,
}


@cache
def tokenizer(pad: str = "<|endoftext|>") -> CLIPTokenizer:
    words = ["red", "blue", "circle", "cat"]
    merges: list[str] = []
    tokens = [*ALPHABET, *(letter + "</w>" for letter in ALPHABET)]
    for word in words:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            merge = f"{parts[0]} {parts[1]}"
            if merge not in merges:
                merges.append(merge)
                tokens.append(parts[0] + parts[1])
            parts = [parts[0] + parts[1], *parts[2:]]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: at for at, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(
        vocab=vocabulary, merges=[tuple(m.split()) for m in merges], pad_token=pad, model_max_length=77
    )


def text_config(**more: Any) -> CLIPTextConfig:
    known = tokenizer()
    return CLIPTextConfig(
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=4,
        num_attention_heads=4,
        vocab_size=len(known),
        bos_token_id=known.bos_token_id,
        eos_token_id=known.eos_token_id,
        pad_token_id=1,
        projection_dim=32,
        **more,
    )


def livened(network: Any, seed: int, spread: float = 0.05) -> Any:
    """No weight stays zero, as a ControlNet's last layers are until it is trained."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in network.parameters():
            weights.add_(torch.randn(weights.shape, generator=generator) * spread)
    return network.eval()


def unet(family: Family, channels: int = 4, seed: int = 0, **more: Any) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    extra: dict[str, Any] = {"cross_attention_dim": 32, "attention_head_dim": 4}
    if family != "sd":
        numbers, width = (6, 64) if family == "sdxl" else (5, 32)
        extra = {
            "cross_attention_dim": width,
            "attention_head_dim": (2, 4),
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "transformer_layers_per_block": (1, 2),
            "projection_class_embeddings_input_dim": numbers * 8 + 32,
        }
    network = UNet2DConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=SIZE // 2,
        in_channels=channels,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **extra,
        **more,
    )
    return livened(network, seed, 0.02)


@cache
def vae() -> AutoencoderKL:
    torch.manual_seed(5)
    return livened(
        AutoencoderKL(
            block_out_channels=(32, 64),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
            scaling_factor=0.18215,
        ),
        5,
        0.01,
    )


@cache
def text_encoders() -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    torch.manual_seed(6)
    # the words must matter, so that a test can see that they arrive
    first = livened(CLIPTextModel(text_config()), 6, 0.2)
    second = livened(CLIPTextModelWithProjection(text_config(hidden_act="gelu")), 7, 0.2)
    return first, second


@cache
def controlnet(family: Family, seed: int) -> ControlNetModel:
    torch.manual_seed(seed)
    network = ControlNetModel.from_unet(
        unet(family, seed=1), conditioning_embedding_out_channels=(16, 32), load_weights_from_unet=False
    )
    return livened(network, seed, 0.05)


@cache
def pipeline(family: Family = "sdxl", channels: int = 4, **unet_more: Any) -> Any:
    """diffusers' own pipeline for words to picture (the refiner's: for picture to picture)."""
    first, second = text_encoders()
    scheduler = EulerDiscreteScheduler(**SCHEDULE)
    if family == "sd":
        return StableDiffusionPipeline(
            vae=vae(),
            text_encoder=first,
            tokenizer=tokenizer(),
            unet=unet("sd", channels, **unet_more),
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    if family == "sdxl-refiner":
        return StableDiffusionXLImg2ImgPipeline(
            vae=vae(),
            text_encoder=None,
            text_encoder_2=second,
            tokenizer=None,
            tokenizer_2=tokenizer("!"),
            unet=unet("sdxl-refiner", channels, seed=3, **unet_more),
            scheduler=scheduler,
            requires_aesthetics_score=True,
            force_zeros_for_empty_prompt=False,
            add_watermarker=False,
        )
    return StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=first,
        text_encoder_2=second,
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer("!"),
        unet=unet("sdxl", channels, **unet_more),
        scheduler=scheduler,
        add_watermarker=False,
    )


def checkpoint_of(
    pipe: Any, family: Family, controlnets: dict[str, ControlNetModel] | None = None
) -> Checkpoint:
    """The same parts, the same objects, as our stages take them."""
    pairs = [
        (getattr(pipe, "text_encoder", None), getattr(pipe, "tokenizer", None)),
        (getattr(pipe, "text_encoder_2", None), getattr(pipe, "tokenizer_2", None)),
    ]
    return Checkpoint(
        name="tiny",
        family=family,
        unet=pipe.unet,
        vae=pipe.vae,
        text_encoders=[encoder for encoder, _ in pairs if encoder is not None],
        tokenizers=[words for _, words in pairs if words is not None],
        scheduler_config=dict(pipe.scheduler.config),
        controlnets=controlnets or {},
        image_encoder=getattr(pipe, "image_encoder", None),
        zero_negative=bool(pipe.config.get("force_zeros_for_empty_prompt", False)),
    )


def recipe(**given: Any) -> Recipe:
    usual: dict[str, Any] = {
        "model": "tiny",
        "prompt": "a red circle, a cat",
        "negative_prompt": "blue",
        "width": SIZE,
        "height": SIZE,
        "steps": 5,
        "guidance": 6.0,
        "sampler": "euler",
        "seed": 7,
    }
    return Recipe(**{**usual, **given})


def started(checkpoint: Checkpoint, asked: Recipe, index: int = 0) -> Lane:
    return prepare(checkpoint, asked, encode(checkpoint, asked), index, Adapters())


def finished(lane: Lane) -> Lane:
    while not lane.done:
        step([lane])
    return lane


def alone(checkpoint: Checkpoint, asked: Recipe, index: int = 0) -> torch.Tensor:
    """Our picture, (3, height, width) of 0..1."""
    return pixels(finished(started(checkpoint, asked, index)))


def theirs(pipe: Any, asked: Recipe, **more: Any) -> torch.Tensor:
    """The pipeline's pictures for the same request, (count, 3, height, width)."""
    pipe.set_progress_bar_config(disable=True)
    given: dict[str, Any] = {
        "prompt": asked.prompt,
        "negative_prompt": asked.negative_prompt or None,
        "num_inference_steps": asked.steps,
        "guidance_scale": asked.guidance,
        "generator": [torch.Generator("cpu").manual_seed(asked.seed + at) for at in range(asked.count)],
        "num_images_per_prompt": asked.count,
        "output_type": "pt",
    }
    if asked.kind == "text":
        given |= {"width": asked.width, "height": asked.height}
    result = pipe(**{**given, **more})
    return result.images


def apart(ours: torch.Tensor, other: torch.Tensor) -> float:
    assert ours.shape == other.shape
    assert torch.isfinite(ours).all()
    assert float(ours.std()) > 0.01, "an empty picture would prove nothing"
    return float((ours - other).abs().max())


def picture(seed: int = 0, width: int = SIZE, height: int = SIZE) -> Image.Image:
    """Something to begin from: a soft field of colours."""
    small = np.random.default_rng(seed).integers(0, 255, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def hole(width: int = SIZE, height: int = SIZE) -> Image.Image:
    mask = Image.new("L", (width, height), 0)
    ImageDraw.Draw(mask).rectangle((14, 10, 41, 49), fill=255)
    return mask


def edges(seed: int = 3) -> Image.Image:
    lines = Image.new("RGB", (SIZE, SIZE))
    generator = np.random.default_rng(seed)
    for _ in range(5):
        ImageDraw.Draw(lines).line(
            [tuple(p) for p in generator.integers(0, SIZE, (2, 2)).tolist()], "white", 2
        )
    return lines


def control(net: str, seed: int = 3, **more: Any) -> ControlUse:
    return ControlUse(net=net, map=edges(seed), **more)


def with_scheduler(pipe: Any, scheduler: Any) -> Any:
    """A pipeline of the same parts with another scheduler."""
    other = copy.copy(pipe)
    other.scheduler = scheduler
    return other


def as_pipeline(kind: type, pipe: Any, **more: Any) -> Any:
    """Another of diffusers' pipelines, made of the same parts."""
    expected = set(inspect.signature(kind.__init__).parameters)
    given = {**pipe.components, "add_watermarker": False, "requires_safety_checker": False, **more}
    return kind(**{name: part for name, part in given.items() if name in expected})
