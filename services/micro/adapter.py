"""The IP-Adapter: a picture in, and out what the UNet's cross-attention hears of it beside the words.

Written as the two groups of numbers that diffusers' `load_ip_adapter` reads: `image_proj` makes four tokens of the
picture's embedding, `ip_adapter` has a key and a value matrix for each cross-attention.
"""

# diffusers and transformers are typed only in part
# mypy: disable-error-code="no-untyped-call,attr-defined,no-any-return"

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection

from services.micro import clip, unet, world
from services.micro.loop import Loop

PICTURES, BATCH, STEPS = 4000, 24, 600
TOKENS = 4


def build(model: Any) -> dict[str, Tensor]:
    """Fresh numbers: the words' own keys and values are where the picture's begin."""
    numbers = {
        "image_proj.proj.weight": torch.randn(TOKENS * unet.CROSS, clip.SPACE) * clip.SPACE**-0.5,
        "image_proj.proj.bias": torch.zeros(TOKENS * unet.CROSS),
        "image_proj.norm.weight": torch.ones(unet.CROSS),
        "image_proj.norm.bias": torch.zeros(unet.CROSS),
    }
    state = model.state_dict()
    for index, name in enumerate(_crossings(model)):
        for part in "kv":
            numbers[f"ip_adapter.{2 * index + 1}.to_{part}_ip.weight"] = state[
                f"{name}.to_{part}.weight"
            ].clone()
    return numbers


def _crossings(model: Any) -> list[str]:
    """The cross-attentions in the order in which diffusers numbers them."""
    return [
        name.removesuffix(".processor") for name in model.attn_processors if name.endswith("attn2.processor")
    ]


def attach(model: Any, state: dict[str, Tensor]) -> nn.Module:
    """Loads the numbers into the UNet as diffusers does, and gives back the parts that are trained."""
    groups: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for key, value in state.items():
        group, name = key.split(".", 1)
        groups[group][name] = value
    model._load_ip_adapter_weights([groups], low_cpu_mem_usage=False)
    parts = {"image_proj": model.encoder_hid_proj.image_projection_layers[0]}
    for index, name in enumerate(_crossings(model)):
        parts[str(2 * index + 1)] = model.attn_processors[name + ".processor"]
    return nn.ModuleDict(parts)


def detach(parts: Any) -> dict[str, Tensor]:
    """The trained parts in the file's names."""
    out = {}
    for name, part in parts.items():
        for key, value in part.state_dict().items():
            if name == "image_proj":
                out["image_proj." + key.replace("image_embeds", "proj")] = value
            else:
                out[f"ip_adapter.{name}." + key.replace("_ip.0.", "_ip.")] = value
    return out


def train(work: Path, steps: int = STEPS, pictures: int = PICTURES, lr: float = 1e-3) -> dict[str, Tensor]:
    """The picture itself is the reference; captions are often left out or cut short, so that it is needed."""
    torch.manual_seed(6)
    reader = unet.Reader(work)
    empty = reader([""])
    tower = CLIPVisionModelWithProjection.from_pretrained(str(work / "image_encoder")).eval()
    model = UNet2DConditionModel.from_pretrained(str(work / "unet")).requires_grad_(False)
    bank = unet.banks(work)[0].plain(pictures)
    with torch.no_grad():
        embeds = torch.cat(
            [
                tower(
                    clip.normal(
                        torch.from_numpy(
                            np.stack([clip.pixels(world.draw(s)) for s in bank.scenes[i : i + 50]])
                        ).permute(0, 3, 1, 2)
                    )
                ).image_embeds
                for i in range(0, len(bank.scenes), 50)
            ]
        )
    parts = attach(model, build(model))
    parts.requires_grad_(True)
    loop = Loop("ip-adapter", {"parts": parts}, steps, lr=lr, work=work, average=0.99)
    schedule = DDPMScheduler(**unet.SCHEDULE)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        rng, noises = random.Random(step), torch.Generator().manual_seed(step)
        chosen, latents, six, states, wholes = bank.pick(rng, BATCH)
        states, wholes = states.clone(), wholes.clone()
        for index in range(BATCH):
            if rng.random() < 0.6:
                states[index], wholes[index] = empty[0][0], empty[1][0]
        shown = embeds[chosen] * (torch.rand(BATCH, 1, generator=noises) > 0.06)
        noise = torch.randn(latents.shape, generator=noises)
        when = unet.times(noises, BATCH)
        with torch.autocast("cpu", torch.bfloat16):
            said = model(
                schedule.add_noise(latents, noise, when),
                when,
                states,
                added_cond_kwargs={"text_embeds": wholes, "time_ids": six, "image_embeds": [shown[:, None]]},
            ).sample
        return F.mse_loss(said.float(), noise), {}

    loop.run(loss)
    loop.averaged()
    out = {key: value.detach().contiguous() for key, value in detach(parts).items()}
    save_file(out, work / "ip-adapter.safetensors")
    return out
