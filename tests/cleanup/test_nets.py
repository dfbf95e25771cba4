"""LaMa and its kin: files of the same inputs and outputs, made here, tell what they were shown."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from services.cleanup.engines import Sight
from services.cleanup.engines.nets import NetEngine
from services.cleanup.engines.runners import OnnxRunner, TorchScriptRunner
from services.cleanup.engines.shelf import Engines
from services.cleanup.strategies import Plan, erase
from services.errors import BadInput, Unavailable
from services.models import ModelEntry, Models, read_catalogue
from services.settings import CleanupSettings


def quiet(_done: int, _total: int) -> None:
    """No progress."""


def waiting() -> None:
    """Somebody still waits."""


def tiny(path: Path, *, side: int | None = None, white: float = 1.0, mask_first: bool = False) -> Path:
    """An ONNX file with LaMa's ports: it turns the hole into the negative of what it was shown there."""
    shape: list[Any] = [1, 3, side, side] if side else ["n", 3, "h", "w"]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)
    mask = helper.make_tensor_value_info("mask", TensorProto.FLOAT, [shape[0], 1, *shape[2:]])
    out = helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)
    constants = [
        helper.make_tensor(name, TensorProto.FLOAT, [], [v]) for name, v in (("one", 1.0), ("white", white))
    ]
    nodes = [
        helper.make_node("Sub", ["one", "image"], ["negative"]),
        helper.make_node("Mul", ["negative", "mask"], ["inside"]),
        helper.make_node("Sub", ["one", "mask"], ["rest"]),
        helper.make_node("Mul", ["image", "rest"], ["outside"]),
        helper.make_node("Add", ["inside", "outside"], ["sum"]),
        helper.make_node("Mul", ["sum", "white"], ["output"]),
    ]
    inputs = [mask, image] if mask_first else [image, mask]
    graph = helper.make_graph(nodes, "tiny", inputs, [out], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def script(path: Path) -> Path:
    """The same as TorchScript, as big-lama.pt is."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed, which TorchScript files need")

    class Tiny(torch.nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, image: Any, mask: Any) -> Any:
            return (1 - image) * mask + image * (1 - mask)

    size = torch.rand(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)
    torch.jit.save(torch.jit.trace(Tiny(), size), str(path))
    return path


def photo(size: tuple[int, int], seed: int = 0) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    )


def hole(size: tuple[int, int], *boxes: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", size)
    for box in boxes:
        mask.paste(255, box)
    return mask


def onnx_engine(path: Path, *, side: int = 128, multiple: int = 8, whole: int = 10**7) -> NetEngine:
    runner = OnnxRunner(path, "tiny", multiple)
    return NetEngine(runner, "tiny", Sight(min(runner.fixed) if runner.fixed else side, 32, 64, whole))


@pytest.mark.parametrize("white", [1.0, 255.0])
@pytest.mark.parametrize("mask_first", [False, True])
@pytest.mark.parametrize("strategy", ["auto", "original", "crop"])
def test_a_net_of_any_size_is_shown_pixels_as_they_are(
    tmp_path: Path, white: float, mask_first: bool, strategy: Any
) -> None:
    engine = onnx_engine(tiny(tmp_path / "tiny.onnx", white=white, mask_first=mask_first))
    image, mask = photo((301, 203)), hole((301, 203), (40, 30, 61, 77), (200, 100, 260, 103))
    before, asked = np.asarray(image), np.asarray(mask) > 127
    after = np.asarray(erase(engine, image, mask, Plan(strategy), quiet))
    assert (after[~asked] == before[~asked]).all()
    assert np.abs(after[asked].astype(int) - (255 - before[asked])).max() <= 1


@pytest.mark.parametrize("size", [(2, 1), (1, 40), (64, 64), (50, 64), (33, 7)])
def test_a_net_of_one_size_is_shown_small_pictures_unscaled(tmp_path: Path, size: tuple[int, int]) -> None:
    engine = onnx_engine(tiny(tmp_path / "tiny.onnx", side=64))
    image, mask = photo(size), hole(size, (0, 0, 1, 1))
    before, after = np.asarray(image), np.asarray(erase(engine, image, mask, Plan(), quiet))
    assert (after.reshape(-1, 3)[1:] == before.reshape(-1, 3)[1:]).all()
    assert np.abs(after[0, 0].astype(int) - (255 - before[0, 0])).max() <= 1


def test_a_long_scratch_is_filled_in_tiles_at_full_size(tmp_path: Path) -> None:
    engine = onnx_engine(tiny(tmp_path / "tiny.onnx"))
    image, mask = photo((900, 400)), hole((900, 400), (10, 190, 890, 196))
    before, asked = np.asarray(image), np.asarray(mask) > 127
    after = np.asarray(erase(engine, image, mask, Plan("crop"), quiet))
    assert np.abs(after[asked].astype(int) - (255 - before[asked])).max() <= 1


def test_a_wide_hole_is_filled_at_a_smaller_size(tmp_path: Path) -> None:
    shown: list[tuple[int, ...]] = []

    class Watching(OnnxRunner):
        def run(self, image: Any, mask: Any) -> Any:
            shown.append(image.shape[2:])
            return super().run(image, mask)

    engine = NetEngine(Watching(tiny(tmp_path / "tiny.onnx"), "tiny", 8), "tiny", Sight(128, 32, 64, 10**7))
    image = Image.new("RGB", (1000, 1000), (200, 100, 50))
    after = erase(engine, image, hole(image.size, (200, 200, 800, 800)), Plan("crop"), quiet)
    assert max(max(size) for size in shown) == 128
    assert np.abs(np.asarray(after)[500, 500].astype(int) - (55, 155, 205)).max() <= 2


def test_the_whole_of_a_picture_that_is_too_large_is_refused_with_what_to_ask_for(tmp_path: Path) -> None:
    engine = onnx_engine(tiny(tmp_path / "tiny.onnx"), whole=200 * 200)
    image, mask = photo((400, 300)), hole((400, 300), (5, 5, 9, 9))
    with pytest.raises(BadInput, match="at most 40,000 pixels") as raised:
        erase(engine, image, mask, Plan("original"), quiet)
    assert raised.value.field == "strategy"
    with pytest.raises(BadInput) as raised:
        erase(engine, image, mask, Plan("resize", limit=390), quiet)
    assert raised.value.field == "limit"
    for plan in (Plan("resize", limit=200), Plan("crop"), Plan()):
        assert erase(engine, image, mask, plan, quiet).size == image.size


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_torchscript_fills_as_onnx_does(tmp_path: Path) -> None:
    runner = TorchScriptRunner(script(tmp_path / "big-lama.pt"), "lama", 8)
    engine = NetEngine(runner, "lama", Sight(128, 32, 64, 10**7))
    image, mask = photo((301, 203)), hole((301, 203), (40, 30, 61, 77))
    other = onnx_engine(tiny(tmp_path / "tiny.onnx"))
    one, two = (erase(by, image, mask, Plan(), quiet) for by in (engine, other))
    assert one.tobytes() == two.tobytes()


def test_a_step_that_stops_ends_the_work_between_two_tiles(tmp_path: Path) -> None:
    engine = onnx_engine(tiny(tmp_path / "tiny.onnx"))
    image, mask = photo((900, 400)), hole((900, 400), (10, 190, 890, 196))
    calls = 0

    def step(_done: int, _total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        erase(engine, image, mask, Plan("crop"), step)


# ── files that are not what they should be ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", [OnnxRunner, TorchScriptRunner])
@pytest.mark.parametrize("data", [b"", b"not a model", b"PK\x03\x04 cut short"])
def test_a_damaged_file_is_told_with_the_command_that_mends_it(
    tmp_path: Path, kind: Any, data: bytes
) -> None:
    if kind is TorchScriptRunner:
        pytest.importorskip("torch")
    path = tmp_path / "model"
    path.write_bytes(data)
    with pytest.raises(Unavailable, match="damaged") as raised:
        kind(path, "lama", 8)
    assert "darkroom models pull lama" in raised.value.what_to_do


def test_a_net_that_is_none_of_lamas_kind_is_refused(tmp_path: Path) -> None:
    port = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", "w"])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 3, "h", "w"])
    graph = helper.make_graph([helper.make_node("Relu", ["image"], ["out"])], "other", [port], [out])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        tmp_path / "a.onnx",
    )
    with pytest.raises(Unavailable, match="not a picture and a mask"):
        OnnxRunner(tmp_path / "a.onnx", "lama-onnx", 8)


def shelf(folder: Path, *entries: ModelEntry) -> tuple[Engines, Models]:
    models = Models("cleanup", list(entries), folder)
    return Engines(models, CleanupSettings()), models


def entry(path: Path, data: bytes, **more: Any) -> ModelEntry:
    file = {"path": path.name, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    fields: dict[str, Any] = {"service": "cleanup", "licence": "x", "engine": "lama-onnx", "files": [file]}
    defaults = {"side": 128, "least": 64, "whole": 10**7, "multiple": 8}
    return ModelEntry(name="big", source="some/where", defaults=defaults, **fields | more)


def test_a_fetched_model_is_offered_and_opened_when_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    path = tiny(tmp_path / "big" / "net.onnx")
    engines, models = shelf(tmp_path, entry(path, path.read_bytes()))
    assert models.is_offered("big")
    assert not models.is_loaded("big")
    assert engines["big"] is engines["big"]
    assert models.is_loaded("big")


def test_a_file_with_another_checksum_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    path = tiny(tmp_path / "big" / "net.onnx")
    named = entry(path, path.read_bytes())
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(Unavailable, match="checksum is another") as raised:
        shelf(tmp_path, named)
    assert "darkroom models pull big" in raised.value.what_to_do


def test_a_file_that_is_cut_short_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    path = tiny(tmp_path / "big" / "net.onnx")
    named = entry(path, path.read_bytes())
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(Unavailable, match="cut short"):
        shelf(tmp_path, named)


def test_what_was_not_fetched_is_not_offered(tmp_path: Path) -> None:
    engines, models = shelf(tmp_path, *read_catalogue())
    assert not models.is_offered("lama")
    assert not models.is_offered("lama-onnx")
    assert models.is_loaded("micro-lama")
    assert engines.best() == "telea"


def test_a_net_of_ones_own_is_named_by_its_folder_and_file(tmp_path: Path) -> None:
    tiny(tmp_path / "mine.onnx", white=255.0)
    mine = ModelEntry(
        name="mine",
        service="cleanup",
        engine="lama-onnx",
        licence="mine",
        folder=str(tmp_path),
        single_file="mine.onnx",
    )
    engines, models = shelf(tmp_path / "models", mine)
    assert models.is_loaded("mine")
    image, mask = photo((40, 30)), hole((40, 30), (4, 4, 8, 8))
    assert np.asarray(erase(engines["mine"], image, mask, Plan(), quiet))[5, 5].tolist() == [
        255 - level for level in np.asarray(image)[5, 5]
    ]


def test_auto_takes_a_lama_that_was_fetched(tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    path = tiny(tmp_path / "big" / "net.onnx")
    engines, _ = shelf(tmp_path, *read_catalogue(), entry(path, path.read_bytes(), rank=60))
    assert engines.best() == "big"


def test_the_catalogue_knows_big_lama_as_iopaint_does() -> None:
    lama = next(one for one in read_catalogue() if one.name == "lama")
    assert [file.path for file in lama.files] == ["big-lama.pt"]
    assert lama.licence == "Apache-2.0"
    assert lama.files[0].size == 205_669_692
