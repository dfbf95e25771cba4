"""Words, and a reference picture, to the numbers that the UNet is told: a recipe goes in, an `Encoded` comes out.

SDXL reads the second-last layer of two encoders, side by side, and a pooled vector of the last; its refiner only the
second encoder and a score for beauty; Stable Diffusion 1.x and 2 the last layer of one. As in diffusers, clip skip
acts on the prompt alone, and the pooled vector is that of the first 77 tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from services.diffusion.checkpoint import Checkpoint
from services.diffusion.lane import Conditioning, Encoded
from services.diffusion.prompts import Rows, padded, tokenize
from services.diffusion.recipe import Recipe
from services.errors import BadInput

MAX_TOKENS = 77
BEAUTY, UGLINESS = 6.0, 2.5  # the scores that the refiner is told for the prompt and for the negative one


@dataclass(frozen=True, slots=True)
class _Side:
    """The prompt, or the negative one, as each encoder's rows; and how many of the last layers it leaves out."""

    prompts: list[Rows]
    skipped: int


@torch.inference_mode()
def encode(checkpoint: Checkpoint, recipe: Recipe) -> Encoded:
    """Both sides have equally many tokens, so that they share a call of the UNet.

    A reference is looked at where the IP-Adapter is switched on; to a refiner, which has none, it means nothing.
    """
    told = _guidance_told(checkpoint, recipe.guidance)
    guided = recipe.guidance > 1 and told is None
    negative_prompt = recipe.negative_prompt if guided else ""
    zeros = guided and checkpoint.zero_negative and not negative_prompt
    lengths = [_length(*pair) for pair in zip(checkpoint.tokenizers, checkpoint.text_encoders, strict=True)]
    tokenizers = list(zip(checkpoint.tokenizers, lengths, strict=True))
    words = [tokenize(recipe.prompt, tokenizer, length, "prompt") for tokenizer, length in tokenizers]
    unwanted = [
        tokenize(negative_prompt, tokenizer, length, "negative_prompt") for tokenizer, length in tokenizers
    ]
    count = max(len(rows.ids) for rows in [*words, *unwanted])
    words = [padded(rows, count, *pair) for rows, pair in zip(words, tokenizers, strict=True)]
    unwanted = [padded(rows, count, *pair) for rows, pair in zip(unwanted, tokenizers, strict=True)]

    image = no_image = None
    if recipe.reference is not None and checkpoint.unet.config.encoder_hid_dim_type == "ip_image_proj":
        image, no_image = _look(checkpoint, recipe.reference)
    sides = [_Side(words, (recipe.clip_skip or 1) - 1)]
    if guided and not zeros:
        sides.append(_Side(unwanted, 0))
    (text, pooled), *others = _read(checkpoint, sides)
    positive = Conditioning(text, pooled, _time_ids(checkpoint, recipe, BEAUTY), image, told)
    if not guided:
        return Encoded(positive, None)
    if zeros:
        others = [(torch.zeros_like(text), None if pooled is None else torch.zeros_like(pooled))]
    return Encoded(positive, Conditioning(*others[0], _time_ids(checkpoint, recipe, UGLINESS), no_image))


def _length(tokenizer: Any, encoder: Any) -> int:
    return min(int(tokenizer.model_max_length), int(encoder.config.max_position_embeddings), MAX_TOKENS)


def _read(checkpoint: Checkpoint, sides: list[_Side]) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
    """For each side (1, tokens, width of all encoders) and the pooled vector; an encoder is called once for all."""
    texts: list[list[torch.Tensor]] = [[] for _ in sides]
    pooled: list[torch.Tensor | None] = [None for _ in sides]
    for at, encoder in enumerate(checkpoint.text_encoders):
        layers = int(encoder.config.num_hidden_layers)
        prompts = [side.prompts[at] for side in sides]
        ids = torch.tensor([row for rows in prompts for row in rows.ids], device=checkpoint.device)
        found = encoder(ids, output_hidden_states=True)
        for place, (side, rows) in enumerate(zip(sides, prompts, strict=True)):
            if side.skipped >= layers:
                raise BadInput(
                    f"clip_skip can be at most {layers} with this model, which has {layers} layers of text.",
                    field="clip_skip",
                )
            count = len(rows.ids)
            here = slice(place * count, (place + 1) * count)
            if checkpoint.family == "sd":
                text = _last_layer(encoder, found, side.skipped)[here]
            else:
                text = found.hidden_states[-2 - side.skipped][here]
                pooled[place] = found[0][here][:1]  # of the last encoder, which alone has the projection
            texts[place].append(_emphasized(text, rows).flatten(0, 1)[None])
    device, dtype = checkpoint.device, checkpoint.dtype
    return [
        (torch.cat(text, dim=-1).to(device, dtype), None if vector is None else vector.to(device, dtype))
        for text, vector in zip(texts, pooled, strict=True)
    ]


