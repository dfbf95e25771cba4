"""How much of a device the engine uses: SDXL with random weights, in this process, without HTTP.

The peak is measured, not looked up: a large product of matrices in the same numbers. The work of a picture is counted
by PyTorch (multiplications and additions of one call of the UNet, times the steps; the VAE and the encoders once).
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.shapes import Shape, pipeline
from services.diffusion import loader
from services.diffusion.adapters import Switchboard
from services.diffusion.devices import Plan
from services.diffusion.engine import Engine
from services.diffusion.loras import Library
from services.diffusion.recipe import Recipe
from services.diffusion.residents import Resident
from services.models import Models
from services.work import Result

PROMPT, NEGATIVE, GUIDANCE = "a photograph of an astronaut riding a horse", "blurry", 7.0
TERA = 1e12


class Unwatched:
    """A job that nobody cancels."""

    stopped = False

    def check(self) -> None:
        return


class One:
    """Stands for `Residents`: the one model, always there."""

    def __init__(self, resident: Resident) -> None:
        self._resident = resident

    def claim(self, name: str, nets: Any = ()) -> Resident:
        return self._resident

    def release(self, resident: Resident) -> None:
        return


def saturation(shape: Shape, device: torch.device, *, steps: int, rounds: int, compiled: bool) -> None:
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    kind = str(dtype).removeprefix("torch.")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "this processor"
    print(f"\nshape: {shape.name}, {shape.side} x {shape.side}, {steps} steps, {kind}, on {name}", flush=True)
    peak = matrix_peak(device, dtype)
    print(f"  matrices alone reach {peak / TERA:.2f} TFLOP/s", flush=True)
    pipe = pipeline(shape, device, dtype)
    plan = Plan(str(device), dtype, budget=2**62, channels_last=device.type == "cuda")
    checkpoint = loader.settle(loader.checkpoint_of(pipe, "random"), plan)
    pipe.vae.enable_slicing()  # eight pictures at once through the decoder are more than many a GPU holds
    work = flops(pipe, shape, steps)
    print(f"  a picture takes {work / TERA:.3f} TFLOP", flush=True)
    for with_compiler in (False, True) if compiled else (False,):
        if with_compiler:
            loader.compile_blocks(checkpoint.unet)
        label = "compiled" if with_compiler else "as it is"
        for batch in (1, 8):
            with engine_of(checkpoint) as engine:
                makers: list[tuple[str, Callable[[], None]]] = [
                    ("diffusers' pipeline", lambda batch=batch: by_pipeline(pipe, shape, steps, batch)),
                    (
                        "the engine",
                        lambda engine=engine, batch=batch: by_engine(engine, shape, steps, batch),
                    ),
                ]
                times: dict[str, list[float]] = {who: [] for who, _ in makers}
                memory: dict[str, float] = {}
                for who, make in makers:
                    make()  # the first one compiles, chooses kernels and reserves memory
                    memory[who] = _peak_memory(device, make)
                for _ in range(rounds):
                    for who, make in makers:
                        times[who].append(_timed(device, make))
            middles = {who: statistics.median(found) for who, found in times.items()}
            for who, seconds in middles.items():
                rate = batch / seconds
                print(
                    f"  {label}, batch {batch}: {who:20} {seconds:8.3f} s   {rate:7.3f} pictures/s   "
                    f"{rate * work / peak * 100:5.1f} % of the peak   {memory[who]:6.2f} GB",
                    flush=True,
                )
            pipeline_seconds, engine_seconds = middles.values()
            print(
                f"  {label}, batch {batch}: the engine / the pipeline: {pipeline_seconds / engine_seconds:.3f}",
                flush=True,
            )


def matrix_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Multiplications and additions a second, of the best of several sizes."""
    best = 0.0
    for side in (4096, 8192, 16384) if device.type == "cuda" else (512, 1024):
        left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))

        def product(left: torch.Tensor = left, right: torch.Tensor = right) -> None:
            for _ in range(10):
                torch.mm(left, right)

        product()
        best = max(best, 10 * 2 * side**3 / min(_timed(device, product) for _ in range(5)))
    return best


@torch.inference_mode()
def flops(pipe: Any, shape: Shape, steps: int) -> float:
    """The work of one picture with guidance: two rows a step, the decoder, and two texts through both encoders."""
    unet, vae, device, dtype = pipe.unet, pipe.vae, pipe.unet.device, pipe.unet.dtype
    side = shape.side // 2 ** (len(shape.vae["block_out_channels"]) - 1)
    width, pooled = shape.unet["cross_attention_dim"], shape.text_2["projection_dim"]
    latents = torch.zeros(2, 4, side, side, device=device, dtype=dtype)
    text = torch.zeros(2, 77, width, device=device, dtype=dtype)
    added = {
        "text_embeds": torch.zeros(2, pooled, device=device, dtype=dtype),
        "time_ids": torch.zeros(2, 6, device=device, dtype=dtype),
    }
    ids = torch.zeros(2, 77, device=device, dtype=torch.long)
    per_step = _counted(lambda: unet(latents, 1, encoder_hidden_states=text, added_cond_kwargs=added))
    once = _counted(lambda: vae.decode(latents[:1])) + sum(
        _counted(lambda encoder=encoder: encoder(ids)) for encoder in (pipe.text_encoder, pipe.text_encoder_2)
    )
    return per_step * steps + once


def _counted(work: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def by_pipeline(pipe: Any, shape: Shape, steps: int, batch: int) -> None:
    pipe(
        PROMPT,
        negative_prompt=NEGATIVE,
        width=shape.side,
        height=shape.side,
        num_inference_steps=steps,
        guidance_scale=GUIDANCE,
        num_images_per_prompt=batch,
        generator=[torch.Generator("cpu").manual_seed(n) for n in range(batch)],
    )


def by_engine(engine: Engine, shape: Shape, steps: int, batch: int) -> None:
    """As many requests at once as the batch has pictures."""
    made: list[Result] = []
    failed: list[BaseException] = []

    def one(seed: int) -> None:
        recipe = Recipe(
            model="random", prompt=PROMPT, negative_prompt=NEGATIVE, width=shape.side, height=shape.side, steps=steps,
            guidance=GUIDANCE, sampler="dpm++-2m-karras", seed=seed,
        )  # fmt: skip
        try:
            made.extend(item for item in engine.run(recipe, Unwatched()) if isinstance(item, Result))
        except Exception as error:  # noqa: BLE001 - raised again where it is seen
            failed.append(error)

    threads = [threading.Thread(target=one, args=(seed,)) for seed in range(batch)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    if len(made) != batch:
        raise RuntimeError(f"{len(made)} pictures came of {batch}")


@contextmanager
def engine_of(checkpoint: Any) -> Iterator[Engine]:
    with tempfile.TemporaryDirectory() as folder:
        library = Library(Models("sdxl", [], Path(folder)))
        engine = Engine(One(Resident("random", checkpoint, Switchboard(checkpoint, library))))  # type: ignore[arg-type]
        try:
            yield engine
        finally:
            engine.close()


def _timed(device: torch.device, work: Callable[[], None]) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def _peak_memory(device: torch.device, work: Callable[[], None]) -> float:
    """Gigabytes of the device at the highest, models included; 0 where it is a processor."""
    if device.type != "cuda":
        work()
        return 0.0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    work()
    return float(torch.cuda.max_memory_allocated(device) / 1e9)
