"""Prompts for a picture, as CLIP interrogator's users know them: BLIP's sentence, then phrases that CLIP finds near.

caption   the sentence alone
fast      the sentence and the nearest phrases of all kinds
classic   the sentence with a medium, an artist, where it is shown, a movement, and flavors, in that order
best      the sentence, and phrase after phrase the one that brings the whole prompt nearest to the picture;
          the other prompts stand against it, and the nearest of all is the answer
negative  what the picture is least like, for a negative prompt
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from PIL import Image
from torch import Tensor

from services.caption.clip import Clip
from services.caption.tables import NEGATIVE, RANKED, Ranked, Step, Table, nearest

NEAREST, FLAVORS = 16, 6  # phrases of a fast and of a classic prompt
LEADS, CANDIDATES = 6, 48  # of each kind, and flavors, that a chain begins with
LEAST_LINKS, MOST_LINKS = 4, 16
KEPT = 0.75  # of the candidates that did well in a round take part in the next


class Narrator(Protocol):
    def caption(self, image: Image.Image) -> str: ...


class Interrogator:
    def __init__(self, clip: Clip, narrator: Narrator, tables: dict[str, Table]) -> None:
        self._clip, self._narrator, self._tables = clip, narrator, tables

    def tell(self, image: Image.Image, mode: str, phrases: int, step: Step) -> dict[str, Any]:
        total = 3 + (MOST_LINKS if mode == "best" else 0)
        step(0, total)
        caption = self._narrator.caption(image)
        step(1, total)
        picture = self._clip.picture(image)
        step(2, total)
        prompt = self._prompt(mode, caption, picture, lambda done: step(2 + done, total))
        step(total, total)
        ranked = {
            kind: [found._asdict() for found in self._tables[kind].rank(picture, phrases)] for kind in RANKED
        }
        return {"caption": caption, "prompt": prompt, "ranked": ranked}

    def _prompt(self, mode: str, caption: str, picture: Tensor, done: Any) -> str:
        if mode == "caption":
            return caption
        if mode == "negative":
            return self._negative(picture)
        if mode == "fast":
            return self._fast(caption, picture)
        if mode == "classic":
            return self._classic(caption, picture)
        rivals = [caption, self._fast(caption, picture), self._classic(caption, picture)]
        return nearest(self._clip, picture, [self._best(caption, picture, done), *rivals])[0].phrase

    def _fast(self, caption: str, picture: Tensor) -> str:
        every = self._tables["mediums"]
        for kind in RANKED[1:]:
            every = every + self._tables[kind]
        return self._joined(caption, [found.phrase for found in every.rank(picture, NEAREST)])

    def _classic(self, caption: str, picture: Tensor) -> str:
        medium, artist, movement, trending = (
            self._tables[kind].rank(picture, 1)[0].phrase
            for kind in ("mediums", "artists", "movements", "trending")
        )
        flavors = [found.phrase for found in self._tables["flavors"].rank(picture, FLAVORS)]
        return self._joined(caption, [f"{medium} {artist}", trending, movement, *flavors])

    def _negative(self, picture: Tensor) -> str:
        unlike = self._tables[NEGATIVE].rank(picture, NEAREST, least=True)
        unlike += self._tables["flavors"].rank(picture, FLAVORS, least=True)
        first, *others = [found.phrase for found in unlike]
        return self._joined(first, others)

    def _best(self, caption: str, picture: Tensor, done: Any) -> str:
        best = nearest(self._clip, picture, [caption])[0]
        for kind in ("mediums", "artists", "movements", "trending"):
            best, _ = self._link(best, self._candidates(kind, picture, LEADS), picture, must=False)
        left = self._candidates("flavors", picture, CANDIDATES)
        for link in range(MOST_LINKS):
            done(link + 1)
            longer, left = self._link(best, left, picture, must=link < LEAST_LINKS)
            if longer is best:
                break
            best = longer
        return best.phrase

    def _candidates(self, kind: str, picture: Tensor, count: int) -> list[str]:
        return [found.phrase for found in self._tables[kind].rank(picture, count)]

    def _link(
        self, best: Ranked, phrases: Sequence[str], picture: Tensor, *, must: bool
    ) -> tuple[Ranked, list[str]]:
        """The prompt with the phrase that helps it most, or as it is where none does; and who did well."""
        longer = {f"{best.phrase}, {phrase}": phrase for phrase in phrases if phrase not in best.phrase}
        tried = nearest(self._clip, picture, [text for text in longer if self._clip.fits(text)])
        if not tried or (tried[0].score <= best.score and not must):
            return best, []
        kept = tried[1 : 1 + max(LEADS, int(len(tried) * KEPT))]
        return tried[0], [longer[found.phrase] for found in kept]

    def _joined(self, text: str, phrases: Sequence[str]) -> str:
        """As many of them as the text encoder still reads; none twice."""
        for phrase in phrases:
            if phrase not in text and self._clip.fits(f"{text}, {phrase}"):
                text = f"{text}, {phrase}"
        return text
