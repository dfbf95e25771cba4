"""What the micro net learns from: in goes a seed, out come pictures and masks that are drawn here.

The pictures are dead leaves (Matheron 1968; Lee, Mumford and Huang 2001): shapes of all sizes that cover each other,
whose edges, sizes and shading have the statistics of photographs. Each leaf has a texture, of noise whose power
falls with frequency as in nature, of stripes or of a gradient; what lies behind may be out of focus.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]
Chance = np.random.Generator
BANK_SIDE = 512


class Painter:
    """Draws pictures of one seed; the noise that its leaves are cut from is drawn once."""

    def __init__(self, seed: int, bank: int = 48) -> None:
        self.chance = np.random.default_rng(seed)
        self.bank = [noise(self.chance, BANK_SIDE, self.chance.uniform(0.5, 2.0)) for _ in range(bank)]

    def picture(self, side: int) -> Pixels:
        """An RGB picture of uint8."""
        chance = self.chance
        canvas = self._surface(side, side, self._colour())
        if chance.random() < 0.12:
            canvas = self._pattern(side)
        palette = [self._colour() for _ in range(chance.integers(3, 9))]
        count = int(chance.choice([4, 12, 40, 120]) * chance.uniform(0.6, 1.4))
        focus = chance.integers(0, count) if chance.random() < 0.6 else -1
        smallest, largest = chance.uniform(2, 8), side * chance.uniform(0.2, 0.7)
        fall = chance.uniform(0.1, 1.6)
        for at in range(count):
            self._leaf(canvas, palette, _radius(chance, smallest, largest, fall))
            if at == focus:
                cv2.GaussianBlur(canvas, (0, 0), chance.uniform(1, 6), dst=canvas)
        canvas *= 1 + (self._noise(side, side, slope_over=1.2) - 0.5)[..., None] * chance.uniform(0, 0.8)
        if (blur := chance.uniform(0, 1.3)) > 0.3:
            cv2.GaussianBlur(canvas, (0, 0), blur, dst=canvas)
        canvas += chance.standard_normal(canvas.shape, dtype=np.float32) * chance.choice([0, 0.004, 0.015])
        return np.clip(canvas * 255 + 0.5, 0, 255).astype(np.uint8)

    # ── a leaf ──────────────────────────────────────────────────────────────────────────────────────────────

    def _leaf(self, canvas: Pixels, palette: list[Pixels], radius: float) -> None:
        chance, side = self.chance, len(canvas)
        x, y = chance.uniform(-0.1, 1.1, 2) * side
        shape = self._shape(radius) + np.array([x, y])
        left, top = np.maximum(np.floor(shape.min(0)).astype(int) - 1, 0)
        right, bottom = np.minimum(np.ceil(shape.max(0)).astype(int) + 2, side)
        if left >= right or top >= bottom:
            return
        cover = np.zeros((bottom - top, right - left), np.uint8)
        points = np.round((shape - (left, top)) * 16).astype(np.int32)
        cv2.fillPoly(cover, [points], 255, cv2.LINE_AA, 4)
        alpha = (cover.astype(np.float32) * (1 / 255))[..., None]
        if chance.random() < 0.05:
            alpha *= chance.uniform(0.3, 0.9)
        colour = palette[chance.integers(len(palette))] * chance.uniform(0.6, 1.4)
        part = canvas[top:bottom, left:right]
        part += alpha * (self._surface(part.shape[0], part.shape[1], colour) - part)

    def _shape(self, radius: float) -> Pixels:
        chance = self.chance
        kind = chance.choice(5, p=[0.3, 0.25, 0.15, 0.18, 0.12])
        turn = chance.uniform(0, 2 * np.pi)
        if kind == 0:  # an ellipse
            angles = np.linspace(0, 2 * np.pi, 28, endpoint=False)
            points = np.stack([np.cos(angles), np.sin(angles) * chance.uniform(0.3, 1)], 1)
        elif kind == 1:  # a blob
            angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
            waves = np.zeros(len(angles))
            for k in (2, 3, 5):
                waves += chance.normal(0, 0.25 / k) * np.cos(k * angles + chance.uniform(0, 6))
            points = np.stack([np.cos(angles), np.sin(angles)], 1) * (1 + waves)[:, None]
        elif kind == 2:  # a polygon
            angles = np.sort(chance.uniform(0, 2 * np.pi, chance.integers(3, 8)))
            points = np.stack([np.cos(angles), np.sin(angles)], 1)
        elif kind == 3:  # a box
            wide, high = 1, chance.uniform(0.2, 1)
            points = np.array([[-wide, -high], [wide, -high], [wide, high], [-wide, high]], float)
            turn = turn if chance.random() < 0.5 else chance.normal(0, 0.05)
        else:  # a bar, a wire, a horizon
            thick = chance.uniform(0.6, 4) / max(radius, 1)
            far = chance.uniform(1, 8)
            points = np.array([[-far, -thick], [far, -thick], [far, thick], [-far, thick]], float)
        turned = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        return np.asarray(points @ turned * radius)

    def _surface(self, height: int, width: int, colour: Pixels) -> Pixels:
        """What a leaf is made of: float32, about 0 to 1."""
        chance = self.chance
        base = np.broadcast_to(colour.astype(np.float32), (height, width, 3)).copy()
        if chance.random() < 0.5:
            angle = chance.uniform(0, 2 * np.pi)
            y, x = np.mgrid[0:height, 0:width].astype(np.float32)
            ramp = np.cos(angle) * x / max(width, 1) + np.sin(angle) * y / max(height, 1)
            base *= 1 + (ramp * chance.uniform(0.1, 0.9))[..., None].astype(np.float32)
        kind = chance.random()
        if kind < 0.6:
            base += (self._noise(height, width) - 0.5)[..., None] * chance.uniform(0.01, 0.2)
        elif kind < 0.72:
            base *= 1 + chance.uniform(0.1, 0.6) * stripes(chance, height, width)[..., None]
        return base

    def _pattern(self, side: int) -> Pixels:
        """Bricks, tiles or boards, as seen at an angle."""
        chance = self.chance
        wide, high = chance.integers(8, 64, 2)
        y, x = np.mgrid[0:side, 0:side]
        x = x + (y // high % 2) * (wide // 2) * chance.integers(0, 2)
        joint = chance.integers(1, 4)
        lines = ((x % wide < joint) | (y % high < joint))[..., None]
        cells = chance.uniform(0.85, 1.15, 4096)[(x // wide * 31 + y // high * 17) % 4096][..., None]
        drawn = np.where(
            lines,
            self._surface(side, side, self._colour()),
            self._surface(side, side, self._colour()) * cells,
        )
        corners = np.array([[0, 0], [side, 0], [side, side], [0, side]], np.float32)
        moved = corners + chance.uniform(-0.3, 0.3, (4, 2)).astype(np.float32) * side
        matrix = cv2.getPerspectiveTransform(corners, moved)
        return np.asarray(
            cv2.warpPerspective(drawn.astype(np.float32), matrix, (side, side), borderMode=cv2.BORDER_REFLECT)
        )

    def _noise(self, height: int, width: int, slope_over: float = 0.0) -> Pixels:
        bank = self.bank if not slope_over else self.bank[-8:]
        field = bank[self.chance.integers(len(bank))]
        top, left = (
            self.chance.integers(0, BANK_SIDE - min(height, BANK_SIDE) + 1),
            self.chance.integers(0, BANK_SIDE - min(width, BANK_SIDE) + 1),
        )
        part = field[top : top + height, left : left + width]
        return np.asarray(part.T if height == width and self.chance.random() < 0.5 else part)

    def _colour(self) -> Pixels:
        """Most things are rather grey; a few are not."""
        light = self.chance.beta(1.2, 1.4)
        tint = self.chance.normal(0, 1, 3)
        tint -= tint.mean()
        return np.clip(light + tint * self.chance.exponential(0.07), 0.0, 1.0)


def _radius(chance: Chance, smallest: float, largest: float, fall: float) -> float:
    """Small leaves are more frequent than large ones; with a `fall` of 2 as things seen at all distances are."""
    low, high = smallest**-fall, largest**-fall
    return float((low - chance.random() * (low - high)) ** (-1 / fall))


def noise(chance: Chance, side: int, slope: float) -> Pixels:
    """Noise from 0 to 1 whose amplitude falls with frequency to the power of `slope`."""
    spectrum = np.fft.rfft2(chance.standard_normal((side, side)))
    across = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    across[0, 0] = 1
    field = np.fft.irfft2(spectrum * across**-slope, (side, side))
    low, high = np.percentile(field, [1, 99])
    return np.asarray(np.clip((field - low) / (high - low), 0, 1), dtype=np.float32)


def stripes(chance: Chance, height: int, width: int) -> Pixels:
    """Waves of one direction, -1 to 1, soft or hard."""
    angle, length = chance.uniform(0, np.pi), chance.uniform(4, 30)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    wave = np.sin((np.cos(angle) * x + np.sin(angle) * y) * (2 * np.pi / length))
    return np.asarray(np.clip(wave * chance.choice([1.0, 4.0]), -1, 1), dtype=np.float32)


def hole(chance: Chance, side: int) -> Pixels:
    """A mask, 1 in the hole, of thin strokes, boxes and blobs; never of all."""
    while True:
        mask = np.zeros((side, side), np.uint8)
        kind = chance.choice(4, p=[0.3, 0.2, 0.3, 0.2])
        if kind in (0, 3):
            for _ in range(chance.integers(1, 4)):
                walk = np.cumsum(chance.normal(0, side / 9, (chance.integers(3, 8), 2)), 0)
                points = (chance.uniform(0.1, 0.9, 2) * side + walk).astype(np.int32)
                cv2.polylines(mask, [points], False, 1, int(chance.integers(2, side // 9)))
        if kind in (1, 3):
            for _ in range(chance.integers(1, 4)):
                wide, high = (chance.uniform(0.06, 0.4, 2) * side).astype(int)
                left, top = chance.integers(0, side - wide), chance.integers(0, side - high)
                mask[top : top + high, left : left + wide] = 1
        if kind == 2:
            for _ in range(chance.integers(1, 4)):
                angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
                bulge = 1 + chance.normal(0, 0.2) * np.cos(3 * angles + chance.uniform(0, 6))
                reach = chance.uniform(0.04, 0.24) * side * bulge
                at = chance.uniform(0.05, 0.95, 2) * side
                points = (np.stack([np.cos(angles), np.sin(angles)], 1) * reach[:, None] + at).astype(
                    np.int32
                )
                cv2.fillPoly(mask, [points], 1)
        if 0.01 < mask.mean() < 0.5:
            return mask
