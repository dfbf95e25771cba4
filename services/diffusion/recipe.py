"""What one request asks of the engine, with every default settled: in goes an operation, out goes a `Recipe`.

A recipe knows pictures and numbers; it knows nothing of HTTP, of devices or of other requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from PIL import Image

Kind = Literal["text", "image", "inpaint"]


@dataclass(frozen=True, slots=True)
class LoraUse:
    """A LoRA and how strongly it acts. `source` is a catalogue name, or `sha256:...` of an uploaded file."""

    source: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class ControlUse:
    """A ready map (RGB, of the picture's size) and the net that follows it."""

    net: str  # a key of `Checkpoint.controlnets`: "canny", "openpose"
    map: Image.Image
    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0


@dataclass(frozen=True, slots=True)
class Refinement:
    """The refiner's model, and the share of the noise schedule after which it takes over."""

    model: str
    at: float = 0.8


@dataclass(frozen=True, slots=True)
class Recipe:
    model: str
    prompt: str
    negative_prompt: str
    width: int
    height: int
    steps: int
    guidance: float
    sampler: str
    seed: int
    count: int = 1
    kind: Kind = "text"
    image: Image.Image | None = None  # RGB, already of width x height
    mask: Image.Image | None = None  # L, already of width x height
    strength: float = 1.0
    clip_skip: int | None = None
    loras: tuple[LoraUse, ...] = ()
    reference: Image.Image | None = None
    reference_scale: float = 0.6
    controls: tuple[ControlUse, ...] = ()
    guess_mode: bool = False
    refinement: Refinement | None = None
    preview_every: int = 0
