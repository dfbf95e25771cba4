"""The safety checker: in go finished pictures, out comes which of them must not be shown.

It is Stable Diffusion's own (`CompVis/stable-diffusion-safety-checker`): CLIP's embedding of a picture is compared with
seventeen concepts, and one that lies too near to any is flagged. A flagged picture comes back black and says so; where
every picture of a request is flagged, the request is refused.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from services.errors import Unavailable, Withheld
from services.work import Result

MODEL = "safety-checker"  # its name in the catalogue
_OPENAI_SIZE = 224


def wanted(setting: str, *, micro: bool) -> bool:
    """Whether a model's pictures are checked: `DARKROOM_SAFETY` is on, off, or auto (all but the micro family's)."""
    return setting == "on" or (setting == "auto" and not micro)


def load_safety(
    folder: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Safety:
    """The checker in `folder` (config.json, model.safetensors); raises Unavailable where it is missing or damaged."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    command = f"`darkroom models pull {MODEL}` fetches it; with DARKROOM_SAFETY=off nothing is checked."
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise Unavailable(f"The safety checker is missing: there is no {folder / name}.", help=command)
    try:
        with _quiet("transformers"):
            loaded: Any = StableDiffusionSafetyChecker.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
        checker, report = loaded
    except Exception as error:
        raise Unavailable(
            f"The safety checker in {folder} is damaged ({type(error).__name__}): "
            f"{(str(error).splitlines() or [''])[0][:200]}",
            help=f"Delete {folder}; {command}",
        ) from error
    # transformers fills what a file lacks with random numbers; such a checker would pass anything
    if lacking := sorted({*report["missing_keys"], *map(str, report["mismatched_keys"])}):
        raise Unavailable(
            f"The safety checker in {folder} is damaged: it lacks {', '.join(lacking[:3])}.",
            help=f"Delete {folder}; {command}",
        )
    if (folder / "preprocessor_config.json").is_file():
        preprocess = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
    else:
        size = int(getattr(checker.config.vision_config, "image_size", _OPENAI_SIZE))
        preprocess = CLIPImageProcessorPil(
            size={"shortest_edge": size}, crop_size={"height": size, "width": size}
        )
    return Safety(checker.to(device, dtype).eval().requires_grad_(False), preprocess)


class Safety(torch.nn.Module):
    """The checker, ready; a network among a checkpoint's others, so that it is counted and moved with them."""

    def __init__(self, checker: Any, preprocess: Any) -> None:
        super().__init__()
        self.checker = checker
        self._preprocess = preprocess

    @torch.inference_mode()
    def check(self, images: Sequence[Image.Image]) -> list[bool]:
        """For each picture whether it is flagged."""
        if not images:
            return []
        pixels = self._preprocess(
            [image.convert("RGB") for image in images], return_tensors="pt"
        ).pixel_values
        like = next(self.checker.parameters())
        # it blackens what it is given beside; that is done to pictures here, so it gets as many single pixels
        stand_ins = [np.ones((1, 1, 3), np.float32) for _ in images]
        with _quiet("diffusers"):
            _, flagged = self.checker(clip_input=pixels.to(like.device, like.dtype), images=stand_ins)
        return [bool(flag) for flag in flagged]


def blackened(image: Image.Image) -> Image.Image:
    """What is shown in place of a flagged picture."""
    return Image.new("RGB", image.size)


def refusing(items: Iterable[Any]) -> Iterator[Any]:
    """Passes on what a request's method yields, and raises Withheld in place of its end where every picture of it was
    withheld. Black pictures wait for the first one that may be shown, so that a request that is refused shows none."""
    waiting: list[Result] = []
    shown = False
    for item in items:
        if not isinstance(item, Result) or item.role != "picture":
            yield item
        elif item.withheld and not shown:
            waiting.append(item)
        else:
            shown = True
            yield from waiting
            waiting.clear()
            yield item
    if waiting:
        raise Withheld(
            "The safety checker flagged the picture."
            if len(waiting) == 1
            else f"The safety checker flagged all {len(waiting)} pictures."
        )


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """The library's own warnings tell an operator nothing that is not said better here."""
    log = logging.getLogger(name)
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)
