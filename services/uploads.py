"""A LoRA's file that comes with a request: in go its bytes, out goes a checked file named by its digest.

Only the safetensors format is taken, and only its head is read here, within bounds: nothing of it is executed or
unpacked. The same file sent twice lies here once, so that what is already attached to a model stays attached. The
folder holds a bounded number of bytes; what was not used for longest leaves first.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from services.errors import BadInput, TooLarge
from services.models_disk import read_head
from services.settings import Limits

SCHEME = "sha256:"
MAX_TENSORS = 20_000
MAX_TOTAL = 4 * 2**30
_PIECE = 4 * 2**20
_DTYPES = frozenset(("F64", "F32", "F16", "BF16", "I64", "I32"))  # integers: the alphas of some trainers
_tidying = threading.Lock()


def folder() -> Path:
    """Where they lie: a temporary folder of this user, which the services of one machine share."""
    found = Path(tempfile.gettempdir()) / f"darkroom-loras-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    found.mkdir(mode=0o700, exist_ok=True)
    status = found.lstat()
    if found.is_symlink() or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
        raise BadInput(f"{found} belongs to somebody else.", help="Set TMPDIR to a folder of your own.")
    return found


def looks_like_weights(head: bytes) -> bool:
    """Whether a file that begins so (nine bytes do) says that it is safetensors; nothing else of it is known then."""
    return len(head) >= 9 and head[4:8] == b"\0\0\0\0" and head[8:9] == b"{"


def keep(data: bytes | IO[bytes], limits: Limits, field: str) -> Path:
    """The checked file of these bytes; BadInput or TooLarge says what is wrong with them."""
    handle, temporary = tempfile.mkstemp(dir=folder(), prefix=".coming-")
    path = Path(temporary)
    try:
        with os.fdopen(handle, "wb") as opened:
            digest, size = hashlib.sha256(), 0
            for piece in _pieces(data):
                size += len(piece)
                if size > limits.max_lora_bytes:
                    raise TooLarge(
                        f"A LoRA's file may have {limits.max_lora_bytes:,} bytes at most.", field=field
                    )
                digest.update(piece)
                opened.write(piece)
        check(path, field)
        kept = folder() / f"{digest.hexdigest()}.safetensors"
        path.replace(kept)
        os.utime(kept)
        _tidy(kept)
        return kept
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def source_of(path: Path) -> str:
    """How a recipe names a file that `keep` gave: `sha256:...`."""
    return SCHEME + path.stem


def find(source: str) -> Path | None:
    """The file of a `sha256:...`, if it is still here."""
    path = folder() / f"{source.removeprefix(SCHEME)}.safetensors"
    if not path.is_file():
        return None
    with suppress(OSError):
        os.utime(path)
    return path


def check(path: Path, field: str) -> None:
    """Refuses what is not a safetensors file of plain numbers."""
    try:
        head = read_head(path, max_tensors=MAX_TENSORS, max_head=8 * 2**20)
    except ValueError as error:
        raise BadInput(f"The file {error}.", field=field, help=_HELP) from error
    tensors = [told for name, told in head.items() if name != "__metadata__"]
    if not tensors:
        raise BadInput("The file has no tensors.", field=field, help=_HELP)
    strange = {str(told.get("dtype")) for told in tensors} - _DTYPES
    if strange:
        raise BadInput(
            f"The file has tensors of the kind {', '.join(sorted(strange))[:80]}, which no LoRA has.",
            field=field,
            help=_HELP,
        )


_HELP = "Send a LoRA as a whole safetensors file; other formats can run code and are not taken."


def _pieces(data: bytes | IO[bytes]) -> Iterator[bytes]:
    if isinstance(data, bytes | bytearray | memoryview):
        return (data[at : at + _PIECE] for at in range(0, len(data), _PIECE))
    return iter(lambda: data.read(_PIECE), b"")


def _tidy(newest: Path) -> None:
    """Deletes what was not used for longest, down to the bound."""
    with _tidying:
        files = []
        for path in folder().glob("*.safetensors"):
            with suppress(OSError):
                status = path.stat()
                files.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= MAX_TOTAL:
                return
            if path != newest:
                with suppress(OSError):
                    path.unlink()
                total -= size
