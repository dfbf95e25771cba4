"""pip's own configuration, as a build in a container can use it: `python3 pip_for_builds.py FILE` writes it to FILE.

Folders of this machine that it names (as links or as an index) are served on the loopback for as long as this runs,
since a build with the machine's network reaches them there.
"""

from __future__ import annotations

import ast
import functools
import http.server
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

USUAL = "/etc/ssl/certs/ca-certificates.crt"
INDEXES = ("index-url", "extra-index-url")


def configured(listed: str) -> dict[str, list[str]]:
    """What `pip config list` prints, by option; the environment's word stands over that of files."""
    found: dict[str, list[str]] = {}
    lines = [line.partition("=") for line in listed.splitlines() if "=" in line]
    for name, _, value in sorted(lines, key=lambda line: line[0].startswith(":env:")):
        section, _, option = name.strip(":").rpartition(".")
        if section.strip(":") in ("global", "install", "env"):
            found[option] = ast.literal_eval(value).split()
    return found


def folder(place: str) -> Path | None:
    """The folder that a place is, if it is one of this machine."""
    parts = urlsplit(place)
    if parts.scheme not in ("", "file"):
        return None
    return Path(unquote(parts.path)).resolve()


class Folders(http.server.SimpleHTTPRequestHandler):
    """Files below the folders that are named, under their whole paths, and no others."""

    def __init__(self, *request: object, served: list[Path]) -> None:
        self.served = served
        super().__init__(*request, directory="/")  # type: ignore[arg-type]

    def translate_path(self, path: str) -> str:
        wanted = Path(super().translate_path(path)).resolve()
        if any(wanted.is_relative_to(one) for one in self.served):
            return str(wanted) + ("/" if path.endswith("/") else "")
        return "/nonexistent"


def main() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    if listed.returncode:
        print(f"pip's configuration is not known, so builds ask PyPI: {listed.stderr}", file=sys.stderr)
    told = configured(listed.stdout)
    served: list[Path] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Folders, served=served))

    def reachable(place: str, option: str) -> str:
        local = folder(place)
        if local is None:
            return place
        # an index links to files beside it
        served.append(local.parent if option in INDEXES else local)
        return f"http://127.0.0.1:{server.server_port}{quote(str(local))}" + ("/" if local.is_dir() else "")

    lines = ["[global]", "cert = /run/secrets/ca"]
    lines += [
        f"{option} = {told[option][0]}"
        for option in ("timeout", "default-timeout", "retries")
        if option in told
    ]
    for option in (*INDEXES, "find-links"):
        if places := [reachable(place, option) for place in told.get(option, [])]:
            lines.append(f"{option} = " + "\n    ".join(places))
    certificates = (told.get("cert") or [USUAL])[0]
    Path(sys.argv[1]).write_text("\n".join([f"# certificates: {certificates}", *lines, ""]))
    if served:
        server.serve_forever()


if __name__ == "__main__":
    main()
