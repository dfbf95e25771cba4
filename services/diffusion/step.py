"""One step of several pictures at once: the UNet is called a single time for all of them, then each goes its own way.

The lanes share a key, and nothing else: their timesteps, guidance, schedulers, masks and controls are their own. The
rows of the call are the negative sides of all lanes, where there are any, and then the positive sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from services.diffusion.lane import Conditioning, ControlLane, Encoded, Lane
from services.diffusion.schedulers import noised

Residuals = tuple[list[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Company:
    """What the UNet is told of lanes that go together; it stays the same from step to step while they do."""

    members: tuple[Encoded, ...]
    text: torch.Tensor
    added: dict[str, Any]  # SDXL's pooled text and sizes, IP-Adapter's embeddings
    told_guidance: torch.Tensor | None
    guidance: torch.Tensor | float | None  # None: there is no negative side


@torch.inference_mode()
def step(lanes: Sequence[Lane]) -> None:
    """Moves every lane by one step. Their keys must be equal, and their adapters switched on."""
    checkpoint, company = lanes[0].checkpoint, _company(lanes)
    sides = 1 if company.guidance is None else 2
    now = [lane.timesteps[lane.at] for lane in lanes]
    scaled = [
        lane.scheduler.scale_model_input(lane.latents, timestep)
        for lane, timestep in zip(lanes, now, strict=True)
    ]
    timesteps = _sent(torch.tensor([float(timestep) for timestep in now] * sides), checkpoint.device)
    sample = torch.cat(scaled * sides) if len(scaled) * sides > 1 else scaled[0]
    told: dict[str, Any] = {}
    if (residuals := _controlled(lanes, company, sample, timesteps)) is not None:
        told["down_block_additional_residuals"], told["mid_block_additional_residual"] = residuals
    if int(checkpoint.unet.config.in_channels) != sample.shape[1]:
        sample = torch.cat([sample, torch.cat([_shown(lane) for lane in lanes] * sides)], dim=1)
    predicted = checkpoint.unet(
        sample,
        timesteps,
        encoder_hidden_states=company.text,
        timestep_cond=company.told_guidance,
        added_cond_kwargs=company.added or None,
        return_dict=False,
        **told,
    )[0]
    if company.guidance is not None:
        negative, positive = predicted.chunk(2)
        predicted = (negative + company.guidance * (positive - negative)).to(predicted.dtype)
    for row, (lane, timestep) in enumerate(zip(lanes, now, strict=True)):
        _move(lane, predicted[row : row + 1], timestep)


def _move(lane: Lane, predicted: torch.Tensor, timestep: torch.Tensor) -> None:
    moved = lane.scheduler.step(predicted, timestep, lane.latents, **lane.extra, return_dict=False)
    lane.latents = moved[0]
    # what the finished latents look like from here: some schedulers tell it, the others keep it
    lane.estimate = moved[1] if len(moved) > 1 else lane.scheduler.model_outputs[-1]
    lane.at += 1
    hole = lane.hole
    if hole is not None and hole.clean is not None and hole.noise is not None:
        around = hole.clean
        if not lane.done:
            around = noised(lane.scheduler, hole.clean, hole.noise, lane.timesteps[lane.at])
        lane.latents = (1 - hole.mask) * around + hole.mask * lane.latents


def _shown(lane: Lane) -> torch.Tensor:
    """The five channels that a UNet for inpainting sees beside the latents."""
    if lane.hole is None or lane.hole.masked is None:
        raise ValueError("this UNet needs a mask and the masked picture, and the lane has none")
    return torch.cat([lane.hole.mask, lane.hole.masked], dim=1)


def _company(lanes: Sequence[Lane]) -> Company:
    """What these lanes were told together the last time, or, if one has come or gone, laid together anew."""
    members = tuple(lane.encoded for lane in lanes)
    former: Company | None = lanes[0].company
    if former is not None and former.members == members:
        return former
    negatives = [member.negative for member in members if member.negative is not None]
    rows: list[Conditioning] = [*negatives, *(member.positive for member in members)]
    device, first = lanes[0].checkpoint.device, rows[0]
    added: dict[str, Any] = {}
    if first.pooled is not None:
        added["text_embeds"], added["time_ids"] = _laid(rows, "pooled"), _laid(rows, "time_ids")
    if first.image is not None:
        added["image_embeds"] = [_laid(rows, "image")]
    guidance: torch.Tensor | float | None = None
    if negatives:
        strengths = {lane.guidance for lane in lanes}
        guidance = (
            strengths.pop()
            if len(strengths) == 1
            else _sent(torch.tensor([lane.guidance for lane in lanes]).view(-1, 1, 1, 1), device)
        )
    company = Company(
        members,
        _laid(rows, "text"),
        added,
        None if first.guidance is None else _laid(rows, "guidance"),
        guidance,
    )
    for lane in lanes:
        lane.company = company
    return company


def _sent(numbers: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A few numbers to the device, without waiting for what it is doing."""
    return numbers.to(device, non_blocking=True)


