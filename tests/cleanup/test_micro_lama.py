"""The shipped net: that its file is the one that the ledger tells of, and what it fills better than a smooth fill."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

import services.cleanup
from services.cleanup.engines.runners import OnnxRunner

WEIGHTS = Path(services.cleanup.__file__).parent / "weights"
MOST = 8 * 2**20


def test_the_ledger_tells_of_the_file_and_of_its_script() -> None:
    told = json.loads((WEIGHTS / "ledger.json").read_text())["files"]
    assert set(told) == {path.name for path in WEIGHTS.glob("*.onnx")} == {"micro.onnx"}
    data = (WEIGHTS / "micro.onnx").read_bytes()
    assert told["micro.onnx"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert told["micro.onnx"]["bytes"] == len(data) <= MOST
    assert (WEIGHTS.parents[2] / told["micro.onnx"]["script"]).is_file()


def test_the_same_picture_is_filled_in_the_same_way_at_any_place_in_a_batch() -> None:
    runner = OnnxRunner(WEIGHTS / "micro.onnx", "micro-lama", 32)
    chance = np.random.default_rng(1)
    image = chance.random((3, 3, 64, 96), dtype=np.float32)
    mask = np.zeros((3, 1, 64, 96), np.float32)
    mask[:, :, 20:40, 30:60] = 1
    together = runner.run(image, mask)
    apart = np.concatenate([runner.run(image[at : at + 1], mask[at : at + 1]) for at in range(3)])
    assert np.abs(together - apart).max() < 1e-4


def test_what_lies_in_the_hole_is_not_looked_at() -> None:
    runner = OnnxRunner(WEIGHTS / "micro.onnx", "micro-lama", 32)
    image = np.random.default_rng(2).random((1, 3, 64, 64), dtype=np.float32)
    mask = np.zeros((1, 1, 64, 64), np.float32)
    mask[..., 20:40, 20:40] = 1
    other = np.where(mask > 0, 1 - image, image)
    assert np.abs(runner.run(image, mask) - runner.run(other, mask)).max() < 1e-5


@pytest.mark.parametrize("size", [(64, 64), (96, 160)])
def test_a_written_file_computes_at_every_size_what_the_net_computes(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed, which the net is trained with")
    from services.cleanup.micro.export import write
    from services.cleanup.micro.net import Net

    torch.manual_seed(3)
    net = Net(outer=16, inner=24, spectral=8, blocks=2).eval()
    write(net, tmp_path / "net.onnx")
    image, mask = torch.rand(2, 3, *size), (torch.rand(2, 1, *size) > 0.8).float()
    with torch.no_grad():
        wished = net(image, mask).numpy()
    found = OnnxRunner(tmp_path / "net.onnx", "net", 32).run(image.numpy(), mask.numpy())
    assert np.abs(found - wished).max() < 1e-3  # weights are kept in half precision


def test_the_spectrum_is_fouriers() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed, which the net is trained with")
    from services.cleanup.micro.net import forward_transform, inverse_transform

    x = torch.rand(1, 2, 12, 20)
    found, wished = forward_transform(x), torch.fft.rfft2(x, norm="ortho")
    assert torch.allclose(found, torch.cat([wished.real, wished.imag], 1), atol=1e-5)
    assert torch.allclose(inverse_transform(found, 20), x, atol=1e-5)


def test_an_edge_goes_on_through_the_hole_in_the_fill_of_its_direction() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed, which the net is trained with")
    from services.cleanup.micro.smooth import DIRECTIONS, FILLS, Fills

    y, x = np.mgrid[0:64, 0:64]
    for at, edge in ((0, y > 31), (DIRECTIONS // 2, x > 31), (DIRECTIONS // 4, y > x)):
        image = torch.from_numpy(np.repeat(edge[None, None], 3, axis=1).astype(np.float32))
        mask = torch.zeros(1, 1, 64, 64)
        mask[..., 20:44, 20:44] = 1
        errors = [float(((one - image) ** 2).mean()) for one in Fills()(image * (1 - mask), mask).split(3, 1)]
        assert len(errors) == FILLS
        assert int(np.argmin(errors)) == at
        assert errors[at] < 0.8 * errors[-1]


def test_drawings_are_the_seeds_own_and_holes_leave_something() -> None:
    from services.cleanup.micro.pictures import Painter, hole

    one, same, other = (Painter(seed, bank=8).picture(96) for seed in (5, 5, 6))
    assert (one == same).all()
    assert (one != other).any()
    chance = np.random.default_rng(1)
    for _ in range(200):
        mask = hole(chance, 128)
        assert set(np.unique(mask)) == {0, 1}
        assert 0.01 < mask.mean() < 0.5


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_training_goes_on_where_it_was_and_writes_file_and_ledger(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed, which the net is trained with")
    from services.cleanup.micro.train import train

    for steps in (1, 2):
        train(tmp_path / "work", steps, weights=tmp_path / "weights", pool=4)
        told = json.loads((tmp_path / "weights" / "ledger.json").read_text())["files"]["micro.onnx"]
        assert told["steps"] == steps
        data = (tmp_path / "weights" / "micro.onnx").read_bytes()
        assert told["sha256"] == hashlib.sha256(data).hexdigest()
