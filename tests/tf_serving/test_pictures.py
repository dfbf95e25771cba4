"""Bytes to the net's range and back, as PICTURES.md says: values that can be worked out by hand, and every
kind of file."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tf_serving import pictures


def file(pixels: np.ndarray, kind: str = "PNG", **options: object) -> bytes:  # type: ignore[type-arg]
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)  # type: ignore[arg-type]
    return out.getvalue()


def noise(high: int, wide: int, channels: int = 3) -> np.ndarray:  # type: ignore[type-arg]
    shape = (high, wide, channels) if channels > 1 else (high, wide)
    return np.random.default_rng(7).integers(0, 256, shape, np.uint8)


def test_black_white_and_grey_in_the_nets_range() -> None:
    for value, expected in ((0, -1.0), (255, 1.0), (51, -0.6)):
        net, _ = pictures.net_of_file(file(np.full((8, 8, 3), value, np.uint8)), 8)
        assert np.allclose(net, expected, atol=1e-6)


def test_a_picture_of_the_nets_own_side_comes_back_bit_for_bit() -> None:
    pixels = noise(32, 32)
    net, size = pictures.net_of_file(file(pixels), 32)
    with Image.open(io.BytesIO(pictures.file_of_net(net, size))) as back:
        assert np.array_equal(np.asarray(back), pixels)


def test_what_is_not_square_lies_in_the_middle_of_white() -> None:
    net, size = pictures.net_of_file(file(np.zeros((4, 8, 3), np.uint8)), 8)
    assert (size.high, size.wide, size.square) == (4, 8, 8)
    assert np.allclose(net[2:6], -1) and np.allclose(net[:2], 1) and np.allclose(net[6:], 1)
    uneven, _ = pictures.net_of_file(file(np.zeros((7, 4, 3), np.uint8)), 7)
    assert np.allclose(uneven[:, 1:5], -1) and np.allclose(uneven[:, 0], 1) and np.allclose(uneven[:, 5:], 1)


@pytest.mark.parametrize(("high", "wide"), [(5, 90), (90, 5), (1, 1), (33, 64), (300, 700)])
def test_a_result_has_its_sketchs_size(high: int, wide: int) -> None:
    net, size = pictures.net_of_file(file(noise(high, wide)), 16)
    assert net.shape == (16, 16, 3) and net.dtype == np.float32
    with Image.open(io.BytesIO(pictures.file_of_net(net, size))) as back:
        assert back.size == (wide, high)


def test_strips_give_what_the_whole_gives() -> None:
    """Large pictures are worked on in strips of rows; the matrices of PICTURES.md at once give the same."""
    pixels = noise(600, 31)
    net, size = pictures.net_of_file(file(pixels), 24)
    there, back = pictures.resize(24, 600), pictures.resize(600, 24)
    ink = 1 - pixels.astype(np.float64) / 255
    wanted = np.einsum("sh,hwc,tw->stc", there, ink, there[:, 284:315], optimize=True)
    assert np.abs(net - ((1 - wanted) * 2 - 1)).max() < 1e-5
    shares = np.einsum("hs,stc,wt->hwc", back, np.clip((net + 1) / 2, 0, 1), back[284:315], optimize=True)
    with Image.open(io.BytesIO(pictures.file_of_net(net, size))) as made:
        assert np.abs(np.asarray(made).astype(int) - np.floor(shares * 255 + 0.5)).max() <= 1


@pytest.mark.parametrize(("out", "into"), [(16, 16), (16, 64), (64, 16), (7, 5), (5, 7), (1, 9), (9, 1)])
def test_the_filter_is_that_of_the_page(out: int, into: int) -> None:
    scale = into / out
    support = max(1.0, scale)
    wanted = np.array(
        [
            [max(0.0, 1 - abs(j - ((i + 0.5) * scale - 0.5)) / support) for j in range(into)]
            for i in range(out)
        ]
    )
    wanted /= wanted.sum(axis=1, keepdims=True)
    found = pictures.resize(out, into)
    assert np.abs(found - wanted).max() < 1e-6
    assert out != into or np.array_equal(found, np.eye(out))


def test_transparency_is_laid_on_white() -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, :4, 3] = 255
    net, _ = pictures.net_of_file(file(pixels), 8)
    assert np.allclose(net[:, :4], -1) and np.allclose(net[:, 4:], 1)


def test_a_palette_with_transparency_too() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(0, (0, 0, 4, 8))
    out = io.BytesIO()
    image.save(out, "PNG", transparency=0)
    net, _ = pictures.net_of_file(out.getvalue(), 8)
    assert np.allclose(net[:, :4], 1) and np.allclose(net[:, 4:], (-1, -1, 1))


def test_sixteen_bits_keep_their_upper_eight() -> None:
    out = io.BytesIO()
    Image.fromarray(np.full((8, 8), 0x33FF, np.uint16)).save(out, "PNG")
    assert np.all(pictures.decode(out.getvalue()) == 0x33)


def test_one_bit_is_black_and_white() -> None:
    out = io.BytesIO()
    Image.fromarray(np.eye(8, dtype=bool)).save(out, "PNG")
    assert np.array_equal(pictures.decode(out.getvalue())[..., 0], np.eye(8, dtype=np.uint8) * 255)


@pytest.mark.parametrize("kind", ["JPEG", "GIF", "BMP"])
def test_the_other_kinds_are_read(kind: str) -> None:
    pixels = np.full((8, 8, 3), (200, 100, 50), np.uint8)
    assert np.abs(pictures.decode(file(pixels, kind)).astype(int) - pixels).max() <= 2


def test_a_cmyk_jpeg_is_read() -> None:
    out = io.BytesIO()
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(out, "JPEG")
    red = pictures.decode(out.getvalue())[4, 4].astype(int)
    assert red[0] > 240 and red[1] < 15 and red[2] < 15


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_a_file_that_is_cut_off_is_refused(kind: str) -> None:
    data = file(noise(64, 64), kind)
    for length in (3, 12, len(data) // 2, len(data) - 40):
        with pytest.raises(pictures.BadPicture):
            pictures.decode(data[:length])


def test_no_picture_is_refused_in_tensorflows_words() -> None:
    for data in (b"", b"hello", file(noise(8, 8), "WEBP"), file(noise(8, 8), "TIFF")):
        with pytest.raises(pictures.BadPicture, match="One of JPEG, PNG, GIF, BMP required"):
            pictures.decode(data)


def test_bounds_are_looked_at_before_pixels_are() -> None:
    with pytest.raises(pictures.BadPicture, match="101 x 100"):
        pictures.decode(file(noise(100, 101)), max_pixels=10_000)
    with pytest.raises(pictures.BadPicture, match="a side may have"):
        pictures.decode(file(np.zeros((1, pictures.MAX_SIDE + 1, 3), np.uint8)))


def test_a_tensors_shares_are_a_files(hostile_pictures: list[object]) -> None:
    pixels = noise(20, 30)
    of_file, size = pictures.net_of_file(file(pixels), 16)
    of_shares, same = pictures.net_of_shares(pixels.astype(np.float32) / np.float32(255), 16)
    assert size == same and np.abs(of_file - of_shares).max() < 1e-6
    shares = pictures.shares_of_output(of_file, size)
    with Image.open(io.BytesIO(pictures.file_of_net(of_file, size))) as made:
        assert np.array_equal(np.asarray(made), pictures.bytes_of_shares(shares))


def test_every_hostile_file_is_a_picture_or_is_refused(hostile_pictures: list[object]) -> None:
    for one in hostile_pictures:
        try:
            net, _ = pictures.net_of_file(one.data, 16, max_pixels=4_000_000)  # type: ignore[attr-defined]
        except pictures.BadPicture:
            continue
        assert np.isfinite(net).all() and np.abs(net).max() <= 1.0001
