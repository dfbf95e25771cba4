"""Pictures that mean harm, or are merely odd: each must get a 4xx or a correct picture, in bounded memory.

`corpus()` makes them, always the same. Loaded by path (the fixture `hostile_pictures` in tests/conftest.py),
since tests are no package.
"""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image, ImageCms, PngImagePlugin

SIZE = (48, 32)
CORNERS = {(0, 0): (200, 30, 30), (1, 0): (30, 200, 30), (0, 1): (30, 30, 200), (1, 1): (220, 220, 40)}
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Hostile:
    """`expect` is `refused` (4xx), `picture` (200 and these pixels) or `either`."""

    name: str
    data: bytes
    expect: str = "either"
    size: tuple[int, int] | None = None
    colours: dict[tuple[int, int], Colour] | None = None  # by corner: (right?, bottom?)
    tolerance: int = 40


def corpus() -> list[Hostile]:
    made = [
        *_truncated(),
        *_wrong_magic(),
        *_flipped(),
        *_bombs(),
        *_turned(),
        *_modes(),
        *_animated(),
        *_not_pictures(),
        *_polyglots(),
        *_zip_bombs(),
        *_broken_png(),
        *_metadata(),
        *_thin(),
    ]
    names = [one.name for one in made]
    assert len(set(names)) == len(names), "two of the corpus have one name"
    return made


def plain(size: tuple[int, int] = SIZE) -> Image.Image:
    """Four quarters, each of its own colour."""
    image = Image.new("RGB", size)
    half = size[0] // 2, size[1] // 2
    image.paste(CORNERS[0, 0], (0, 0, *half))
    image.paste(CORNERS[1, 0], (half[0], 0, size[0], half[1]))
    image.paste(CORNERS[0, 1], (0, half[1], half[0], size[1]))
    image.paste(CORNERS[1, 1], (half[0], half[1], *size))
    return image


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def chunk(kind: bytes, data: bytes, crc: int | None = None) -> bytes:
    """One chunk of a PNG file."""
    return (
        struct.pack(">I", len(data))
        + kind
        + data
        + struct.pack(">I", zlib.crc32(kind + data) if crc is None else crc)
    )


SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png(
    width: int, height: int, depth: int, colour: int, raw: bytes, *before: bytes, idat: bytes | None = None
) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = zlib.compress(raw) if idat is None else idat
    return SIGNATURE + chunk(b"IHDR", head) + b"".join(before) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def zeros(size: int) -> bytes:
    """`size` zero bytes, compressed without holding them."""
    packer, piece = zlib.compressobj(9), bytes(1 << 20)
    return b"".join(packer.compress(piece) for _ in range(size >> 20)) + packer.flush()


