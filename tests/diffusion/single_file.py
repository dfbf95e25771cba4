"""A model as one file with the names of the first programs (CompVis's, Stability's), as people pass it around.

The names follow from the order in which those programs build their networks; nothing but names, two transposed matrices
and the joined projections of OpenCLIP's attention differs.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

Tensors = dict[str, torch.Tensor]
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def write(path: Path, checkpoint: Any) -> Path:
    """SDXL's layout for two text encoders, Stable Diffusion 1's for one."""
    tensors = renamed(checkpoint.unet.state_dict(), unet_names(checkpoint.unet), "model.diffusion_model.")
    tensors |= vae(checkpoint.vae)
    if len(checkpoint.text_encoders) == 1:
        tensors |= clip(checkpoint.text_encoders[0], "cond_stage_model.transformer.text_model.")
    else:
        tensors |= clip(checkpoint.text_encoders[0], "conditioner.embedders.0.transformer.text_model.")
        tensors |= open_clip(checkpoint.text_encoders[1], "conditioner.embedders.1.model.")
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
    return path


def renamed(state: Tensors, names: dict[str, str], prefix: str) -> Tensors:
    found = {}
    for key, tensor in state.items():
        start = max((name for name in names if key.startswith(f"{name}.")), key=len)
        rest = key.removeprefix(f"{start}.")
        if "resnets" in start:
            part, _, end = rest.partition(".")
            rest = f"{RESNET[part]}.{end}"
        found[f"{prefix}{names[start]}.{rest}"] = tensor
    return found


def unet_names(unet: Any) -> dict[str, str]:
    names = {
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
        "mid_block.resnets.0": "middle_block.0",
        "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
    }
    at = 1
    for level, block in enumerate(unet.down_blocks):
        for layer in range(len(block.resnets)):
            names[f"down_blocks.{level}.resnets.{layer}"] = f"input_blocks.{at}.0"
            names[f"down_blocks.{level}.attentions.{layer}"] = f"input_blocks.{at}.1"
            at += 1
        if block.downsamplers:
            names[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{at}.0.op"
            at += 1
    at = 0
    for level, block in enumerate(unet.up_blocks):
        attends = hasattr(block, "attentions")
        for layer in range(len(block.resnets)):
            names[f"up_blocks.{level}.resnets.{layer}"] = f"output_blocks.{at}.0"
            names[f"up_blocks.{level}.attentions.{layer}"] = f"output_blocks.{at}.1"
            at += 1
        names[f"up_blocks.{level}.upsamplers.0.conv"] = f"output_blocks.{at - 1}.{2 if attends else 1}.conv"
    return names


def vae(network: Any) -> Tensors:
    levels = len(network.config.block_out_channels)
    found = {}
    for key, tensor in network.state_dict().items():
        name = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", key)
        name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(
            r"up_blocks\.(\d+)\.resnets", lambda match: f"up.{levels - 1 - int(match[1])}.block", name
        )
        name = re.sub(
            r"up_blocks\.(\d+)\.upsamplers\.0",
            lambda match: f"up.{levels - 1 - int(match[1])}.upsample",
            name,
        )
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda match: f"mid.block_{int(match[1]) + 1}", name)
        if "mid_block.attentions.0." in name:
            for new, old in {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v"}.items():
                name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
            name = name.replace("to_out.0", "proj_out").replace("mid_block.attentions.0", "mid.attn_1")
            if tensor.ndim == 2:
                tensor = tensor[:, :, None, None]
        name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        found[f"first_stage_model.{name}"] = tensor
    return found


def clip(encoder: Any, prefix: str) -> Tensors:
    return {prefix + key.removeprefix("text_model."): tensor for key, tensor in encoder.state_dict().items()}


def open_clip(encoder: Any, prefix: str) -> Tensors:
    state = {key.removeprefix("text_model."): tensor for key, tensor in encoder.state_dict().items()}
    found = {
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "ln_final.weight": state["final_layer_norm.weight"],
        "ln_final.bias": state["final_layer_norm.bias"],
        "text_projection": state["text_projection.weight"].T,
    }
    for layer in range(encoder.config.num_hidden_layers):
        mine, theirs = f"encoder.layers.{layer}.", f"transformer.resblocks.{layer}."
        for end in ("weight", "bias"):
            joined = [state[f"{mine}self_attn.{side}_proj.{end}"] for side in "qkv"]
            found[f"{theirs}attn.in_proj_{end}"] = torch.cat(joined)
            for one, other in CLIP.items():
                found[f"{theirs}{other}.{end}"] = state[f"{mine}{one}.{end}"]
    return {prefix + key: tensor for key, tensor in found.items()}
