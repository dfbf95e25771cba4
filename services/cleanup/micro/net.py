"""The micro net: in go pictures (N, 3, H, W; 0 to 1) and masks (N, 1, H, W; 1 in the hole), out come filled pictures.

Arithmetic fills the hole in nine ways (`smooth.py`); what the net learns is which of them to take where, and what is
missing then. Its inner blocks see as LaMa's do (Suvorov et al. 2022): each has a small local part and one that works on
the whole picture's spectrum, so that a hole of any width sees its surroundings. H and W are multiples of 32.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as f

from services.cleanup.micro.smooth import FILLS, Fills

LEAN = 2.0  # towards the round fill, before anything was learned


class Net(nn.Module):
    def __init__(self, outer: int = 48, inner: int = 96, spectral: int = 24, blocks: int = 6) -> None:
        super().__init__()
        self.fills = Fills()
        self.conv_in = nn.Conv2d(4 * 16 + FILLS, outer, 3, padding=1)
        self.before = Residual(outer)
        self.down = nn.Conv2d(outer, inner, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(Block(inner, spectral, (1, 2, 4)[at % 3]) for at in range(blocks))
        self.calm = Norm(inner)
        self.up = nn.Conv2d(inner, outer, 3, padding=1)
        self.even = Norm(outer)  # what comes up must not drown what went past
        self.after = Residual(outer)
        self.last = Norm(outer)
        self.choose = nn.Conv2d(outer, FILLS, 3, padding=1)
        self.spread = nn.Conv2d(outer, 8 * 16, 3, padding=1)
        self.fine = nn.Conv2d(12, 16, 3, padding=1)
        self.conv_out = nn.Conv2d(16, 3, 3, padding=1)
        small(self.choose)
        small(self.conv_out)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return self.drawn(self.fills(image, mask), mask)

    def drawn(self, fills: Tensor, mask: Tensor) -> Tensor:
        """From the fills by arithmetic alone."""
        each = torch.split(fills, 3, 1)
        round_ = each[-1]
        apart = f.avg_pool2d(torch.cat([(one - round_).mean(1, keepdim=True) for one in each], 1), 4)
        seen = torch.cat([round_ - 0.5, mask], 1)
        outer = self.before(f.gelu(self.conv_in(torch.cat([f.pixel_unshuffle(seen, 4), apart], 1))))
        inner = self.down(outer)
        for block in self.blocks:
            inner = block(inner)
        risen = self.up(f.interpolate(self.calm(inner), scale_factor=2.0, mode="bilinear"))
        outer = self.after(outer + self.even(risen))
        outer = self.last(outer)
        taken = f.interpolate(self.choose(outer).float(), scale_factor=4.0, mode="bilinear")
        lean = torch.zeros(FILLS, 1, 1, device=mask.device)
        lean[-1] = LEAN
        taken = torch.softmax(taken + lean, 1)
        drawn = f.pixel_shuffle(self.spread(outer), 4)
        fine = f.gelu(self.fine(torch.cat([drawn, seen], 1)))
        made: Tensor = self.conv_out(fine).float() * mask
        for one, share in zip(each, torch.split(taken, 1, 1), strict=True):
            made = made + one * share
        return made


@torch.no_grad()
def small(layer: nn.Conv2d) -> None:
    """What ends a branch begins small, so that the net begins as the smooth fill."""
    layer.weight.mul_(0.1)
    if layer.bias is not None:
        layer.bias.zero_()


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
