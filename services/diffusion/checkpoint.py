"""A model in memory: the parts that the stages work with, as diffusers and transformers made them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch

Family = Literal["sdxl", "sdxl-refiner", "sd"]


@dataclass(slots=True, eq=False)
class Checkpoint:
    """`sdxl` has two text encoders and micro-conditioning, `sdxl-refiner` only the second encoder and an aesthetic
    score, `sd` (1.x and 2) one encoder whose last hidden state is read."""

    name: str
    family: Family
    unet: Any
    vae: Any
    text_encoders: list[Any]  # in diffusers' order; the refiner has only text_encoder_2
    tokenizers: list[Any]
    scheduler_config: dict[str, Any]
    controlnets: dict[str, Any] = field(default_factory=dict)  # "canny", "openpose"
    image_encoder: Any = None  # for IP-Adapter
    feature_extractor: Any = None  # prepares pictures for it; CLIP's usual one if absent
    safety: Any = None  # the checker, where one is loaded
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    defaults: dict[str, Any] = field(default_factory=dict)  # width, height, steps, guidance, sampler
    zero_negative: bool = False  # SDXL's force_zeros_for_empty_prompt

    @property
    def vae_scale(self) -> int:
        """Pixels to one latent, along a side."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))
