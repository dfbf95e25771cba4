"""What form of answer a client asks for: `Accept` and `Prefer` in, one decision out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from services.errors import BadInput, NotAcceptable
from services.operations import Format, Operation

Form = Literal["bytes", "json", "events"]
_PICTURES: dict[str, Format] = {"image/png": "png", "image/jpeg": "jpeg", "image/webp": "webp"}
LONGEST = 1000  # characters of such a header that are read; what is read is kept in a cache
_WAIT = re.compile(r"wait=\"?(\d+(?:\.\d+)?)\"?$")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The answer's form; `format` is the picture format that Accept named, None where any will do."""

    form: Form
    format: Format | None = None


@dataclass(frozen=True, slots=True)
class Preference:
    respond_async: bool = False
    wait: float | None = None


@lru_cache(1024)
def _ranked(accept: str) -> tuple[str, ...]:
    ranges = []
    for at, part in enumerate(accept.lower().split(",")):
        kind, *options = (piece.strip() for piece in part.split(";"))
        quality = 1.0
        for option in options:
            if option.startswith("q="):
                try:
                    quality = float(option[2:])
                except ValueError as error:
                    raise NotAcceptable(
                        f"The Accept header has the quality {option[2:]!r}, which is no number."
                    ) from error
        if kind and quality > 0:
            ranges.append((-quality, kind == "*/*", at, kind))
    return tuple(kind for *_, kind in sorted(ranges))


def wanted(accept: str, ask: Operation) -> Wanted:
    """The first of the accepted kinds that this operation can answer with."""
    pictures = ask.answers == "pictures"
    for kind in _ranked(accept[:LONGEST] or "*/*"):
        if kind == "text/event-stream":
            return Wanted("events")
        if kind in ("application/json", "application/*"):
            return Wanted("json")
        if pictures and (kind in _PICTURES or kind == "image/*"):
            if ask.count_asked() == 1:
                return Wanted("bytes", _PICTURES.get(kind))
            continue
        if kind == "*/*":
            return Wanted("bytes") if pictures and ask.count_asked() == 1 else Wanted("json")
    if pictures and ask.count_asked() > 1:
        raise NotAcceptable(
            "Several pictures do not fit into one image answer; accept application/json, or set count to 1."
        )
    offers = "application/json, text/event-stream" + (
        ", image/png, image/jpeg, image/webp" if pictures else ""
    )
    raise NotAcceptable(f"{ask.name()} can be answered as {offers}.")


def preference(prefer: str) -> Preference:
    """RFC 7240: `respond-async` makes a job of the call, `wait=SECONDS` shortens its deadline."""
    return _preference(prefer[:LONGEST])


@lru_cache(256)
def _preference(prefer: str) -> Preference:
    asynchronous, wait = False, None
    for part in (piece.strip() for piece in prefer.lower().split(",")):
        if part == "respond-async":
            asynchronous = True
        elif match := _WAIT.match(part):
            wait = float(match[1])
            if wait <= 0:
                raise BadInput("Prefer: wait must be more than 0 seconds.", field="Prefer")
    return Preference(asynchronous, wait)