def _truncated() -> Iterator[Hostile]:
    for kind in FORMATS:
        whole = saved(plain(), kind)
        for at in range(20):
            yield Hostile(
                f"{kind}-cut-{at}", whole[: len(whole) * at // 20], "refused" if at < 2 else "either"
            )


def _wrong_magic() -> Iterator[Hostile]:
    for kind in FORMATS:
        whole = saved(plain(), kind)
        yield Hostile(f"{kind}-no-magic", bytes(8) + whole[8:], "refused")
        yield Hostile(f"{kind}-text-magic", b"<html><b" + whole[8:], "refused")
        yield Hostile(f"{kind}-shifted", b"\n" + whole, "refused")
        other = {"PNG": b"GIF89a", "GIF": SIGNATURE}.get(kind, b"BM\x00\x00\x00\x00")
        yield Hostile(f"{kind}-other-magic", other + whole[len(other) :])


def _flipped() -> Iterator[Hostile]:
    chance = random.Random(7)
    for kind in FORMATS:
        whole = saved(plain(), kind)
        for number in range(12):
            data = bytearray(whole)
            for _ in range(1 + number):
                data[chance.randrange(4, len(data))] ^= 1 << chance.randrange(8)
            yield Hostile(f"{kind}-flipped-{number}", bytes(data))


def _bombs() -> Iterator[Hostile]:
    for width, height in (
        (60_000, 60_000),
        (60_000, 1),
        (1, 60_000),
        (16_000, 16_000),
        (2**31 - 1, 2**31 - 1),
    ):
        yield Hostile(f"PNG-claims-{width}x{height}", png(width, height, 8, 2, b"\0" * 100), "refused")
        yield Hostile(f"BMP-claims-{width}x{height}", _bmp_claim(width, height), "refused")
        yield Hostile(f"TIFF-claims-{width}x{height}", _tiff_claim(width, height), "refused")
    whole = saved(plain(), "JPEG")
    at = whole.index(b"\xff\xc0") + 5
    yield Hostile(
        "JPEG-claims-60000", whole[:at] + struct.pack(">HH", 60_000, 60_000) + whole[at + 4 :], "refused"
    )
    gif = saved(plain(), "GIF")
    yield Hostile("GIF-claims-65535", gif[:6] + struct.pack("<HH", 65_535, 65_535) + gif[10:], "refused")
    canvas = (59_999).to_bytes(3, "little") * 2
    webp = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x10\0\0\0" + canvas + b"ANIM" + bytes(20)
    yield Hostile("WEBP-claims-60000", b"RIFF" + struct.pack("<I", len(webp)) + webp, "refused")
    lossless = b"WEBPVP8L" + struct.pack("<I", 20) + b"\x2f" + struct.pack("<I", 0x0FFFFFFF) + bytes(20)
    yield Hostile("WEBP-lossless-16384", b"RIFF" + struct.pack("<I", len(lossless)) + lossless, "refused")


def _bmp_claim(width: int, height: int) -> bytes:
    return (
        b"BM"
        + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    )


def _tiff_claim(width: int, height: int) -> bytes:
    tags = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (278, 4, height),
        (279, 4, 4),
    ]
    listed = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<I", 12) + bytes(4) + struct.pack("<H", len(tags)) + listed + bytes(4)


def _turned() -> Iterator[Hostile]:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        for orientation in range(1, 9):
            image = plain() if orientation == 1 else plain().transpose(undo[orientation])
            exif = Image.Exif()
            exif[0x0112] = orientation
            data = saved(image, kind, exif=exif)
            yield Hostile(f"{kind}-orientation-{orientation}", data, "picture", SIZE, CORNERS)


