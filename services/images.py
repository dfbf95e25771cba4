"""Pictures in and out of a service: in come bytes from anywhere, out goes a plain RGB or RGBA picture.

Whatever the bytes are, `decode` answers with a picture, BadPicture or TooLarge, in bounded memory: sizes are
checked before pixels are, only the first frame is read, the orientation is applied and all metadata dropped.
"""

from __future__ import annotations

import logging
import struct
import warnings
from collections.abc import Mapping
from io import BytesIO
from typing import IO, Any

from PIL import ExifTags, Image, ImageCms, PngImagePlugin, UnidentifiedImageError

from services import png, uploads
from services.errors import BadInput, BadPicture, DarkroomError, TooLarge
from services.operations import Format, Operation
from services.pictures import Mask, Weights
from services.settings import Limits

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
MEDIA_TYPES: dict[Format, str] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
WEBP_METHOD = 2

_ORIENTATION = 0x0112
_MAX_PROFILE = 4 * 2**20
_MAX_COMMENT = 65_000
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PORTABLE = {"PNG": ("1", "L", "LA", "P", "RGB", "RGBA"), "JPEG": ("L", "RGB")}
_log = logging.getLogger("darkroom.images")

Image.MAX_IMAGE_PIXELS = None  # our own limits are checked first, and they name the field
PngImagePlugin.MAX_TEXT_MEMORY = 4 * 2**20
# it warns of each oddity in a file; what matters comes as an error
warnings.filterwarnings("ignore", module=r"PIL\.")


def decode(data: bytes, limits: Limits, field: str = "image") -> Image.Image:
    """The picture that `data` holds, upright, in sRGB, RGB or RGBA, without metadata."""
    return _upright(_open(data, limits, field), field, colours=True)


def decode_portable(data: bytes, limits: Limits, field: str = "image") -> bytes:
    """A file in which every decoder sees what `decode` sees: `data` itself where it is one, else a PNG of the picture.

    Either way it was decoded to its last pixel here, so that whoever gets it meets no damaged file.
    """
    image = _open(data, limits, field)
    return data if _is_portable(image) else encode(_upright(image, field, colours=True), "png")


def decode_mask(data: bytes, limits: Limits, field: str = "mask") -> Image.Image:
    """A mask's luminance (L); what is transparent counts as black."""
    image = _upright(_open(data, limits, field), field, colours=False)
    if image.mode == "RGBA":
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image)
    return image.convert("L")


def decode_all(ask: Operation, parts: Mapping[str, bytes | IO[bytes]], limits: Limits) -> None:
    """Leaves the pixels in every picture of `ask`; a mask must have the size of the `image` beside it.

    A LoRA's file is checked and kept; its path on disk stands where the pixels would.
    """
    for path, picture in ask.pictures().items():
        data = parts[picture.ref.removeprefix("part:")]
        if isinstance(picture, Weights):
            if not isinstance(data, bytes):
                data.seek(0)
            picture.pixels = uploads.keep(data, limits, path)
            continue
        assert isinstance(data, bytes)  # read_call's own rule
        picture.pixels = (decode_mask if isinstance(picture, Mask) else decode)(data, limits, path)
    image, mask = getattr(ask, "image", None), getattr(ask, "mask", None)
    if image is not None and isinstance(mask, Mask) and image.pixels.size != mask.pixels.size:
        raise BadInput(
            f"The mask is {_size(mask.pixels)} pixels, the image {_size(image.pixels)}.",
            field="mask",
            help="Send a mask of exactly the image's size.",
        )


def encode(
    image: Image.Image,
    format: Format = "png",  # noqa: A002 - the parameter's name
    quality: int = 90,
    text: str = "",
) -> bytes:
    """The file's bytes; where the format has no transparency the picture is laid on white. `text` goes with it, where
    readers of generated pictures look: PNG's text `parameters`, else EXIF's UserComment. So do the pixels an inch that
    the picture's `info` has as `dpi`, in PNG and JPEG."""
    out = BytesIO()
    dpi = image.info.get("dpi", (0, 0))
    exif = _comment(text) if text and format != "png" else b""
    if format == "jpeg":
        flatten(image).save(
            out, "JPEG", quality=quality, subsampling=0 if quality >= 90 else 2, exif=exif, dpi=dpi
        )
    elif format == "webp":
        image = image if image.mode in ("RGB", "RGBA") else image.convert("RGB")
        image.save(out, "WEBP", quality=quality, method=WEBP_METHOD, lossless=quality == 100, exif=exif)
    else:
        return png.write(image, text=text, dpi=dpi[0])
    return out.getvalue()


def _comment(text: str) -> bytes:
    """EXIF with the text as UserComment. A JPEG holds at most 64 KiB of it: a longer text loses the end of its prompts,
    and keeps its last line, which has the fields."""
    coded = text.encode("utf-16-be", errors="replace")
    if len(coded) > _MAX_COMMENT:
        head, _, last = text.rpartition("\n")
        end = f"…\n{last}".encode("utf-16-be", errors="replace")
        room = max(0, _MAX_COMMENT - len(end)) & ~1
        coded = head.encode("utf-16-be", errors="replace")[:room] + end
        coded = coded.decode("utf-16-be", errors="ignore").encode("utf-16-be")[:_MAX_COMMENT]
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"UNICODE\0" + coded
    return exif.tobytes()


