"""Makes the pictures beside this file: sketches that no model was trained on, and what the committed one makes of them.

`python tests/pix2pix/samples/make.py`; also `tf_serving/models/creatures.png`, which the model's page shows.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tf_serving.pix2pix import creatures, ledger, plots
from tf_serving.pix2pix.predict import coloured, from_version

HERE = Path(__file__).parent
# One of each kind, by seeds that no training set reaches. The frost is large, the stone wide, the shade small.
SHOWN = {
    "leaf": (1_000_101, "biped", (128, 128)),
    "ember": (1_000_102, "quadruped", (128, 128)),
    "tide": (1_000_103, "hopper", (128, 128)),
    "spark": (1_000_104, "biped", (128, 128)),
    "shade": (1_000_105, "hopper", (96, 96)),
    "blossom": (1_000_106, "quadruped", (128, 128)),
    "stone": (1_000_107, "quadruped", (320, 160)),
    "frost": (1_000_108, "biped", (256, 256)),
}


def sketch(kind: str) -> Image.Image:
    seed, build, (wide, high) = SHOWN[kind]
    side = min(wide, high)
    drawn = Image.new("L", (wide, high), 255)
    drawn.paste(
        creatures.sketch(creatures.creature(seed, kind, build), side, seed).convert("L"),
        ((wide - side) // 2, 0),
    )
    return drawn


def main() -> None:
    net = from_version(ledger.MODELS / "creatures" / "1")
    rows: list[list[Image.Image]] = [[], [], []]
    for kind, (seed, build, _) in SHOWN.items():
        path = HERE / f"{kind}-sketch.png"
        sketch(kind).save(path, optimize=True)
        made = HERE / f"{kind}-picture.png"
        made.write_bytes(coloured(net, path))
        Image.open(made).save(made, optimize=True)
        true = creatures.picture(creatures.creature(seed, kind, build), 128)
        for row, one in zip(rows, (Image.open(path), Image.open(made), true), strict=True):
            side = min(one.size)
            left = (one.width - side) // 2
            row.append(
                one.convert("RGB").crop((left, 0, left + side, side)).resize((128, 128), Image.Resampling.BOX)
            )
    plots.sheet(rows, ledger.MODELS / "creatures.png")
    print({kind: np.asarray(Image.open(HERE / f"{kind}-picture.png")).shape for kind in SHOWN})


if __name__ == "__main__":
    main()
