"""One picture on its way through the loop. A request of several pictures has one lane for each.

`prepare` makes it, `step` moves it by one, `decode` ends it. Each has its own scheduler and generator, so that nothing
that happens to another lane can reach it; what lanes of one batch share is the call of the UNet.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import torch

from services.diffusion.checkpoint import Checkpoint
from services.diffusion.recipe import Recipe


@dataclass(frozen=True, slots=True, eq=False)
class Conditioning:
    """What the UNet is told beside the latents; each tensor has one row."""

    text: torch.Tensor  # (1, tokens, width)
    pooled: torch.Tensor | None = None  # (1, width): SDXL
    time_ids: torch.Tensor | None = None  # (1, 5 or 6): SDXL
    image: torch.Tensor | None = None  # IP-Adapter's embedding of the reference
    guidance: torch.Tensor | None = None  # (1, width): distilled models that are told the guidance


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """A request's words (and reference), ready for the UNet; `negative` is None where guidance is 1 or less."""

    positive: Conditioning
    negative: Conditioning | None
    # what the VAE reads in the request's pictures: the same for each of its lanes, so `prepare` keeps it here
    readings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Adapters:
    """What must be switched on in the UNet before it is called; equal ones may share a call."""

    loras: tuple[tuple[str, float], ...] = ()
    reference_scale: float | None = None


@dataclass(slots=True, eq=False)
class ControlLane:
    net: str
    map: torch.Tensor  # (1, 3, height, width) in 0..1
    scales: list[float]  # one for each step; 0 where it is off


@dataclass(slots=True, eq=False)
class Hole:
    """What inpainting puts back, or shows the UNet, at each step."""

    mask: torch.Tensor  # (1, 1, h, w) of the latents
    clean: torch.Tensor | None = None  # the picture's latents and noise, which a UNet of four channels needs
    noise: torch.Tensor | None = None
    masked: torch.Tensor | None = None  # the masked picture's latents, for a UNet of nine channels


@dataclass(slots=True, eq=False)
class Lane:
    checkpoint: Checkpoint
    recipe: Recipe
    index: int
    seed: int
    encoded: Encoded
    scheduler: Any
    generator: torch.Generator
    latents: torch.Tensor  # (1, channels, h, w)
    timesteps: list[Any]
    guidance: float
    adapters: Adapters = field(default_factory=Adapters)
    controls: list[ControlLane] = field(default_factory=list)
    hole: Hole | None = None
    at: int = 0  # the index of the next timestep
    extra: dict[str, Any] = field(default_factory=dict)  # what `scheduler.step` takes beside (eta, generator)
    estimate: torch.Tensor | None = None  # the finished latents, as the last step foresees them: for previews
    company: Any = None  # what `step` laid together for the lanes that went with this one the last time

    @property
    def done(self) -> bool:
        return self.at >= len(self.timesteps)

    @property
    def progress(self) -> tuple[int, int]:
        """The steps that are done, of how many. Heun calls the UNet twice for a step, but for the last one."""
        order = int(getattr(self.scheduler, "order", 1))
        total = -(-len(self.timesteps) // order)
        return (total if self.done else self.at // order), total

    def key(self) -> Hashable:
        """Lanes of equal keys may share a call of the UNet."""
        negative = self.encoded.negative
        return (
            id(self.checkpoint),
            tuple(self.latents.shape[1:]),
            self.encoded.positive.text.shape[1],
            None if negative is None else negative.text.shape[1],
            self.adapters,
        )
