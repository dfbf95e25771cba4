"""The PNG writer, judged by Pillow, by OpenCV and by zlib itself."""

from __future__ import annotations

import itertools
import struct
import threading
import time
import zlib
from io import BytesIO

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from services import png

BANDS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}


def noise(mode: str, width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, BANDS[mode]), dtype=np.uint8)
    return Image.frombytes(mode, (width, height), pixels.tobytes())


def read(file: bytes) -> Image.Image:
    image = Image.open(BytesIO(file))
    image.load()
    return image


@given(st.sampled_from(list(BANDS)), st.integers(1, 70), st.integers(1, 70), st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_pillow_reads_back_every_pixel(mode: str, width: int, height: int, seed: int) -> None:
    image = noise(mode, width, height, seed)
    back = read(png.write(image))
    assert (back.mode, back.size, back.tobytes()) == (mode, image.size, image.tobytes())


@pytest.mark.parametrize("size", [(1, 1), (16_384, 1), (1, 16_384), (701, 3001)])
def test_rows_of_every_length_and_strips_that_do_not_come_out_even_are_whole(size: tuple[int, int]) -> None:
    image = noise("RGBA", *size)
    assert read(png.write(image)).tobytes() == image.tobytes()


def test_opencv_reads_it_too() -> None:
    image = noise("RGB", 333, 222)
    seen = cv2.imdecode(np.frombuffer(png.write(image), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(seen[..., ::-1], np.asarray(image))


def test_every_chunk_has_its_checksum_and_the_stream_is_zlibs() -> None:
    image = noise("RGB", 900, 1200)
    file = png.write(image, text="a red circle", dpi=300)
    chunks = list(walk(file))
    assert [kind for kind, _ in chunks if kind != b"IDAT"] == [b"IHDR", b"pHYs", b"tEXt", b"IEND"]
    rows = zlib.decompress(b"".join(data for kind, data in chunks if kind == b"IDAT"))
    assert len(rows) == 1200 * (900 * 3 + 1)


def walk(file: bytes):  # type: ignore[no-untyped-def]
    at = len(png.SIGNATURE)
    while at < len(file):
        (length,) = struct.unpack_from(">I", file, at)
        kind, data = file[at + 4 : at + 8], file[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", file, at + 8 + length)[0] == zlib.crc32(kind + data)
        yield kind, data
        at += 12 + length


@pytest.mark.parametrize("words", ["steps: 20, seed: 7", "ein Stück Kuchen, 絵, \n two lines"])
def test_its_text_is_found_where_readers_look(words: str) -> None:
    assert read(png.write(noise("RGB", 8, 8), text=words)).text["parameters"] == words  # type: ignore[attr-defined]


@pytest.mark.parametrize("dpi", [72, 300, 599.9])
def test_its_size_on_paper_is_told(dpi: float) -> None:
    assert read(png.write(noise("RGB", 8, 8), dpi=dpi)).info["dpi"] == pytest.approx((dpi, dpi), abs=0.02)


def test_a_palette_and_one_bit_are_written_in_plain_colours() -> None:
    image = noise("RGB", 40, 30).convert("P")
    assert read(png.write(image)).tobytes() == image.convert("RGB").tobytes()
    bits = noise("L", 40, 30).convert("1")
    assert read(png.write(bits)).tobytes() == bits.convert("L").tobytes()


def test_it_is_several_times_quicker_than_pillow_for_no_more_bytes() -> None:
    rng = np.random.default_rng(1)
    smooth = cv2.GaussianBlur(rng.random((1200, 1600, 3), dtype=np.float32), (0, 0), 9)
    smooth = cv2.normalize(smooth, None, 0, 245, cv2.NORM_MINMAX)
    image = Image.fromarray((smooth + rng.integers(0, 8, smooth.shape)).astype(np.uint8))

    def pillow() -> bytes:
        held = BytesIO()
        image.save(held, "PNG", compress_level=1)
        return held.getvalue()

    theirs, their_size = seconds(pillow)
    ours, our_size = seconds(lambda: png.write(image))
    assert ours < theirs / 2
    assert our_size < their_size * 1.1


def seconds(work) -> tuple[float, int]:  # type: ignore[no-untyped-def]
    best, size = 1e9, 0
    for _ in range(3):
        started = time.thread_time()
        size = len(work())
        best = min(best, time.thread_time() - started)
    return best, size


def test_other_threads_go_on_while_it_works() -> None:
    image, ticks, done = noise("RGB", 4000, 3000), [], threading.Event()

    def tick() -> None:
        while not done.wait(0.002):
            ticks.append(time.monotonic())

    watcher = threading.Thread(target=tick)
    watcher.start()
    png.write(image)
    done.set()
    watcher.join()
    gaps = [later - earlier for earlier, later in itertools.pairwise(ticks)]
    assert max(gaps) < 0.25
