"""`darkroom up`: the supervisor. In go the names of services; it returns when everything has stopped.

check settings ─> lock the data folder ─> clean what a killed supervisor left ─> start all at once
              ─> wait until ready, say where ─> watch, restart what crashes ─> SIGINT, SIGTERM or SIGHUP
              ─> stop the gateway (it drains) ─> stop the services
"""

from __future__ import annotations

import shutil
import signal
import time
from types import FrameType

from gateway.cli.config import load_settings
from gateway.cli.console import FAILED, USAGE, Stop, err, say
from gateway.cli.lock import FolderLock
from gateway.cli.plan import GATEWAY, get, plan
from gateway.cli.processes import Child, Processes, Spec, make_was_interrupted
from gateway.local import address_of
from gateway.settings import Settings

TICK = 0.05
DEFAULT_URL = "http://127.0.0.1:8080"  # where the command looks when it is told nothing
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)  # before each restart; after the last the supervisor gives that process up
SAME_ORDER = 0.5  # seconds within which a second signal says nothing new
REMIND = 20.0  # seconds between two words on what is still waited for
REFUSED = (USAGE, 3)  # 3 is uvicorn's word for an application that did not want to start
CALM = 60.0  # seconds after which a crash is forgotten


def up(only: list[str]) -> int:
    """Runs until a signal; the exit code of the command."""
    settings = load_settings()
    try:
        settings.data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Stop(
            f"The data folder {settings.data} cannot be made ({error.strerror}): "
            "set DARKROOM_DATA to a folder you may write."
        ) from error
    alone = bool(only) and GATEWAY not in only
    with FolderLock(settings.data, "no gateway" if alone else address_of(settings)):
        processes = Processes(settings.data)
        for name in processes.clean_stale():
            say(f"Ended {name}, which a supervisor that was killed had left running.")
        return Supervisor(settings, processes, plan(settings, only)).run()


