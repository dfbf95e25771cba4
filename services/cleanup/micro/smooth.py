"""Fills by arithmetic alone: in go a picture and a mask, out come nine fills of its holes.

Each goes from coarse to fine, and is calmed at every scale: each pixel of the hole becomes the mean of those around it,
the known ones held. In eight of them that mean is taken along a line, so that an edge of that direction goes on
through the hole; in the last it is round, which comes near to the soap film that the hole's rim spans.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as f

LEVELS = 5
MULTIPLE = 2**LEVELS
DIRECTIONS = 8
FILLS = DIRECTIONS + 1
ROUNDS = (2, 4, 4, 4, 4)  # of calming, from the finest scale to the coarsest
REACH = 2  # pixels that a mean looks to each side


class Fills(nn.Module):
    """(N, 3, H, W) and (N, 1, H, W) to (N, 3 * FILLS, H, W); H and W are multiples of MULTIPLE."""

    means: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("means", means().repeat_interleave(3, 0)[:, None])

    @torch.no_grad()
    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        weight = 1 - mask
        colour = image * weight
        levels: list[tuple[Tensor, Tensor]] = []
        for _ in range(LEVELS):
            levels.append((colour, weight))
            colour, weight = f.avg_pool2d(colour, 2), f.avg_pool2d(weight, 2)
            known = (weight * 4).clamp(max=1) / (weight + 1e-6)
            colour, weight = colour * known, weight * known
        mean = colour.mean((2, 3), keepdim=True) / (weight.mean((2, 3), keepdim=True) + 1e-6)
        filled = (colour + (1 - weight) * mean).repeat(1, FILLS, 1, 1)
        for at, (colour, weight) in reversed(list(enumerate(levels))):
            held, free = colour.repeat(1, FILLS, 1, 1), 1 - weight
            filled = held + free * f.interpolate(filled, scale_factor=2.0, mode="bilinear")
            for _ in range(ROUNDS[at]):
                around = f.pad(filled, (REACH, REACH, REACH, REACH), mode="replicate")
                filled = held + free * f.conv2d(around, self.means, groups=3 * FILLS)
        return filled


def means(length: float = 1.6, width: float = 0.45, round_: float = 1.2) -> Tensor:
    """The weights of the neighbours, (FILLS, 5, 5): along each direction, and round."""
    y, x = torch.meshgrid(*(2 * [torch.arange(-REACH, REACH + 1.0)]), indexing="ij")
    found = []
    for at in range(DIRECTIONS):
        angle = math.pi * at / DIRECTIONS
        along = x * math.cos(angle) + y * math.sin(angle)
        across = y * math.cos(angle) - x * math.sin(angle)
        found.append(torch.exp(-((along / length) ** 2) / 2 - (across / width) ** 2 / 2))
    found.append(torch.exp(-(x**2 + y**2) / 2 / round_**2))
    weights = torch.stack(found)
    weights[:, REACH, REACH] = 0
    return weights / weights.sum((1, 2), keepdim=True)
