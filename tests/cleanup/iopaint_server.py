"""A real IOPaint server for the tests, in its own environment, whose python DARKROOM_TEST_IOPAINT names.

Where torchvision was built for another torch than the one beside it, the operators that its library would register are
named first; IOPaint's cv2 model needs none of them, but IOPaint imports them.
"""

from __future__ import annotations

import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import free_port

VARIABLE = "DARKROOM_TEST_IOPAINT"
_BEFORE = """
import glob, importlib.util, os
spec = importlib.util.find_spec("torchvision")
if spec and spec.submodule_search_locations:
    import torch
    try:
        for path in glob.glob(os.path.join(spec.submodule_search_locations[0], "_C*.so")):
            torch.ops.load_library(path)
    except OSError:
        pass
    if not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
_START = "import sys; exec(sys.stdin.read()); from iopaint import entry_point; entry_point()"


@contextmanager
def iopaint(python: str, folder: Path) -> Iterator[str]:
    """The address of a server that holds the model cv2."""
    port = free_port()
    before = folder / "before.py"
    before.write_text(_BEFORE)
    with (folder / "iopaint.log").open("wb") as log, before.open("rb") as source:
        process = subprocess.Popen(
            [
                *(python, "-c", _START, "start", "--model=cv2", "--device=cpu"),
                *("--host=127.0.0.1", f"--port={port}", f"--model-dir={folder}"),
            ],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdin=source,
            stdout=log,
            stderr=log,
        )
    try:
        _wait(f"http://127.0.0.1:{port}", process, folder / "iopaint.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 180
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/api/v1/model", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"IOPaint did not start: {log.read_text()[-2000:]}")
