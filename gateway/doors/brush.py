"""A mask as IOPaint's page draws its brush: in comes a PNG, out comes a see-through stroke where it is white."""

from __future__ import annotations

import asyncio
import io

from PIL import Image, ImageFilter

from services import png

COLOUR = (0, 203, 255, 186)
WIDER = 9  # pixels of the square by which a stroke is wider than the mask
LEVEL = 128


async def stroke(mask: bytes) -> bytes:
    return await asyncio.to_thread(_stroke, mask)


def _stroke(mask: bytes) -> bytes:
    with Image.open(io.BytesIO(mask), formats=("PNG",)) as image:
        wide = (
            image.convert("L")
            .point(lambda level: 255 if level > LEVEL else 0)
            .filter(ImageFilter.MaxFilter(WIDER))
        )
    drawn = Image.new("RGBA", wide.size)
    drawn.paste(COLOUR, mask=wide)
    return png.write(drawn)
