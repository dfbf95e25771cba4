"""Sharing out pieces of work."""

from __future__ import annotations

import threading
import time

import pytest

from services import cores
from services.cores import share_out


def test_every_piece_is_worked_on_once() -> None:
    done: list[int] = []
    share_out(done.append, range(100))
    assert sorted(done) == list(range(100))


def test_what_one_piece_raises_is_raised() -> None:
    def work(piece: int) -> None:
        if piece == 37:
            raise ValueError("37")

    with pytest.raises(ValueError, match="37"):
        share_out(work, range(50))


def test_several_cores_work_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "cores", lambda: 3)
    cores._pool.cache_clear()
    seen: set[int] = set()

    def work(_: int) -> None:
        seen.add(threading.get_ident())
        time.sleep(0.01)

    share_out(work, range(12))
    cores._pool().shutdown()
    cores._pool.cache_clear()
    assert len(seen) == 3