def _modes() -> Iterator[Hostile]:
    image = plain()
    grey = {corner: (round(0.299 * r + 0.587 * g + 0.114 * b),) * 3 for corner, (r, g, b) in CORNERS.items()}
    rgba = image.convert("RGBA")
    rgba.putalpha(Image.linear_gradient("L").resize(SIZE))
    palette = image.quantize(8)
    for name, kind, made, colours in [
        ("cmyk", "JPEG", image.convert("CMYK"), CORNERS),
        ("cmyk", "TIFF", image.convert("CMYK"), CORNERS),
        ("ycbcr", "TIFF", image.convert("YCbCr"), None),
        ("lab", "TIFF", Image.new("LAB", SIZE, (128, 128, 128)), None),
        ("grey", "PNG", image.convert("L"), grey),
        ("grey", "JPEG", image.convert("L"), grey),
        ("grey-alpha", "PNG", rgba.convert("LA"), grey),
        ("grey-alpha", "TIFF", rgba.convert("LA"), grey),
        ("one-bit", "PNG", image.convert("1"), None),
        ("one-bit", "TIFF", image.convert("1"), None),
        ("palette", "PNG", palette, CORNERS),
        ("palette", "BMP", palette, CORNERS),
        ("palette", "TIFF", palette, CORNERS),
        ("alpha", "PNG", rgba, CORNERS),
        ("alpha", "WEBP", rgba, None),
        ("alpha", "TIFF", rgba, CORNERS),
        ("alpha", "BMP", rgba, None),
    ]:
        yield Hostile(f"{kind}-{name}", saved(made, kind), "picture", SIZE, colours)
    yield Hostile(
        "PNG-palette-transparent-index", saved(palette, "PNG", transparency=0), "picture", SIZE, CORNERS
    )
    yield Hostile(
        "PNG-palette-transparency",
        saved(palette, "PNG", transparency=bytes([0, 128, 255])),
        "picture",
        SIZE,
        CORNERS,
    )
    yield Hostile("GIF-transparent-index", saved(palette, "GIF", transparency=0), "picture", SIZE, None)
    yield Hostile(
        "PNG-rgb-transparent-colour",
        saved(image, "PNG", transparency=CORNERS[0, 0]),
        "picture",
        SIZE,
        CORNERS,
    )
    yield Hostile(
        "PNG-grey-transparent-level", saved(image.convert("L"), "PNG", transparency=3), "picture", SIZE, grey
    )
    half = dict.fromkeys(CORNERS, (128, 128, 128))
    row16 = b"\0" + struct.pack(">H", 0x8080) * 8
    yield Hostile("PNG-16-bit-grey", png(8, 4, 16, 0, row16 * 4), "picture", (8, 4), half, 2)
    yield Hostile(
        "PNG-16-bit-rgb",
        png(8, 4, 16, 2, (b"\0" + struct.pack(">HHH", 0x8080, 0x8080, 0x8080) * 8) * 4),
        "picture",
        (8, 4),
        half,
        2,
    )
    yield Hostile(
        "PNG-16-bit-rgba",
        png(8, 4, 16, 6, (b"\0" + struct.pack(">HHHH", 0x8080, 0x8080, 0x8080, 0xFFFF) * 8) * 4),
        "picture",
        (8, 4),
        half,
        2,
    )
    yield Hostile(
        "PNG-16-bit-grey-alpha",
        png(8, 4, 16, 4, (b"\0" + struct.pack(">HH", 0x8080, 0xFFFF) * 8) * 4),
        "picture",
        (8, 4),
        half,
        2,
    )
    yield Hostile("TIFF-16-bit", saved(Image.new("I;16", (8, 4), 0x8080), "TIFF"), "picture", (8, 4), half, 2)
    yield Hostile("TIFF-float", saved(Image.new("F", (8, 4), 0.5), "TIFF"), "picture", (8, 4), half, 2)
    yield Hostile(
        "TIFF-float-nan", saved(Image.new("F", (8, 4), float("nan")), "TIFF"), "picture", (8, 4), None
    )
    yield Hostile(
        "TIFF-float-inf", saved(Image.new("F", (8, 4), float("inf")), "TIFF"), "picture", (8, 4), None
    )
    yield Hostile("TIFF-32-bit", saved(Image.new("I", (8, 4), 0x8080), "TIFF"), "picture", (8, 4), half, 2)
    yield Hostile("TIFF-32-bit-negative", saved(Image.new("I", (8, 4), -5), "TIFF"), "picture", (8, 4), None)
    yield Hostile("JPEG-progressive", saved(image, "JPEG", progressive=True), "picture", SIZE, CORNERS)
    for compression in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
        yield Hostile(
            f"TIFF-{compression}", saved(image, "TIFF", compression=compression), "picture", SIZE, None
        )


def _animated() -> Iterator[Hostile]:
    rest = [Image.new("RGB", SIZE, (n, 0, 255 - n)) for n in range(0, 250, 5)]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        for count in (2, 50):
            data = saved(plain(), kind, save_all=True, append_images=rest[: count - 1])
            yield Hostile(f"{kind}-animated-{count}", data, "picture", SIZE, CORNERS, 60)


def _not_pictures() -> Iterator[Hostile]:
    texts = {
        "empty": b"",
        "one-byte": b"\x89",
        "spaces": b" " * 1000,
        "zeros": bytes(1000),
        "text": b"this is not a picture",
        "html": b"<!doctype html><script>alert(1)</script>",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        "xml-bomb": b'<!DOCTYPE l [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><svg>&b;</svg>',
        "pdf": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
        "zip": b"PK\x03\x04" + bytes(60),
        "gzip": b"\x1f\x8b\x08" + bytes(60),
        "elf": b"\x7fELF" + bytes(60),
        "json": b'{"image": "part:image"}',
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        "avif-head": b"\0\0\0\x1cftypavif" + bytes(60),
        "heic-head": b"\0\0\0\x1cftypheic" + bytes(60),
        "psd-head": b"8BPS\0\1" + bytes(60),
    }
    for name, data in texts.items():
        yield Hostile(f"not-{name}", data, "refused")
    for kind in ("ICO", "PPM", "TGA", "PCX", "DDS", "SGI", "ICNS"):
        size = (32, 32) if kind == "ICNS" else SIZE
        yield Hostile(f"unwanted-{kind}", saved(plain(size), kind), "refused")


