"""A reference picture, read for the IP-Adapter: equal to diffusers' pipeline with the same adapter in the same UNet."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from services.diffusion.checkpoint import Family
from services.diffusion.step import step
from tests.diffusion.tiny import (
    TOLERANCE,
    alone,
    apart,
    checkpoint_of,
    livened,
    picture,
    pipeline,
    pixels,
    recipe,
    started,
    theirs,
)

TOKENS = 4


def image_encoder() -> CLIPVisionModelWithProjection:
    torch.manual_seed(20)
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
        projection_dim=32,
    )
    return livened(CLIPVisionModelWithProjection(config), 20, 0.2)


def with_adapter(family: Family) -> Any:
    """A pipeline of its own, whose UNet has a plain IP-Adapter in diffusers' way."""
    pipe = copy.deepcopy(pipeline(family))
    pipe.register_modules(
        image_encoder=image_encoder(), feature_extractor=CLIPImageProcessorPil(size=32, crop_size=32)
    )
    generator = torch.Generator().manual_seed(21)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.3

    width = pipe.unet.config.cross_attention_dim
    adapter: dict[str, torch.Tensor] = {}
    number = 1
    for name, processor in pipe.unet.attn_processors.items():
        if name.endswith("attn2.processor"):
            module = pipe.unet.get_submodule(name.removesuffix(".processor"))
            for side in ("to_k", "to_v"):
                adapter[f"{number}.{side}_ip.weight"] = drawn(*getattr(module, side).weight.shape)
            number += 2
        assert processor is not None
    pipe.unet._load_ip_adapter_weights(
        [
            {
                "image_proj": {
                    "proj.weight": drawn(TOKENS * width, 32),
                    "proj.bias": drawn(TOKENS * width),
                    "norm.weight": torch.ones(width),
                    "norm.bias": torch.zeros(width),
                },
                "ip_adapter": adapter,
            }
        ],
        low_cpu_mem_usage=False,
    )
    pipe.set_ip_adapter_scale(0.8)
    return pipe


@pytest.mark.parametrize("guidance", [1.0, 5.0])
@pytest.mark.parametrize("family", ["sdxl", "sd"])
def test_a_reference_is_read_as_diffusers_reads_it(family: Family, guidance: float) -> None:
    pipe = with_adapter(family)
    asked = recipe(reference=picture(9), reference_scale=0.8, guidance=guidance, steps=4)
    checkpoint = checkpoint_of(pipe, family)
    made = alone(checkpoint, asked)
    assert apart(made, theirs(pipe, asked, ip_adapter_image=picture(9))[0]) < TOLERANCE
    other = recipe(reference=picture(10), reference_scale=0.8, guidance=guidance, steps=4)
    assert float((made - alone(checkpoint, other)).abs().max()) > 0.01


def test_lanes_of_different_references_share_a_call() -> None:
    checkpoint = checkpoint_of(with_adapter("sdxl"), "sdxl")
    asked = [recipe(seed=at, reference=picture(at), steps=3) for at in range(3)]
    lanes = [started(checkpoint, one) for one in asked]
    while not lanes[0].done:
        step(lanes)
    for lane, one in zip(lanes, asked, strict=True):
        assert apart(pixels(lane), alone(checkpoint, one)) < TOLERANCE
