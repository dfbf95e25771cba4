"""Everything that can be done to a picture, declared once.

An operation is a Pydantic model: its fields are the parameters and the pictures that go in, its docstring is the
sentence that every door shows, and its class line names the service that performs it. From here come the HTTP
route, the OpenAPI schema, the command's flags, the page's form and the metrics label. Nothing heavy is imported.

A deployment adds its own with `DARKROOM_EXTENSIONS=package`: `package.operations` declares them, and
`package.service` performs them.
"""

from __future__ import annotations

import importlib
import os
import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from services.operation import (
    OPERATIONS,
    Encoded,
    Format,
    Name,
    Operation,
    Seeded,
    ledger,
    misfit,
)
from services.pictures import Colour, ColourOrPicture, Mask, Picture, Weights
from services.poses import Keypoints
from services.samplers import Sampler, sampler_named

Kind = Literal["canny", "openpose", "canny-map", "openpose-map"]


# the base, its relatives and the registry are asked for here, where the operations are
__all__ = [
    "OPERATIONS",
    "Caption",
    "Cleanup",
    "Control",
    "ControlInput",
    "Diffusion",
    "Encoded",
    "Format",
    "ImageToImage",
    "Inpaint",
    "Lora",
    "Operation",
    "Portrait",
    "Preprocess",
    "Reading",
    "RemoveBackground",
    "Seeded",
    "SketchToImage",
    "TextToImage",
    "extensions",
    "ledger",
    "misfit",
]


def _sampler(name: Any) -> Any:
    return sampler_named(name) if isinstance(name, str) else name


def _version(given: Any) -> Any:
    return str(given) if isinstance(given, int) and not isinstance(given, bool) else given


Version = Annotated[
    str, Field(pattern=r"^([0-9]{1,18}|[A-Za-z][A-Za-z0-9_.-]{0,63})$"), BeforeValidator(_version)
]


class Lora(BaseModel):
    """A small change to the model, by its name in the catalogue or as a safetensors file of one's own."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)

    name: Name | None = Field(None, description="Its name in the catalogue.")
    file: Weights | None = Field(None, description="A safetensors file, instead of a name.")
    weight: float = Field(1.0, ge=-4, le=4)

    @model_validator(mode="after")
    def _one_source(self) -> Lora:
        if (self.name is None) == (self.file is None):
            raise misfit("name", "give either name or file")
        return self


class Reading(BaseModel):
    """How edges and poses are read from a picture."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)

    low: int | None = Field(
        None, ge=0, le=1000, description="canny: below it there is no edge; found from the picture if absent."
    )
    high: int | None = Field(
        None, ge=0, le=1000, description="canny: above it there is an edge; found from the picture if absent."
    )
    hands: bool = Field(False, description="openpose: hands too.")
    face: bool = Field(False, description="openpose: the face too.")

    @model_validator(mode="after")
    def _thresholds(self) -> Self:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise misfit("low", "low must not lie above high")
        return self


class ControlInput(Reading):
    """A picture that steers the form of the result, or a pose as keypoints."""

    image: Picture | None = None
    keypoints: Keypoints | None = Field(
        None, description="A pose as JSON, instead of a picture; kind is openpose."
    )
    kind: Kind = Field(description="What to read from the picture; `-map` says that it is a ready map.")
    weight: float = Field(1.0, ge=0, le=2)
    start: float = Field(0.0, ge=0, le=1, description="The share of the steps after which it begins.")
    end: float = Field(1.0, ge=0, le=1, description="The share of the steps after which it ends.")

    @model_validator(mode="after")
    def _ordered(self) -> ControlInput:
        if self.start >= self.end:
            raise misfit("start", "start must lie before end")
        if (self.image is None) == (self.keypoints is None):
            raise misfit("image", "send either image or keypoints")
        if self.keypoints is not None and self.kind != "openpose":
            raise misfit("kind", "keypoints are for the kind openpose")
        return self


