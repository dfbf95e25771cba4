"""What it costs to submit, claim and finish a job while 100, 10,000 and 100,000 others wait.

    python -m bench.jobs                        SQLite and PostgreSQL (started here, where it is installed)
    python -m bench.jobs --rounds 200 --sizes 100 10000

The peer in the same run, in the same database, is the plain table queue: one INSERT, and an UPDATE of the oldest
queued row (SKIP LOCKED on PostgreSQL). It knows no keys, no fairness, no bounds and no idempotency.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from sqlalchemy import text

from gateway.jobs.job import NewJob, Outcome, new_id
from gateway.jobs.queue import JobQueue
from gateway.settings import Settings
from gateway.store.database import Database
from gateway.store.tables import jobs, lanes, lines
from tests.servers import PostgresServer

SERVICE = "cleanup"
TURN = 20  # rounds at one size before the next has its turn
PARAMS = {"image": "asset:ast_0123456789abcdef", "mask": "asset:ast_0123456789abcdef", "model": "auto"}
Times = dict[str, list[float]]


async def fill(db: Database, until: int, keys: int) -> None:
    """Jobs by the thousand, as if submitted; the counts as `submit` would have left them."""
    for first in range(0, until, 1000):
        rows = [
            {
                "id": new_id(), "owner": f"key_{n % keys}", "operation": "cleanup", "service": SERVICE,
                "state": "queued", "params": PARAMS, "priority": 0, "weight": 1.0, "attempt": 0, "attempts_allowed": 3,
                "cancel_asked": False, "pictures": [], "request_id": "", "created_at": time.time(),
            }
            for n in range(first, min(first + 1000, until))
        ]  # fmt: skip
        async with db.write() as conn:
            await conn.execute(jobs.insert(), rows)
    async with db.write() as conn:
        await conn.execute(lanes.delete())
        await conn.execute(lines.delete())
        await conn.execute(lines.insert(), {"service": SERVICE, "clock": 0.0, "queued": until})
        counts = [
            {"service": SERVICE, "key_id": f"key_{n}", "weight": 1.0, "start": 0.0, "finish": 0.0, "ready": many,
             "unfinished": many}
            for n in range(keys) if (many := len(range(n, until, keys)))
        ]  # fmt: skip
        await conn.execute(lanes.insert(), counts)


async def timed(times: Times, name: str, act: Callable[[], Awaitable[Any]]) -> Any:
    began = time.perf_counter()
    answer = await act()
    times[name].append((time.perf_counter() - began) * 1000)
    return answer


async def ours(db: Database, times: Times, rounds: int, keys: int) -> None:
    queue = JobQueue(db, Settings(queue_limit=10_000_000, lease=3600, _env_file=None))  # type: ignore[call-arg]
    for number in range(rounds):
        new = NewJob(f"key_{number % keys}", "cleanup", SERVICE, PARAMS)
        await timed(times, "submit", lambda new=new: queue.submit(new))  # type: ignore[misc]
        claim = await timed(times, "claim", lambda: queue.claim(SERVICE, "bench"))
        await timed(times, "finish", lambda claim=claim: queue.finish(claim, Outcome("succeeded")))  # type: ignore[misc]


async def plain_table(db: Database, until: int) -> None:
    async with db.write() as conn:
        await conn.execute(
            text(
                "CREATE TABLE IF NOT EXISTS plain "
                "(id VARCHAR(64) PRIMARY KEY, state VARCHAR(16), created DOUBLE PRECISION, params TEXT)"
            )
        )
        await conn.execute(text("CREATE INDEX IF NOT EXISTS plain_next ON plain (state, created)"))
        for first in range(0, until, 1000):
            await conn.execute(PLAIN_INSERT, [_plain() for _ in range(first, min(first + 1000, until))])


PLAIN_INSERT = text("INSERT INTO plain VALUES (:id, 'queued', :created, :params)")


def _plain() -> dict[str, Any]:
    return {"id": new_id(), "created": time.time(), "params": str(PARAMS)}


async def peer(db: Database, times: Times, rounds: int) -> None:
    skip = "FOR UPDATE SKIP LOCKED" if db.postgres else ""
    take = text(
        "UPDATE plain SET state = 'running' WHERE id = "
        f"(SELECT id FROM plain WHERE state = 'queued' ORDER BY created LIMIT 1 {skip}) RETURNING id"
    )
    end = text("UPDATE plain SET state = 'succeeded' WHERE id = :id")

    async def write(statement: Any, values: dict[str, Any]) -> Any:
        async with db.write() as conn:
            answer = await conn.execute(statement, values)
            return answer.scalar_one() if answer.returns_rows else None

    for _ in range(rounds):
        await timed(times, "submit", lambda: write(PLAIN_INSERT, _plain()))
        taken = await timed(times, "claim", lambda: write(take, {}))
        await timed(times, "finish", lambda taken=taken: write(end, {"id": taken}))  # type: ignore[misc]


def p(times: list[float], hundredth: int) -> float:
    return statistics.quantiles(times, n=100)[hundredth - 1]


async def measure(name: str, urls: dict[int, str], keys: int, rounds: int) -> None:
    """A database for each size, measured in turns, so that whatever else the machine does meets all alike."""
    stores = {size: Database(url) for size, url in urls.items()}
    mine: dict[int, Times] = {size: defaultdict(list) for size in stores}
    plain: dict[int, Times] = {size: defaultdict(list) for size in stores}
    for size, db in stores.items():
        await db.open()
        await fill(db, size, keys)
        await plain_table(db, size)
        await ours(db, defaultdict(list), 30, keys)  # what is prepared once, is prepared
        await peer(db, defaultdict(list), 30)
    for _ in range(max(1, rounds // TURN)):
        for size, db in stores.items():
            await ours(db, mine[size], TURN, keys)
            await peer(db, plain[size], TURN)
    smallest = min(stores)
    for size, db in stores.items():
        for act, times in mine[size].items():
            bare = plain[size][act]
            print(
                f"| {name} | {keys} | {size:,} | {act} | {p(times, 50):.2f} | {p(times, 99):.2f} "
                f"| {p(times, 99) / p(mine[smallest][act], 99):.2f} | {p(bare, 50):.2f} | {p(bare, 99):.2f} "
                f"| {p(bare, 99) / p(plain[smallest][act], 99):.2f} | {p(times, 50) / p(bare, 50):.1f} |",
                flush=True,
            )
        await db.close()


def _postgres() -> list[Path]:
    return sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))


async def main(sizes: list[int], rounds: int) -> None:
    print(
        "| store | keys | queued | act | p50 ms | p99 ms | p99 to first "
        "| plain p50 | plain p99 | its p99 to first | p50 to plain |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for keys in (1, 1000):
        with tempfile.TemporaryDirectory(prefix="darkroom-bench-") as folder:
            urls = {size: f"sqlite+aiosqlite:///{folder}/{size}.db" for size in sizes}
            await measure("SQLite", urls, keys, rounds)
    found = _postgres()
    if not found:
        print("PostgreSQL is not installed (apt-get install postgresql): not measured")
        return
    with tempfile.TemporaryDirectory(prefix="darkroom-bench-", ignore_cleanup_errors=True) as folder:
        server = PostgresServer(found[-1].parent, Path(folder))
        server.start()
        try:
            for keys in (1, 1000):
                await measure("PostgreSQL", {size: await server.create() for size in sizes}, keys, rounds)
        finally:
            server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.jobs", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=1000)
    given = parser.parse_args()
    asyncio.run(main(given.sizes, given.rounds))
