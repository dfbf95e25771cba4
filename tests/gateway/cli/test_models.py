"""`darkroom models`, against a stand-in for the hub that speaks its interface over real HTTP."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from gateway.cli.lock import FolderLock
from gateway.cli.main import main
from services.models_disk import Manifest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NEWER = "fedcba9876543210fedcba9876543210fedcba98"


def safetensors(size: int, fill: bytes) -> bytes:
    head = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(head)) + head + fill * size


BIG = safetensors(300_000, b"b")
OTHER = safetensors(200_000, b"o")
CONFIG = b'{"a": 1}\n'
LARGE = (".safetensors", ".bin", ".onnx", ".pt")  # what the hub keeps apart, and knows by its SHA-256


class StandIn:
    """Repositories with files; it can ask for a token, break off, and send what is not the file."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {
            "someone/toy": {
                "config.json": CONFIG,
                "unet/model.safetensors": BIG,
                "unet/model.bin": b"a pickle",
                "README.md": b"# toy",
            },
            "someone/part": {"config.json": CONFIG, "model.safetensors": OTHER},
            "someone/twin": {"weights.safetensors": BIG},
        }
        self.commits = dict.fromkeys(self.repos, COMMIT)
        self.gated: set[str] = set()
        self.break_after: list[int] = []  # bytes of the next answers, then the connection ends
        self.spoil = 0  # answers that are not what they should be
        self.busy = 0
        self.asked: list[tuple[str, str]] = []  # path and Range
        self.tokens_elsewhere: list[str | None] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join(5)

    def fetched(self) -> list[str]:
        return [path for path, _ in self.asked if "/resolve/" in path]

    def listing(self, repo: str) -> dict[str, Any]:
        siblings = []
        for path, data in self.repos[repo].items():
            one: dict[str, Any] = {"rfilename": path, "size": len(data)}
            if path.endswith(LARGE):
                one["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
                one["blobId"] = "0" * 40
            else:
                one["blobId"] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            siblings.append(one)
        return {"id": repo, "sha": self.commits[repo], "siblings": siblings}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = unquote(urlsplit(self.path).path)
                hub.asked.append((path, self.headers.get("range", "")))
                if path.startswith("/cdn/"):
                    hub.tokens_elsewhere.append(self.headers.get("authorization"))
                    self._file(*path.removeprefix("/cdn/").split("|"))
                    return
                api = path.startswith("/api/models/")
                parts = path.removeprefix("/api/models/" if api else "/").split("/")
                repo, commit = "/".join(parts[:2]), parts[3] if len(parts) > 3 else ""
                if repo in hub.gated and self.headers.get("authorization") != "Bearer secret":
                    self._say(401 if "authorization" not in self.headers else 403, b"{}", GatedRepo=True)
                elif repo not in hub.repos or commit not in ("main", hub.commits.get(repo)):
                    self._say(404, b"{}")
                elif api:
                    self._say(200, json.dumps(hub.listing(repo)).encode())
                else:
                    # large files come from another host, as on the hub
                    self.send_response(302)
                    self.send_header(
                        "location", f"http://localhost:{hub.port}/cdn/{repo}|{'/'.join(parts[4:])}"
                    )
                    self.send_header("content-length", "0")
                    self.end_headers()

            def _file(self, repo: str, path: str) -> None:
                if hub.busy:
                    hub.busy -= 1
                    self._say(503, b"busy")
                    return
                data = hub.repos[repo][path]
                if hub.spoil and path.endswith(LARGE):
                    hub.spoil -= 1
                    data = data[:-1] + b"?"
                start = int((self.headers.get("range") or "bytes=0-")[6:-1])
                self.send_response(206 if start else 200)
                self.send_header("content-length", str(len(data) - start))
                self.end_headers()
                if hub.break_after and path.endswith(LARGE):
                    self.wfile.write(data[start : start + hub.break_after.pop(0)])
                    self.close_connection = True
                    return
                self.wfile.write(data[start:])

            def _say(self, status: int, body: bytes, **more: bool) -> None:
                self.send_response(status)
                if more.get("GatedRepo"):
                    self.send_header("x-error-code", "GatedRepo")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        return Handler


CATALOGUE = """
toy:
  service: sdxl
  engine: diffusers
  licence: MIT
  summary: A toy.
  source: someone/toy
  revision: {commit}
  wanted: [config.json, "unet/*.safetensors"]
  parts: {{vae: toy-vae, controlnet-canny: toy-extra}}
  aliases: [plaything]
toy-vae: {{service: sdxl, engine: diffusers, kind: part, licence: MIT, source: someone/part, wanted: ["*"]}}
toy-extra: {{service: sdxl, engine: diffusers, kind: part, licence: MIT, source: someone/twin, wanted: ["*"]}}
quick: {{service: sdxl, engine: diffusers, licence: MIT, base: toy, source: someone/twin, wanted: ["*"]}}
lost: {{service: sdxl, engine: diffusers, licence: MIT, source: someone/toy, wanted: [gone.safetensors]}}
"""


@pytest.fixture
def hub() -> Iterator[StandIn]:
    made = StandIn()
    yield made
    made.close()


@pytest.fixture
def models(tmp_path: Path, hub: StandIn, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own.yaml").write_text(CATALOGUE.format(commit=COMMIT))
    for name in ("HF_TOKEN", "HF_ENDPOINT", "DARKROOM_HUB_TOKEN", "DARKROOM_URL", "DARKROOM_MODELS_DISK_GB"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DARKROOM_MODELS_FILE", str(tmp_path / "own.yaml"))
    monkeypatch.setenv("DARKROOM_MODELS_PATH", str(tmp_path / "models"))
    monkeypatch.setenv("DARKROOM_HUB", hub.address)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "models"


Say = Callable[..., str]


@pytest.fixture
def darkroom(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Runs `darkroom models ...`; gives all that it said."""

    def run(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["darkroom", "models", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = "".join(capsys.readouterr())
        assert (ended.value.code or 0) == code, said
        return said

    return run


def test_pull_fetches_a_model_and_what_it_needs_and_no_more(darkroom: Say, models: Path) -> None:
    said = darkroom("pull", "plaything")
    assert (models / "toy" / "unet" / "model.safetensors").read_bytes() == BIG
    assert (models / "toy-vae" / "model.safetensors").read_bytes() == OTHER
    assert not (models / "toy" / "unet" / "model.bin").exists()
    assert not (models / "toy" / "README.md").exists()
    assert not (models / "toy-extra").exists()
    assert "MIT" in said
    assert not list(models.rglob("*.partial"))


def test_what_is_whole_is_not_fetched_again(darkroom: Say, hub: StandIn) -> None:
    darkroom("pull", "toy")
    hub.asked.clear()
    darkroom("pull", "toy")
    assert hub.fetched() == []


def test_an_entry_without_a_commit_is_pinned_by_its_first_pull(
    darkroom: Say, models: Path, hub: StandIn
) -> None:
    assert COMMIT in darkroom("pull", "toy")
    locked = Manifest.read(models / "toy-vae")
    assert locked is not None
    assert locked.revision == COMMIT
    hub.commits["someone/part"] = NEWER
    said = darkroom("pull", "toy", code=1)
    assert "someone/part" in said, "the pinned commit is asked for, not the newest"


def test_a_file_that_another_model_has_is_not_fetched_or_stored_twice(
    darkroom: Say, models: Path, hub: StandIn
) -> None:
    darkroom("pull", "toy")
    hub.asked.clear()
    darkroom("pull", "quick")
    assert hub.fetched() == []
    one, other = models / "toy" / "unet" / "model.safetensors", models / "quick" / "weights.safetensors"
    assert one.stat().st_ino == other.stat().st_ino


def test_two_models_with_the_same_file_fetch_it_once(darkroom: Say, models: Path, hub: StandIn) -> None:
    darkroom("pull", "quick")
    big = [path for path in hub.fetched() if path.endswith(("unet/model.safetensors", "weights.safetensors"))]
    assert len(big) == 1
    assert (models / "quick" / "weights.safetensors").read_bytes() == BIG


def test_a_broken_connection_goes_on_where_it_ended(darkroom: Say, models: Path, hub: StandIn) -> None:
    hub.break_after = [100_000, 50_000]
    darkroom("pull", "quick", "-j", "1")
    ranges = [asked for path, asked in hub.asked if path.startswith("/cdn/") and asked]
    assert ranges == ["bytes=100000-", "bytes=150000-"]
    assert (models / "toy" / "unet" / "model.safetensors").read_bytes() == BIG


def test_what_an_earlier_pull_left_is_used(darkroom: Say, models: Path, hub: StandIn) -> None:
    (models / "toy" / "unet").mkdir(parents=True)
    (models / "toy" / "unet" / "model.safetensors.partial").write_bytes(BIG[:123_456])
    darkroom("pull", "toy")
    assert ("/cdn/someone/toy|unet/model.safetensors", "bytes=123456-") in hub.asked
    assert (models / "toy" / "unet" / "model.safetensors").read_bytes() == BIG


def test_a_partial_file_of_something_else_is_thrown_away(darkroom: Say, models: Path) -> None:
    (models / "toy" / "unet").mkdir(parents=True)
    (models / "toy" / "unet" / "model.safetensors.partial").write_bytes(b"x" * 1000)
    darkroom("pull", "toy")
    assert (models / "toy" / "unet" / "model.safetensors").read_bytes() == BIG


def test_a_busy_hub_is_asked_again(darkroom: Say, models: Path, hub: StandIn) -> None:
    hub.busy = 1
    darkroom("pull", "toy")
    assert (models / "toy" / "unet" / "model.safetensors").exists()


def test_what_arrives_damaged_never_takes_its_name(darkroom: Say, models: Path, hub: StandIn) -> None:
    hub.spoil = 10
    assert "checksum" in darkroom("pull", "toy", code=1)
    assert not (models / "toy" / "unet" / "model.safetensors").exists()
    hub.spoil = 0
    darkroom("pull", "toy")
    darkroom("verify", "toy")


def test_a_gated_model_says_where_to_accept_its_terms(
    darkroom: Say, models: Path, hub: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.gated.add("someone/toy")
    said = darkroom("pull", "toy", code=1)
    assert f"{hub.address}/someone/toy" in said
    assert "HF_TOKEN" in said
    monkeypatch.setenv("HF_TOKEN", "of another account")
    assert "account of your token" in darkroom("pull", "toy", code=1)
    monkeypatch.setenv("HF_TOKEN", "secret")
    darkroom("pull", "toy")
    assert set(hub.tokens_elsewhere) == {None}, "another host does not get the token"


def test_a_mirror_may_be_named_as_other_tools_name_it(
    darkroom: Say, models: Path, hub: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DARKROOM_HUB")
    monkeypatch.setenv("HF_ENDPOINT", hub.address + "/")
    darkroom("pull", "toy")
    assert (models / "toy" / "config.json").exists()


def test_a_hub_that_is_away_is_one_sentence(darkroom: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_HUB", "http://127.0.0.1:9")
    said = darkroom("pull", "toy", code=1)
    assert "cannot be reached" in said
    assert "Traceback" not in said


def test_too_little_room_stops_before_the_first_byte_and_names_what_could_go(
    darkroom: Say, models: Path, hub: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    darkroom("pull", "quick")
    (models / "toy-vae" / "model.safetensors").unlink()
    hub.asked.clear()
    monkeypatch.setenv("DARKROOM_MODELS_DISK_GB", "0.0004")
    said = darkroom("pull", "toy", code=1)
    assert "DARKROOM_MODELS_DISK_GB" in said
    assert "quick (300." in said
    assert hub.fetched() == []


def test_a_file_that_the_source_lacks_is_named(darkroom: Say) -> None:
    assert "gone.safetensors" in darkroom("pull", "lost", code=1)


def test_a_second_pull_at_the_same_time_is_told_of_the_first(darkroom: Say, models: Path) -> None:
    models.mkdir()
    with FolderLock(models, "another"):
        assert "process" in darkroom("pull", "toy", code=1)


def test_all_of_a_service_and_all_parts(darkroom: Say, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    darkroom("pull", "toy", "--all-parts")
    assert (models / "toy-extra" / "weights.safetensors").exists()
    assert "sdxl" in darkroom("pull", "--all-of", "nothing", code=2)
    darkroom("pull", code=2)
    darkroom("pull", "toy", "--all-of", "sdxl", code=2)


def test_what_comes_with_darkroom_is_not_fetched(darkroom: Say, hub: StandIn) -> None:
    assert "comes with Darkroom" in darkroom("pull", "micro")
    assert hub.asked == []


def test_wait_ends_when_the_models_and_what_they_need_are_whole(darkroom: Say, models: Path) -> None:
    said = darkroom("wait", "quick", "--seconds", "0.1", code=1)
    assert "darkroom models pull" in said
    assert "toy-vae" in said
    waiting = subprocess.Popen(
        [sys.executable, "-c", "from gateway.cli.main import main; main()", "models", "wait", "quick"],
        stderr=subprocess.PIPE,
    )
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(2)
        darkroom("pull", "quick")
        assert waiting.wait(10) == 0
    finally:
        waiting.kill()
        waiting.communicate()


def test_verify_reads_every_byte_and_names_the_damaged_file(darkroom: Say, models: Path) -> None:
    darkroom("pull", "toy")
    assert "whole" in darkroom("verify")
    file = models / "toy" / "unet" / "model.safetensors"
    status = file.stat()
    file.write_bytes(BIG[:-1] + b"!")
    import os

    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    said = darkroom("verify", "toy", code=1)
    assert str(file) in said
    assert "darkroom models pull toy" in said
    darkroom("pull", "toy")
    assert file.read_bytes() == BIG


def test_verify_of_what_was_never_fetched_says_so(darkroom: Say) -> None:
    assert "darkroom models pull toy" in darkroom("verify", "toy", code=1)
    assert "whole" in darkroom("verify", "micro")


def test_remove_keeps_what_others_need(darkroom: Say, models: Path) -> None:
    darkroom("pull", "quick")
    assert "quick" in darkroom("remove", "toy", code=1)
    assert (models / "toy").exists()
    said = darkroom("remove", "toy", "quick")
    assert "toy-vae" in said, "it says what is no longer needed"
    assert not (models / "toy").exists()
    darkroom("remove", "micro", code=1)


def test_list_shows_what_is_on_this_disk_without_a_gateway(darkroom: Say, models: Path) -> None:
    darkroom("pull", "toy")
    (models / "quick").mkdir()
    (models / "quick" / "weights.safetensors.partial").write_bytes(b"1234")
    rows = {line.split("\t")[0]: line.split("\t") for line in darkroom("list").splitlines()}
    assert rows["toy"][4].endswith("kB")
    assert rows["quick"][4].startswith("in part")
    assert rows["sdxl-base"][4] == "no"
    assert rows["micro"][4] == "built in"
    assert "toy-vae" not in rows
    assert "toy-vae" in darkroom("list", "--parts")
    listed = json.loads(darkroom("list", "--json"))
    assert next(one for one in listed if one["name"] == "toy")["on_disk"] is True


def test_where_prints_the_folder(darkroom: Say, models: Path) -> None:
    assert darkroom("where", "plaything").strip() == str(models / "toy")
    darkroom("where", "telea", code=1)
    assert "darkroom models list" in darkroom("where", "zebra", code=2)