_SIZE = (
    "if absent beside a given {other}, what keeps the shape of the picture, else of the first control, else of the "
    "model's own size; if both are absent, the picture's own size (of at most as many pixels as the model was made "
    "for), else the first control's shape, else the model's own size."
)


class Diffusion(Seeded):
    prompt: str = Field(
        max_length=10_000, description="What is to be seen.", examples=["a red circle on a blue background"]
    )
    negative_prompt: str = Field("", max_length=10_000, description="What is not to be seen.")
    width: int | None = Field(
        None, ge=64, le=2048, multiple_of=8, description=f"In pixels; {_SIZE.format(other='height')}"
    )
    height: int | None = Field(
        None, ge=64, le=2048, multiple_of=8, description=f"In pixels; {_SIZE.format(other='width')}"
    )
    steps: int | None = Field(None, ge=1, le=150, description="The model's own if absent, most often 30.")
    guidance: float | None = Field(
        None,
        ge=0,
        le=30,
        description="How strictly the prompt is followed; the model's own if absent, most often 7.",
    )
    sampler: Annotated[Sampler, BeforeValidator(_sampler)] | None = Field(
        None, description="The model's own if absent, most often dpm++-2m-karras."
    )
    clip_skip: int | None = Field(
        None, ge=1, le=12, description="How many of the text encoder's last layers are left out; 1 is none."
    )
    refiner: Name | None = Field(None, description="A refiner model that finishes the picture.")
    refine_at: float = Field(
        0.8, gt=0, lt=1, description="The share of the work after which the refiner takes over."
    )
    count: int = Field(1, ge=1, le=16, description="How many pictures.")
    loras: list[Lora] = Field(default_factory=list, max_length=8)
    reference: Picture | None = Field(None, description="A picture whose look is taken over (IP-Adapter).")
    reference_scale: float = Field(0.6, ge=0, le=1)
    controls: list[ControlInput] = Field(default_factory=list, max_length=3)
    guess_mode: bool = Field(False, description="Controls lead alone, as if there were no prompt.")
    previews: int = Field(5, ge=0, le=50, description="A preview every so many steps; 0 for none.")

    def performed_by(self) -> str:
        return "controlnet" if self.controls else self.service


# ── the ten ───────────────────────────────────────────────────────────────────────────────────────────────────


class TextToImage(Diffusion, service="sdxl"):
    """Make pictures from words."""


class ImageToImage(Diffusion, service="sdxl"):
    """Make a picture anew, led by words and by the picture itself."""

    image: Picture
    strength: float = Field(0.6, ge=0, le=1, description="0 keeps the picture, 1 forgets it.")


class Inpaint(Diffusion, service="sdxl"):
    """Paint anew what the mask covers, as the words say.

    Without an asked size the answer has the picture's own, whatever size the model works at. Outside of the mask it
    is the picture, bit for bit (brought to the asked size, where one was asked).
    """

    image: Picture
    mask: Mask = Field(description="White where the picture is to be painted anew.")
    strength: float = Field(1.0, ge=0, le=1, description="0 keeps what is under the mask, 1 forgets it.")


class Control(Diffusion, service="controlnet"):
    """Make pictures from words that follow the edges or the pose of another picture."""

    with_maps = True

    controls: list[ControlInput] = Field(min_length=1, max_length=3)


class Preprocess(Reading, Encoded, service="controlnet"):
    """Show the map of edges or the pose that a control would follow."""

    image: Picture | None = None
    keypoints: Keypoints | None = Field(None, description="A pose as JSON, to draw instead of a picture's.")
    kind: Literal["canny", "openpose"] = "canny"

    @model_validator(mode="after")
    def _one_source(self) -> Preprocess:
        if (self.image is None) == (self.keypoints is None):
            raise misfit("image", "send either image or keypoints")
        return self


