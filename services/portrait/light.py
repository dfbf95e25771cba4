"""Light: from sRGB's coded values to linear light and back, and exposure in stops.

Brighter pictures roll off towards white along a soft shoulder, which turns no colour into another.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Map = NDArray[Any]  # of float32

KNEE = 0.5  # of linear light: below it a brighter exposure is the light times its factor
_CODES = np.arange(256, dtype=np.float64) / 255
_LINEAR = np.where(_CODES <= 0.04045, _CODES / 12.92, ((_CODES + 0.055) / 1.055) ** 2.4).astype(np.float32)
_STEPS = 4095
_AT = np.arange(_STEPS + 1, dtype=np.float64) / _STEPS
# the table's steps lie close in the shadows, where the curve is steep: it is read at the square root of the light
_CODED = np.where(_AT**2 <= 0.0031308, _AT**2 * 12.92, 1.055 * np.maximum(_AT**2, 1e-9) ** (1 / 2.4) - 0.055)
_CODED = _CODED.astype(np.float32)


def linear(pixels: NDArray[Any]) -> Map:
    """Linear light, from 0 to 1, of sRGB in eight bits."""
    return np.asarray(_LINEAR[pixels])


def coded(light: Map) -> Map:
    """sRGB from 0 to 1 of linear light."""
    at = np.sqrt(np.clip(light, 0, 1)) * _STEPS
    return np.asarray(_CODED[(at + 0.5).astype(np.int32)])


def exposed(light: Map, gain: float) -> Map:
    """The light times `gain`; one pixel's three colours are always scaled by the same factor."""
    if gain <= 1:
        return np.asarray(light * np.float32(gain))
    brightest = light.max(axis=2, keepdims=True)
    factor = shoulder(brightest * np.float32(gain), gain) / np.maximum(brightest, 1e-6)
    return np.asarray(light * factor)


def shoulder(light: Map, most: float) -> Map:
    """Up to KNEE as it is; from there a curve that leaves without a bend and reaches 1 at `most`."""
    span, room = most - KNEE, 1 - KNEE
    share = np.clip((light - KNEE) / span, 0, 1)
    slope = span / room
    curve = KNEE + room * share * slope / (1 + (slope - 1) * share)
    return np.asarray(np.where(light <= KNEE, light, curve), dtype=np.float32)
