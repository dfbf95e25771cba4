"""`darkroom pix2pix`: hands its words on to `python -m tf_serving.pix2pix`, so that the gateway's process never holds
TensorFlow, and so that the command works where TensorFlow is not installed and can say so.
"""

from __future__ import annotations

import signal
import subprocess
import sys

import typer


def pix2pix(context: typer.Context) -> None:
    """Train a Pix2Pix model, judge it, and make it ready to be served."""
    child = subprocess.Popen([sys.executable, "-m", "tf_serving.pix2pix", *context.args])
    # Ctrl-C reaches the child too, which saves what it has learned; we wait for it.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        code = child.wait()
    finally:
        signal.signal(signal.SIGINT, before)
    raise typer.Exit(code if code >= 0 else 128 - code)
