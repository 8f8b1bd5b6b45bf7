"""The processes under test: broadcasters and schedulers, started again whenever they end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
STOP_SECONDS = 60


@dataclass
class Place:
    """One process that is to be there at all times, and how it is started."""

    name: str
    command: list[str]
    environment: dict[str, str]
    sends: bool  # a broadcaster, not a scheduler
    process: subprocess.Popen[bytes] | None = None
    start_at: float = 0.0
    known: set[int] = field(default_factory=set)  # its workers seen so far

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid


class Fleet:
    """Keeps every place filled, and knows which deaths were ordered."""

    def __init__(self, folder: Path, dice: random.Random) -> None:
        self.folder, self.dice = folder, dice
        self.places: list[Place] = []
        self.killed: set[int] = set()  # by us, or by themselves on our order
        self.stopped: dict[int, float] = {}  # pid: when it is to go on
        self.died: dict[int, str] = {}  # without anybody's order: pid, and how

    def add(self, name: str, command: list[str], environment: dict[str, str], sends: bool) -> None:
        self.places.append(Place(name, command, environment, sends))

    def keep(self) -> None:
        """Starts what is missing, wakes what has been stopped for long enough."""
        now = time.monotonic()
        for pid, wake_at in list(self.stopped.items()):
            if now >= wake_at:
                self.wake(pid)
        self._notice_the_tripped()
        for place in self.places:
            if place.process and place.process.poll() is not None:
                self._ended(place, place.process.returncode)
            if place.process is None and now >= place.start_at:
                self._start(place)
            elif place.process:
                place.known.update(children(place.pid))

    def workers(self) -> list[int]:
        """The processes that send, and may be killed or stopped now."""
        found: list[int] = []
        for place in self.places:
            if place.process and place.sends and place.process.poll() is None:
                found += children(place.pid) or [place.pid]
        return [pid for pid in found if pid not in self.stopped and pid not in self.killed]

    def supervisors(self) -> list[int]:
        return [p.pid for p in self.places if p.process and p.sends and children(p.pid)]

    def schedulers(self) -> list[int]:
        return [p.pid for p in self.places if p.process and not p.sends]

    def kill(self, pid: int) -> None:
        self.killed.add(pid)
        self.stopped.pop(pid, None)
        send(pid, signal.SIGKILL)

    def stop(self, pid: int, seconds: float) -> None:
        self.stopped[pid] = time.monotonic() + seconds
        send(pid, signal.SIGSTOP)

    def wake(self, pid: int) -> None:
        self.stopped.pop(pid, None)
        send(pid, signal.SIGCONT)

    def end(self) -> None:
        """Ends every process in good order: nothing of this may leave a message open."""
        for pid in list(self.stopped):
            self.wake(pid)
        running = [place for place in self.places if place.process]
        for place in running:
            send(place.pid, signal.SIGTERM)
        for place in running:
            assert place.process
            try:
                place.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.died[place.pid] = f"{place.name} did not end on SIGTERM"
                self.kill(place.pid)
        self._notice_the_tripped()
        deadline = time.monotonic() + STOP_SECONDS
        while any(alive(pid) for place in self.places for pid in place.known):
            assert time.monotonic() < deadline, "workers outlive their supervisors"
            time.sleep(0.1)

    def kill_all(self) -> None:
        """When the run itself failed: leaves no process behind."""
        for place in self.places:
            for pid in [*place.known, *([place.pid] if place.process else [])]:
                if alive(pid):
                    send(pid, signal.SIGKILL)

    def _start(self, place: Place) -> None:
        with (self.folder / f"{place.name}.log").open("ab") as log:
            place.process = subprocess.Popen(
                [sys.executable, *place.command],
                cwd=ROOT,
                env=os.environ | place.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if place.sends:
            place.known.add(place.pid)

    def _ended(self, place: Place, code: int) -> None:
        if place.pid not in self.killed and code != 0:
            self.died[place.pid] = f"{place.name} (pid {place.pid}) ended with {code}"
        place.process = None
        place.start_at = time.monotonic() + self.dice.uniform(0, 2)

    def _notice_the_tripped(self) -> None:
        """Takes over those that killed or stopped themselves where the driver told them to."""
        for order in self.folder.glob("[ks]*-*.[0-9]*"):
            verb, pid = order.name.split("-")[0], int(order.suffix[1:])
            if verb == "kill":
                self.killed.add(pid)
            elif verb == "stop" and pid not in self.stopped:
                self.stopped[pid] = time.monotonic() + float(order.read_text() or 5)
            order.rename(order.with_name(f"done.{order.name}"))


def send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _stat(pid: str) -> tuple[str, int] | None:
    """Returns the state of a process and its parent."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except (OSError, ValueError):
        return None
    return state, int(parent)


def children(pid: int) -> list[int]:
    found = []
    for entry in os.scandir("/proc"):
        stat = _stat(entry.name) if entry.name.isdigit() else None
        if stat and stat[1] == pid and stat[0] not in "ZX":
            found.append(int(entry.name))
    return sorted(found)


def alive(pid: int) -> bool:
    stat = _stat(str(pid))
    return stat is not None and stat[0] not in "ZX"
