"""From a subject's mask to the answer: cut out, on a colour, on a picture, trimmed to the subject."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageChops, ImageColor, ImageOps

from services.pictures import Picture

SEEN = 8  # a mask below this is invisible


def cutout(image: Image.Image, mask: Image.Image) -> Image.Image:
    """The subject with transparency; where nothing of it is, nothing of the old background is left either."""
    alpha = np.asarray(mask)
    rgba = cv2.cvtColor(
        np.asarray(image if image.mode == "RGB" else image.convert("RGB")), cv2.COLOR_RGB2RGBA
    )
    rgba[..., 3] = alpha
    return Image.fromarray(cv2.copyTo(rgba, alpha))


def visible(image: Image.Image, mask: Image.Image) -> Image.Image:
    """The mask, but never more than the picture's own transparency lets through."""
    return ImageChops.multiply(mask, image.getchannel("A")) if image.mode == "RGBA" else mask


def on(subject: Image.Image, background: str | Picture) -> Image.Image:
    """The cut-out on a colour, or on a picture that covers the whole frame."""
    if isinstance(background, Picture):
        behind = ImageOps.fit(background.pixels.convert("RGBA"), subject.size, Image.Resampling.LANCZOS)
    else:
        behind = Image.new("RGBA", subject.size, colour(background))
    whole = Image.alpha_composite(behind, subject)
    solid = whole.getchannel("A").getextrema()[0] == 255
    return whole.convert("RGB") if solid else whole


def colour(name: str) -> tuple[int, int, int, int]:
    """`#rgb`, `#rrggbb`, `#rrggbbaa` or a name, as RGBA."""
    if name == "transparent":
        return (0, 0, 0, 0)
    red, green, blue, *alpha = ImageColor.getcolor(name, "RGBA")  # type: ignore[misc]
    return int(red), int(green), int(blue), int(alpha[0]) if alpha else 255


def trim_box(mask: Image.Image) -> tuple[int, int, int, int] | None:
    """The box around what can be seen, None where nothing can."""
    return mask.point(lambda level: 255 if level >= SEEN else 0).getbbox()