class RemoveBackground(Encoded, service="rmbg"):
    """Cut the subject out of its background."""

    model: Name = Field(
        "auto",
        description="auto, grabcut, micro-matte, birefnet, isnet, u2net ...; rmbg-1.4 and rmbg-2.0 are not for "
        "commercial use, so that auto never takes them.",
    )
    image: Picture
    output: Literal["cutout", "mask"] = Field(
        "cutout", description="The subject with transparency, or its mask alone."
    )
    background: ColourOrPicture | None = Field(
        None, description="A colour or a picture to put behind the subject."
    )
    trim: bool = Field(False, description="Crop to the subject.")
    matting: bool = Field(
        False, description="Decide each hair at the edges: takes seconds; for hair, fur and veils."
    )


class Cleanup(Encoded, service="cleanup"):
    """Erase what the mask covers and fill it from its surroundings.

    Outside of the mask the answer is the picture, bit for bit (in a format that loses nothing). A mask that is all
    black changes nothing; one that is all white is refused, because nothing is left to fill it from.
    """

    image: Picture
    mask: Mask = Field(description="White where the picture is to be erased.")
    strategy: Literal["auto", "original", "resize", "crop"] = Field(
        "auto",
        description="What the model is shown: the picture at its original size, resized to the limit, or cropped "
        "around each piece of the mask. auto: the whole picture if the model takes it at once, else crops.",
    )
    limit: int | None = Field(
        None,
        ge=64,
        le=4096,
        description="The longer side, in pixels, that the model is shown at most; 1280 for resize if absent.",
    )
    margin: int | None = Field(
        None,
        ge=8,
        le=2048,
        description="For crop: pixels around a piece that the model sees; its own if absent, most often 128.",
    )
    grow: int = Field(0, ge=0, le=256, description="Pixels by which the mask is widened first.")
    feather: int = Field(
        0,
        ge=0,
        le=256,
        description="Pixels by which the mask is widened further, over which the fill fades into the picture.",
    )


class Caption(Operation, service="caption", answers="data"):
    """Say what a picture shows."""

    image: Picture
    mode: Literal["best", "fast", "classic", "negative", "caption"] = Field(
        "fast",
        description="How the prompt is composed, as CLIP interrogator's users know it; caption is the sentence alone.",
    )
    phrases: int = Field(8, ge=0, le=64, description="How many ranked phrases of each kind to tell.")


