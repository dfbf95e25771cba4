"""LoRAs with random numbers, in the forms that trainers write; an IP-Adapter of the true layout for a tiny UNet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

RANK = 4
CHANGED = ("to_q", "to_k", "to_v", "to_out.0")


def changed(network: torch.nn.Module, ends: tuple[str, ...] = CHANGED) -> dict[str, torch.nn.Linear]:
    """The layers that a LoRA usually changes."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear) and name.endswith(ends)
    }


def halves(
    layer: torch.nn.Linear, generator: torch.Generator, strength: float
) -> tuple[torch.Tensor, torch.Tensor]:
    down = torch.randn(RANK, layer.in_features, generator=generator) * strength
    return down, torch.randn(layer.out_features, RANK, generator=generator) * strength


def peft_form(path: Path, seed: int, strength: float = 0.2, **parts: torch.nn.Module) -> Path:
    """As diffusers saves it now: `unet.NAME.lora_A.weight`."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for part, network in parts.items():
        for name, layer in changed(network, (*CHANGED, "q_proj", "v_proj", "fc1")).items():
            down, up = halves(layer, generator, strength)
            tensors[f"{part}.{name}.lora_A.weight"], tensors[f"{part}.{name}.lora_B.weight"] = down, up
    save_file(tensors, path)
    return path


def kohya_form(
    path: Path,
    seed: int,
    unet: torch.nn.Module,
    encoders: tuple[torch.nn.Module, ...] = (),
    *,
    alpha: float = 2.0,
) -> Path:
    """As kohya's trainer writes it: names with underscores, and an alpha for each layer."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    prefixes = ["lora_te"] if len(encoders) == 1 else ["lora_te1", "lora_te2"]
    named: list[tuple[str, torch.nn.Linear]] = [
        (f"lora_unet_{name.replace('.', '_')}", layer) for name, layer in changed(unet).items()
    ]
    for prefix, encoder in zip(prefixes, encoders, strict=False):
        named += [
            (f"{prefix}_text_model_{name.removeprefix('text_model.').replace('.', '_')}", layer)
            for name, layer in changed(
                encoder, ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
            ).items()
        ]
    for name, layer in named:
        down, up = halves(layer, generator, 0.2)
        tensors[f"{name}.lora_down.weight"], tensors[f"{name}.lora_up.weight"] = down, up
        tensors[f"{name}.alpha"] = torch.tensor(alpha)
    save_file(tensors, path)
    return path


def ip_adapter(folder: Path, unet: Any, seed: int = 4) -> Path:
    """A folder with `ip-adapter.safetensors` and the image encoder that it was made for."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    encoder = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=37,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=32,
            patch_size=8,
            projection_dim=32,
        )
    )
    encoder.save_pretrained(folder / "image_encoder")
    width = unet.config.cross_attention_dim
    tensors = {
        "image_proj.proj.weight": torch.randn(4 * width, 32) * 0.5,
        "image_proj.proj.bias": torch.randn(4 * width) * 0.1,
        "image_proj.norm.weight": torch.ones(width),
        "image_proj.norm.bias": torch.zeros(width),
    }
    at = 1
    for name, module in unet.named_modules():
        if name.endswith("attn2"):
            hidden = module.to_k.out_features
            tensors[f"ip_adapter.{at}.to_k_ip.weight"] = torch.randn(hidden, width) * 0.3
            tensors[f"ip_adapter.{at}.to_v_ip.weight"] = torch.randn(hidden, width) * 0.3
            at += 2
    save_file(tensors, folder / "ip-adapter.safetensors")
    return folder
