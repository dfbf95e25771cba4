"""Which finder the service loads: YuNet where its file is there and right, else the cascades."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
from PIL import Image

from services.errors import Unavailable
from services.models import Models, own_catalogues, read_catalogue
from services.portrait.finders import finders
from services.portrait.yunet import FILE
from tests.services.conftest import process


def models_in(folder: Path) -> Models:
    return Models("portrait", read_catalogue(*own_catalogues(folder)), folder)


@pytest.fixture
def pulled(tmp_path: Path, yunet: Path) -> Path:
    """A models' folder with the net of the tests, whose checksum its own catalogue names."""
    (tmp_path / "yunet").mkdir()
    data = yunet.read_bytes()
    (tmp_path / "yunet" / FILE).write_bytes(data)
    (tmp_path / "models.yaml").write_text(
        f"""yunet:
  service: portrait
  engine: yunet
  licence: MIT
  source: somebody/yunet
  files: [{{path: {FILE}, sha256: {hashlib.sha256(data).hexdigest()}, size: {len(data)}}}]
  rank: 10
"""
    )
    return tmp_path


def test_without_a_file_auto_is_the_cascades(tmp_path: Path) -> None:
    models = models_in(tmp_path)
    assert list(finders(models)) == ["haar"]
    assert models.resolve("auto") == "haar"


def test_with_its_file_auto_is_yunet(pulled: Path) -> None:
    models = models_in(pulled)
    assert set(finders(models)) == {"haar", "yunet"}
    assert models.resolve("auto") == "yunet"


def test_a_file_that_is_not_the_catalogues_stops_the_start_with_the_command(
    tmp_path: Path, yunet: Path
) -> None:
    (tmp_path / "yunet").mkdir()
    (tmp_path / "yunet" / FILE).write_bytes(yunet.read_bytes())
    with pytest.raises(Unavailable, match=FILE) as caught:
        finders(models_in(tmp_path))
    assert "darkroom models pull yunet" in caught.value.what_to_do


def test_yunets_face_becomes_the_portrait_over_http(pulled: Path) -> None:
    photo = Image.new("RGB", (640, 480), (60, 40, 30))
    photo.paste((255, 255, 255), (320, 240, 328, 248))
    data = io.BytesIO()
    photo.save(data, "PNG")
    with process("portrait", DARKROOM_MODELS_PATH=str(pulled)) as (caller, _):
        told = caller.run("portrait", {"cutter": "none"}, {"image": data.getvalue()}).done["data"]
    assert told["model"] == "yunet"
    assert (told["face"]["width"], told["face"]["height"]) == (64, 80)
    assert told["turned"] == pytest.approx(14, abs=1), "its eyes are level afterwards"
