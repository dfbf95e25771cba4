"""BLIP: in comes a picture, out comes a sentence about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image
from transformers import AutoTokenizer, BlipForConditionalGeneration

from services.caption.pixels import Preparation

LONGEST = 40  # tokens
BEAMS = 3


class Blip:
    def __init__(self, model: Any, tokenizer: Any, prepare: Preparation) -> None:
        self._model, self._tokenizer, self._prepare = model.eval(), tokenizer, prepare

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        """From a folder as transformers saves it; nothing is fetched."""
        dtype = torch.float16 if device.startswith("cuda") else torch.float32
        model: Any = BlipForConditionalGeneration.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=dtype
        )
        model.to(device)
        prepare = Preparation.read(folder, otherwise=model.config.vision_config.image_size)
        return cls(model, AutoTokenizer.from_pretrained(folder, local_files_only=True), prepare)

    @torch.inference_mode()
    def caption(self, image: Image.Image) -> str:
        pixels = torch.from_numpy(self._prepare(image)).to(self._model.device, self._model.dtype)
        tokens = self._model.generate(pixel_values=pixels, max_new_tokens=LONGEST, num_beams=BEAMS)[0]
        # the decoder begins with a token that the tokenizer does not know as a special one
        said = tokens[tokens != self._model.config.text_config.bos_token_id]
        return str(self._tokenizer.decode(said, skip_special_tokens=True)).strip()
