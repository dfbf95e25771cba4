"""What a person meets first: make's own words, before anything is installed."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def make(*words: str) -> subprocess.CompletedProcess[str]:
    # as in a shell of its own: these tests may themselves run under `make test`, which tells its children so
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    return subprocess.run(
        ["make", *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30
    )


def test_make_alone_lists_what_can_be_made() -> None:
    said = make().stdout
    for target in ("up", "test", "test-all", "check", "fix", "schemas", "docs", "chart", "bench", "clean"):
        assert re.search(rf"^  make {target} +\w", said, re.MULTILINE)


@pytest.mark.parametrize(
    ("python", "sentence"), [("", "install it"), ("/bin/false", "and /bin/false is another")]
)
def test_a_missing_or_unfit_python_gives_one_sentence(tmp_path: Path, python: str, sentence: str) -> None:
    result = make("up", f"VENV={tmp_path}/venv", f"PYTHON={python}")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "Darkroom needs Python 3.11 or 3.12" in result.stderr
    assert sentence in result.stderr
    assert not (tmp_path / "venv").exists()


def test_what_is_installed_is_not_installed_again(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    for name in ("bin/python", ".embedded"):
        (venv / name).touch()
    assert make("-n", "up", f"VENV={venv}").stdout == f"exec {venv}/bin/darkroom up \n"


def test_another_package_index_for_torch_reaches_pip(tmp_path: Path) -> None:
    said = make("-n", "up", f"VENV={tmp_path}", "TORCH_INDEX=https://example.org/cpu").stdout
    assert "--extra-index-url https://example.org/cpu" in said


def test_the_run_of_ci_is_sound_bash_and_calls_the_tests() -> None:
    script = ROOT / ".ci" / "run"
    assert subprocess.run(["bash", "-n", script], timeout=10).returncode == 0
    assert script.stat().st_mode & 0o111
    assert "make check" in script.read_text()
    assert "make test" in script.read_text()