def _last_layer(encoder: Any, found: Any, skipped: int) -> torch.Tensor:
    if not skipped:
        last: torch.Tensor = found[0]
        return last
    normed: torch.Tensor = getattr(encoder, "text_model", encoder).final_layer_norm(
        found.hidden_states[-1 - skipped]
    )
    return normed


def _emphasized(text: torch.Tensor, rows: Rows) -> torch.Tensor:
    """Each token scaled by its weight, and all of it brought back to its former strength.

    The strength is the mean of the absolute values: the plain mean, which others restore, can be next to nothing.
    """
    if not rows.weighted:
        return text
    weights = torch.tensor(rows.weights, device=text.device, dtype=torch.float32)[..., None]
    scaled = text.float() * weights
    return (scaled * (text.float().abs().mean() / scaled.abs().mean().clamp_min(1e-12))).to(text.dtype)


def _time_ids(checkpoint: Checkpoint, recipe: Recipe, score: float) -> torch.Tensor | None:
    """SDXL is told the picture's size, where it was cropped, and its size again; the refiner a score instead."""
    if checkpoint.family == "sd":
        return None
    size = [recipe.height, recipe.width]
    numbers = [*size, 0, 0, score] if checkpoint.family == "sdxl-refiner" else [*size, 0, 0, *size]
    return torch.tensor([numbers], dtype=checkpoint.dtype, device=checkpoint.device)


def _guidance_told(checkpoint: Checkpoint, guidance: float) -> torch.Tensor | None:
    """A model distilled for few steps takes the guidance as an input, instead of as a second side."""
    width = checkpoint.unet.config.time_cond_proj_dim
    if width is None:
        return None
    half = width // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * (-math.log(10_000.0) / (half - 1)))
    angles = (guidance - 1) * 1000.0 * frequencies[None]
    features = torch.cat([angles.sin(), angles.cos(), torch.zeros(1, width % 2)], dim=1)
    return features.to(device=checkpoint.device, dtype=checkpoint.dtype)


def _look(checkpoint: Checkpoint, reference: Image.Image) -> tuple[torch.Tensor, torch.Tensor]:
    """The reference as IP-Adapter reads it, and the same of nothing, for the negative side."""
    encoder = checkpoint.image_encoder
    if encoder is None:
        raise BadInput(f"The model {checkpoint.name!r} takes no reference picture.", field="reference")
    extractor = checkpoint.feature_extractor or _feature_extractor(int(encoder.config.image_size))
    pixels = extractor(reference.convert("RGB"), return_tensors="pt").pixel_values
    pixels = pixels.to(device=encoder.device, dtype=encoder.dtype)
    if _reads_hidden_layer(checkpoint.unet):
        seen = encoder(pixels, output_hidden_states=True).hidden_states[-2]
        nothing = encoder(torch.zeros_like(pixels), output_hidden_states=True).hidden_states[-2]
    else:
        seen = encoder(pixels).image_embeds
        nothing = torch.zeros_like(seen)
    device, dtype = checkpoint.device, checkpoint.dtype
    return seen[None].to(device, dtype), nothing[None].to(device, dtype)


def _feature_extractor(size: int) -> Any:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    return CLIPImageProcessorPil(size=size, crop_size=size)


def _reads_hidden_layer(unet: Any) -> bool:
    """IP-Adapter Plus and its like read the encoder's second-last layer; the plain one its final embedding."""
    from diffusers.models.embeddings import ImageProjection

    layers = getattr(getattr(unet, "encoder_hid_proj", None), "image_projection_layers", None)
    return layers is not None and not isinstance(layers[0], ImageProjection)
