"""The training loop goes on where it was stopped, and its optimiser does what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from services.micro import train
from services.micro.loop import Loop, Muon


def task(step: int, model: nn.Module) -> tuple[Tensor, dict[str, float]]:
    inputs = torch.randn(16, 12, generator=torch.Generator().manual_seed(step))
    return ((model(inputs) - inputs.roll(1, 1)) ** 2).mean(), {}


def loop(work: Path, steps: int = 40) -> tuple[Loop, nn.Module]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 24), nn.SiLU(), nn.Linear(24, 12))
    return Loop("task", {"model": model}, steps, lr=1e-2, work=work, warmup=5), model


class Stopped(Exception):
    pass


def test_a_stopped_training_ends_as_one_that_was_not(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole, model = loop(tmp_path / "whole")
    whole.run(lambda step: task(step, model), save=10)

    first, part = loop(tmp_path / "parts")

    def stop_at_25(step: int) -> tuple[Tensor, dict[str, float]]:
        if step == 25:
            raise Stopped
        return task(step, part)

    with pytest.raises(Stopped):
        first.run(stop_at_25, save=10)
    second, rest = loop(tmp_path / "parts")
    assert second.done == 20
    second.run(lambda step: task(step, rest), save=10)

    for a, b in zip(model.parameters(), rest.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    for key, value in whole.average["model"].items():
        assert torch.allclose(value, second.average["model"][key], atol=1e-6)


def test_training_learns_and_says_how_long_it_still_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with torch.no_grad():
        before = float(task(10_000, loop(tmp_path)[1])[0])
    trained, model = loop(tmp_path, 150)
    trained.run(lambda step: task(step, model), every=50)
    with torch.no_grad():
        after = float(task(10_000, model)[0])
    assert after < before / 2
    assert "task 50/150" in (said := capsys.readouterr().out)
    assert "min left" in said


def test_an_update_of_muon_is_nearly_orthogonal() -> None:
    matrix = nn.Parameter(torch.zeros(16, 40))
    matrix.grad = torch.randn(16, 40, generator=torch.Generator().manual_seed(1))
    Muon([matrix], lr=1.0).step()
    values = torch.linalg.svdvals(matrix.detach() / (0.2 * 40**0.5))
    assert float(values.min()) > 0.5
    assert float(values.max()) < 1.5


def test_each_stage_comes_after_what_it_needs() -> None:
    seen: list[str] = []
    for name, (minutes, needs, _) in train.STAGES.items():
        assert set(needs) <= set(seen), name
        assert 0 < minutes <= 90
        seen.append(name)
