"""The micro family's tokenizer is a true CLIP tokenizer that takes any text."""

from __future__ import annotations

import json
import random

import pytest

from services.micro import family, tokens, world

FOLDER = family.WEIGHTS / "sdxl" / "tokenizer"


@pytest.fixture(scope="module")
def tokenizer():  # type: ignore[no-untyped-def]
    return tokens.load(FOLDER)


def test_captions_come_back_as_they_were(tokenizer) -> None:  # type: ignore[no-untyped-def]
    rng = random.Random(3)
    for _ in range(50):
        text = world.caption(world.sample(rng))
        ids = tokenizer(text).input_ids
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == text
        assert len(ids) == len(text.split()) + 2, "each word of the world is one token"


@pytest.mark.parametrize("text", ["Größe", "漢字", "🎈 x", "\x00\x7f", "", "zq" * 200])
def test_any_text_tokenises_without_an_unknown(tokenizer, text: str) -> None:  # type: ignore[no-untyped-def]
    ids = tokenizer(text, truncation=True, max_length=77, padding="max_length").input_ids
    assert len(ids) == 77
    inner = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.eos_token_id not in inner


def test_the_end_token_has_the_highest_number_and_the_length_is_clips(tokenizer) -> None:  # type: ignore[no-untyped-def]
    vocabulary = json.loads((FOLDER / "vocab.json").read_text())
    assert tokenizer.eos_token_id == max(vocabulary.values()) == len(vocabulary) - 1
    assert tokenizer.model_max_length == 77


def test_all_bytes_are_in_the_vocabulary() -> None:
    vocabulary = json.loads((FOLDER / "vocab.json").read_text())
    letters = tokens.byte_letters()
    assert len(set(letters)) == 256
    assert all(letter in vocabulary and letter + "</w>" in vocabulary for letter in letters)