def _polyglots() -> Iterator[Hostile]:
    archive = b"PK\x03\x04" + bytes(26) + b"PK\x05\x06" + bytes(18)
    for kind in FORMATS:
        whole = saved(plain(), kind)
        yield Hostile(f"{kind}-and-zip", whole + archive, "picture", SIZE, CORNERS, 60)
        yield Hostile(f"{kind}-and-html", whole + b"<script>alert(1)</script>", "picture", SIZE, CORNERS, 60)
    yield Hostile(
        "JPEG-with-html-comment", saved(plain(), "JPEG", comment=b"*/alert(1)/*"), "picture", SIZE, CORNERS
    )
    yield Hostile("GIF-javascript", b"GIF89a/*" + bytes(30) + b"*/=1;alert(1)", "either")
    yield Hostile("PNG-then-JPEG", saved(plain(), "PNG") + saved(plain(), "JPEG"), "picture", SIZE, CORNERS)


def _zip_bombs() -> Iterator[Hostile]:
    packed = zeros(100 << 20)
    row = (b"\0" + bytes(30)) * 10
    profile = b"profile\0\0" + packed
    yield Hostile("PNG-zTXt-bomb", png(10, 10, 8, 2, row, chunk(b"zTXt", b"Comment\0\0" + packed)))
    yield Hostile("PNG-iTXt-bomb", png(10, 10, 8, 2, row, chunk(b"iTXt", b"Comment\0\1\0\0\0" + packed)))
    yield Hostile("PNG-iCCP-bomb", png(10, 10, 8, 2, row, chunk(b"iCCP", profile)))
    yield Hostile("PNG-IDAT-bomb", png(10, 10, 8, 2, b"", idat=packed))
    small = zlib.compress(bytes(900_000), 9)
    many = [chunk(b"zTXt", b"C%d\0\0" % n + small) for n in range(200)]
    yield Hostile("PNG-many-zTXt", png(10, 10, 8, 2, row, *many))
    yield Hostile(
        "PNG-many-tEXt",
        png(10, 10, 8, 2, row, *[chunk(b"tEXt", b"K%d\0" % n + b"x" * 60_000) for n in range(100)]),
    )
    yield Hostile("PNG-many-IDAT", png(10, 10, 8, 2, row, *[chunk(b"IDAT", b"") for _ in range(20_000)]))
    lzw = saved(Image.new("RGB", (7000, 7000)), "TIFF", compression="tiff_deflate")
    yield Hostile(
        "TIFF-49-megapixels-of-black", lzw, "picture", (7000, 7000), dict.fromkeys(CORNERS, (0, 0, 0))
    )


