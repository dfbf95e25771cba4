"""CLIP: in come pictures and texts, out come unit vectors; the nearer two of them, the better they fit."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer
from transformers.utils import logging

from services.caption.pixels import Preparation

BATCH = 64
WEIGHTS = "model.safetensors"
logging.disable_progress_bar()  # type: ignore[no-untyped-call]


class Clip:
    """A CLIPModel with its tokenizer and how its pictures are prepared."""

    def __init__(self, model: Any, tokenizer: Any, prepare: Preparation, digest: str) -> None:
        self._model, self._tokenizer, self._prepare = model.eval(), tokenizer, prepare
        self.digest = digest  # changes with the weights
        self.length: int = model.config.text_config.max_position_embeddings

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        """From a folder as transformers saves it; nothing is fetched."""
        dtype = torch.float16 if device.startswith("cuda") else torch.float32
        model: Any = CLIPModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=dtype
        )
        model.to(device)
        status = (folder / WEIGHTS).stat()
        digest = hashlib.sha256(f"{status.st_size} {status.st_mtime_ns} {dtype}".encode()).hexdigest()
        prepare = Preparation.read(folder, otherwise=model.config.vision_config.image_size)
        return cls(model, CLIPTokenizer.from_pretrained(folder, local_files_only=True), prepare, digest)

    @torch.inference_mode()
    def picture(self, image: Image.Image) -> Tensor:
        """(width,), float32, on the processor."""
        pixels = torch.from_numpy(self._prepare(image)).to(self._model.device, self._model.dtype)
        seen = self._model.visual_projection(self._model.vision_model(pixel_values=pixels).pooler_output)
        return _unit(seen)[0]

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """(texts, width). Only as many tokens as the longest of a batch has are read: what follows a text's end
        changes nothing in it."""
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
        read = torch.empty(len(texts), self._model.config.projection_dim)
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            tokens = self._tokenizer(
                [texts[at] for at in chosen],
                padding=True,
                truncation=True,
                max_length=self.length,
                return_tensors="pt",
            ).to(self._model.device)
            state = self._model.text_model(
                input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
            ).pooler_output
            read[chosen] = _unit(self._model.text_projection(state))
        return read

    def fits(self, text: str) -> bool:
        """Whether it is read to its end."""
        return len(self._tokenizer(text).input_ids) <= self.length


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors.float(), dim=-1).cpu()
