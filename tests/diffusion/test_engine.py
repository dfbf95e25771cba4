"""The crowd: what each gets is what it gets alone, nobody waits for another's end, and what fails fails alone."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
import torch

from services.diffusion.checkpoint import Checkpoint
from services.diffusion.recipe import Recipe, Refinement
from services.errors import Cancelled, DeadlineExceeded, Draining, OutOfMemory, ServiceFault
from tests.diffusion.crowd import Asked, alone, differ, running, watched
from tests.diffusion.tiny import checkpoint_of, control, hole, picture, pipeline, recipe


@pytest.fixture(scope="module")
def refiner() -> Checkpoint:
    return checkpoint_of(pipeline("sdxl-refiner"), "sdxl-refiner")


def mixed() -> list[Recipe]:
    """Eight requests of which no two want the same."""
    return [
        recipe(seed=1, steps=5),
        recipe(seed=2, steps=9, sampler="dpm++-2m-karras", guidance=3.0, prompt="a blue cat"),
        recipe(seed=3, steps=4, sampler="euler-a", guidance=1.0),
        recipe(seed=4, steps=6, width=96, height=64, sampler="unipc", count=2),
        recipe(seed=5, steps=8, kind="image", image=picture(), strength=0.6, sampler="ddim"),
        recipe(seed=6, steps=6, kind="inpaint", image=picture(1), mask=hole(), sampler="heun"),
        recipe(seed=7, steps=7, controls=(control("canny"), control("openpose", 4, weight=0.6, end=0.5))),
        recipe(seed=8, steps=5, controls=(control("canny", 5),), guess_mode=True, sampler="dpm++-sde"),
    ]


def test_in_a_crowd_of_eight_each_gets_what_it_gets_alone(sdxl: Checkpoint) -> None:
    with watched(sdxl.unet) as unet, running(tiny=sdxl) as (engine, held):
        unet.hold = threading.Event()
        asked = [Asked(one).start(engine) for one in mixed()]
        time.sleep(0.2)
        unet.hold.set()
        for one in asked:
            one.end()
        assert held.users == 0
        assert max(unet.rows) >= 8, "they shared calls"
    for one in asked:
        for ours, other in zip(one.pictures, alone(sdxl, one.recipe), strict=True):
            assert differ(ours, other) <= 1
        assert [result.seed for result in one.results] == [
            one.recipe.seed + at for at in range(one.recipe.count)
        ]
        done, total = one.progress[-1]
        assert done == total


def test_models_take_turns_and_a_refiner_goes_on_where_the_first_ends(
    sdxl: Checkpoint, sd: Checkpoint, refiner: Checkpoint
) -> None:
    refined = recipe(model="sdxl", steps=10, count=2, refinement=Refinement("refiner", 0.6))
    with (
        watched(refiner.unet) as second,
        running(sdxl=sdxl, sd=sd, refiner=refiner) as (engine, held),
    ):
        one = Asked(refined).start(engine)
        other = Asked(recipe(model="sd", steps=12)).start(engine)
        one.end(), other.end()
        assert held.users == 0
        assert second.rows
    for ours, theirs in zip(one.pictures, alone(sdxl, refined, refiner), strict=True):
        assert differ(ours, theirs) <= 1
    assert differ(one.pictures[0], alone(sdxl, replace(refined, refinement=None))[0]) > 1
    assert differ(other.pictures[0], alone(sd, other.recipe)[0]) <= 1
    assert one.progress[-1] == (20, 20)
    assert one.progress == sorted(one.progress), "progress goes one way"


def test_a_short_request_does_not_wait_for_long_ones(sdxl: Checkpoint) -> None:
    with watched(sdxl.unet) as unet, running(tiny=sdxl) as (engine, _):
        unet.pause = 0.01
        long = [Asked(recipe(steps=100, seed=seed, width=96)).start(engine) for seed in range(3)]
        while not all(one.progress for one in long):
            time.sleep(0.01)
        before = len(unet.rows)
        short = Asked(recipe(steps=4)).start(engine).end()
        calls = len(unet.rows) - before
        for one in long:
            assert one.progress[-1][0] < 90
            one.job.stop()
            one.end()
    assert calls <= 16, "two calls a round, a few before it was prepared and after it was done"
    assert len(short.pictures) == 1


def test_who_is_alone_asks_for_no_company(sdxl: Checkpoint) -> None:
    with watched(sdxl.unet) as unet, running(tiny=sdxl) as (engine, _):
        Asked(recipe(steps=3)).start(engine).end()
        assert unet.rows == [2, 2, 2]
        unet.rows.clear()
        Asked(recipe(steps=3, guidance=1.0)).start(engine).end()
        assert unet.rows == [1, 1, 1]


def test_a_call_has_no_more_rows_than_the_setting_says(sdxl: Checkpoint) -> None:
    with watched(sdxl.unet) as unet, running(rows=4, tiny=sdxl) as (engine, _):
        asked = Asked(recipe(steps=3, count=5)).start(engine).end()
        assert max(unet.rows) == 4
    assert len(asked.pictures) == 5


def test_progress_counts_all_pictures_and_previews_come_when_asked(sdxl: Checkpoint) -> None:
    with watched(sdxl.unet) as unet, running(tiny=sdxl) as (engine, _):
        unet.pause = 0.02  # so that no news replaces the one before it
        asked = Asked(recipe(steps=7, preview_every=3)).start(engine).end()
        assert asked.progress == [(step, 7) for step in range(1, 8)]
        assert len(asked.previews) == 2
        assert asked.previews[0].size[0] / asked.previews[0].size[1] == 1
        assert differ(*asked.previews) > 0
        silent = Asked(recipe(steps=7, count=2, sampler="heun")).start(engine).end()
        assert silent.progress[-1] == (14, 14)
        assert silent.previews == []


@pytest.mark.parametrize("why", [Cancelled("The caller went away."), DeadlineExceeded("Time is up.")])
def test_a_stop_ends_a_request_within_a_step(sdxl: Checkpoint, why: Cancelled | DeadlineExceeded) -> None:
    with watched(sdxl.unet) as unet, running(tiny=sdxl) as (engine, held):
        unet.pause = 0.02
        asked = Asked(recipe(steps=1000)).start(engine)
        other = Asked(recipe(steps=20)).start(engine)
        while len(asked.progress) < 3:
            time.sleep(0.005)
        asked.job.stop(why)
        at = asked.progress[-1][0]
        asked.end(2)
        assert type(asked.error) is type(why)
        assert asked.progress[-1][0] <= at + 2
        other.end()
        assert len(other.pictures) == 1
        assert held.users == 0
        calls = len(unet.rows)
        time.sleep(0.1)
        assert len(unet.rows) == calls, "nothing is at work any more"


def test_who_stops_listening_is_let_go(sdxl: Checkpoint) -> None:
    with watched(sdxl.unet) as unet, running(tiny=sdxl) as (engine, held):
        unet.pause = 0.01
        items = engine.run(recipe(steps=1000), Asked(recipe()).job)
        next(items)
        items.close()  # type: ignore[attr-defined]
        assert held.users == 0
        calls = len(unet.rows)
        time.sleep(0.1)
        assert len(unet.rows) == calls


def test_what_does_not_fit_is_tried_in_halves_and_the_bound_is_remembered(sdxl: Checkpoint) -> None:
    with watched(sdxl.unet) as unet, running(tiny=sdxl) as (engine, _):
        unet.fits = 3
        asked = Asked(recipe(steps=4, count=6)).start(engine).end()
        assert len(asked.pictures) == 6
        tried = [rows for rows in unet.rows if rows > 3]
        assert 1 <= len(tried) <= 3, "each bound is tried once"
        unet.rows.clear()
        again = Asked(recipe(steps=4, count=6)).start(engine).end()
        assert max(unet.rows) == 2
    expected = alone(sdxl, asked.recipe)
    for made in (asked, again):
        assert all(differ(ours, other) <= 1 for ours, other in zip(made.pictures, expected, strict=True))


def test_what_does_not_fit_alone_fails_alone(sdxl: Checkpoint) -> None:
    with watched(sdxl.unet) as unet, running(tiny=sdxl) as (engine, held):
        unet.fits = 1
        small = Asked(recipe(steps=8, guidance=1.0)).start(engine)
        large = Asked(recipe(steps=8)).start(engine).end()
        small.end()
        assert isinstance(large.error, OutOfMemory)
        assert len(small.pictures) == 1
        assert held.users == 0
        unet.fits = 8
        assert len(Asked(recipe(steps=2)).start(engine).end().pictures) == 1


def test_idle_models_make_room_before_a_picture_alone_is_given_up(sdxl: Checkpoint) -> None:
    with watched(sdxl.unet) as unet, running(tiny=sdxl) as (engine, held):
        held.size = 2**30
        unet.raises += [None, torch.OutOfMemoryError("CUDA out of memory.")]
        asked = Asked(recipe(steps=4)).start(engine).end()
        assert held.size == 0
    assert differ(asked.pictures[0], alone(sdxl, asked.recipe)[0]) <= 1


def test_a_model_can_refine_what_it_made_itself(sdxl: Checkpoint) -> None:
    asked = recipe(steps=8, refinement=Refinement("tiny", 0.5))
    with watched(sdxl.unet) as unet, running(tiny=sdxl) as (engine, _):
        one = Asked(asked).start(engine).end()
        assert len(unet.rows) == 8
    assert differ(one.pictures[0], alone(sdxl, asked, sdxl)[0]) <= 1


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"
        ),
    ],
)
def test_every_way_to_say_that_memory_is_short_is_understood(sdxl: Checkpoint, error: Exception) -> None:
    with watched(sdxl.vae.decoder) as vae, running(tiny=sdxl) as (engine, _):
        vae.raises.append(error)
        asked = Asked(recipe(steps=2)).start(engine).end()
        assert isinstance(asked.error, OutOfMemory)
        assert asked.error.status == 503
        assert len(Asked(recipe(steps=2)).start(engine).end().pictures) == 1


def test_a_fault_ends_those_who_were_in_the_call_and_no_others(
    sdxl: Checkpoint, sd: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    with watched(sdxl.unet) as unet, running(sdxl=sdxl, sd=sd) as (engine, held):
        unet.raises += [None, None, RuntimeError("a kernel that does not exist")]
        broken = Asked(recipe(model="sdxl", steps=50)).start(engine)
        other = Asked(recipe(model="sd", steps=20)).start(engine).end()
        broken.end()
        assert isinstance(broken.error, ServiceFault)
        assert "kernel" not in str(broken.error.problem()), "what is inside stays inside"
        assert "a kernel that does not exist" in caplog.text
        assert len(other.pictures) == 1
        assert len(Asked(recipe(model="sdxl", steps=2)).start(engine).end().pictures) == 1
        assert held.users == 0


def test_numbers_that_are_no_picture_are_told_as_a_fault(sdxl: Checkpoint) -> None:
    with watched(sdxl.unet), running(tiny=sdxl) as (engine, _):
        weights = sdxl.unet.conv_out.bias
        kept = weights.detach().clone()
        with torch.no_grad():
            weights.fill_(float("nan"))
        try:
            asked = Asked(recipe(steps=2, preview_every=1)).start(engine).end()
        finally:
            with torch.no_grad():
                weights.copy_(kept)
        assert isinstance(asked.error, ServiceFault)
        assert "not a number" in asked.error.detail
        assert len(Asked(recipe(steps=2)).start(engine).end().pictures) == 1


def test_the_end_of_the_engine_ends_what_is_in_flight(sdxl: Checkpoint) -> None:
    with watched(sdxl.unet) as unet, running(tiny=sdxl) as (engine, held):
        unet.pause = 0.01
        asked = Asked(recipe(steps=1000)).start(engine)
        while not asked.progress:
            time.sleep(0.01)
        engine.close()
        asked.end(2)
        assert isinstance(asked.error, Draining)
        late = Asked(recipe(steps=2)).start(engine).end(2)
        assert isinstance(late.error, Draining)
        assert held.users == 0


def test_nothing_is_changed_where_nothing_is_asked(sdxl: Checkpoint) -> None:
    with running(tiny=sdxl) as (engine, _):
        kept = Asked(recipe(kind="image", image=picture(), strength=0.0, steps=3)).start(engine).end()
    assert differ(kept.pictures[0], picture()) == 0