class Supervisor:
    """Watches its children; every signal only sets a flag that the loop reads."""

    def __init__(self, settings: Settings, processes: Processes, specs: list[Spec]) -> None:
        self._settings, self._processes, self._specs = settings, processes, specs
        self._children: list[Child] = []
        self._signalled_at: float | None = None
        self._hurry = False
        self._failed = False

    def run(self) -> int:
        before = {
            kind: signal.signal(kind, self._signalled)
            for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        began = time.monotonic()
        try:
            for spec in self._specs:
                self._children.append(self._processes.start(spec))
            if self._wait_until_ready(began):
                self._greet(time.monotonic() - began)
                self._watch()
        finally:
            self._stop()
            for kind, handler in before.items():
                signal.signal(kind, handler)
        return FAILED if self._failed else 0

    def _signalled(self, _kind: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._signalled_at is None:
            self._signalled_at = now
        # wrappers like timeout(1) send one order twice at once; a person who is in a hurry takes longer
        self._hurry = self._hurry or now - self._signalled_at > SAME_ORDER

    def _told_to_stop(self) -> bool:
        return self._signalled_at is not None or self._failed or make_was_interrupted()

    # ── until ready ────────────────────────────────────────────────────────────────────────────────────

    def _wait_until_ready(self, began: float) -> bool:
        remind = began + REMIND
        with err().status(self._waiting(), spinner="dots") as shown:
            while not self._told_to_stop():
                self._mend()
                self._probe(began)
                if all(child.is_ready for child in self._children):
                    return True
                shown.update(self._waiting())
                if time.monotonic() > remind:
                    say(self._waiting())
                    remind += REMIND
                time.sleep(TICK)
        return False

    def _probe(self, began: float) -> None:
        for child in self._children:
            if child.is_ready or not child.alive:
                continue
            missing = child.spec.ready()
            child.waits_for = missing or ""
            if missing is None:
                child.is_ready = True
                seconds = time.monotonic() - began
                say(f"  {child.spec.name:<12} ready after {seconds:4.1f} s  {child.spec.address}")

    def _waiting(self) -> str:
        late = [f"{child.spec.name} ({child.waits_for})" for child in self._children if not child.is_ready]
        return "Waiting for " + ", ".join(late).replace("[", "\\[")

    def _greet(self, seconds: float) -> None:
        if not any(spec.name == GATEWAY for spec in self._specs):
            say(f"Ready in {seconds:.1f} s, without a gateway. Ctrl-C stops everything.")
            return
        address = address_of(self._settings) + self._settings.root_path
        command = "darkroom" if shutil.which("darkroom") else ".venv/bin/darkroom"
        elsewhere = "" if address == DEFAULT_URL else f" --url {address}"
        _, told = get(address_of(self._settings), f"{self._settings.root_path}/readyz")
        say(
            f"\nDarkroom is ready in {seconds:.1f} s at {address}\n\n"
            f"  1. Try an operation in the page      {address}/\n"
            f"  2. Or from here                      {command} run remove-background photo.jpg -o cut.png{elsewhere}\n"
            f"  3. Read what can be called           {address}/docs\n"
            f"{_for_grpc(address, told.get('ports', {}))}\n"
            f"Logs are in {self._processes.logs}. Ctrl-C stops everything."
        )

    # ── while it runs ──────────────────────────────────────────────────────────────────────────────────

    def _watch(self) -> None:
        while not self._told_to_stop():
            self._mend()
            time.sleep(TICK)

    def _mend(self) -> None:
        """Notices what has ended, and starts it again when its pause is over."""
        now = time.monotonic()
        for child in self._children:
            if child.alive or child.gave_up:
                continue
            if child.restart_at is None:
                self._crashed(child, now)
            elif now >= child.restart_at:
                fresh = self._processes.start(child.spec, fresh_log=False)
                child.process, child.started, child.restart_at = fresh.process, now, None
                child.waits_for = "starting again"

    def _crashed(self, child: Child, now: float) -> None:
        name, code = child.spec.name, child.process.returncode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        child.seen = [*(at for at in child.seen if now - at < CALM), now]
        refused = code in REFUSED and not child.is_ready  # it said why; asking again changes nothing
        if len(child.seen) <= len(PAUSES) and not refused:
            pause = PAUSES[len(child.seen) - 1]
            child.restart_at, child.restarts = now + pause, child.restarts + 1
            say(f"{name} {how}; it starts again in {pause:g} s.")
            return
        child.gave_up = True
        often = "" if refused else f", {len(child.seen)} times within {CALM:g} s; giving it up"
        say(f"{name} {how}{often}. The end of its log:")
        for line in self._processes.last_words(name):
            say(f"    {line}")
        if not refused:
            say(
                f"    All of it is in {self._settings.data / 'logs' / name}.log; when it is mended, start again."
            )
        # without a gateway nothing works, and a start that cannot succeed should say so with its exit code
        self._failed = name == GATEWAY or not child.is_ready or all(one.gave_up for one in self._children)

    # ── the end ────────────────────────────────────────────────────────────────────────────────────────

    def _stop(self) -> None:
        """The gateway first, so that calls in flight can finish; a second signal is an order to hurry."""
        if not self._children:
            return
        say("Stopping.")
        killed = []
        for group in (
            [child for child in self._children if child.spec.name == GATEWAY],
            [child for child in self._children if child.spec.name != GATEWAY],
        ):
            killed += self._processes.stop(group, hurry=lambda: self._hurry)
        if killed:
            say(f"{' and '.join(killed)} did not stop in time and had to be killed.")
        say("Everything has stopped.")


def _for_grpc(address: str, ports: dict[str, int]) -> str:
    """Where the gateway has opened gRPC; nothing where it has not."""
    host = address.partition("://")[2].partition("/")[0].rpartition(":")[0]
    lines = []
    if "grpc" in ports:
        lines.append(f"  4. Call it over gRPC                 {host}:{ports['grpc']}\n")
    if "inference" in ports:
        lines.append(f"     KServe's and TF Serving's gRPC    {host}:{ports['inference']}\n")
    return "".join(lines)
