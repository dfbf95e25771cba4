"""A gateway that is told to stop before it has begun."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

# as the kernel does it for the first process of a container: what has no handler is not ended
IGNORED = """
import os, signal, sys
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.parametrize("module", ["gateway", "tf_serving", "services.serve"])
def test_a_process_that_is_told_to_stop_while_it_starts_ends_at_once_with_0(module: str) -> None:
    arguments = {"services.serve": ["rmbg", "--port=0"], "tf_serving": ["--model_base_path=/nowhere"]}
    process = subprocess.Popen(
        [sys.executable, "-c", IGNORED, "-X", "importtime", "-m", module, *arguments.get(module, [])],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:  # it imports what it needs, with seconds to go
            if line.rstrip().endswith(("pydantic_core", "numpy", "grpc")):
                break
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        assert process.returncode == 0
        assert time.monotonic() - began < 5
    finally:
        process.kill()
        process.communicate()