def _broken_png() -> Iterator[Hostile]:
    row = (b"\0" + bytes(30)) * 10
    good = struct.pack(">IIBBBBB", 10, 10, 8, 2, 0, 0, 0)
    end, data = chunk(b"IEND", b""), chunk(b"IDAT", zlib.compress(row))
    for depth in (0, 3, 5, 32):
        yield Hostile(f"PNG-depth-{depth}", png(10, 10, depth, 2, row), "refused")
    for colour in (1, 5, 7, 99):
        yield Hostile(f"PNG-colour-type-{colour}", png(10, 10, 8, colour, row), "refused")
    for name, width, height in (("no-width", 0, 10), ("no-height", 10, 0), ("no-size", 0, 0)):
        yield Hostile(f"PNG-{name}", png(width, height, 8, 2, row), "refused")
    yield Hostile("PNG-no-IDAT", SIGNATURE + chunk(b"IHDR", good) + end, "refused")
    yield Hostile("PNG-no-IHDR", SIGNATURE + data + end, "refused")
    yield Hostile("PNG-only-signature", SIGNATURE, "refused")
    yield Hostile("PNG-IEND-first", SIGNATURE + end + chunk(b"IHDR", good) + data, "refused")
    yield Hostile("PNG-no-palette", png(10, 10, 8, 3, (b"\0" + bytes(10)) * 10))
    yield Hostile("PNG-empty-palette", png(10, 10, 8, 3, (b"\0" + bytes(10)) * 10, chunk(b"PLTE", b"")))
    yield Hostile("PNG-two-IHDR", SIGNATURE + chunk(b"IHDR", good) * 2 + data + end)
    yield Hostile("PNG-short-IHDR", SIGNATURE + chunk(b"IHDR", good[:7]) + data + end, "refused")
    yield Hostile("PNG-bad-crc-IHDR", SIGNATURE + chunk(b"IHDR", good, crc=1) + data + end, "refused")
    yield Hostile(
        "PNG-bad-crc-IDAT", SIGNATURE + chunk(b"IHDR", good) + chunk(b"IDAT", zlib.compress(row), crc=1) + end
    )
    yield Hostile(
        "PNG-huge-chunk",
        SIGNATURE + chunk(b"IHDR", good) + struct.pack(">I", 2**31) + b"IDAT" + bytes(9),
        "refused",
    )
    yield Hostile("PNG-not-zlib", png(10, 10, 8, 2, b"", idat=b"this is not zlib at all"), "refused")
    yield Hostile("PNG-too-few-rows", png(10, 10, 8, 2, row[:62]))
    yield Hostile("PNG-bad-filter", png(10, 10, 8, 2, (b"\x09" + bytes(30)) * 10))
    yield Hostile("PNG-interlaced-empty", png(10, 10, 8, 2, b"", chunk(b"gAMA", b"\0\0\0\0")))


def _metadata() -> Iterator[Hostile]:
    image = plain()
    exif = Image.Exif()
    for value in (0, 9, 99, 65_535):
        exif[0x0112] = value
        yield Hostile(f"JPEG-orientation-{value}", saved(image, "JPEG", exif=exif), "picture", SIZE, CORNERS)
    for name, raw in {
        "garbage": b"Exif\0\0" + bytes(range(200)),
        "short": b"Exif\0\0II",
        "loop": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0\0\0\0\0",
        "count": b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0\xff\xff\xff\xff\x08\0\0\0",
        "offset": b"Exif\0\0MM\0*\xff\xff\xff\xff",
    }.items():
        yield Hostile(f"JPEG-exif-{name}", saved(image, "JPEG", exif=raw), "picture", SIZE, CORNERS)
        yield Hostile(f"PNG-exif-{name}", saved(image, "PNG", exif=raw), "picture", SIZE, CORNERS)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name, profile in {
        "garbage": bytes(range(256)) * 2,
        "short": srgb[:140],
        "own": srgb,
        "large": srgb + bytes(5 << 20),
        "flipped": srgb[:300] + bytes(64) + srgb[364:],
    }.items():
        for kind in ("JPEG", "PNG", "WEBP"):
            expect = "either" if name == "large" else "picture"
            yield Hostile(f"{kind}-profile-{name}", saved(image, kind, icc_profile=profile), expect, SIZE)
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    yield Hostile("PNG-profile-lab", saved(image, "PNG", icc_profile=lab), "picture", SIZE, None)
    text = PngImagePlugin.PngInfo()
    text.add_text("prompt", "x" * 100_000, zip=True)
    yield Hostile("PNG-long-text", saved(image, "PNG", pnginfo=text), "picture", SIZE, CORNERS)


def _thin() -> Iterator[Hostile]:
    for kind in FORMATS:
        yield Hostile(f"{kind}-1x1", saved(Image.new("RGB", (1, 1), (9, 9, 9)), kind), "picture", (1, 1))
    for size in ((1, 5000), (5000, 1), (16_384, 1), (1, 16_384), (3, 2)):
        yield Hostile(
            f"PNG-{size[0]}x{size[1]}", saved(Image.new("RGB", size, (9, 9, 9)), "PNG"), "picture", size
        )
    yield Hostile("PNG-16385x1", saved(Image.new("RGB", (16_385, 1)), "PNG"), "refused")
