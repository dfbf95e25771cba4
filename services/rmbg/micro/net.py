"""The micro matting net: in go pictures (N, 3, H, W), out come their alphas (N, 1, H, W) before the sigmoid.

A small U-Net. Five times it halves the picture, looks at all of it at once, and goes back up; its last layer sees the
picture itself again, so that edges are its own. Sides are multiples of 32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

MULTIPLE = 32
MEAN, STD = 0.5, 0.25  # of pixels from 0 to 1
WIDTHS = (16, 32, 64, 96, 128)


def conv(inner: int, outer: int, step: int = 1, wide: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inner, outer, 3, step, padding=wide, dilation=wide, bias=False),
        nn.BatchNorm2d(outer),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    def __init__(self, width: int, wide: int = 1) -> None:
        super().__init__()
        self.first = conv(width, width)
        self.second = nn.Conv2d(width, width, 3, padding=wide, dilation=wide, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.norm(self.second(self.first(x))))


class Whole(nn.Module):
    """Tells every place what the picture is on the whole."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.told = nn.Sequential(
            nn.Conv2d(width, width, 1), nn.ReLU(inplace=True), nn.Conv2d(width, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        told: Tensor = self.told(x.mean((2, 3), keepdim=True))
        return x + told


class MatteNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        first, *rest = WIDTHS
        self.conv_in = nn.Sequential(conv(3, first, 2), conv(first, first))
        self.down = nn.ModuleList(
            nn.Sequential(conv(before, width, 2), Residual(width))
            for before, width in zip(WIDTHS, rest, strict=False)
        )
        self.bottom = nn.Sequential(Residual(WIDTHS[-1], 2), Whole(WIDTHS[-1]), nn.Conv2d(WIDTHS[-1], 64, 1))
        self.across = nn.ModuleList(
            nn.Conv2d(width, out, 1) for width, out in zip(WIDTHS[-2::-1], (64, 64, 48, 32), strict=True)
        )
        self.up = nn.ModuleList([conv(64, 64), conv(64, 48), conv(48, 32), conv(32, 16)])
        self.rough = nn.Conv2d(48, 1, 1)  # of an eighth's size; trains the depths
        self.edge = conv(16 + 3, 8)
        self.conv_out = nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.both(x)[0]

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The alpha, and the rough one of an eighth of the size."""
        seen = [self.conv_in(x)]
        for down in self.down:
            seen.append(down(seen[-1]))
        up: Tensor = self.bottom(seen[-1])
        rough = up
        for level, (across, merge) in enumerate(zip(self.across, self.up, strict=True)):
            there = seen[-2 - level]
            up = functional.interpolate(up, scale_factor=2.0, mode="bilinear", align_corners=False)
            up = merge(up + across(there))
            if level == 1:
                rough = self.rough(up)
        up = functional.interpolate(up, scale_factor=2.0, mode="bilinear", align_corners=False)
        out: Tensor = self.conv_out(self.edge(torch.cat([up, x], 1)))
        return out, rough
