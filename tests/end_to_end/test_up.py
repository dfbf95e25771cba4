"""`darkroom up` with the real gateway and the real services, in every way that it can begin and end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

pytestmark = pytest.mark.slow


def notes(stack: Any) -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in (stack.data / "run").glob("*.json")}


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def port_of(note: dict[str, Any]) -> int:
    return int(note["address"].rpartition(":")[2])


def held(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ready(stack: Any) -> None:
    stack.wait(lambda: "Darkroom is ready" in stack.said)


def test_it_says_where_it_is_and_what_to_do_next_when_all_is_ready(stack: Any) -> None:
    assert f"at {stack.url}" in stack.said
    assert f"{stack.url}/docs" in stack.said
    assert stack.grpc in stack.said
    assert stack.inference in stack.said
    assert {"gateway", "cleanup", "rmbg"} <= set(notes(stack))
    assert stack.ready()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything_and_leaves_no_process_and_no_port(start: Any, how: signal.Signals) -> None:
    stack = start()
    ready(stack)
    started = notes(stack)
    family = psutil.Process(stack.process.pid).children(recursive=True)
    assert stack.stop(how) == 0
    assert not [process.pid for process in family if alive(process.pid)]
    assert not [name for name, note in started.items() if held(port_of(note))]
    assert notes(stack) == {}


def test_a_signal_while_it_still_starts_stops_everything_too(start: Any) -> None:
    stack = start("gateway", "cleanup", "rmbg")
    stack.wait(lambda: len(notes(stack)) >= 3)
    started = notes(stack)
    assert stack.stop() == 0
    assert not [note["pid"] for note in started.values() if alive(note["pid"])]


def test_what_a_killed_supervisor_left_is_gone_after_the_next_start(start: Any) -> None:
    first = start("gateway", "cleanup")
    ready(first)
    left = notes(first)
    # a stopped process cannot hear that its parent died, as one that hangs cannot
    os.kill(left["cleanup"]["pid"], signal.SIGSTOP)
    first.process.kill()
    first.process.wait()
    second = start("gateway", "cleanup", port=first.port)
    ready(second)
    assert not [note["pid"] for note in left.values() if alive(note["pid"])]
    assert "Ended cleanup" in second.said


def test_a_note_whose_process_is_another_by_now_harms_nobody(start: Any, tmp_path: Path) -> None:
    bystander = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        run = tmp_path / "data" / "run"
        run.mkdir(parents=True)
        note = {
            "name": "cleanup",
            "pid": bystander.pid,
            "started": 1.0,
            "token": "x",
            "address": "http://x:1",
        }
        (run / "cleanup.json").write_text(json.dumps(note))
        (run / "torn.json").write_text('{"pid": ')
        stack = start("cleanup")
        stack.wait(lambda: "Ready in" in stack.said)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_second_up_on_the_folder_says_who_holds_it(stack: Any) -> None:
    second = subprocess.run(
        [*stack.process.args],
        env=stack.env | {"DARKROOM_PORT": "1"},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert second.returncode == 1
    assert f"process {stack.process.pid}" in second.stderr
    assert stack.url in second.stderr
    assert len(second.stderr.splitlines()) == 1
    assert stack.ready()


def test_a_taken_port_gives_one_sentence(start: Any) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        stack = start(port=port)
        assert stack.process.wait(20) == 1
    assert stack.said == (
        f"Port {port} on 127.0.0.1 is taken by another program: stop it, or choose another with DARKROOM_PORT.\n"
    )


def test_a_broken_setting_gives_one_sentence_that_names_it(start: Any) -> None:
    stack = start(line_length="many", rate="-1")
    assert stack.process.wait(20) == 2
    lines = stack.said.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("DARKROOM_LINE_LENGTH is 'many', but")
    assert lines[1].startswith("DARKROOM_RATE is '-1', but")


def test_a_crashed_service_comes_back_on_its_port(start: Any) -> None:
    stack = start("gateway", "cleanup")
    ready(stack)
    before = notes(stack)["cleanup"]
    os.kill(before["pid"], signal.SIGKILL)
    stack.wait(lambda: notes(stack)["cleanup"]["pid"] != before["pid"])
    after = notes(stack)["cleanup"]
    assert after["address"] == before["address"]
    assert "cleanup was killed by SIGKILL; it starts again" in stack.said
    stack.wait(lambda: held(port_of(after)))
    stack.wait(stack.ready)


def test_a_crashed_gateway_comes_back(start: Any) -> None:
    stack = start("gateway", "cleanup")
    ready(stack)
    os.kill(notes(stack)["gateway"]["pid"], signal.SIGKILL)
    stack.wait(lambda: "gateway was killed by SIGKILL" in stack.said)
    stack.wait(stack.ready)


def test_a_gateway_that_refuses_to_start_is_not_asked_again(start: Any) -> None:
    stack = start("gateway", "cleanup", host="0.0.0.0")
    assert stack.process.wait(40) == 1
    assert "Darkroom does not listen on 0.0.0.0 without a key" in stack.said
    assert "starts again" not in stack.said


def test_one_service_alone_starts_without_a_gateway(start: Any) -> None:
    stack = start("cleanup")
    stack.wait(lambda: "Ready in" in stack.said)
    assert set(notes(stack)) == {"cleanup"}
    assert not held(stack.port)
    assert stack.stop() == 0


def test_an_operation_whose_service_is_not_here_says_so(start: Any, tmp_path: Path) -> None:
    stack = start("gateway", "cleanup")
    ready(stack)
    photo = tmp_path / "photo.png"
    Image.new("RGB", (64, 64), "red").save(photo)
    done = subprocess.run(
        [Path(sys.executable).with_name("darkroom"), "run", "caption", photo],
        env=os.environ | {"DARKROOM_URL": stack.url},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert "caption" in done.stderr


def test_a_service_that_does_not_exist_is_named(start: Any) -> None:
    stack = start("clean-up")
    assert stack.process.wait(20) == 2
    assert "There is no service 'clean-up'; these exist: caption, cleanup, controlnet, " in stack.said


@pytest.mark.parametrize("send", [os.killpg, os.kill], ids=["terminal", "program"])
def test_make_up_ends_quietly_on_ctrl_c(tmp_path: Path, send: Any) -> None:
    """A terminal's signal goes to make and the supervisor at once, a program's to make alone."""
    root, here = Path(__file__).parents[2], sys.prefix
    data, said = tmp_path / "data", tmp_path / "said"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    env["DARKROOM_DATA"] = str(data)
    with said.open("wb") as sink:
        make = subprocess.Popen(
            [
                "make",
                "-C",
                str(root),
                "--no-print-directory",
                "up",
                "ONLY=cleanup",
                f"VENV={here}",
                "-o",
                f"{here}/.embedded",
            ],
            env=env,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + 30
        while "Ready in" not in said.read_text() and make.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        send(make.pid, signal.SIGINT)
        assert make.wait(40) in (0, 130, -signal.SIGINT), said.read_text()
    except subprocess.TimeoutExpired:
        pytest.fail(f"It did not stop:\n{said.read_text()}{(data / 'logs' / 'cleanup.log').read_text()}")
    finally:
        if make.poll() is None:
            os.killpg(make.pid, signal.SIGKILL)
            make.wait()
    assert said.read_text().splitlines()[-1] == "Everything has stopped."
    assert not list((data / "run").glob("*.json"))