class Portrait(Seeded, service="portrait"):
    """Turn a photograph into a studio profile picture.

    A tone, an exposure and a smoothing change the person and, without a cut, the whole photograph; a backdrop keeps
    the very colour that was asked for.
    """

    handed: ClassVar[dict[str, str]] = {
        "prompt": "style",
        "loras": "style_lora",
        "loras.0.name": "style_lora",
        "loras.0.weight": "style_weight",
        "strength": "style_strength",
        "model": "style_model",
    }

    image: Picture = Field(description="A photograph with one face, from the front.")
    size: Literal["avatar", "id-card", "passport", "student-card"] = Field(
        "avatar",
        description="avatar is square; id-card is 30 x 40 mm, passport 35 x 45 mm (the head fills 70 to 80 % of its "
        "height, as ICAO asks), student-card 25 x 30 mm.",
    )
    side: int | None = Field(
        None, ge=64, le=4096, description="An avatar's pixels a side, 512 if absent; cards follow their dpi."
    )
    dpi: int = Field(
        300, ge=72, le=1200, description="Pixels an inch, written into the file; a card's pixels follow."
    )
    sheet: Literal["10x15", "a4"] | None = Field(
        None, description="Several on a sheet to print and cut: 10 x 15 cm or A4."
    )
    copies: int | None = Field(
        None, ge=1, le=200, description="How many on the sheet; as many as fit if absent."
    )
    face: Literal["only", "largest"] | Annotated[int, Field(ge=0, le=99)] = Field(
        "only",
        description="Whose portrait: only refuses a photograph with several faces, largest takes the largest, a number "
        "counts from the left, from 0.",
    )
    level: bool = Field(True, description="Turn the picture so that the eyes are level.")
    backdrop: Colour = Field("#e8e4dc", description="The colour behind the person.")
    backdrop_to: Colour | None = Field(
        None, description="The colour that the backdrop runs to: below, or outwards if radial."
    )
    gradient: Literal["linear", "radial"] = Field(
        "linear", description="How the backdrop runs to the other colour."
    )
    cutter: Name = Field(
        "auto",
        description="The model of remove-background that cuts the person out; none keeps the photograph's own ground.",
    )
    matting: bool = Field(
        False, description="Decide the transparency of each hair; it takes a second or a few more."
    )
    tone: Literal["cool", "neutral", "warm"] | Annotated[float, Field(ge=-1, le=1)] = Field(
        "neutral", description="cool, neutral, warm, or a number from -1 (cool) to 1 (warm)."
    )
    exposure: float = Field(0.0, ge=-3, le=3, description="In stops: 1 doubles the light, -1 halves it.")
    smooth: float = Field(
        0.0, ge=0, le=1, description="How far the skin is smoothed; eyes, mouth and hair are kept."
    )
    style: str | None = Field(
        None, max_length=1000, description="Words that hand the portrait on to image-to-image."
    )
    style_lora: Name | None = Field(
        None, description="A LoRA of the catalogue, by its name, that goes with the style."
    )
    style_weight: float = Field(1.0, ge=-4, le=4, description="The LoRA's weight.")
    style_strength: float = Field(0.4, ge=0, le=1, description="0 keeps the portrait, 1 forgets it.")
    style_model: Name = Field("auto", description="The model of image-to-image that paints the style.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.side is not None and self.size != "avatar":
            raise misfit(
                "side", "the size of a card in pixels follows from its dpi; only an avatar has a side"
            )
        if self.backdrop_to is not None and self.cutter == "none":
            raise misfit(
                "backdrop_to", "a photograph that keeps its own ground (cutter none) has no backdrop"
            )
        if self.copies is not None and self.sheet is None:
            raise misfit("copies", "copies go with a sheet: 10x15 or a4")
        if self.sheet is not None and self.style is not None:
            raise misfit("sheet", "a style is painted over one portrait, not over a sheet of them")
        if self.style is None and self.style_lora is not None:
            raise misfit("style_lora", "a LoRA goes with a style: say in words what is to be seen")
        if self.sheet == "a4" and self.dpi > 600:
            raise misfit("dpi", "an A4 sheet may have at most {most} dpi", most=600)
        return self

    def then(self) -> Operation | None:
        if self.style is None:
            return None
        loras = [] if self.style_lora is None else [Lora(name=self.style_lora, weight=self.style_weight)]
        return ImageToImage(
            prompt=self.style,
            image=Picture("part:image"),
            model=self.style_model,
            strength=self.style_strength,
            loras=loras,
            seed=self.seed,
            format=self.format,
            quality=self.quality,
        )


class SketchToImage(Encoded, service="pix2pix"):
    """Colour a sketch.

    The answer has the sketch's own size. Dark lines on white are what the model knows; what is transparent is laid on
    white.
    """

    image: Picture
    version: Version | None = Field(
        None,
        description="The model's version: a number, or a label such as stable or canary; the installation's choice "
        "(most often the newest) if absent.",
    )


def extensions() -> list[str]:
    """The packages that `DARKROOM_EXTENSIONS` names."""
    return [name for name in re.split(r"[,\s]+", os.environ.get("DARKROOM_EXTENSIONS", "")) if name]


def load_extensions() -> None:
    """Import `operations` of each extension, which declares its operations here."""
    for package in extensions():
        try:
            importlib.import_module(f"{package}.operations")
        except ImportError as error:
            raise SystemExit(
                f"DARKROOM_EXTENSIONS names {package!r}, but {package}.operations cannot be imported: {error}"
            ) from error


load_extensions()
