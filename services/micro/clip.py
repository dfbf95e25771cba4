"""CLIP: captions and drawings in, and out two text towers (SDXL's) and a picture tower that meet in one space.

The second text tower and the picture tower make the pair that captioning ranks with; the picture tower is also
the IP-Adapter's image encoder. Beside the contrast, heads ask each tower the world's questions while it learns.
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
from PIL import Image
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from services.micro import tokens, world
from services.micro.loop import Loop, keep

SIDE, PATCH = 64, 8
SPACE = 96  # numbers of an embedding
WIDTHS = (64, 96)
PICTURES, BATCH, STEPS = 16_000, 96, 900
SHORT = 32  # tokens read in training: attention is causal, so that what follows the end changes nothing
# CLIP's own, which diffusers takes where an IP-Adapter brings no processor of its own
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def text_config(width: int, vocabulary: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=width * 2,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=tokens.LENGTH,
        projection_dim=SPACE,
        hidden_act="gelu",
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )


def vision_config() -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=96,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=PATCH,
        projection_dim=SPACE,
        hidden_act="gelu",
    )


def build(vocabulary: int) -> dict[str, Any]:
    """Embeddings start at a size near 1: CLIP's own 0.02 would starve the cross-attention that reads them."""
    first = CLIPTextModel(text_config(WIDTHS[0], vocabulary))
    second = CLIPTextModelWithProjection(text_config(WIDTHS[1], vocabulary))
    for embeddings in (first.embeddings, second.text_model.embeddings):
        nn.init.normal_(embeddings.token_embedding.weight, 0, 0.7)
        nn.init.normal_(embeddings.position_embedding.weight, 0, 0.2)
    return {
        "text_encoder": first,
        "text_encoder_2": second,
        "image_encoder": CLIPVisionModelWithProjection(vision_config()),
    }


class Heads(nn.Module):
    """What is thrown away after training: the first tower's way into the space, and the world's questions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTHS[0], SPACE, bias=False)
        self.questions = nn.Linear(SPACE, sum(world.QUESTIONS.values()))
        self.heat = nn.Parameter(torch.tensor(2.5))

    def ask(self, embedding: Tensor, truth: Tensor) -> Tensor:
        said = self.questions(F.normalize(embedding, dim=-1) * SPACE**0.5)
        parts = said.split(list(world.QUESTIONS.values()), -1)
        return torch.stack([F.cross_entropy(part, truth[:, i]) for i, part in enumerate(parts)]).mean()


def pixels(picture: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def normal(images: Tensor) -> Tensor:
    """Bytes as the towers' processor gives them."""
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))
    return (images.float() / 255 - mean) / deviation


def train(work: Path, steps: int = STEPS) -> dict[str, Any]:
    torch.manual_seed(2)
    tokens.write(work / "tokenizer")
    tokenizer = tokens.load(work / "tokenizer")
    models, heads = build(len(tokenizer)), Heads()
    rng = random.Random(11)
    scenes = [scene for scene in (world.sample(rng) for _ in range(PICTURES)) if not scene.unseen]
    images = torch.from_numpy(np.stack([pixels(world.draw(scene)) for scene in scenes])).permute(0, 3, 1, 2)
    truth = torch.tensor([world.answers(scene) for scene in scenes])
    loop = Loop("clip", {**models, "heads": heads}, steps, lr=2e-3, work=work)

    def read(texts: list[str], length: int = SHORT) -> Tensor:
        return tokenizer(
            texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).input_ids

    def embed(texts: list[str], chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ids = read(texts)
        first = heads.first(models["text_encoder"](ids).pooler_output)
        second = models["text_encoder_2"](ids).text_embeds
        seen = models["image_encoder"](normal(chosen)).image_embeds
        return first.float(), second.float(), seen.float()

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        draw = random.Random(step)
        chosen = [draw.randrange(len(scenes)) for _ in range(BATCH)]
        whole = draw.random() < 0.5  # half of the batches tell all, and these are asked about it
        texts = [world.caption(scenes[i]) if whole else world.varied_caption(scenes[i], draw) for i in chosen]
        with torch.autocast("cpu", torch.bfloat16):
            first, second, seen = embed(texts, images[chosen])
        heat, target = heads.heat.exp().clamp(max=60), torch.arange(BATCH)
        total, hits = torch.zeros(()), 0.0
        for text in (first, second):
            likeness = heat * F.normalize(text, dim=-1) @ F.normalize(seen, dim=-1).T
            total = total + F.cross_entropy(likeness, target) + F.cross_entropy(likeness.T, target)
            hits = float((likeness.argmax(1) == target).float().mean())
        asked = heads.ask(seen, truth[chosen])
        total = total / 4 + asked
        if whole:
            total = total + 0.5 * (heads.ask(first, truth[chosen]) + heads.ask(second, truth[chosen]))
        return total, {"right": hits, "asked": float(asked.detach())}

    @torch.no_grad()
    def look(done: int) -> str:
        fresh = random.Random(99)
        test = [world.sample(fresh) for _ in range(96)]
        chosen = torch.from_numpy(np.stack([pixels(world.draw(scene)) for scene in test])).permute(0, 3, 1, 2)
        first, second, seen = embed([world.caption(scene) for scene in test], chosen)
        shares = [
            float(
                ((F.normalize(t, dim=-1) @ F.normalize(seen, dim=-1).T).argmax(1) == torch.arange(96))
                .float()
                .mean()
            )
            for t in (first, second)
        ]
        return f"of 96 unseen pictures the caption finds its own in {shares[0]:.2f} and {shares[1]:.2f}"

    loop.run(loss, look=look, looks=200)
    loop.averaged()
    _unit(models["text_encoder_2"], models["image_encoder"], read, scenes[:256], images[:256])
    for name, model in models.items():
        keep(model, work / name)
    return models


@torch.no_grad()
def _unit(text: Any, image: Any, read: Any, scenes: list[world.Scene], images: Tensor) -> None:
    """Scales both projections so that an embedding's numbers are about 1 in size: the UNet is fed with them."""
    spread = text(read([world.caption(scene) for scene in scenes])).text_embeds.std()
    text.text_projection.weight.div_(spread)
    image.visual_projection.weight.div_(image(normal(images)).image_embeds.std())
