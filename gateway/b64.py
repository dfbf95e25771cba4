"""Base64 of megabytes: text in, bytes out, and the other way.

Python's own takes 3 ms to read and 1.3 to write a megabyte, and holds the interpreter's lock meanwhile, in a thread as
on the event loop; pybase64 takes a tenth of a millisecond for either (bench/doors.py).
"""

from __future__ import annotations

import asyncio
import binascii

import pybase64

INLINE = 4 * 2**20  # characters that are read on the event loop: a third of a millisecond

encode = pybase64.b64encode


def decode(text: str) -> bytes:
    """Raises `binascii.Error` or `ValueError`; takes line ends and spaces, too, and `-` and `_`."""
    try:
        return pybase64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        if "-" in text or "_" in text:
            text = text.translate(_URLSAFE)
        return binascii.a2b_base64(text)


async def decoded(text: str) -> bytes:
    """The same, in a thread where it would take its time."""
    if len(text) <= INLINE:
        try:
            return pybase64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            if len(text) <= _SLOWLY_INLINE:
                return decode(text)
    return await asyncio.to_thread(decode, text)


_URLSAFE = str.maketrans("-_", "+/")
_SLOWLY_INLINE = 64 * 1024
