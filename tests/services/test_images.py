"""Pictures in and out: what `decode` makes of every kind of file, and what `encode` writes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms

from services.errors import BadInput, BadPicture, TooLarge
from services.images import decode, decode_all, decode_mask, encode
from services.operations import Cleanup
from services.pictures import Mask, Picture
from services.settings import Limits

LIMITS = Limits()
# pytest makes errors of warnings; Pillow warns of oddities in files that are then read well
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def test_every_hostile_picture_is_refused_or_read_rightly(hostile_pictures: list[Any]) -> None:
    assert len(hostile_pictures) >= 300
    for one in hostile_pictures:
        try:
            image = decode(one.data, LIMITS)
        except BadInput as error:
            assert one.expect != "picture", f"{one.name}: {error.detail}"
            assert error.field == "image", one.name
            assert 400 <= error.status < 500, one.name
            continue
        assert one.expect != "refused", one.name
        assert image.mode in ("RGB", "RGBA"), one.name
        assert not image.info, one.name
        assert one.size is None or image.size == one.size, one.name
        for (right, below), wanted in (one.colours or {}).items():
            seen = image.getpixel((right * (image.width - 1), below * (image.height - 1)))
            assert isinstance(seen, tuple)
            far = max(abs(a - b) for a, b in zip(seen[:3], wanted, strict=True))
            assert far <= one.tolerance, f"{one.name}: {seen} is not {wanted}"


def test_hostile_pictures_need_bounded_memory(hostile_pictures: list[Any], tmp_path: Path) -> None:
    for number, one in enumerate(hostile_pictures):
        (tmp_path / f"{number}").write_bytes(one.data)
    script = (
        "import sys, resource, pathlib\n"
        "from services.images import decode, Limits\n"
        "from services.errors import BadInput\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10\n"
        "before = peak()\n"
        "for path in pathlib.Path(sys.argv[1]).iterdir():\n"
        "    try: decode(path.read_bytes(), Limits(max_pixels=4_000_000))\n"
        "    except BadInput: pass\n"
        "print(peak() - before)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    assert int(ran.stdout) < 120, f"it took {ran.stdout.strip()} MB more"


@pytest.mark.parametrize(
    ("limits", "size", "said"),
    [
        (Limits(max_pixels=4096), (100, 100), "4,096"),
        (Limits(max_side=64), (65, 1), "64"),
        (Limits(max_picture_bytes=1024), (40, 40), "1,024"),
    ],
)
def test_the_refusal_names_the_field_and_the_limit(limits: Limits, size: tuple[int, int], said: str) -> None:
    noise = Image.effect_noise(size, 80).convert("RGB")
    with pytest.raises(TooLarge, match=said) as caught:
        decode(saved(noise), limits, "controls.0.image")
    assert caught.value.field == "controls.0.image"


def test_a_colour_profile_is_converted_to_srgb() -> None:
    # a profile whose red and blue are swapped: sRGB's own, with the columns exchanged
    srgb = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = {bytes(srgb[at : at + 4]): at for at in range(132, 132 + 12 * int.from_bytes(srgb[128:132]), 12)}
    red, blue = tags[b"rXYZ"], tags[b"bXYZ"]
    srgb[red + 4 : red + 12], srgb[blue + 4 : blue + 12] = (
        srgb[blue + 4 : blue + 12],
        srgb[red + 4 : red + 12],
    )
    described = int.from_bytes(srgb[tags[b"desc"] + 4 : tags[b"desc"] + 8])
    swapped = (
        bytes(srgb).replace("sRGB".encode("utf-16-be"), "tRGB".encode("utf-16-be")).replace(b"sRGB", b"tRGB")
    )
    assert described < len(swapped)
    for kind in ("PNG", "JPEG", "WEBP"):
        data = saved(Image.new("RGB", (8, 8), (255, 0, 0)), kind, icc_profile=swapped)
        seen = decode(data, LIMITS).getpixel((4, 4))
        assert isinstance(seen, tuple)
        assert seen[2] > 200, f"{kind}: {seen}"
        assert seen[0] < 60, f"{kind}: {seen}"


def test_a_profile_leaves_transparency_as_it_is() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    image = Image.new("RGBA", (4, 4), (10, 20, 30, 77))
    assert decode(saved(image, icc_profile=profile), LIMITS).getpixel((0, 0))[3] == 77  # type: ignore[index]


def test_transparent_parts_of_a_mask_are_black() -> None:
    mask = Image.new("RGBA", (2, 1), (255, 255, 255, 0))
    mask.putpixel((1, 0), (255, 255, 255, 255))
    read = decode_mask(saved(mask), LIMITS)
    assert (read.mode, read.getpixel((0, 0)), read.getpixel((1, 0))) == ("L", 0, 255)


def test_a_mask_of_another_size_names_both_sizes() -> None:
    ask = Cleanup(image=Picture("part:image"), mask=Mask("part:mask"))
    parts = {"image": saved(Image.new("RGB", (5, 4))), "mask": saved(Image.new("L", (3, 2)))}
    with pytest.raises(BadInput, match=r"3 x 2.*5 x 4") as caught:
        decode_all(ask, parts, LIMITS)
    assert caught.value.field == "mask"


@pytest.mark.parametrize(("wanted", "kind"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_every_picture_can_be_written_in_every_format(wanted: Any, kind: str, mode: str) -> None:
    data = encode(Image.new(mode, (7, 5)), wanted)
    read = Image.open(io.BytesIO(data))
    assert (read.format, read.size) == (kind, (7, 5))


def test_jpeg_lays_what_is_transparent_on_white() -> None:
    data = encode(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), "jpeg")
    assert Image.open(io.BytesIO(data)).getpixel((4, 4)) == (255, 255, 255)


def test_png_and_webp_at_100_lose_nothing() -> None:
    noise = Image.effect_noise((64, 64), 90).convert("RGB")
    for wanted in ("png", "webp"):
        read = Image.open(io.BytesIO(encode(noise, wanted, 100))).convert("RGB")  # type: ignore[arg-type]
        assert read.tobytes() == noise.tobytes(), wanted


def test_nothing_of_a_pictures_metadata_is_written() -> None:
    exif = Image.Exif()
    exif[0x010E] = "where I live"
    image = decode(saved(Image.new("RGB", (8, 8)), "JPEG", exif=exif, comment=b"secret"), LIMITS)
    for wanted in ("png", "jpeg", "webp"):
        data = encode(image, wanted)  # type: ignore[arg-type]
        assert b"where I live" not in data
        assert b"secret" not in data


def test_a_word_instead_of_a_picture_is_a_bad_picture() -> None:
    with pytest.raises(BadPicture, match="mask is not a picture"):
        decode_mask(b"hello", LIMITS)
