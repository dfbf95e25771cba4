"""Makes the sample pictures of this folder: `python docs/samples/make.py FOLDER`.

FOLDER holds astronaut.png and coffee.png from scikit-image's wheel (`pip download --no-deps scikit-image`, then
unzip skimage/data). The astronaut is Eileen Collins, photographed by NASA: public domain. The coffee is by Rachel
Michetti, given to scikit-image under CC0. The sketch is drawn by tf_serving/pix2pix/creatures.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw

from tf_serving.pix2pix.creatures import pair

HERE = Path(__file__).parent


def main(folder: Path) -> None:
    astronaut = Image.open(folder / "astronaut.png").convert("RGB")
    astronaut.save(HERE / "astronaut.jpg", quality=82, optimize=True)
    Image.open(folder / "coffee.png").convert("RGB").save(HERE / "coffee.jpg", quality=82, optimize=True)
    mask = Image.new("L", astronaut.size, 0)
    draw = ImageDraw.Draw(mask)  # the two badges on her suit
    draw.ellipse((128, 341, 215, 429), fill=255)
    draw.polygon([(275, 335), (332, 345), (328, 380), (284, 373)], fill=255)
    mask.save(HERE / "astronaut-mask.png", optimize=True)
    drawn, _ = pair(seed=11, side=256)
    drawn.convert("L").save(HERE / "sketch.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
