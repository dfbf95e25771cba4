"""Nonsense over gRPC is the caller's mistake."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from tests.end_to_end.doors.grpc.asking import Door, details, idle, png, stamp


@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_nonsense_is_the_callers_mistake_and_leaves_nothing_running(
    door: Door, house: Any, count: int
) -> None:
    chance = random.Random(count)
    ask = door.message("RunRequest", **stamp(5, steps=0)).SerializeToString()
    chunked = door.message("RunRequest", ask={"stamp": {"image": {"chunks": "a"}}}).SerializeToString()
    chunk = door.message("RunRequest", chunk={"name": "a", "data": png()}).SerializeToString()
    large = {
        "ask": {
            "cleanup": {"image": {"data": png()}, "mask": {"data": png()}, "strategy": "crop", "limit": 64}
        }
    }
    cleanup = door.message("RunRequest", **large).SerializeToString()
    submit = door.message(
        "SubmitRequest", submission={**stamp(5, steps=0), "priority": 1}
    ).SerializeToString()
    listing = door.message("ListRequest", state="queued", limit=3, before="job_0").SerializeToString()
    watch = door.message("WatchRequest", id="job_0", last_event_id="1.2").SerializeToString()
    seeds: list[tuple[str, tuple[bytes, ...]]] = [
        ("Run", (ask,)),
        ("Run", (chunked, chunk)),
        ("Run", (cleanup,)),
        ("Submit", (submit,)),
        ("List", (listing,)),
        ("Watch", (watch,)),
        ("Get", (watch,)),
        ("Fetch", (watch,)),
    ]
    codes: Counter[str] = Counter()

    def one(number_: int) -> None:
        own = random.Random(count * 10_000 + number_)
        name, messages = seeds[number_ % len(seeds)]
        bent = tuple(mutated(message, own) for message in messages)
        if own.random() < 0.1:
            bent = bent[::-1]
        try:
            answer = door.call(name, *bent, timeout=20)
            if name in ("Run", "Watch", "Fetch"):
                list(answer)
            codes["OK"] += 1
        except grpc.RpcError as error:
            told: Any = error
            codes[told.code().name] += 1
            assert "Traceback" not in told.details()
            assert details(told)[1]["ErrorInfo"].domain == "darkroom"

    numbers = list(range(count))
    chance.shuffle(numbers)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, numbers))
    assert not codes.keys() - {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS"}, codes
    assert codes["INVALID_ARGUMENT"] > count / 4
    idle(house, 10)
    assert not list((house.data / "uploads").glob("upload-*"))


def mutated(message: bytes, chance: random.Random) -> bytes:
    """Bytes flipped, cut out, doubled and put in; now and then nothing but noise."""
    data = bytearray(message)
    if chance.random() < 0.05:
        return chance.randbytes(chance.randrange(1, 200))
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(5):
            case 0 if data:
                data[at % len(data)] ^= 1 << chance.randrange(8)
            case 1:
                del data[at : at + chance.randrange(1, 12)]
            case 2:
                data[at:at] = data[at : at + chance.randrange(1, 24)]
            case 3:
                data[at:at] = chance.randbytes(chance.randrange(1, 6))
            case 4 if data:
                data[at % len(data)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
    return bytes(data)
