"""`darkroom pix2pix`: the whole life of a tiny model by its commands, as a person would type them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from tf_serving.pix2pix import command
from tf_serving.pix2pix.errors import DataError, Pix2PixError
from tf_serving.pix2pix.run import Run


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command in this process, where TensorFlow is loaded already; what it raises comes through."""
    monkeypatch.setattr(command, "tensorflow", lambda threads: None)
    runner = CliRunner()

    def run(*words: object) -> str:
        done = runner.invoke(command.app, [str(word) for word in words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    return run


def test_creatures_are_drawn_and_checked(said: Any, tmp_path: Path) -> None:
    said(
        "data",
        "creatures",
        "--out",
        tmp_path,
        "--count",
        12,
        "--side",
        32,
        "--order",
        "sketch-right",
        "--seed",
        30,
    )
    assert sorted(p.name for p in tmp_path.iterdir())[::11] == ["creature-000030.png", "creature-000041.png"]
    (tmp_path / "bad.png").write_text("no picture")
    words = said("data", "check", "--data", tmp_path, "--order", "sketch-right", "--held-out", 0.4)
    assert "bad.png: it cannot be decoded" in words and "1 skipped" in words


def test_a_model_is_trained_reported_exported_and_used(said: Any, pairs: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "models" / "tiny"
    words = said(
        "train", "--data", pairs, "--held-out", 0.2, "--run", run, "--side", 32, "--width", 4, "--depth", 3,
        "--steps", 2, "--look-every", 2, "--batch", 4,
    )  # fmt: skip
    assert "2 steps. Held out: L1 0." in words and f"report --run {run}" in words
    assert "3 steps" in said("train", "--run", run, "--resume", "--steps", 3, "--learning-rate", 1e-4)
    assert Run.read(run).recipe.learning_rate == 1e-4
    words = said("report", "--run", run)
    assert "gap" in words and "over-fit" in words and (run / "report.html").exists()
    assert said("export", "--run", run, "--out", out, "--name", "tiny").strip() == str(out / "1")
    facts = json.loads((out / "1" / "model.json").read_text())
    assert facts["figures"]["held_out"]["ssim"] > -1 and facts["shape"]["width"] == 4

    sketch, made = tmp_path / "sketch.png", []
    Image.new("L", (50, 20), 255).save(sketch)
    for name, where in (("--run", run), ("--model", out / "1")):
        said("predict", sketch, "--out", tmp_path / "made.png", name, where)
        made.append(Image.open(tmp_path / "made.png").convert("RGB").tobytes())
    assert made[0] == made[1] and len(made[0]) == 50 * 20 * 3


def test_what_is_wrong_is_said_in_a_sentence(said: Any, trained: Run, tmp_path: Path) -> None:
    text = tmp_path / "x.png"
    text.write_text("no picture")
    with pytest.raises(DataError, match="cannot be decoded"):
        said("predict", text, "--out", tmp_path / "y.png", "--run", trained.folder)
    with pytest.raises(DataError, match="no file"):
        said("predict", tmp_path / "z.png", "--out", tmp_path / "y.png", "--run", trained.folder)
    with pytest.raises(Pix2PixError, match="--model"):
        said("predict", text, "--out", tmp_path / "y.png")
    with pytest.raises(Pix2PixError, match="leave out batch, width"):
        said("train", "--run", trained.folder, "--resume", "--batch", 2, "--width", 3)
    with pytest.raises(Pix2PixError, match="not a version folder"):
        said("predict", text, "--out", tmp_path / "y.png", "--model", tmp_path)


def darkroom(*words: str) -> subprocess.CompletedProcess[str]:
    start = "from gateway.cli.main import main; main()"
    line = [sys.executable, "-c", start, "pix2pix", *words]
    return subprocess.run(line, capture_output=True, text=True, timeout=100, check=False)


def test_darkroom_hands_its_words_on_and_gives_the_answer_back(tmp_path: Path) -> None:
    helped = darkroom("train", "--help")
    assert (
        helped.returncode == 0
        and "--learning-rate" in helped.stdout
        and "darkroom pix2pix train" in helped.stdout
    )
    missing = darkroom("report", "--run", str(tmp_path))
    assert missing.returncode == 1 and "Traceback" not in missing.stderr
    assert "is not the folder of a training" in missing.stderr


def test_without_tensorflow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    with pytest.raises(Pix2PixError, match=r"pip install .darkroom\[pix2pix\]"):
        command.tensorflow(0)


def test_the_commands_help_needs_no_tensorflow() -> None:
    code = "import sys, tf_serving.pix2pix.command, gateway.cli.main; print('tensorflow' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
