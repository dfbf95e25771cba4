"""The fair line: who is next, what leaving costs, and how it is bounded."""

import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.upstream.line import Line
from services.errors import LineFull

pytestmark = pytest.mark.anyio


def served(line: Line, count: int) -> list[str]:
    return [line.next().key_id for _ in range(count)]


async def test_a_key_with_a_thousand_calls_delays_another_keys_single_call_by_one_place():
    line = Line(2000)
    for _ in range(1000):
        line.enter("many", 1, bounded=True)
    served(line, 10)
    line.enter("one", 1, bounded=True)
    assert "one" in served(line, 2)


async def test_keys_take_turns_by_weight():
    line = Line(1000)
    for _ in range(100):
        line.enter("heavy", 3, bounded=True)
        line.enter("light", 1, bounded=True)
    assert Counter(served(line, 40)) == {"heavy": 30, "light": 10}


async def test_a_call_that_did_not_wait_counts_for_its_key():
    line = Line(10)
    for _ in range(5):
        line.pass_by("early", 1)
    line.enter("early", 1, bounded=True)
    line.enter("late", 1, bounded=True)
    assert served(line, 2) == ["late", "early"]


async def test_leaving_costs_a_key_nothing():
    line = Line(100)
    for ticket in [line.enter("gone", 1, bounded=True) for _ in range(50)]:
        line.leave(ticket)
        line.leave(ticket)
    assert len(line) == 0
    line.enter("other", 1, bounded=True)
    line.enter("gone", 1, bounded=True)
    assert sorted(served(line, 2)) == ["gone", "other"]


async def test_past_its_length_it_refuses_what_is_bounded():
    line = Line(1)
    line.enter("a", 1, bounded=True)
    with pytest.raises(LineFull):
        line.enter("b", 1, bounded=True)
    line.enter("job", 1, bounded=False)
    assert len(line) == 2


async def test_jobs_in_the_line_take_no_place_from_calls():
    line = Line(1)
    for _ in range(5):
        line.enter("job", 1, bounded=False)
    line.enter("call", 1, bounded=True)


async def test_a_caller_who_was_just_cancelled_is_passed_over_and_not_charged():
    line = Line(10)
    line.enter("a", 1, bounded=True).slot.cancel()
    line.enter("b", 1, bounded=True)
    line.enter("a", 1, bounded=True)
    assert served(line, 2) == ["a", "b"]
    line.enter("a", 1, bounded=True).slot.cancel()
    assert line.next() is None
    assert len(line) == 0


async def test_a_step_stays_cheap_in_a_long_line():
    def cost(waiting: int) -> float:
        line = Line(10**6)
        for n in range(waiting):
            line.enter(str(n % (waiting // 10)), 1, bounded=True)
        began = time.perf_counter()
        for _ in range(1000):
            line.enter(line.next().key_id, 1, bounded=True)
        return time.perf_counter() - began

    # a hundred times the length: a walk through the line would cost a hundred times as much
    assert min(cost(50_000) for _ in range(3)) < 20 * min(cost(500) for _ in range(3))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_whoever_enters_leaves_once_and_each_keys_calls_stay_in_order(data):
    import asyncio

    async def scenario() -> None:
        line, waiting = Line(10**6), []
        out = []
        for step in data.draw(st.lists(st.sampled_from(["enter", "next", "leave", "pass"]), max_size=80)):
            key = data.draw(st.sampled_from("abc"))
            if step == "enter":
                waiting.append(line.enter(key, data.draw(st.sampled_from([0.5, 1, 4])), bounded=True))
            elif step == "pass":
                line.pass_by(key, 1)
            elif waiting and step == "next":
                ticket = line.next()
                mine = [t for t in waiting if t.key_id == ticket.key_id]
                assert ticket is mine[0]
                waiting.remove(ticket)
                out.append(ticket)
            elif waiting:
                ticket = waiting.pop(data.draw(st.integers(0, len(waiting) - 1)))
                line.leave(ticket)
            assert len(line) == len(waiting)

    asyncio.run(scenario())
