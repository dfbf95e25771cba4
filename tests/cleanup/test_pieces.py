"""A mask's pieces and the boxes around them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cleanup.pieces import merged, overlap, pieces, with_room

SIDE = st.integers(1, 300)


def test_boxes_that_overlap_are_one() -> None:
    assert merged([(0, 0, 10, 10), (5, 5, 20, 20), (30, 0, 40, 10), (18, 0, 31, 4)]) == [(0, 0, 40, 20)]


def test_nothing_has_no_pieces() -> None:
    assert pieces(np.zeros((5, 5), bool)) == []


def test_what_touches_at_a_corner_is_one_piece() -> None:
    hole = np.zeros((9, 9), bool)
    hole[2, 3] = hole[3, 4] = hole[8, 8] = True
    assert pieces(hole) == [(3, 2, 5, 4), (8, 8, 9, 9)]


@given(
    st.lists(
        st.tuples(SIDE, SIDE, SIDE, SIDE).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])), max_size=12
    )
)
def test_merged_boxes_are_apart_and_cover_what_they_were_made_of(
    boxes: list[tuple[int, int, int, int]],
) -> None:
    found = merged(boxes)
    assert not any(overlap(one, other) for at, one in enumerate(found) for other in found[:at])
    for left, top, right, bottom in boxes:
        assert any(b[0] <= left and b[1] <= top and b[2] >= right and b[3] >= bottom for b in found)


@given(SIDE, SIDE, st.data(), st.integers(0, 400), st.integers(0, 400))
def test_a_box_with_room_holds_the_box_and_lies_in_the_picture(
    height: int, width: int, data: st.DataObject, room: int, least: int
) -> None:
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    right, bottom = data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height))
    box = with_room((left, top, right, bottom), room, (height, width), least)
    assert 0 <= box[0] <= left < right <= box[2] <= width
    assert 0 <= box[1] <= top < bottom <= box[3] <= height
    assert box[2] - box[0] == min(width, max(right - left + 2 * room, least))


@pytest.mark.parametrize("count", [64, 65])
def test_very_many_pieces_are_taken_as_one(count: int) -> None:
    hole = np.zeros((20, 400), bool)
    hole[5, 2 : 2 + 4 * count : 4] = True
    assert len(pieces(hole)) == (64 if count == 64 else 1)
