"""Stable and canary: the share is kept, a canary costs a call one attempt at most, and both are told apart."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from gateway.upstream.resolve import Origin, read_origin, read_origins
from services.errors import NotConfigured, ServiceFault, UnknownModel
from services.operations import Caption
from services.pictures import Picture

pytestmark = pytest.mark.anyio


def canary(stub: Any, share: float = 0.1) -> str:
    return f"{stub.address}#track=canary&weight={share}"


class Counts:
    """Counts attempts by track and outcome, and retries by reason."""

    def __init__(self) -> None:
        self.attempts: Counter[tuple[str, str]] = Counter()
        self.retries: Counter[str] = Counter()

    def upstream_attempt(self, service: str, track: str, outcome: str, seconds: float) -> None:
        assert seconds >= 0
        self.attempts[track, outcome] += 1

    def upstream_retry(self, service: str, reason: str) -> None:
        self.retries[reason] += 1

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


# ── addresses ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_address_names_its_track_and_the_old_form_stays_a_weight_within_stable():
    assert read_origin("dns+http://n:3000#track=canary&weight=0.25") == Origin(
        "http", "n", 3000, "", 0.25, resolved=True, track="canary"
    )
    assert read_origin("http://n:1#weight=0.5").track == "stable"
    assert read_origin("http://n:1#track=stable&weight=2").weight == 2
    assert read_origin("grpc://n#track=canary&weight=1").track == "canary"


@pytest.mark.parametrize(
    "fragment",
    ["track=canary", "track=canary&weight=0", "track=canary&weight=1.5", "track=blue&weight=0.1", "track=",
     "track=canary&weight=0.1&weight=0.2", "canary", "track=canary&weight=a"],
)  # fmt: skip
def test_a_track_that_cannot_be_read_says_what_to_write(fragment):
    with pytest.raises(NotConfigured, match=r"track=canary&weight=0\.1"):
        read_origin(f"http://x#{fragment}")


def test_a_canary_has_one_share_and_something_beside_it():
    with pytest.raises(NotConfigured, match="nothing beside it"):
        read_origins("rmbg", ["http://x#track=canary&weight=0.1"])
    with pytest.raises(NotConfigured, match=r"0\.1, 0\.2"):
        read_origins(
            "rmbg", ["http://x", "http://y#track=canary&weight=0.1", "http://z#track=canary&weight=0.2"]
        )


# ── the share ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 1.0])
async def test_a_canary_gets_its_share_of_single_calls_however_many_endpoints_stable_has(
    stub, upstream, run, share
):
    stable, trial = [await stub() for _ in range(3)], await stub()
    pool = (await upstream({"caption": [*stable, canary(trial, share)]})).pool("caption")
    for _ in range(200):
        await run(pool)
    assert trial.seen.calls == 200 * share


async def test_a_crowd_that_waits_does_not_give_a_canary_more_than_its_share(stub, upstream, run):
    """Both take four at once, so that without the rule the canary would do half of the work."""
    main, trial = await stub(delay=0.005, capacity=4), await stub(delay=0.005, capacity=4)
    pool = (await upstream({"caption": [main, canary(trial)]})).pool("caption")
    await asyncio.gather(*(run(pool) for _ in range(400)))
    assert trial.seen.calls == pytest.approx(40, abs=4)
    assert trial.seen.calls + main.seen.calls == 400


async def test_a_canary_that_is_too_small_for_its_share_leaves_the_rest_to_stable(stub, upstream, run):
    main, trial = await stub(delay=0.01, capacity=32), await stub(delay=0.3, capacity=1)
    pool = (await upstream({"caption": [main, canary(trial, 0.5)]})).pool("caption")
    async with asyncio.timeout(5):
        await asyncio.gather(*(run(pool) for _ in range(200)))
    assert trial.seen.calls <= 3
    assert main.seen.calls >= 197


async def test_a_canary_answers_everything_while_stable_is_away_and_no_more_than_its_share_afterwards(
    stub, upstream, run, until
):
    main, trial = await stub(), await stub()
    pool = (await upstream({"caption": [main, canary(trial)]})).pool("caption")
    main.behaviour.ready = False
    await until(lambda: pool.endpoints[0].health == "loading")
    for _ in range(20):
        await run(pool)
    assert trial.seen.calls == 20
    main.behaviour.ready = True
    await until(lambda: pool.endpoints[0].health == "up")
    for _ in range(100):
        await run(pool)
    assert trial.seen.calls == 30


# ── a canary that fails ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "fault", [{"fail": "early"}, {"refuse": 503}, {"refuse": 503, "slug": "schema-mismatch"}]
)
async def test_a_call_that_failed_at_the_canary_is_repeated_at_stable_and_nowhere_else(
    stub, upstream, run, fault
):
    """Two canaries, all of whose calls fail, and every call due to them: each meets one of them at most."""
    main, *trials = await stub(), await stub(**fault), await stub(**fault)
    counts = Counts()
    settings = {"metrics": counts, "retry_budget": 1, "breaker_failures": 1000, "health_interval": 30}
    pool = (await upstream({"caption": [main, *(canary(t, 1.0) for t in trials)]}, **settings)).pool(
        "caption"
    )
    for _ in range(10):
        for endpoint in pool.endpoints:
            endpoint.health = "up"  # what a look would find
        await run(pool)
    assert main.seen.calls == 10
    assert sum(trial.seen.calls for trial in trials) == 10
    assert counts.attempts["stable", "done"] == 10
    assert (
        sum(n for (track, outcome), n in counts.attempts.items() if (track, outcome) != ("stable", "done"))
        == 10
    )
    assert {track for track, outcome in counts.attempts if outcome != "done"} == {"canary"}


async def test_what_a_canary_breaks_in_the_middle_counts_against_its_track(stub, upstream, run):
    main, trial = await stub(), await stub(refuse=500)
    counts = Counts()
    pool = (await upstream({"caption": [main, canary(trial, 0.5)]}, metrics=counts)).pool("caption")
    results = await asyncio.gather(*(run(pool) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(r, ServiceFault) for r in results) == 4
    assert counts.attempts == {("stable", "done"): 4, ("canary", "service-fault"): 4}


async def test_a_model_that_one_track_has_is_found_there_by_its_name(stub, upstream, run):
    unknown = {"refuse": 422, "slug": "unknown-model"}
    main, trial = await stub(models=["old"], **unknown), await stub(models=["old", "new"])
    counts = Counts()
    pool = (await upstream({"caption": [main, canary(trial, 0.01)]}, metrics=counts)).pool("caption")
    ask = Caption(image=Picture("part:image"), model="new")
    for _ in range(5):
        assert (await run(pool, ask=ask))[2] == trial.address
    assert counts.retries == {"model": 5}
    with pytest.raises(UnknownModel):
        await run(pool, ask=Caption(image=Picture("part:image"), model="nobodys"))
    assert trial.seen.calls == 5


# ── what is told ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_tracks_are_told_apart_with_their_shares_health_and_models(stub, upstream, until):
    main, trial = await stub(capacity=3), await stub(capacity=2, models=["new"])
    services = await upstream({"caption": [main, canary(trial)], "rmbg": [main]})
    stable, of_trial = services.status()["caption"].tracks
    assert (stable.track, stable.share, stable.up, stable.capacity, stable.models) == (
        "stable",
        0.9,
        1,
        3,
        ["stub"],
    )
    assert (of_trial.track, of_trial.share, of_trial.capacity, of_trial.models) == ("canary", 0.1, 2, ["new"])
    assert [track.track for track in services.status()["rmbg"].tracks] == ["stable"]
    trial.behaviour.draining = True
    trial.behaviour.ready = False
    await until(lambda: services.status()["caption"].tracks[1].health["draining"] == 1)
    assert services.status()["caption"].tracks[1].up == 0


async def test_a_draining_endpoint_costs_no_retry_budget(stub, upstream, run):
    """Between two looks a service is told to stop: every call that it refuses is answered by another."""
    main, ending = await stub(), await stub(refuse=503, slug="draining")
    counts = Counts()
    settings = {"metrics": counts, "retry_budget": 0, "health_interval": 30}
    pool = (await upstream({"caption": [main, ending]}, **settings)).pool("caption")
    await asyncio.gather(*(run(pool) for _ in range(50)))
    assert main.seen.calls == 50
    assert counts.retries["draining"] == ending.seen.calls > 0
    assert next(e for e in pool.endpoints if e.address.text == ending.address).health == "draining"
