"""A recipe as the text that AUTOMATIC1111's page writes into its pictures: in goes a recipe, out go three lines.

    a red circle on a blue background <lora:crayon:0.8>
    Negative prompt: blurry
    Steps: 30, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 1, Size: 128x128, Model: micro, Version: Darkroom 0.1.0

That page, and the many readers made for its pictures, take the last line apart at commas and colons; a value that holds
one of these is quoted as JSON. `infotext.read_parameters` is the way back.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

from services.diffusion.recipe import ControlUse, Recipe
from services.origin.infotext import NEGATIVE, quoted
from services.samplers import SPELLINGS

_SHORT_HASH = 12


def parameters_text(
    recipe: Recipe, index: int = 0, *, seed: int | None = None, lora_hashes: Mapping[str, str] | None = None
) -> str:
    """The text of the picture `index` of a recipe. `lora_hashes` has the SHA-256 of catalogue LoRAs, where known."""
    loras = [(_lora_name(use.source), f"{use.weight:g}") for use in recipe.loras]
    tags = [f"<lora:{name}:{weight}>" for name, weight in loras]
    lines = [" ".join([_printable(recipe.prompt), *tags]).strip()]
    if recipe.negative_prompt:
        lines.append(f"{NEGATIVE} {_printable(recipe.negative_prompt)}")
    fields: dict[str, Any] = {
        "Steps": recipe.steps,
        "Sampler": SPELLINGS.get(recipe.sampler, recipe.sampler),
        "CFG scale": f"{recipe.guidance:g}",
        "Seed": recipe.seed + index if seed is None else seed,
        "Size": f"{recipe.width}x{recipe.height}",
    }
    if recipe.kind != "text":
        fields["Denoising strength"] = f"{recipe.strength:g}"
    if recipe.clip_skip is not None and recipe.clip_skip > 1:
        fields["Clip skip"] = recipe.clip_skip
    for n, control in enumerate(recipe.controls):
        fields[f"ControlNet {n}"] = _control(control, guess_mode=recipe.guess_mode)
    # after the controls: simpler readers look into quoted values too, and take the last `Model` that they find
    fields["Model"] = recipe.model
    if recipe.reference is not None:
        fields["Reference scale"] = f"{recipe.reference_scale:g}"
    if recipe.refinement is not None:
        fields["Refiner"] = recipe.refinement.model
        fields["Refiner switch at"] = f"{recipe.refinement.at:g}"
    hashes = {
        _lora_name(use.source): found for use in recipe.loras if (found := _hash(use.source, lora_hashes))
    }
    if hashes:
        fields["Lora hashes"] = ", ".join(f"{name}: {found[:_SHORT_HASH]}" for name, found in hashes.items())
    fields["RNG"] = (
        "CPU"  # where the noise is drawn; without it that page draws on its GPU and shows another picture
    )
    fields["Version"] = f"Darkroom {_version()}"
    lines.append(", ".join(f"{name}: {quoted(str(value))}" for name, value in fields.items()))
    return "\n".join(lines)


def _control(use: ControlUse, *, guess_mode: bool) -> str:
    """As the ControlNet extension of that page writes a unit."""
    said = {
        "Module": use.net,
        "Model": use.net,
        "Weight": f"{use.weight:g}",
        "Guidance Start": f"{use.start:g}",
        "Guidance End": f"{use.end:g}",
        "Control Mode": "ControlNet is more important" if guess_mode else "Balanced",
    }
    return ", ".join(f"{name}: {value}" for name, value in said.items())


def _lora_name(source: str) -> str:
    """A tag's name may hold no colon; an uploaded file is known by the beginning of its checksum."""
    kind, _, digest = source.partition(":")
    return digest[:_SHORT_HASH] if kind == "sha256" else source.replace(":", "-")


def _hash(source: str, known: Mapping[str, str] | None) -> str | None:
    kind, _, digest = source.partition(":")
    return digest if kind == "sha256" else (known or {}).get(source)


def _printable(words: str) -> str:
    """Without what no text field of a picture can hold: zero bytes and halves of characters."""
    return words.replace("\0", "").encode(errors="replace").decode().strip()


@cache
def _version() -> str:
    return version("darkroom")
