"""From an operation to a recipe: in go the parameters as they were asked, out comes what the engine is to do, with
every default settled.

`Settled` remembers beside it how the answer is laid out: inpainting without an asked size answers with the picture
at its own size, whatever size the model worked at, and outside of the mask bit for bit what it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from services.diffusion import geometry
from services.diffusion.geometry import Size
from services.diffusion.recipe import ControlUse, LoraUse, Recipe, Refinement
from services.errors import BadInput
from services.images import flatten
from services.models import ModelEntry
from services.operations import ControlInput, Diffusion, ImageToImage, Inpaint, Lora

FALLBACKS: dict[str, Any] = {"steps": 30, "guidance": 7.0, "sampler": "dpm++-2m-karras"}
_SIDES = {"sd": 512}  # of families whose catalogue entry names none; the others have 1024
HALF = 128
CONTROLNET = "controlnet-"  # before a net's name among a model's parts

MakeMap = Callable[[ControlInput, Size, str], Image.Image]  # with the control's path, for errors
NameLora = Callable[[Lora, int], str]


@dataclass(frozen=True, slots=True)
class Settled:
    """What the engine is to do, and what becomes of its pictures."""

    recipe: Recipe
    before: Image.Image | None = None  # inpainting: the picture as it came, which the answer is laid into
    mask: Image.Image | None = None

    def answer(self, image: Image.Image) -> Image.Image:
        """The engine's picture as the caller gets it."""
        if self.before is None or self.mask is None:
            return image
        made = image if image.size == self.before.size else image.resize(self.before.size, _SMOOTH)
        white = self.mask.convert("L").point(lambda grey: 255 if grey >= HALF else 0)
        return Image.composite(made.convert(self.before.mode), self.before, white)


_SMOOTH = Image.Resampling.LANCZOS


def defaults_of(entry: ModelEntry) -> dict[str, Any]:
    """The model's own values of what a caller may leave out."""
    side = _SIDES.get(entry.family, 1024)
    return {"width": side, "height": side} | FALLBACKS | entry.defaults


def settle(
    ask: Diffusion,
    seed: int,
    entry: ModelEntry,
    refiner: str | None,
    make_map: MakeMap,
    name_lora: NameLora,
) -> Settled:
    """The recipe of a request. BadInput names the field at fault."""
    defaults = defaults_of(entry)
    size = size_of(ask, defaults)
    geometry.check(size, defaults, entry.name)
    recipe = Recipe(
        model=entry.name,
        prompt=ask.prompt,
        negative_prompt=ask.negative_prompt,
        width=size[0],
        height=size[1],
        steps=ask.steps if ask.steps is not None else int(defaults["steps"]),
        guidance=ask.guidance if ask.guidance is not None else float(defaults["guidance"]),
        sampler=ask.sampler or str(defaults["sampler"]),
        seed=seed,
        count=ask.count,
        clip_skip=ask.clip_skip if ask.clip_skip is not None else defaults.get("clip_skip"),
        loras=tuple(LoraUse(name_lora(lora, at), lora.weight) for at, lora in enumerate(ask.loras)),
        reference=None if ask.reference is None else flatten(ask.reference.pixels).convert("RGB"),
        reference_scale=ask.reference_scale,
        controls=_controls(ask, size, entry, make_map),
        guess_mode=ask.guess_mode,
        refinement=None if refiner is None else Refinement(refiner, ask.refine_at),
        preview_every=ask.previews,
    )
    if isinstance(ask, Inpaint):
        return _inpainting(ask, recipe)
    if isinstance(ask, ImageToImage):
        image = geometry.cover(flatten(ask.image.pixels).convert("RGB"), size)
        return Settled(replace(recipe, kind="image", image=image, strength=ask.strength))
    return Settled(recipe)


def size_of(ask: Diffusion, defaults: dict[str, Any]) -> Size:
    """The size at which the model works."""
    own = geometry.own_size(defaults)
    shape, size = own, own
    if isinstance(ask, ImageToImage | Inpaint):
        shape = ask.image.pixels.size
        size = geometry.like(shape, own[0] * own[1], enlarge=False)
    elif (found := next(filter(None, map(_shape, ask.controls)), None)) is not None:
        shape = found
        size = geometry.like(shape, own[0] * own[1], enlarge=True)
    return geometry.completed((ask.width, ask.height), shape, size)


def _shape(control: ControlInput) -> Size | None:
    """Of a control's picture or pose."""
    if control.image is not None:
        size: Size = control.image.pixels.size
        return size
    poses = control.keypoints
    return (poses.width, poses.height) if poses is not None and poses.width and poses.height else None


def _inpainting(ask: Inpaint, recipe: Recipe) -> Settled:
    before, mask = ask.image.pixels, ask.mask.pixels
    size = (recipe.width, recipe.height)
    if ask.width is not None or ask.height is not None:
        before = geometry.cover(before, size)
        mask = geometry.cover(mask, size, Image.Resampling.BILINEAR)
    return Settled(
        replace(
            recipe,
            kind="inpaint",
            image=flatten(before).convert("RGB").resize(size, _SMOOTH),
            mask=mask.resize(size, Image.Resampling.BILINEAR),
            strength=ask.strength,
        ),
        before,
        mask,
    )


def _controls(ask: Diffusion, size: Size, entry: ModelEntry, make_map: MakeMap) -> tuple[ControlUse, ...]:
    nets = [part.removeprefix(CONTROLNET) for part in entry.parts if part.startswith(CONTROLNET)]
    found = []
    for at, control in enumerate(ask.controls):
        net = control.kind.removesuffix("-map")
        if net not in nets:
            raise BadInput(
                f"The model {entry.name!r} has no ControlNet for {net}; it has: {', '.join(nets) or 'none'}.",
                field=f"controls.{at}.kind",
                help="Ask for a model that has one: GET /v1/models lists them.",
            )
        image = make_map(control, size, f"controls.{at}")
        found.append(ControlUse(net, image, control.weight, control.start, control.end))
    return tuple(found)
