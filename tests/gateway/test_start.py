"""Processes that are told to stop: before they have begun, and when they have nothing to do."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from urllib.request import urlopen

import psutil
import pytest

from tests.servers import free_port

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


def test_a_service_that_has_nothing_to_do_ends_without_tidying_up_for_seconds() -> None:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "services.serve", "rmbg", f"--port={port}"],
        env=os.environ | {"DARKROOM_DRAIN_LEAD": "0"},
    )
    try:
        until = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                break
            assert time.monotonic() < until
            time.sleep(0.1)
        before = psutil.Process(process.pid).cpu_times()
        process.send_signal(signal.SIGTERM)
        _, status, after = os.wait4(process.pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        # of the processor, since by the clock it depends on what else runs
        assert after.ru_utime + after.ru_stime - before.user - before.system < 0.3
    finally:
        process.kill()
