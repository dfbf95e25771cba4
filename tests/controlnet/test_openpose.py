"""OpenPose through the real controlnet-aux, in an environment made for it.

controlnet-aux needs torchvision, whose build for another kind of torch breaks everything else while it is installed. So
where the extra `openpose` is not installed, a folder is filled with it for one process alone.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
NEEDED = [
    "controlnet-aux==0.0.10",
    "timm>=1,<2",
    "scipy",
    "scikit-image",
    "einops",
    "importlib_metadata",
    "zipp",
]
NEEDED += ["lazy_loader", "matplotlib", "contourpy", "cycler", "kiwisolver", "pyparsing", "fonttools"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def path() -> Iterator[str]:
    """PYTHONPATH with controlnet-aux and what it needs beside torch."""
    if importlib.util.find_spec("controlnet_aux") is not None:
        yield str(ROOT)
        return
    minor = int(version("torch").split(".")[1])
    with tempfile.TemporaryDirectory(prefix="darkroom-openpose-") as folder:
        install = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--target",
            folder,
            *NEEDED,
        ]
        subprocess.run([*install, f"torchvision==0.{minor + 15}.*"], check=True, timeout=300)
        yield os.pathsep.join([str(ROOT), folder])


@pytest.fixture(scope="module")
def told(path: str, samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    script = Path(__file__).with_name("openpose_run.py")
    ran = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            script,
            tmp_path_factory.mktemp("weights"),
            samples / "astronaut.jpg",
        ],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout)


def test_a_person_is_found_where_the_net_saw_it(told: Any) -> None:
    (person,) = told["people"]
    for (x, y, seen), (wanted_x, wanted_y) in zip(person["body"], told["expected"], strict=True):
        assert abs(x - wanted_x) < 10
        assert abs(y - wanted_y) < 10
        assert 0.8 < seen <= 1


def test_hands_and_face_are_read_near_wrists_and_nose(told: Any) -> None:
    (person,) = told["people"]
    for part, joint, reach in [("left_hand", 7, 130), ("right_hand", 4, 130), ("face", 0, 200)]:
        seen = [point for point in person[part] if point[2] > 0]
        assert seen, part
        x, y, _ = person["body"][joint]
        assert all(abs(px - x) < reach and abs(py - y) < reach for px, py, _ in seen), part
    assert len(person["face"]) == 70
    assert len(person["left_hand"]) == 21


def test_hands_and_face_are_offered_where_their_weights_are(told: Any) -> None:
    assert told["bodies_only"] == [False, False]
    assert told["all"] == [True, True]


def test_nets_that_know_nothing_find_nobody(told: Any) -> None:
    assert told["random"] == 0


def test_a_missing_or_wrong_file_is_named(told: Any) -> None:
    assert "body_pose_model.pth is missing" in told["missing"]
    assert "hand_pose_model.pth does not hold the weights of this net" in told["damaged"]
