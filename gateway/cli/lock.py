"""The lock on a data folder: one `darkroom up` at a time, and the second learns who holds it."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from types import TracebackType

from gateway.cli.console import Stop
from gateway.local import read_note


class FolderLock:
    """Held as long as the process lives; the kernel frees it however the process ends."""

    def __init__(self, data: Path, address: str) -> None:
        self._path, self._address = data / "lock", address
        self._descriptor: int | None = None

    def __enter__(self) -> FolderLock:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Stop(
                f"The data folder {self._path.parent} cannot be written ({error.strerror}): "
                "set DARKROOM_DATA to a folder you may write."
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = read_note(descriptor)
            os.close(descriptor)
            raise Stop(
                f"The data folder {self._path.parent} is in use by process {holder.get('pid', '?')} "
                f"at {holder.get('address', 'an unknown address')}: stop that one, "
                "or set DARKROOM_DATA to another folder."
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "address": self._address}).encode(), 0)
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
