"""Messages written by hand, where a large field would be copied three times on its way through a message's object."""

from __future__ import annotations

_LENGTH_DELIMITED = 2


class Passed:
    """A message that is bytes already."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def SerializeToString(self) -> bytes:
        return self.data


def field_head(number: int, size: int) -> bytes:
    """What stands before the `size` bytes of a field of bytes, words or a message."""
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(size)


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
