"""The ledger of the committed models: the bytes and the checksum of every file, and what made it.

`python -m tf_serving.pix2pix.ledger` writes `tf_serving/models/ledger.json` from what lies there; a test holds it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

MODELS = Path(__file__).parent.parent / "models"
LEDGER = MODELS / "ledger.json"
SCRIPT = "tf_serving/pix2pix/command.py"
MOST = 15 * 1024**2


def entries(models: Path = MODELS) -> dict[str, dict[str, str | int]]:
    """For each file below a model's folder, by its name from `models`."""
    return {
        path.relative_to(models).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "script": SCRIPT,
        }
        for path in sorted(models.glob("*/*/*"))
        if path.is_file() and path.parent.name.isdecimal()
    }


if __name__ == "__main__":
    LEDGER.write_text(json.dumps({"files": entries()}, indent=2) + "\n")
