"""The micro family's captions: a sentence of its world, put together from the words that its CLIP finds true.

Its world has shapes and people in eight colours on plain backgrounds, and its CLIP was trained on sentences about
them. So the sentences are what is ranked: first the rough ones, then the best of them told more exactly. A phrase's
score is that of the best sentence that says it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from PIL import Image

from services.caption.clip import Clip
from services.caption.tables import Step
from services.micro.world import COLOURS, PERSON_POSITIONS, POSES, POSITIONS, SHAPES, SIZES, TEXTURES

PERSON = "person"
ROUNDS = 4
WIDTHS = {"fast": 4, "best": 16}  # of the rough sentences that are told more exactly


@dataclass(frozen=True, slots=True)
class Saying:
    """One sentence: a thing on a background, or two side by side."""

    kind: str
    colour: str
    background: str
    size: str = ""
    texture: str = "plain"
    position: str = ""
    pose: str = ""
    beside: tuple[str, str] | None = None  # the colour and kind of the thing to the right

    def __str__(self) -> str:
        ground = f"on a {self.background} background"
        if self.beside is not None:
            colour, kind = self.beside
            return f"{_article(f'{self.colour} {self.kind}')} next to {_article(f'{colour} {kind}')} {ground}"
        place = f"at the {self.position} {ground}" if self.position else ground
        return f"{_article(self.name)} {place}"

    @property
    def name(self) -> str:
        texture = "" if self.texture == "plain" else self.texture
        words = [self.size, texture, self.colour, self.kind, f"with {self.pose}" if self.pose else ""]
        return " ".join(word for word in words if word)

    def phrases(self) -> Iterable[tuple[str, str]]:
        """Each kind of phrase, and what this sentence says of it."""
        yield "shapes", self.kind
        yield "colours", self.colour
        yield "backgrounds", f"{self.background} background"
        if self.beside is not None:
            yield "shapes", self.beside[1]
            yield "colours", self.beside[0]
        if self.size:
            yield "sizes", self.size
        if self.texture:
            yield "textures", self.texture
        if self.position:
            yield "positions", f"at the {self.position}"
        if self.pose:
            yield "poses", f"with {self.pose}"

    def listed(self) -> str:
        """The sentence as a list of words."""
        if self.beside is not None:
            parts = [f"{self.colour} {self.kind}", " ".join(self.beside), f"{self.background} background"]
        else:
            parts = [self.name, self.position, f"{self.background} background"]
        return ", ".join(part for part in parts if part)


class MicroCaptioner:
    def __init__(self, clip: Clip) -> None:
        self._clip = clip
        self._rough = [
            Saying(kind, colour, background)
            for kind, colour, background in product((*SHAPES, PERSON), COLOURS, COLOURS)
            if colour != background
        ]
        self._rough_vectors = clip.texts([str(saying) for saying in self._rough])

    def tell(self, image: Image.Image, mode: str, phrases: int, step: Step) -> dict[str, Any]:
        width = WIDTHS.get(mode, WIDTHS["fast"])
        total = ROUNDS + 2
        step(0, total)
        picture = self._clip.picture(image)
        found = dict(zip(self._rough, (self._rough_vectors @ picture).tolist(), strict=True))
        step(1, total)

        def weigh(sayings: Iterable[Saying]) -> None:
            fresh = [saying for saying in dict.fromkeys(sayings) if saying not in found]
            if fresh:
                scores = self._clip.texts([str(saying) for saying in fresh]) @ picture
                found.update(zip(fresh, scores.tolist(), strict=True))

        weigh(told for saying in _best(found, width) for told in (*_exactly(saying), *_pairs(saying)))
        step(2, total)
        for round_ in range(1, ROUNDS):
            weigh(other for saying in _best(found, width // 4) for other in _neighbours(saying))
            step(2 + round_, total)
        best = max((saying for saying in found if saying.position or saying.beside), key=lambda s: found[s])
        ranked = _ranked(found)
        prompts: dict[str, Callable[[], str]] = {
            "classic": best.listed,
            "negative": lambda: ", ".join(
                told[-1]["phrase"]
                for kind, told in ranked.items()
                if kind in ("shapes", "colours", "backgrounds")
            ),
        }
        step(total, total)
        return {
            "caption": str(best),
            "prompt": prompts.get(mode, lambda: str(best))(),
            "ranked": {kind: told[:phrases] for kind, told in ranked.items()},
        }


def _best(found: dict[Saying, float], count: int) -> list[Saying]:
    return sorted(found, key=lambda saying: -found[saying])[: max(1, count)]


def _exactly(saying: Saying) -> Iterable[Saying]:
    """The same thing with size, texture, place and pose."""
    if saying.beside is not None:
        return
    if saying.kind == PERSON:
        for size, position, pose in product(SIZES, PERSON_POSITIONS, ("", *POSES)):
            yield replace(saying, size=size, position=position, pose=pose, texture="")
        return
    for size, position, texture in product(SIZES, POSITIONS, TEXTURES):
        if texture == "plain" or size == "large":  # small things are plain in that world
            yield replace(saying, size=size, position=position, texture=texture)


def _pairs(saying: Saying) -> Iterable[Saying]:
    """The same thing with another one to its right, or to its left."""
    if saying.beside is not None:
        return
    alone = Saying(saying.kind, saying.colour, saying.background, texture="")
    for kind, colour in product((*SHAPES, PERSON), COLOURS):
        if colour not in (saying.background, saying.colour):
            yield replace(alone, beside=(colour, kind))
            yield replace(alone, kind=kind, colour=colour, beside=(saying.colour, saying.kind))


def _neighbours(saying: Saying) -> Iterable[Saying]:
    """All that differ in one word."""
    for background in COLOURS:
        if background not in (saying.colour, saying.beside and saying.beside[0]):
            yield replace(saying, background=background)
    for colour in COLOURS:
        if colour not in (saying.background, saying.beside and saying.beside[0]):
            yield replace(saying, colour=colour)
    if saying.beside is not None:
        beside_colour, beside_kind = saying.beside
        for kind in (*SHAPES, PERSON):
            yield replace(saying, kind=kind)
            yield replace(saying, beside=(beside_colour, kind))
        for colour in COLOURS:
            if colour not in (saying.background, saying.colour):
                yield replace(saying, beside=(colour, beside_kind))
        return
    yield from _exactly(saying)
    if saying.kind != PERSON:
        for kind in SHAPES:
            yield replace(saying, kind=kind)


def _ranked(found: dict[Saying, float]) -> dict[str, list[dict[str, Any]]]:
    best: dict[str, dict[str, float]] = {
        kind: {} for kind in ("shapes", "colours", "sizes", "textures", "positions", "poses", "backgrounds")
    }
    for saying, score in found.items():
        for kind, phrase in saying.phrases():
            best[kind][phrase] = max(score, best[kind].get(phrase, -1.0))
    return {
        kind: [
            {"phrase": phrase, "score": score}
            for phrase, score in sorted(scores.items(), key=lambda p: -p[1])
        ]
        for kind, scores in best.items()
    }


def _article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"
