"""The stream of frames decodes the same however it is cut."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services import frames
from services.errors import BadUpstream
from services.frames import Event, FrameDecoder

KINDS = st.sampled_from(["accepted", "progress", "preview", "result", "alive", "done", "error"])
FIELDS = st.dictionaries(
    st.text(max_size=8).filter(lambda name: name != "kind"),
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    max_size=4,
)
FRAMES = st.lists(st.tuples(KINDS, FIELDS, st.binary(max_size=200)), max_size=6)


def decoded(pieces: list[bytes]) -> list[tuple[str, dict[str, Any], bytes]]:
    decoder, found = FrameDecoder(), []
    for piece in pieces:
        for item in decoder.feed(piece):
            if isinstance(item, Event):
                found.append([item.kind, item.fields, b""])
            else:
                found[-1][2] += bytes(item)
    return [(kind, fields, body) for kind, fields, body in found]


@given(FRAMES, st.lists(st.integers(0, 2000), max_size=30))
def test_any_split_of_the_stream_decodes_the_same(
    sent: list[tuple[str, dict[str, Any], bytes]], cuts: list[int]
) -> None:
    whole = b"".join(piece for kind, fields, body in sent for piece in frames.encode(kind, body, **fields))
    at = sorted({min(cut, len(whole)) for cut in cuts} | {0, len(whole)})
    pieces = [whole[a:b] for a, b in pairwise(at)]
    assert decoded(pieces) == sent


def test_byte_by_byte_is_enough() -> None:
    whole = b"".join(frames.encode("result", b"abc", index=0)) + b"".join(frames.encode("done"))
    assert decoded([whole[n : n + 1] for n in range(len(whole))]) == [
        ("result", {"index": 0}, b"abc"),
        ("done", {}, b""),
    ]


@pytest.mark.parametrize(
    ("kind", "last"), [("done", True), ("error", True), ("result", False), ("alive", False)]
)
def test_only_done_and_error_end_the_stream(kind: str, last: bool) -> None:
    decoder = FrameDecoder()
    (event,) = decoder.feed(b"".join(frames.encode(kind)))
    assert isinstance(event, Event)
    assert (event.last, decoder.ended) == (last, last)


@pytest.mark.parametrize("header", [b"not json", b"[]", b"{}", b'"kind"'])
def test_a_header_that_is_none_is_the_services_fault(header: bytes) -> None:
    with pytest.raises(BadUpstream):
        list(FrameDecoder().feed(struct.pack(">II", len(header), 0) + header))


def test_a_header_that_claims_gigabytes_is_refused_before_it_is_read() -> None:
    with pytest.raises(BadUpstream):
        list(FrameDecoder().feed(struct.pack(">II", 2**31, 0)))
