"""Base64 is read as the standard library reads it, only sooner."""

from __future__ import annotations

import base64
import binascii
import os
import random

import pytest

from gateway import b64

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("size", [0, 1, 2, 3, 50_000, 5_000_000])
async def test_what_was_written_is_read_again(size: int) -> None:
    data = os.urandom(size)
    text = b64.encode(data).decode()
    assert text == base64.b64encode(data).decode()
    for written in (text, base64.encodebytes(data).decode(), base64.urlsafe_b64encode(data).decode()):
        assert b64.decode(written) == data
        assert await b64.decoded(written) == data


async def test_whatever_is_wrong_with_it_is_judged_as_the_standard_library_does() -> None:
    chance, refused = random.Random(3), 0
    for _ in range(5_000):
        signs = list(base64.b64encode(chance.randbytes(chance.randrange(12))).decode())
        for _ in range(chance.randrange(4)):
            signs.insert(chance.randrange(len(signs) + 1), chance.choice("=\n A/é\0"))
        text = "".join(signs)
        try:
            meant: bytes | None = binascii.a2b_base64(text)
        except (binascii.Error, ValueError):
            meant, refused = None, refused + 1
        for read in (b64.decode, None):
            try:
                found = read(text) if read is not None else await b64.decoded(text)
            except (binascii.Error, ValueError):
                found = None
            assert found == meant, repr(text)
    assert 500 < refused < 4_500
