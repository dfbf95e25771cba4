"""The tokenizer: from the captions of the world to CLIP's byte-pair vocabulary, in the two files that CLIP reads.

All 256 bytes are there, alone and at a word's end, so that any text tokenises; the words of the world are one
token each. The end token has the highest number, where CLIP's pooling looks for it under either of its rules.
"""

from __future__ import annotations

import itertools
import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

from services.micro import world

LENGTH = 77
START, END = "<|startoftext|>", "<|endoftext|>"
COMMON = 12  # a word seen so often in the sample becomes one token


def byte_letters() -> list[str]:
    """The letter that byte-level BPE writes for each byte: printable ones for themselves, others from 256 up."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters, spare = [], 256
    for value in range(256):
        letters.append(chr(value) if value in printable else chr(spare))
        spare += value not in printable
    return letters


def learn(captions: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Byte-pair merges, most frequent first, until every common word is one token."""
    counts = Counter(word for text in captions for word in re.findall(r"[a-z]+", text.lower()))
    words = {word: [*word[:-1], word[-1] + "</w>"] for word, count in counts.items() if count >= COMMON}
    merges: list[tuple[str, str]] = []
    while True:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in words.items():
            for pair in itertools.pairwise(parts):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        for parts in words.values():
            place = 0
            while place < len(parts) - 1:
                if (parts[place], parts[place + 1]) == best:
                    parts[place : place + 2] = ["".join(best)]
                place += 1
    letters = sorted(byte_letters())
    tokens = [
        *letters,
        *(letter + "</w>" for letter in letters),
        *("".join(pair) for pair in merges),
        START,
        END,
    ]
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}, merges


def write(folder: Path) -> None:
    """Learns from 20,000 captions and writes CLIP's files into `folder`."""
    rng = random.Random(5)
    vocabulary, merges = learn([world.varied_caption(world.sample(rng), rng) for _ in range(20_000)])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False) + "\n", encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    specials = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": LENGTH,
        "do_lower_case": True,
        **specials,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(specials, indent=2) + "\n")


def load(folder: Path) -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(str(folder))
