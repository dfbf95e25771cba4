"""What pip is to install for an extra of pyproject.toml: `python3 requirements.py pyproject.toml EXTRA`, one a line.

Asked for alone, the dependencies are a layer of their own, which a change of our code does not build again. With
ONNXRUNTIME set (`onnxruntime-gpu[cuda,cudnn]`) it stands where onnxruntime is asked for.
"""

import os
import re
import sys
import tomllib
from pathlib import Path


def wanted(project: dict, extra: str) -> list[str]:
    """The extra's requirements, those of the extras that it names included."""
    extras = project["optional-dependencies"]
    if extra not in extras:
        raise SystemExit(f"pyproject.toml has no extra {extra!r}; it has {', '.join(sorted(extras))}.")
    found = []
    for one in extras[extra]:
        named = re.fullmatch(r"darkroom\[(.+)\]", one)
        if named is None:
            found.append(one)
            continue
        for inner in named[1].split(","):
            found += wanted(project, inner.strip())
    return found


def main() -> None:
    project = tomllib.loads(Path(sys.argv[1]).read_text())["project"]
    lines = dict.fromkeys([*project["dependencies"], *wanted(project, sys.argv[2])])
    instead = os.environ.get("ONNXRUNTIME")
    for line in lines:
        version = re.fullmatch(r"onnxruntime([<>=!~].*)", line)
        sys.stdout.write((instead + version[1] if instead and version else line) + "\n")


if __name__ == "__main__":
    main()
