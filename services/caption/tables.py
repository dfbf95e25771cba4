"""Phrases and where they lie in CLIP's space: in come our word lists, out come tables that rank them for a picture.

The lists are in `words/`, one phrase a line. A table is computed once for each CLIP and kept on disk beside its
weights, where that folder can be written.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from services.caption.clip import Clip

WORDS = Path(__file__).with_name("words")
RANKED = ("mediums", "artists", "movements", "trending", "flavors")
NEGATIVE = "negative"
_log = logging.getLogger("darkroom.caption")


class Ranked(NamedTuple):
    phrase: str
    score: float  # the cosine of the angle between it and the picture


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    phrases: list[str]
    vectors: Tensor  # (phrases, width), unit

    def rank(self, picture: Tensor, count: int, *, least: bool = False) -> list[Ranked]:
        """The phrases nearest to the picture, the nearest first; with `least` the farthest."""
        scores = self.vectors @ picture
        best = torch.topk(scores, min(count, len(self.phrases)), largest=not least)
        return [
            Ranked(self.phrases[at], score)
            for score, at in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    def __add__(self, other: Table) -> Table:
        return Table(self.phrases + other.phrases, torch.cat([self.vectors, other.vectors]))


@cache
def words(kind: str) -> tuple[str, ...]:
    """One of our lists; artists as a prompt names them."""
    lines = (line.strip() for line in (WORDS / f"{kind}.txt").read_text(encoding="utf-8").splitlines())
    phrases = [line for line in lines if line and not line.startswith("#")]
    return tuple(f"by {phrase}" if kind == "artists" else phrase for phrase in phrases)


def tables(clip: Clip, folder: Path | None = None) -> dict[str, Table]:
    """A table for each list; kept in `folder`, if one is given and can be written."""
    lists = {kind: words(kind) for kind in (*RANKED, NEGATIVE)}
    digest = hashlib.sha256(repr([clip.digest, lists]).encode()).hexdigest()[:16]
    kept = folder and folder / f"darkroom.phrases-{digest}.safetensors"
    vectors = _read(kept, lists) if kept else None
    if vectors is None:
        vectors = {kind: clip.texts(phrases) for kind, phrases in lists.items()}
        if kept:
            _keep(kept, vectors)
    return {kind: Table(list(phrases), vectors[kind]) for kind, phrases in lists.items()}


def _read(path: Path, lists: dict[str, tuple[str, ...]]) -> dict[str, Tensor] | None:
    """What was kept; None where nothing was, or not all of it."""
    if not path.is_file():
        return None
    try:
        vectors = load_file(path)
    except (SafetensorError, OSError) as error:
        _log.warning("%s cannot be read and is made anew: %s", path, error)
        return None
    whole = all(kind in vectors and len(vectors[kind]) == len(phrases) for kind, phrases in lists.items())
    return vectors if whole else None


def _keep(path: Path, vectors: dict[str, Tensor]) -> None:
    unfinished = path.with_suffix(".partial")
    try:
        save_file({kind: vector.contiguous() for kind, vector in vectors.items()}, unfinished)
        unfinished.replace(path)
    except (OSError, SafetensorError) as error:  # a volume to read only: they are made anew at the next start
        _log.info("The phrases' vectors are not kept: %s", error)


def nearest(clip: Clip, picture: Tensor, texts: Sequence[str]) -> list[Ranked]:
    """Whole texts, the nearest to the picture first."""
    scores = (clip.texts(texts) @ picture).tolist()
    return [
        Ranked(text, score) for score, text in sorted(zip(scores, texts, strict=True), key=lambda p: -p[0])
    ]


Step = Callable[[int, int], None]
