"""What `helm test` runs in a cluster, run here against a real gateway and a real service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ASK = Path(__file__).parents[2] / "helm" / "darkroom" / "files" / "ask.py"
ADMIN = "dk_" + "a" * 43


def ask(url: str, *, key: str = ADMIN, seconds: float = 20) -> subprocess.CompletedProcess[str]:
    # as the pod has it: the program as an argument
    env = os.environ | {"DARKROOM_URL": url, "DARKROOM_KEY": key, "DARKROOM_SECONDS": str(seconds)}
    command = [sys.executable, "-c", ASK.read_text()]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_it_waits_for_the_gateway_and_has_a_picture_made(launch: Any) -> None:
    rmbg = launch("rmbg")
    gateway = launch("gateway", services=json.dumps({"rmbg": [rmbg.url]}), admin_key=ADMIN)
    until = time.monotonic() + 30
    while gateway.get("/readyz")[0] != 200 and time.monotonic() < until:
        time.sleep(0.1)
    done = ask(gateway.url)
    assert done.returncode == 0, done.stderr
    assert "remove-background took" in done.stdout
    refused = ask(gateway.url, key="dk_" + "b" * 43)
    assert refused.returncode == 1
    assert "key is not known" in refused.stderr


def test_it_fails_with_a_sentence_where_nothing_can_be_done(launch: Any) -> None:
    gateway = launch("gateway", services=json.dumps({"rmbg": ["http://127.0.0.1:9"]}), admin_key=ADMIN)
    done = ask(gateway.url)
    assert done.returncode == 1
    assert "No operation can be performed now" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_says_what_it_waited_for_in_vain() -> None:
    done = ask("http://127.0.0.1:9", seconds=0)
    assert done.returncode == 1
    assert "was not ready within 0 s" in done.stderr
