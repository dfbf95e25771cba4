"""Cool and warm: in comes a picture, out comes one in another light, its skin kept natural.

The white point moves along the daylight locus (CIE 15: the chromaticities of natural light), in linear light, by the
Bradford adaptation. A gentle grading goes with it. Where there is skin its hue may turn by a few degrees only: people
look warm or cool in such light, not orange or blue.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from services.portrait import skin
from services.portrait.light import coded, exposed, linear
from services.portrait.skin import Features

Map = NDArray[Any]  # of float32
Pixels = NDArray[Any]  # of uint8

NAMED = {"cool": -0.6, "neutral": 0.0, "warm": 0.6}
DAYLIGHT = 153.8  # mireds of D65, sRGB's white: 1,000,000 / 6504 K
REACH = 45.0  # mireds at full tone: 5,030 K when warm, 9,190 K when cool
MOST_TURN = 4.0  # degrees that the hue of skin may turn
MOST_CHROMA = 0.12  # the share by which its chroma may change
GREY = 6.0  # chroma below which there is no hue to keep
SOFT = 0.1  # of the distance between the eyes: how soft the face's edge is
STRIP = 2**17  # pixels that are calculated at once
CHROMA, CONTRAST = 0.06, 0.05  # the grading at full tone: colour when warm, contrast when cool

_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def strength(tone: Literal["cool", "neutral", "warm"] | float) -> float:
    """From -1 (cool) to 1 (warm)."""
    return NAMED[tone] if isinstance(tone, str) else tone


def daylight(kelvin: float) -> NDArray[Any]:
    """The XYZ, of luminance 1, of daylight from 4,000 to 25,000 K."""
    t = 1000 / kelvin
    if kelvin <= 7000:
        x = 0.244063 + 0.09911 * t + 2.9678 * t**2 - 4.6070 * t**3
    else:
        x = 0.237040 + 0.24748 * t + 1.9018 * t**2 - 2.0064 * t**3
    y = -3 * x**2 + 2.87 * x - 0.275
    return np.array([x / y, 1.0, (1 - x - y) / y])


def white_point(move: float) -> NDArray[Any]:
    """The matrix for linear sRGB that lays it into another daylight; `move` in mireds, warm is more."""
    before = _BRADFORD @ daylight(1e6 / DAYLIGHT)
    after = _BRADFORD @ daylight(1e6 / (DAYLIGHT + move))
    adapt = np.linalg.inv(_BRADFORD) @ np.diag(after / before) @ _BRADFORD
    return np.asarray(np.linalg.inv(_TO_XYZ) @ adapt @ _TO_XYZ)


def graded(pixels: Pixels, tone: float, stops: float, face: Features) -> Pixels:
    """The picture (RGB) in another tone and exposure; with neither it is the very same."""
    if not tone and not stops:
        return pixels
    gain = 2.0**stops
    if tone:
        cheek = _exposed(skin.cheeks(pixels, face), gain)
        inside = skin.region(pixels.shape, face, ((skin.WHOLE, 1.0),), SOFT)
    out = np.empty_like(pixels)
    rows = max(1, STRIP // max(1, pixels.shape[1]))
    for top in range(0, pixels.shape[0], rows):
        part = np.s_[top : top + rows]
        light = exposed(linear(pixels[part]), gain)
        if not tone:
            out[part] = coded(light) * 255 + 0.5
            continue
        before = skin.to_lab(coded(light))
        after = _grade(skin.to_lab(coded(_in_light(light, tone))), tone)
        out[part] = skin.to_rgb(_natural(before, after, skin.likely(before, cheek, inside[part])))
    return out


def _exposed(colour: skin.Colour, gain: float) -> skin.Colour:
    """A colour in CIELAB as it is in another exposure."""
    patch = skin.to_rgb(np.full((1, 1, 3), colour, np.float32))
    light, a, b = skin.to_lab(coded(exposed(linear(patch), gain)))[0, 0].tolist()
    return light, a, b


def _in_light(light: Map, tone: float) -> Map:
    """Moved as a whole; as light as before, so that what would leave the range rolls off."""
    matrix = white_point(tone * REACH)
    brightest = float((matrix @ np.ones(3)).max())
    moved = np.maximum(light @ (matrix / brightest).T.astype(np.float32), 0)
    return exposed(moved, brightest)


def _grade(lab: Map, tone: float) -> Map:
    """More colour when it is warm, less and more contrast when it is cool; black and white stay."""
    graded = lab.copy()
    graded[..., 1:] *= 1 + CHROMA * tone
    if tone < 0:
        share = lab[..., 0] / 100
        curve = share * share * (3 - 2 * share)
        graded[..., 0] += -tone * CONTRAST * 100 * (curve - share) * 2
    return graded


def _natural(before: Map, after: Map, sure: Map) -> Map:
    """`after`, but where there is skin its hue and chroma stay near to those of `before`."""
    chroma = np.hypot(before[..., 1], before[..., 2])
    new_chroma = np.hypot(after[..., 1], after[..., 2])
    hue = np.arctan2(before[..., 2], before[..., 1])
    turn = np.arctan2(after[..., 2], after[..., 1]) - hue
    turn = (turn + np.pi) % (2 * np.pi) - np.pi
    most = np.float32(np.deg2rad(MOST_TURN))
    kept = hue + most * np.tanh(turn / most)
    near = chroma * (1 + MOST_CHROMA * np.tanh((new_chroma / np.maximum(chroma, 1e-3) - 1) / MOST_CHROMA))
    # grey has no hue to keep
    sure = sure * np.clip(chroma / GREY, 0, 1)
    out = after.copy()
    out[..., 1] += sure * (near * np.cos(kept) - after[..., 1])
    out[..., 2] += sure * (near * np.sin(kept) - after[..., 2])
    return out
