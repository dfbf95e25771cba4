"""What writing and reading a 12-megapixel photograph costs: the figures behind services/png.py and services/images.py.

`python bench/codecs.py`: seconds of one core and bytes, for each level of each format.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from services import png
from services.images import decode
from services.settings import Limits

SAMPLE = Path(__file__).parent.parent / "docs" / "samples" / "astronaut.jpg"


def photograph() -> Image.Image:
    """The sample, enlarged, with a camera's grain."""
    large = Image.open(SAMPLE).convert("RGB").resize((4000, 3000), Image.Resampling.BICUBIC)
    grain = np.random.default_rng(0).integers(-4, 5, (3000, 4000, 3))
    return Image.fromarray(np.clip(np.asarray(large).astype(int) + grain, 0, 255).astype(np.uint8))


def main() -> None:
    image, limits = photograph(), Limits(max_picture_bytes=2**30)
    print(f"{'format':<22}{'write s':>9}{'read s':>9}{'MB':>8}")
    wanted = [("PNG", {"compress_level": level}) for level in (0, 1, 2, 3, 6, 9)]
    wanted += [("WEBP", {"quality": 90, "method": method}) for method in (0, 2, 4)]
    wanted += [("JPEG", {"quality": 90})]
    row("PNG ours", lambda: png.write(image), limits)
    for kind, options in wanted:
        name = f"{kind} " + " ".join(f"{key}={value}" for key, value in options.items() if key != "quality")
        row(name, lambda kind=kind, options=options: saved(image, kind, options), limits)  # type: ignore[misc]


def row(name: str, write: Callable[[], bytes], limits: Limits) -> None:
    started = time.process_time()
    file = write()
    written = time.process_time()
    decode(file, limits)
    read = time.process_time()
    print(f"{name:<22}{written - started:>9.2f}{read - written:>9.2f}{len(file) / 2**20:>8.1f}")


def saved(image: Image.Image, kind: str, options: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


if __name__ == "__main__":
    main()
