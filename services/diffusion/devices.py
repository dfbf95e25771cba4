"""What is found on this machine, and how models are kept on it: in go settings and a device, out comes a plan.

`look` asks PyTorch; all that is decided is decided by `plan`, which is arithmetic and needs no device.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from services.errors import Unavailable
from services.settings import DiffusionSettings

GB = 10**9
Offload = Literal["none", "model", "sequential"]
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
# the share of a device's memory that models may fill; the rest is for the work itself
_SHARE_GPU, _SHARE_HOST = 0.8, 0.6


@dataclass(frozen=True, slots=True)
class Found:
    """A device: `memory` is its own, or the computer's, in bytes."""

    device: str
    memory: int
    bfloat16: bool = False
    name: str = ""

    @property
    def kind(self) -> str:
        return self.device.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Plan:
    """How models are loaded and kept."""

    device: str
    dtype: torch.dtype
    budget: int  # bytes for all models in memory
    channels_last: bool = False
    compile: bool = False
    attention: str = "sdpa"
    vae_tiling: bool = False
    vae_slicing: bool = False
    offload: Offload = "none"
    loras: int = 8

    def sentence(self) -> str:
        """For the log."""
        kept = (
            f"{self.device}, {str(self.dtype).removeprefix('torch.')}, {self.budget / GB:.1f} GB for models"
        )
        flags = [
            name for name in ("channels_last", "compile", "vae_tiling", "vae_slicing") if getattr(self, name)
        ]
        more = [*flags, f"attention {self.attention}", f"offload {self.offload}"]
        return f"{kept}; {', '.join(more)}"


def plan(settings: DiffusionSettings, found: Found) -> Plan:
    """What the settings say, and where they say `auto`, what suits the device."""
    gpu = found.kind == "cuda"
    memory_gb = found.memory / GB
    share = _SHARE_GPU if gpu else _SHARE_HOST
    offload: Offload = "none"
    if settings.offload != "auto":
        offload = settings.offload if gpu else "none"
    elif gpu and memory_gb < 8:
        offload = "model"
    if settings.dtype != "auto":
        dtype = _DTYPES[settings.dtype]
    elif found.kind == "cpu":
        dtype = torch.float32
    else:
        dtype = torch.bfloat16 if found.bfloat16 else torch.float16
    budget = settings.memory_mb * 2**20 or int((host_memory() if offload != "none" else found.memory) * share)
    return Plan(
        device=found.device,
        dtype=dtype,
        budget=budget,
        channels_last=_decide(settings.channels_last, gpu),
        compile=settings.compile,
        attention=settings.attention,
        vae_tiling=_decide(settings.vae_tiling, gpu and memory_gb < 12),
        vae_slicing=_decide(settings.vae_slicing, gpu and memory_gb < 16),
        offload=offload,
        loras=settings.loras,
    )


def look(wanted: str = "auto") -> Found:
    """The device that the setting names, or the best there is; Unavailable where it is not there."""
    kind = wanted.partition(":")[0]
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        wanted = kind
    if kind == "cuda":
        return _look_at_cuda(wanted)
    if kind == "mps":
        if not torch.backends.mps.is_available():
            raise Unavailable("DARKROOM_DEVICE says mps, which this machine does not have.", help=_AUTO)
        return Found("mps", host_memory(), name="Apple GPU")
    return Found("cpu", host_memory(), bfloat16=True, name="processor")


_AUTO = "Set DARKROOM_DEVICE=auto, or install the PyTorch that fits this machine."


def _look_at_cuda(wanted: str) -> Found:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = int(wanted.partition(":")[2] or 0)
    if index >= count:
        raise Unavailable(
            f"DARKROOM_DEVICE says {wanted}; PyTorch finds {count} CUDA devices here.", help=_AUTO
        )
    told = torch.cuda.get_device_properties(index)
    return Found(f"cuda:{index}", int(told.total_memory), torch.cuda.is_bf16_supported(), str(told.name))


def host_memory() -> int:
    """The computer's memory, or a container's share of it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            memory = min(memory, int((Path("/sys/fs/cgroup") / name).read_text()))
    return memory


def _decide(setting: Literal["auto", "on", "off"], otherwise: bool) -> bool:
    return otherwise if setting == "auto" else setting == "on"