def flatten(image: Image.Image, colour: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    """The picture on a colour, RGB or L."""
    if image.mode in ("RGB", "L"):
        return image
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, (*colour, 255)), rgba).convert("RGB")


def _open(data: bytes, limits: Limits, field: str) -> Image.Image:
    """Reads the header, checks the limits, then reads the first frame."""
    if not data:
        raise BadPicture(f"{field} is empty.", field=field)
    if len(data) > limits.max_picture_bytes:
        raise TooLarge(
            f"{field} has {len(data):,} bytes; {limits.max_picture_bytes:,} are allowed.", field=field
        )
    if (canvas := _webp_canvas(data)) is not None:
        _check_size(canvas, limits, field)  # Pillow makes WebP's canvas while it opens it
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
        _check_size(image.size, limits, field)
        image.load()
    except UnidentifiedImageError as error:
        raise BadPicture(f"{field} is not a picture of a kind that is known here.", field=field) from error
    except MemoryError as error:
        raise TooLarge(f"{field} needs more memory to decode than its size explains.", field=field) from error
    except DarkroomError:
        raise
    except Exception as error:
        raise BadPicture(f"{field} is damaged or cut short ({_brief(error)}).", field=field) from error
    return image


def _check_size(size: tuple[int, int], limits: Limits, field: str) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise BadPicture(f"{field} has no pixels.", field=field)
    if max(size) > limits.max_side:
        raise TooLarge(
            f"{field} is {width} x {height} pixels; a side may have {limits.max_side:,}.", field=field
        )
    if width * height > limits.max_pixels:
        raise TooLarge(
            f"{field} is {width} x {height} pixels; {limits.max_pixels:,} in all are allowed.", field=field
        )


def _webp_canvas(data: bytes) -> tuple[int, int] | None:
    """The size that a WebP file's header claims, None for other files."""
    if len(data) < 30 or data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    chunk = data[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _upright(image: Image.Image, field: str, *, colours: bool) -> Image.Image:
    turn = _TURNS.get(_orientation(image))
    try:
        plain = _plain(image, colours=colours)
        plain = plain.transpose(turn) if turn is not None else plain
    except (ValueError, OSError, TypeError) as error:
        raise BadPicture(
            f"{field} has colours that cannot be read ({_brief(error)}).", field=field
        ) from error
    plain.info = {}
    return plain


def _is_portable(image: Image.Image) -> bool:
    """PNG or JPEG of eight bits, one frame, upright, in sRGB, whose transparency is told in the one usual way."""
    return (
        image.mode in _PORTABLE.get(str(image.format), ())
        and not getattr(image, "is_animated", False)
        and ("transparency" not in image.info or image.mode == "P")
        and _orientation(image) not in _TURNS
        and _profile(image) is None
    )


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - broken EXIF raises errors of every kind; it says nothing then, which is upright
        return 1


def _plain(image: Image.Image, *, colours: bool) -> Image.Image:
    """RGB or RGBA of eight bits, in sRGB."""
    image = _eight_bits(image)
    profile = _profile(image) if colours else None
    see_through = image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info
    target = "RGBA" if see_through else "RGB"
    if profile is None or image.mode not in ("RGB", "RGBA", "CMYK", "L"):
        return image.convert(target) if image.mode != target else image.copy()
    rgba = image.convert("RGBA") if see_through else None
    base = image.convert("RGB") if image.mode == "RGBA" else image
    try:
        converted = ImageCms.profileToProfile(base, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except ImageCms.PyCMSError as error:
        _log.debug("A colour profile does not fit its picture and is left out: %s", error)
        return rgba if rgba is not None else image.convert("RGB")
    if converted is None:  # only when converting in place
        return image.convert(target)
    if rgba is not None:
        converted.putalpha(rgba.getchannel("A"))
    return converted


def _profile(image: Image.Image) -> ImageCms.ImageCmsProfile | None:
    """The picture's colour profile, None where it has none, is sRGB's own, or cannot be read."""
    data: Any = image.info.get("icc_profile")
    if not isinstance(data, bytes) or not 128 <= len(data) <= _MAX_PROFILE:
        return None
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(data))
        name = ImageCms.getProfileDescription(profile)
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        _log.debug("A colour profile cannot be read and is left out: %s", error)
        return None
    return None if "srgb" in name.lower() else profile


def _eight_bits(image: Image.Image) -> Image.Image:
    """Sixteen-bit, integer and float pictures come down to eight bits of grey; what lies outside is clipped."""
    if image.mode == "F":
        scale = 255.0 if float(image.getextrema()[1]) <= 1.0 else 1.0  # type: ignore[arg-type]  # of one band
        return image.point(lambda value: value * scale + 0.5).convert("L")
    if image.mode.startswith("I"):
        # 1/257 is not exact, and what follows cuts off: 257 must not become 0
        return image.convert("I").point(lambda value: value * (1 / 257) + 0.001).convert("L")
    return image


def _size(image: Image.Image) -> str:
    return f"{image.width} x {image.height}"


def _brief(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120] or type(error).__name__