def _laid(rows: list[Conditioning], name: str) -> torch.Tensor:
    return torch.cat([getattr(row, name) for row in rows]) if len(rows) > 1 else getattr(rows[0], name)


# ── controls ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Use:
    """A row of the call, and the control that acts on it."""

    row: int
    control: ControlLane
    scale: float
    fading: bool  # guess mode: the finer the layer, the weaker


def _controlled(
    lanes: Sequence[Lane], company: Company, sample: torch.Tensor, timesteps: torch.Tensor
) -> Residuals | None:
    """What the control nets add to the UNet: each is called once, for the rows that want it now."""
    summed: Residuals | None = None
    for name, uses in _uses(lanes, guided=company.guidance is not None).items():
        net = lanes[0].checkpoint.controlnets[name]
        rows = [use.row for use in uses]
        found = _followed(net, uses, rows, company, sample, timesteps)
        if summed is None and rows == list(range(len(sample))):
            summed = found
            continue
        where = _sent(torch.tensor(rows), sample.device)
        if summed is None:
            down = [residual.new_zeros(len(sample), *residual.shape[1:]) for residual in found[0]]
            summed = down, found[1].new_zeros(len(sample), *found[1].shape[1:])
        for total, residual in zip([*summed[0], summed[1]], [*found[0], found[1]], strict=True):
            total.index_add_(0, where, residual)
    return summed


def _uses(lanes: Sequence[Lane], *, guided: bool) -> dict[str, list[_Use]]:
    """By the net's name. In guess mode the negative side goes without, so that the map leads and not the words."""
    uses: dict[str, list[_Use]] = {}
    count = len(lanes)
    for positive_side in (False, True) if guided else (True,):
        for at, lane in enumerate(lanes):
            row = at + count if guided and positive_side else at
            for control in lane.controls:
                scale = control.scales[lane.at]
                config = lane.checkpoint.controlnets[control.net].config
                pooled = bool(config.global_pool_conditions)
                alone = lane.recipe.guess_mode or pooled
                if scale != 0 and (positive_side or not alone):
                    fading = lane.recipe.guess_mode and not pooled
                    uses.setdefault(control.net, []).append(_Use(row, control, scale, fading))
    return uses


def _followed(
    net: Any,
    uses: list[_Use],
    rows: list[int],
    company: Company,
    sample: torch.Tensor,
    timesteps: torch.Tensor,
) -> Residuals:
    """One net's residuals for these rows, each as strong as its use says."""
    text, pooled = (
        company.text,
        {name: company.added[name] for name in ("text_embeds", "time_ids") if name in company.added},
    )
    if rows != list(range(len(sample))):
        where = _sent(torch.tensor(rows), sample.device)
        sample, timesteps, text = sample[where], timesteps[where], text[where]
        pooled = {name: value[where] for name, value in pooled.items()}
    alike = len({(use.scale, use.fading) for use in uses}) == 1
    down, middle = net(
        sample,
        timesteps,
        encoder_hidden_states=text,
        controlnet_cond=torch.cat([use.control.map for use in uses]),
        conditioning_scale=uses[0].scale if alike else 1.0,
        guess_mode=alike and uses[0].fading,
        added_cond_kwargs=pooled or None,
        return_dict=False,
    )
    residuals = [*down, middle]
    if not alike:
        fades = torch.logspace(-1, 0, len(residuals))
        for at, residual in enumerate(residuals):
            strengths = [use.scale * (float(fades[at]) if use.fading else 1.0) for use in uses]
            factors = _sent(torch.tensor(strengths, dtype=residual.dtype).view(-1, 1, 1, 1), residual.device)
            residuals[at] = residual * factors
    return residuals[:-1], residuals[-1]
