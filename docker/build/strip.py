"""Takes the symbols for debuggers out of the shared libraries below a folder: `python3 strip.py FOLDER`.

What a wheel's builder has edited (patchelf), strip may lay out so that the loader refuses it: that stays as it was.
CUDA's libraries stay as NVIDIA built them, and with them what is linked to them.
"""

import shutil
import struct
import subprocess
import sys
from pathlib import Path

LOAD = 1


def loadable(path: Path) -> bool:
    """What the loader asks of each segment: that its place in the file and in memory agree within a page."""
    with path.open("rb") as file:
        head = file.read(64)
        (table,) = struct.unpack_from("<Q", head, 0x20)
        size, count = struct.unpack_from("<HH", head, 0x36)
        file.seek(table)
        entries = file.read(size * count)
    for at in range(0, size * count, size):
        (kind,) = struct.unpack_from("<I", entries, at)
        offset, address = struct.unpack_from("<QQ", entries, at + 8)
        (page,) = struct.unpack_from("<Q", entries, at + 48)
        if kind == LOAD and (page % 4096 or (address - offset) % page):
            return False
    return True


def main() -> None:
    site = Path(sys.argv[1])
    cuda = (site / "nvidia").is_dir()
    stripped = Path("/tmp/stripped.so")
    for path in sorted(site.rglob("*.so*")):
        of_cuda = "nvidia" in path.parts or (cuda and "torch" in path.parts)
        if of_cuda or path.is_symlink() or not path.is_file() or path.open("rb").read(5) != b"\x7fELF\x02":
            continue
        done = subprocess.run(["strip", "--strip-unneeded", "-o", stripped, path], capture_output=True)
        if done.returncode == 0 and loadable(stripped) and stripped.stat().st_size < path.stat().st_size:
            shutil.copyfile(stripped, path)
    stripped.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
