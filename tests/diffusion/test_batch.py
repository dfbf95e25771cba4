"""Who goes next: the rule of the crowd, for any crowd."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from services.diffusion.batch import next_call
from services.diffusion.kernels import Kernels
from services.diffusion.memory import FORGET_AFTER, Bounds


@dataclass(eq=False)
class One:
    """Somebody in the line; the rows of a lane follow from its key, as they do in the engine."""

    key: str
    left: int  # steps that it still wants

    @property
    def rows(self) -> int:
        return 2 if self.key.isupper() else 1


lines = st.lists(st.builds(One, key=st.sampled_from("abCD"), left=st.integers(1, 30)), max_size=14)
limits = st.integers(1, 12)


@given(lines, limits)
def test_a_call_has_the_longest_waiting_first_and_only_what_may_share_it(line: list[One], limit: int) -> None:
    chosen = next_call(line, lambda _: limit)
    assert bool(chosen) == bool(line)
    if not line:
        return
    assert chosen[0] is line[0]
    assert {one.key for one in chosen} == {line[0].key}
    assert len(chosen) == 1 or sum(one.rows for one in chosen) <= limit
    alike = [one for one in line if one.key == line[0].key]
    assert chosen == alike[: len(chosen)], "nobody overtakes one of its own kind"
    if len(chosen) < len(alike):
        assert sum(one.rows for one in chosen) + alike[len(chosen)].rows > limit, "no room is left unused"


def calls_to_move_all(line: list[One], limit: int) -> int:
    """A round: the calls that move everyone in the line once."""
    rows = Counter(one.key for one in line)
    return sum(math.ceil(count / max(1, limit // One(key, 1).rows)) for key, count in rows.items())


@given(lines, limits)
def test_nobody_waits_longer_than_one_round(line: list[One], limit: int) -> None:
    waited: dict[One, int] = dict.fromkeys(line, 0)
    bound: dict[One, int] = {one: calls_to_move_all(line[: at + 1], limit) for at, one in enumerate(line)}
    while line:
        chosen = next_call(line, lambda _: limit)
        for one in line:
            waited[one] += 1
        line = [one for one in line if one not in chosen]
        for one in chosen:
            assert waited[one] <= bound[one]
            one.left -= 1
            if one.left:
                line.append(one)
        # those who stepped wait anew, behind all who are there now
        for one in chosen:
            waited[one] = 0
            if one.left:
                bound[one] = calls_to_move_all(line[: line.index(one) + 1], limit)


@given(lines, limits, st.integers(0, 40))
def test_a_short_request_ends_after_few_rounds_however_long_the_others_are(
    others: list[One], limit: int, begins: int
) -> None:
    line, short = list(others), One("a", 4)
    for one in line:
        one.left += 1000
    calls = 0
    for number in range(10_000):
        if number == begins:
            line.append(short)
        chosen = next_call(line, lambda _: limit)
        line = [one for one in line if one not in chosen]
        for one in chosen:
            one.left -= 1
            if one.left:
                line.append(one)
        calls += number >= begins
        if number >= begins and not short.left:
            break
    assert calls <= 4 * calls_to_move_all([*others, short], limit)


def test_a_size_that_onednn_refuses_is_done_without_it_from_then_on() -> None:
    kernels, with_onednn = Kernels(), []

    def work() -> int:
        with_onednn.append(torch._C._get_mkldnn_enabled())
        if with_onednn[-1]:
            raise RuntimeError("could not create a primitive")
        return 5

    assert kernels.call("large", work) == kernels.call("large", work) == 5
    assert with_onednn == [True, False, False]
    assert torch._C._get_mkldnn_enabled()
    with pytest.raises(RuntimeError, match="something else"):
        kernels.call("small", lambda: (_ for _ in ()).throw(RuntimeError("something else")))


def test_what_did_not_fit_is_halved_and_after_a_while_tried_again() -> None:
    now = 0.0
    bounds = Bounds(clock=lambda: now)
    assert bounds.rows("large", 16) == 16
    bounds.did_not_fit("large", 16)
    assert bounds.rows("large", 16) == 8
    bounds.did_not_fit("large", 8)
    bounds.did_not_fit("large", 1)
    assert bounds.rows("large", 16) == 1
    assert bounds.rows("small", 16) == 16
    now = FORGET_AFTER + 1
    assert bounds.rows("large", 16) == 16
