"""Child processes: notes, groups, locks and the supervisor's patience, with small real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from gateway.cli import up
from gateway.cli.console import Stop
from gateway.cli.lock import FolderLock
from gateway.cli.processes import Processes, Spec, noted
from gateway.cli.up import Supervisor
from gateway.local import holder
from gateway.settings import Settings


def spec(
    code: str, name: str = "child", ready: Callable[[], str | None] = lambda: None, grace: float = 5
) -> Spec:
    return Spec(name, (sys.executable, "-c", code), dict(os.environ), "http://127.0.0.1:1", ready, grace)


def never() -> bool:
    return False


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_child_is_noted_while_it_lives(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    child = processes.start(spec("import time; time.sleep(60)"))
    note = noted(tmp_path)[0]
    assert (note["name"], note["pid"], note["address"]) == ("child", child.process.pid, "http://127.0.0.1:1")
    assert processes.stop([child], never) == []
    assert noted(tmp_path) == []


def test_what_a_child_started_goes_with_it(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    code = "import subprocess, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"
    child = processes.start(spec(code))
    log = tmp_path / "logs" / "child.log"
    until(lambda: log.read_text().endswith("\n"))
    grandchild = int(log.read_text())
    processes.stop([child], never)
    until(lambda: not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == "zombie")


def test_who_does_not_hear_is_killed_when_the_grace_is_over(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True);"
    code += "time.sleep(60)"
    child = processes.start(spec(code, grace=0.2))
    until(lambda: "deaf" in (tmp_path / "logs" / "child.log").read_text())
    assert processes.stop([child], never) == ["child"]
    assert not child.alive


def test_children_and_grandchildren_of_a_killed_supervisor_are_found_and_ended(tmp_path: Path) -> None:
    lines = [
        "import os, sys, time; from pathlib import Path",
        "from gateway.cli.processes import Processes, Spec",
        "code = 'import signal, subprocess, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);'",
        'code += \'print(subprocess.Popen(["sleep", "60"]).pid, flush=True); time.sleep(60)\'',
        "child = Spec('child', (sys.executable, '-c', code), dict(os.environ), '', None)",
        f"Processes(Path({str(tmp_path)!r})).start(child)",
        "print('started', flush=True); time.sleep(60)",
    ]
    supervisor = subprocess.Popen([sys.executable, "-c", "\n".join(lines)], stdout=subprocess.PIPE)
    assert supervisor.stdout is not None
    supervisor.stdout.readline()
    log = tmp_path / "logs" / "child.log"
    until(lambda: log.exists() and log.read_text().endswith("\n"))
    supervisor.kill()
    supervisor.wait()
    supervisor.stdout.close()
    left = [json.loads((tmp_path / "run" / "child.json").read_text())["pid"], int(log.read_text())]
    assert all(psutil.pid_exists(pid) for pid in left)
    assert Processes(tmp_path).clean_stale() == ["child"]
    until(lambda: not any(psutil.pid_exists(pid) for pid in left))
    assert noted(tmp_path) == []


def test_logs_are_turned_over_at_each_start(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    for at in range(6):
        child = processes.start(spec(f"print({at})"))
        child.process.wait()
    logs = sorted((tmp_path / "logs").iterdir())
    assert [(log.name, log.read_text()) for log in logs] == [
        ("child.log", "5\n"),
        ("child.log.1", "4\n"),
        ("child.log.2", "3\n"),
        ("child.log.3", "2\n"),
    ]


def test_a_folder_has_one_holder_and_the_second_learns_who(tmp_path: Path) -> None:
    with FolderLock(tmp_path, "http://127.0.0.1:1234"):
        assert holder(tmp_path) == {"pid": os.getpid(), "address": "http://127.0.0.1:1234"}
        with (
            pytest.raises(Stop, match=f"process {os.getpid()} at http://127.0.0.1:1234"),
            FolderLock(tmp_path, ""),
        ):
            pass
    assert holder(tmp_path) is None
    with FolderLock(tmp_path, "again"):
        pass


def test_who_crashes_again_and_again_is_given_up_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(up, "PAUSES", (0.05, 0.05))
    crashing = spec("raise SystemExit('no paper left')", ready=lambda: "starting")
    assert Supervisor(Settings(data=tmp_path), Processes(tmp_path), [crashing]).run() == 1
    said = capfd.readouterr().err
    assert said.count("it starts again") == 2
    assert "ended with code 1, 3 times within 60 s; giving it up" in said
    assert "no paper left" in said


def test_who_says_at_once_why_it_cannot_start_is_believed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    refusing = spec("import sys; print('Set DARKROOM_X.'); sys.exit(2)", ready=lambda: "starting")
    assert Supervisor(Settings(data=tmp_path), Processes(tmp_path), [refusing]).run() == 1
    said = capfd.readouterr().err
    assert "starts again" not in said
    assert "Set DARKROOM_X." in said
