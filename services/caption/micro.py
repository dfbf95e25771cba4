"""The micro family's captions: a sentence of its world, put together from the words that its CLIP finds true.

Its world has shapes and people in eight colours on plain backgrounds, and its CLIP was trained on sentences about
them. So the sentences are what is ranked: first the rough ones, then the best of them told more exactly. A phrase's
score is that of the best sentence that says it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from services.caption.clip import Clip
from services.caption.closeup import close_up, form
from services.caption.tables import Step
from services.micro.world import COLOURS, PERSON_POSITIONS, POSES, POSITIONS, SHAPES, SIZES, TEXTURES

PERSON = "person"
ROUNDS = 3
# each colour once as the form's and once as the ground's, the two never alike
FORMS = list(zip(COLOURS, [*COLOURS][3:] + [*COLOURS][:3], strict=True))
FORMS_COUNT = 6.0  # as much as so many other views
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
        ground = f"on {_article(self.background)} background"
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


class Lexicon:
    """Sentences and where they lie in CLIP's space, remembered: this world has some thirty thousand of them."""

    def __init__(self, clip: Clip) -> None:
        self._clip = clip
        self._known: dict[Saying, Tensor] = {}

    def vectors(self, sayings: list[Saying]) -> Tensor:
        fresh = [saying for saying in sayings if saying not in self._known]
        if fresh:
            self._known.update(zip(fresh, self._clip.texts([str(saying) for saying in fresh]), strict=True))
        return torch.stack([self._known[saying] for saying in sayings])


class MicroCaptioner:
    def __init__(self, clip: Clip) -> None:
        self._clip, self._lexicon = clip, Lexicon(clip)
        self._rough = [
            Saying(kind, colour, background)
            for kind, colour, background in product((*SHAPES, PERSON), COLOURS, COLOURS)
            if colour != background
        ]
        self._lexicon.vectors(self._rough)

    def tell(self, image: Image.Image, mode: str, phrases: int, step: Step) -> dict[str, Any]:
        width = WIDTHS.get(mode, WIDTHS["fast"])
        total = ROUNDS + 3
        step(0, total)
        eye = Eye(self._clip, self._lexicon, image)
        eye.weigh(self._rough)
        step(1, total)
        eye.weigh(told for saying in eye.best(width) for told in (*_exactly(saying), *_pairs(saying)))
        step(2, total)
        eye.look_closer()
        step(3, total)
        for round_ in range(ROUNDS):
            eye.weigh(other for saying in eye.best(max(1, width // 4)) for other in _neighbours(saying))
            step(4 + round_, total)
        found = eye.found
        best = max((said for said in found if said.position or said.beside), key=lambda said: found[said])
        ranked = _ranked(found)
        prompts = {"classic": best.listed(), "negative": _unlike(best, ranked)}
        return {
            "caption": str(best),
            "prompt": prompts.get(mode, str(best)),
            "ranked": {kind: told[:phrases] for kind, told in ranked.items()},
        }


class Eye:
    """What is known of one picture: how near each sentence that was tried is to it.

    A net so small confuses forms, and not the same ones in every colour. So each thing is looked at again: large and
    in the middle, and its form alone in several colours; a sentence is as near as it is, on the average, to all views.
    """

    def __init__(self, clip: Clip, lexicon: Lexicon, image: Image.Image) -> None:
        self._clip, self._lexicon, self._image = clip, lexicon, image
        self._views = [View(clip.picture(image), lambda saying: saying)]
        self._things: int | None = None  # not known until it has looked closer
        self.found: dict[Saying, float] = {}

    def best(self, count: int) -> list[Saying]:
        return sorted(self.found, key=lambda saying: -self.found[saying])[:count]

    def weigh(self, sayings: Iterable[Saying]) -> None:
        fresh = [
            saying for saying in dict.fromkeys(sayings) if saying not in self.found and self._fits(saying)
        ]
        if not fresh:
            return
        weight = sum(view.weight for view in self._views)
        near = torch.stack([view.weight * view.near(self._lexicon, fresh) for view in self._views])
        self.found.update(zip(fresh, (near.sum(0) / weight).tolist(), strict=True))

    def look_closer(self) -> None:
        """Goes nearer to the one thing, or the two, that it sees, and weighs anew what was said."""
        if self.best(1)[0].beside is None:
            parts = [(self._image, _first)]
        else:
            middle = self._image.width // 2
            left = self._image.crop((0, 0, middle, self._image.height))
            right = self._image.crop((middle, 0, self._image.width, self._image.height))
            parts = [(left, _first), (right, _second)]
        for part, told in parts:
            close = close_up(part)
            if close is not None:
                self._views += [View(self._clip.picture(close), told), *self._forms(close, told)]
        self._things = len(parts)
        said, self.found = self.found, {}
        self.weigh(said)

    def _forms(self, close: Image.Image, told: Callable[[Saying], Saying]) -> Iterable[View]:
        for colour, ground in FORMS:
            seen = self._clip.picture(form(close, COLOURS[colour], COLOURS[ground]))
            alone = partial(_form, told, colour, ground)
            yield View(seen, alone, FORMS_COUNT / len(FORMS))

    def _fits(self, saying: Saying) -> bool:
        return self._things is None or self._things == (1 if saying.beside is None else 2)


class View:
    """A picture, or a closer look at a part of it; `told` is what is true of this view where a sentence is true."""

    def __init__(self, seen: Tensor, told: Callable[[Saying], Saying], weight: float = 1.0) -> None:
        self._seen, self._told, self.weight = seen, told, weight

    def near(self, lexicon: Lexicon, sayings: list[Saying]) -> Tensor:
        """How near each sentence is."""
        told = [self._told(saying) for saying in sayings]
        place = {saying: at for at, saying in enumerate(dict.fromkeys(told))}
        return (lexicon.vectors([*place]) @ self._seen)[[place[saying] for saying in told]]


def _form(told: Callable[[Saying], Saying], colour: str, ground: str, saying: Saying) -> Saying:
    """What is true of the form alone, in these colours."""
    return replace(told(saying), colour=colour, background=ground, texture="plain")


def _first(saying: Saying) -> Saying:
    """What is true of the closer look at the only thing, or at the left one."""
    return replace(saying, size="large", position="center", texture=saying.texture or "plain", beside=None)


def _second(saying: Saying) -> Saying:
    """What is true of the closer look at the right one."""
    colour, kind = saying.beside or (saying.colour, saying.kind)
    return Saying(kind, colour, saying.background, size="large", position="center")


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


def _unlike(saying: Saying, ranked: dict[str, list[dict[str, Any]]]) -> str:
    """What is farthest from the picture, of each kind two words that its sentence does not need."""
    needed = str(saying).split()
    unlike = [
        [found["phrase"] for found in reversed(ranked[kind]) if found["phrase"].split()[0] not in needed][:2]
        for kind in ("shapes", "colours", "backgrounds")
    ]
    return ", ".join(phrase for phrases in unlike for phrase in phrases)


def _article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"
