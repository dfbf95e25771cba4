"""Small models of the real classes with random weights, saved as their hub folders are: real ones weigh gigabytes.

They know nothing, so what is tested with them is the way: loading, preparing, ranking, the shape of each prompt. That a
picture gets a true caption is tested with the micro family, which is trained.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipTextConfig,
    BlipVisionConfig,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
)

MICRO = Path(__file__).parent.parent.parent / "services" / "micro" / "weights" / "clip"
WORDS = ["a", "red", "blue", "cat", "dog", "on", "the", "table", "with", "grass", "sky", "of", "man", "photo"]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def micro_folder() -> Path:
    return MICRO


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP with the micro family's tokenizer and the processor's file of OpenAI's."""
    folder = tmp_path_factory.mktemp("clip")
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).write_bytes((MICRO / name).read_bytes())
    told = json.loads((MICRO / "config.json").read_text())["text_config"]
    torch.manual_seed(3)
    text = CLIPTextConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=24,
        max_position_embeddings=320,  # its tokenizer spells most words letter by letter
        **{name: told[name] for name in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")},
    )
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=24,
        image_size=48,
        patch_size=16,
    )
    model = CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=24)
    )
    torch.nn.init.normal_(model.text_model.embeddings.token_embedding.weight)  # so that texts differ
    model.save_pretrained(folder)
    prepared = {
        "crop_size": 48,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "size": 48,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(prepared))
    return folder


@pytest.fixture(scope="session")
def blip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blip")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "[DEC]"]
    (folder / "vocab.txt").write_text("\n".join(tokens))
    tokenizer = BertTokenizer(vocab={token: at for at, token in enumerate(tokens)})
    tokenizer.save_pretrained(folder)
    torch.manual_seed(4)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"bos_token_id": len(tokens) - 1, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    text = BlipTextConfig(vocab_size=len(tokens), encoder_hidden_size=32, projection_dim=24, **shape, **ids)
    vision = BlipVisionConfig(image_size=64, patch_size=16, projection_dim=24, **shape)
    config = BlipConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=24)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    prepared = {"size": {"height": 64, "width": 64}, "do_resize": True, "resample": 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(prepared))
    return folder


@pytest.fixture
def picture() -> Image.Image:
    image = Image.new("RGB", (90, 70), (40, 80, 220))
    ImageDraw.Draw(image).ellipse((20, 10, 60, 50), fill=(220, 40, 40))
    return image
