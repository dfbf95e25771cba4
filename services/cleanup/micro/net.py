"""The micro net: in go pictures (N, 3, H, W; 0 to 1) and masks (N, 1, H, W; 1 in the hole), out come filled pictures.

The hole is first filled smoothly, from coarse to fine, by arithmetic alone; what the net learns is what is missing
then. Its inner blocks see as LaMa's do (Suvorov et al. 2022): each has a small local part and one that works on the
whole picture's spectrum, so that a hole of any width sees its surroundings. H and W are multiples of 32.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as f

LEVELS = 5
CALM = 6  # rounds in which each pixel of the hole becomes the mean of those around it, at each scale
MULTIPLE = 2**LEVELS


class Net(nn.Module):
    def __init__(self, outer: int = 48, inner: int = 96, spectral: int = 24, blocks: int = 6) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(4 * 16, outer, 3, padding=1)
        self.before = Residual(outer)
        self.down = nn.Conv2d(outer, inner, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(Block(inner, spectral, (1, 2, 4)[at % 3]) for at in range(blocks))
        self.up = nn.Conv2d(inner, outer, 3, padding=1)
        self.after = Residual(outer)
        self.spread = nn.Conv2d(outer, 8 * 16, 3, padding=1)
        self.fine = nn.Conv2d(12, 16, 3, padding=1)
        self.conv_out = nn.Conv2d(16, 3, 3, padding=1)
        small(self.conv_out)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        filled = smooth(image, mask)
        seen = torch.cat([filled - 0.5, mask], 1)
        outer = self.before(f.gelu(self.conv_in(f.pixel_unshuffle(seen, 4))))
        inner = self.down(outer)
        for block in self.blocks:
            inner = block(inner)
        outer = outer + self.up(f.interpolate(inner, scale_factor=2.0, mode="bilinear"))
        drawn = f.pixel_shuffle(self.spread(self.after(outer)), 4)
        fine = f.gelu(self.fine(torch.cat([drawn, seen], 1)))
        made: Tensor = filled + self.conv_out(fine).float() * mask
        return made


class Norm(nn.LayerNorm):
    """Over the channels of each pixel, so that it is the same at every size."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = Norm(width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        small(self.second)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.second(f.gelu(self.first(self.norm(x))))
        return x + change


class Block(nn.Module):
    """A local part, with gaps of `reach`, and a spectral part, joined."""

    def __init__(self, width: int, spectral: int, reach: int) -> None:
        super().__init__()
        self.norm = Norm(width)
        self.local = nn.Conv2d(width, width, 3, padding=reach, dilation=reach)
        self.narrow = nn.Conv2d(width, spectral, 1)
        self.spectrum = nn.Conv2d(2 * spectral, 2 * spectral, 1)
        self.spectrum_out = nn.Conv2d(2 * spectral, 2 * spectral, 1)
        self.widen = nn.Conv2d(spectral, width, 1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        small(self.second)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.norm(x)
        whole = self.narrow(seen).float()
        spectrum = forward_transform(whole)
        spectrum = self.spectrum_out(f.gelu(self.spectrum(spectrum))).float()
        whole = inverse_transform(spectrum, whole.shape[-1])
        change: Tensor = self.second(f.gelu(self.local(seen) + self.widen(whole)))
        return x + change


@torch.no_grad()
def small(layer: nn.Conv2d) -> None:
    """What ends a branch begins small, so that the net begins as the smooth fill."""
    layer.weight.mul_(0.1)
    if layer.bias is not None:
        layer.bias.zero_()


def smooth(image: Tensor, mask: Tensor) -> Tensor:
    """The hole filled from its surroundings, each scale with what it does not know taken from the next coarser one.

    Calmed at each scale, it comes near to the soap film that the hole's rim spans.
    """
    weight = 1 - mask
    colour = image * weight
    levels: list[tuple[Tensor, Tensor]] = []
    for _ in range(LEVELS):
        levels.append((colour, weight))
        colour, weight = f.avg_pool2d(colour, 2), f.avg_pool2d(weight, 2)
        known = (weight * 4).clamp(max=1) / (weight + 1e-6)
        colour, weight = colour * known, weight * known
    mean = colour.mean((2, 3), keepdim=True) / (weight.mean((2, 3), keepdim=True) + 1e-6)
    filled = colour + (1 - weight) * mean
    for colour, weight in reversed(levels):
        filled = colour + (1 - weight) * f.interpolate(filled, scale_factor=2.0, mode="bilinear")
        for _ in range(CALM):
            around = f.avg_pool2d(f.pad(filled, (1, 1, 1, 1), mode="replicate"), 3, 1)
            filled = colour + (1 - weight) * around
    return filled


def forward_transform(x: Tensor) -> Tensor:
    """The real Fourier transform in two dimensions, by matrices: real parts, then imaginary ones, as channels.

    Matrices, and not an operator, so that every runtime of ONNX can compute it at any size.
    """
    height, width = x.shape[-2], x.shape[-1]
    cos, sin = waves(width, width // 2 + 1, x)
    real, imaginary = x @ cos, -(x @ sin)
    cos, sin = waves(height, height, x)
    return torch.cat([cos @ real + sin @ imaginary, cos @ imaginary - sin @ real], 1)


def inverse_transform(spectrum: Tensor, width: int) -> Tensor:
    real, imaginary = spectrum.chunk(2, 1)
    cos, sin = waves(spectrum.shape[-2], spectrum.shape[-2], spectrum)
    real, imaginary = cos @ real - sin @ imaginary, cos @ imaginary + sin @ real
    half = width // 2 + 1
    cos, sin = waves(width, half, spectrum)
    at = torch.arange(half, device=spectrum.device)
    twice = torch.where(
        (at == 0) | (at == width // 2), 1.0, 2.0
    )  # each other wave stands for its mirror, too
    return (real * twice) @ cos.T - (imaginary * twice) @ sin.T


def waves(length: int, count: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines (length, count), of unit norm."""
    at = torch.arange(length, device=like.device)
    of = torch.arange(count, device=like.device)
    angle = (at[:, None] * of[None, :] % length).float() * (2 * math.pi / length)
    scale = length**-0.5
    return torch.cos(angle) * scale, torch.sin(angle) * scale
