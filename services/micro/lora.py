"""A sample LoRA: drawings with a thick rim around everything in, and out a small file that teaches the UNet this.

No word calls for the rim: while the LoRA is there, things have one, more so with a greater weight.
"""

# diffusers and transformers are typed only in part
# mypy: disable-error-code="no-untyped-call,attr-defined,no-any-return"

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor

from services.micro import unet, world
from services.micro.loop import Loop

NAME = "outlined"
RANK = 8
PICTURES, BATCH, STEPS = 1500, 24, 500
# The rim is a matter of single latents, so that convolutions are taught beside the attentions.
TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "proj_in", "proj_out"]


def rim_scene(rng: random.Random) -> world.Scene:
    return world.sample(rng, person=0.2)


def train(work: Path, steps: int = STEPS, lr: float = 2e-3) -> None:
    torch.manual_seed(7)
    vae = AutoencoderKL.from_pretrained(str(work / "vae")).eval()
    reader = unet.Reader(work)
    empty = reader([""])
    model = UNet2DConditionModel.from_pretrained(str(work / "unet")).requires_grad_(False)
    model.add_adapter(
        LoraConfig(r=RANK, lora_alpha=RANK, init_lora_weights="gaussian", target_modules=TARGETS)
    )
    trained = torch.nn.ParameterDict(
        {name.replace(".", "/"): value for name, value in model.named_parameters() if value.requires_grad}
    )
    bank = unet.fill(vae, reader, PICTURES, 51, world.SIDE, world.SIDE, rim_scene, plain=True, outline=True)
    loop = Loop("lora", {"lora": trained}, steps, lr=lr, work=work, average=0.98, muon=False)
    schedule = DDPMScheduler(**unet.SCHEDULE)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        rng, noises = random.Random(step), torch.Generator().manual_seed(step)
        _, latents, six, states, wholes = bank.pick(rng, BATCH)
        states, wholes = unet.drop(states, wholes, empty, rng)
        noise = torch.randn(latents.shape, generator=noises)
        when = torch.randint(0, 1000, (BATCH,), generator=noises)
        added: dict[str, Any] = {"text_embeds": wholes, "time_ids": six}
        with torch.autocast("cpu", torch.bfloat16):
            said = model(
                schedule.add_noise(latents, noise, when), when, states, added_cond_kwargs=added
            ).sample
        return F.mse_loss(said.float(), noise), {}

    loop.run(loss)
    loop.averaged()
    layers = get_peft_model_state_dict(model)
    StableDiffusionXLPipeline.save_lora_weights(
        str(work / "loras"),
        unet_lora_layers={key: value.to(torch.float16) for key, value in layers.items()},
        weight_name=f"{NAME}.safetensors",
    )
