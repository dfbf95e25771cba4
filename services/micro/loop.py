"""The training loop that all stages share: in go parameters and a function that gives one step's loss; out come
trained parameters, their running average, checkpoints to go on from, and a line of progress with the time left.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class Muon(torch.optim.Optimizer):
    """Momentum whose update for a matrix is made orthogonal by five Newton-Schulz iterations (K. Jordan, 2024).

    It takes about two thirds of Adam's steps here. Convolutions are matrices of (out, in x height x width).
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(list(params), {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(state["momentum"], group["momentum"]).flatten(1)
                update = _orthogonal(update)
                scale = 0.2 * max(update.shape) ** 0.5  # so that Adam's rates and this one's are alike
                parameter.add_(update.view_as(parameter), alpha=-group["lr"] * scale)


def _orthogonal(matrix: Tensor) -> Tensor:
    """In bfloat16: nearness to an orthogonal matrix is all that is wanted."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = (x / (x.norm() + 1e-7)).to(torch.bfloat16)
    for _ in range(5):
        product = x @ x.T
        polynomial = torch.addmm(product, product, product, beta=-4.7750, alpha=2.0315)
        x = torch.addmm(x, polynomial, x, beta=3.4445)
    out: Tensor = (x.T if tall else x).to(matrix.dtype)
    return out


class Loop:
    """Trains `modules` for `steps`; `work` keeps a checkpoint, from which a second start goes on."""

    def __init__(
        self,
        name: str,
        modules: dict[str, nn.Module],
        steps: int,
        *,
        lr: float,
        work: Path,
        average: float = 0.995,
        slow: dict[str, float] | None = None,
        clip: float = 1.0,
        muon: bool = True,
        warmup: int = 100,
    ) -> None:
        self.name, self.modules, self.steps, self.lr, self.clip = name, modules, steps, lr, clip
        self.warmup, self.decay = warmup, average
        self.path = work / f"{name}.pt"
        self.done = 0
        self.optimisers: list[torch.optim.Optimizer] = []
        self.rates: list[float] = []
        for key, module in modules.items():
            share = (slow or {}).get(key, 1.0)
            matrices, others = _split(module) if muon else ([], list(module.parameters()))
            if matrices:
                self.optimisers.append(Muon(matrices, lr * share))
                self.rates.append(lr * share)
            if others:
                self.optimisers.append(torch.optim.AdamW(others, lr * share, (0.9, 0.98), weight_decay=0.0))
                self.rates.append(lr * share)
        self.average = {key: {k: v.clone() for k, v in m.state_dict().items()} for key, m in modules.items()}
        if self.path.exists():
            self._load()

    def run(
        self,
        loss: Callable[[int], tuple[Tensor, dict[str, float]]],
        *,
        look: Callable[[int], str] | None = None,
        every: int = 50,
        save: int = 250,
        looks: int = 1000,
    ) -> None:
        parameters = [p for m in self.modules.values() for p in m.parameters()]
        started, first, running = time.monotonic(), self.done, {}  # type: ignore[var-annotated]
        for step in range(self.done, self.steps):
            factor = min(1.0, (step + 1) / self.warmup) * (
                0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * step / self.steps))
            )
            for optimiser, rate in zip(self.optimisers, self.rates, strict=True):
                for group in optimiser.param_groups:
                    group["lr"] = rate * factor
            value, figures = loss(step)
            for optimiser in self.optimisers:
                optimiser.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, self.clip)
            for optimiser in self.optimisers:
                optimiser.step()
            self._remember(step)
            self.done = step + 1
            for key, figure in {"loss": float(value.detach()), **figures}.items():
                running[key] = figure if key not in running else 0.97 * running[key] + 0.03 * figure
            if self.done % every == 0 or self.done == self.steps:
                pace = (time.monotonic() - started) / (self.done - first)
                left = pace * (self.steps - self.done) / 60
                text = " ".join(f"{key} {figure:.5f}" for key, figure in running.items())
                line = f"{self.name} {self.done}/{self.steps} {text} {pace:.2f} s/step, {left:.0f} min left"
                print(line, flush=True)  # noqa: T201
            if self.done % save == 0 or self.done == self.steps:
                self._save()
            if look and (self.done % looks == 0 or self.done == self.steps):
                print(f"{self.name} {self.done}: {look(self.done)}", flush=True)  # noqa: T201

    def averaged(self) -> None:
        """Puts the running average into the modules."""
        for key, module in self.modules.items():
            module.load_state_dict(self.average[key])

    @torch.no_grad()
    def _remember(self, step: int) -> None:
        decay = min(self.decay, (step + 1) / (step + 10))
        for key, module in self.modules.items():
            for name, value in module.state_dict().items():
                if value.is_floating_point():
                    self.average[key][name].lerp_(value, 1 - decay)
                else:
                    self.average[key][name].copy_(value)

    def _save(self) -> None:
        state = {
            "done": self.done,
            "modules": {key: module.state_dict() for key, module in self.modules.items()},
            "average": self.average,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }
        part = self.path.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.path)

    def _load(self) -> None:
        state = torch.load(self.path, weights_only=True)
        self.done = state["done"]
        for key, module in self.modules.items():
            module.load_state_dict(state["modules"][key])
        self.average = state["average"]
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)


def keep(module: Any, folder: Path, precision: torch.dtype = torch.float32) -> None:
    """Writes a module as diffusers and transformers do, in the precision asked, as safetensors."""
    module.to(precision).save_pretrained(str(folder), safe_serialization=True)
    config = folder / "config.json"
    written = json.loads(config.read_text(), object_hook=_portable)
    config.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n")
    module.to(torch.float32)


def _portable(said: dict[str, Any]) -> dict[str, Any]:
    """A configuration without the folder that its part was loaded from, which is one machine's own."""
    said.pop("_name_or_path", None)
    if said.get("dtype") == "float16":  # else transformers would compute in the precision of the file
        said["dtype"] = "float32"
    return said


def _split(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Inner matrices, which Muon takes, and all else: vectors, embeddings, what touches pixels or latents."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        outer = any(part in name for part in ("conv_in", "conv_out", "embedding.weight", "class_embedding"))
        (
            matrices if parameter.ndim >= 2 and min(parameter.flatten(1).shape) >= 8 and not outer else others
        ).append(parameter)
    return matrices, others
