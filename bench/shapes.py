"""SDXL with random weights: what a step costs depends on the shape of the networks, not on what their weights say.

`TRUE` is the published shape (a UNet of 2.57 billion parameters, two text encoders, the VAE); `SMALL` has the same
parts and fits a processor, so that what is measured on a GPU can at least run through where there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

END = 49407  # the end of a text, in CLIP's vocabulary
BEGIN = END - 1
TOKENS = 77


@dataclass(frozen=True, slots=True)
class Shape:
    name: str
    side: int  # pixels
    unet: dict[str, Any]
    vae: dict[str, Any]
    text: dict[str, Any]
    text_2: dict[str, Any]


def _unet(
    channels: tuple[int, ...], depths: tuple[int, ...], heads: tuple[int, ...], **more: Any
) -> dict[str, Any]:
    """SDXL's: no attention at the finest level, ever deeper transformers at the coarser ones."""
    below = len(channels) - 1
    return {
        "in_channels": 4,
        "out_channels": 4,
        "layers_per_block": 2,
        "block_out_channels": channels,
        "down_block_types": ("DownBlock2D", *["CrossAttnDownBlock2D"] * below),
        "up_block_types": (*["CrossAttnUpBlock2D"] * below, "UpBlock2D"),
        "transformer_layers_per_block": depths,
        "attention_head_dim": heads,  # a misnomer that diffusers keeps: it is the number of heads
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        **more,
    }


def _vae(channels: tuple[int, ...], **more: Any) -> dict[str, Any]:
    return {
        "block_out_channels": channels,
        "down_block_types": ("DownEncoderBlock2D",) * len(channels),
        "up_block_types": ("UpDecoderBlock2D",) * len(channels),
        "layers_per_block": 2,
        "latent_channels": 4,
        "scaling_factor": 0.13025,
        **more,
    }


def _text(width: int, layers: int, heads: int, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "projection_dim": width,
        "vocab_size": END + 1,
        "max_position_embeddings": TOKENS,
        "bos_token_id": BEGIN,
        "eos_token_id": END,
        **more,
    }


TRUE = Shape(
    "SDXL",
    1024,
    _unet(
        (320, 640, 1280),
        (1, 2, 10),
        (5, 10, 20),
        sample_size=128,
        cross_attention_dim=768 + 1280,
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=1280 + 6 * 256,
    ),
    _vae((128, 256, 512, 512), sample_size=1024),
    _text(768, 12, 12, hidden_act="quick_gelu"),
    _text(1280, 32, 20, hidden_act="gelu"),
)
SMALL = Shape(
    "SDXL's parts, small",
    64,
    _unet(
        (32, 64),
        (1, 1),
        (2, 4),
        sample_size=8,
        cross_attention_dim=32 + 64,
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=64 + 6 * 8,
    ),
    _vae((32, 32, 64, 64), sample_size=64),
    _text(32, 2, 2, hidden_act="quick_gelu"),
    _text(64, 2, 2, hidden_act="gelu"),
)


def tokenizer() -> Any:
    """CLIP's tokenizer without its merges, which are not at hand: each letter is a token. What it lacks is meaning, and
    that random weights do not have either."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(33, 127)]
    vocabulary = {token: at for at, token in enumerate([*letters, *(letter + "</w>" for letter in letters)])}
    vocabulary |= {"<|startoftext|>": BEGIN, "<|endoftext|>": END}
    return CLIPTokenizer(vocab=vocabulary, merges=[], pad_token="<|endoftext|>", model_max_length=TOKENS)


def pipeline(shape: Shape, device: torch.device, dtype: torch.dtype) -> Any:
    """diffusers' own pipeline of that shape, on the device, with the sampler that services use most."""
    from diffusers import (
        AutoencoderKL,
        DPMSolverMultistepScheduler,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            parts = (
                AutoencoderKL(**shape.vae),
                CLIPTextModel(CLIPTextConfig(**shape.text)),
                CLIPTextModelWithProjection(CLIPTextConfig(**shape.text_2)),
                UNet2DConditionModel(**shape.unet),
            )
    finally:
        torch.set_default_dtype(before)
    vae, text, text_2, unet = (part.eval().requires_grad_(False) for part in parts)
    scheduler = DPMSolverMultistepScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        use_karras_sigmas=True,
        steps_offset=1,
    )
    made = StableDiffusionXLPipeline(
        vae, text, text_2, tokenizer(), tokenizer(), unet, scheduler, add_watermarker=False
    )
    made.set_progress_bar_config(disable=True)
    return made
