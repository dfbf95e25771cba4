"""diffusers' StableDiffusionXLPipeline, called in a loop: what a script does that serves nobody else.

    python -m bench.peers.pipeline FOLDER DEVICE DTYPE THREADS

It reads a JSON object a line ({"count", "steps", "side", "seed", "keep"}), makes the pictures, and answers each with
a line {"seconds"}; `keep` is where the last picture is written, so that it can be compared. The first line it writes is
{"ready": true}.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionXLPipeline

PROMPT = "a red circle on a blue background"
NEGATIVE = "blurry"
GUIDANCE = 7.0


def load(folder: str, device: str, dtype: str) -> Any:
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, torch_dtype=getattr(torch, dtype))
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
        pipeline.scheduler.config, use_karras_sigmas=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def picture(pipeline: Any, *, steps: int, side: int, seed: int) -> Any:
    return pipeline(
        PROMPT,
        negative_prompt=NEGATIVE,
        width=side,
        height=side,
        num_inference_steps=steps,
        guidance_scale=GUIDANCE,
        generator=torch.Generator("cpu").manual_seed(seed),
    ).images[0]


def main() -> None:
    folder, device, dtype, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    pipeline = load(folder, device, dtype)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        began = time.perf_counter()
        for n in range(asked["count"]):
            made = picture(pipeline, steps=asked["steps"], side=asked["side"], seed=asked["seed"] + n)
        seconds = time.perf_counter() - began
        if asked.get("keep"):
            made.save(asked["keep"])
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
