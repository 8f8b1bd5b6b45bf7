"""The processes under test: broadcasters and schedulers, started again whenever they end."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.faults.trips import Trips, clock

ROOT = Path(__file__).resolve().parent.parent.parent
LEASE_SECONDS = 3  # short, so that a takeover takes seconds
END_SECONDS = 60
START_SECONDS = 15  # in which a process may not have come so far as to handle SIGTERM
OBEY_SECONDS = 10  # the kernel's signals are quick, a busy host is not
END_A_BROADCASTER = "end a broadcaster"


@dataclass
class Place:
    """One process that is to be there at all times, and how it is started."""

    name: str
    command: list[str]
    environment: dict[str, str]
    sends: bool  # a broadcaster, not a scheduler
    has_wrong_clock: bool = False
    process: subprocess.Popen[bytes] | None = None
    start_at: float = 0.0
    started_at: float = 0.0
    workers: set[int] = field(default_factory=set)  # those of a supervisor, now
    # Every process that was ever seen here, and when it was born: in half an hour the numbers are
    # given to others.
    known: dict[int, int] = field(default_factory=dict)
    is_ending: bool = False  # it was told to
    is_young: bool = False  # and that soon after it was started

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def left(self) -> list[int]:
        """Returns those that live, of all that were ever seen here."""
        return [pid for pid, born in self.known.items() if alive(pid) and birth(pid) == born]


class Stop(NamedTuple):
    pid: int
    at: float
    until: float


class Fleet:
    """Keeps every place filled, and knows which deaths were ordered. All times are by clock()."""

    def __init__(
        self, folder: Path, dice: random.Random, *, end_seconds: float = END_SECONDS
    ) -> None:
        self.folder, self.dice, self.end_seconds = folder, dice, end_seconds
        self.trips = Trips(folder)
        self.places: list[Place] = []
        self.killed: dict[int, float] = {}  # by us, or by themselves on our order: pid, and when
        self.told_to_end: dict[int, float] = {}
        self.stopped: dict[int, Stop] = {}  # now, with when they are to go on
        self.stops: list[Stop] = []  # those that are over
        self.died: dict[int, str] = {}  # without anybody's order, or not on it: pid, and how
        self.carried_out: Counter[str] = Counter()  # of the orders that take their time
        # When a node of the cluster was killed, and when it had joined again.
        self.node_left_at = self.node_joined_at = math.inf

    def add(self, place: Place) -> None:
        place.environment["PLACE"] = place.name
        self.places.append(place)

    def keep(self) -> None:
        """Starts what is missing, wakes what has been stopped for long enough."""
        now = clock()
        for pid, stop in list(self.stopped.items()):
            if now >= stop.until:
                self.wake(pid)
        for place in self.places:
            self._look_at(place)
            if place.process is None and now >= place.start_at:
                self._start(place)
        self._wake_the_forgotten()

    def was_disturbed(self, pid: int, since: float, until: float) -> bool:
        """Whether this process was stopped or killed then, for however short a part of it."""
        stops = [*self.stops, *self.stopped.values()]
        killed_at = self.killed.get(pid, -1.0)
        return since <= killed_at <= until or any(
            stop.pid == pid and stop.at <= until and stop.until >= since for stop in stops
        )

    def was_cut_off(self, pid: int) -> bool:
        """Whether it was killed, or told to end when it may have had no database to write to."""
        told_at = self.told_to_end.get(pid)
        return pid in self.killed or (told_at is not None and self.was_node_away(told_at))

    def last_active_at(self, pid: int) -> float:
        """Since then it began nothing any more: it was killed, stopped until it was, or told to
        end."""
        killed_at = self.killed.get(pid, math.inf)
        ends = [stop.at for stop in self.stops if stop.pid == pid and stop.until >= killed_at]
        return min(killed_at, self.told_to_end.get(pid, math.inf), *ends)

    def was_node_away(self, at: float) -> bool:
        return self.node_left_at <= at <= self.node_joined_at

    def senders(self) -> list[int]:
        """The processes that send, and may be killed or stopped now."""
        found: list[int] = []
        for place in self.places:
            if place.process and place.sends and place.process.poll() is None:
                found += children(place.pid) or [place.pid]
        return [pid for pid in found if pid not in self.stopped and pid not in self.killed]

    def supervisors(self) -> list[int]:
        return [p.pid for p in self.places if p.process and p.sends and children(p.pid)]

    def schedulers(self) -> list[int]:
        found = [p.pid for p in self.places if p.process and not p.sends]
        return [pid for pid in found if pid not in self.stopped]

    def runners(self) -> list[int]:
        """The processes of schedulers that take and run tasks, and those that serve them."""
        guards = [guard for pid in self.schedulers() for guard in children(pid)]
        return [pid for guard in guards for pid in children(guard)]

    def kill(self, pid: int) -> bool:
        """Returns whether it lived, and is dead now."""
        if not alive(pid):
            return False
        self.killed[pid] = clock()
        if stop := self.stopped.pop(pid, None):
            self.stops.append(stop._replace(until=clock()))
        self._send(pid, signal.SIGKILL)
        return wait_until(lambda: not alive(pid))

    def stop(self, pid: int, seconds: float) -> bool:
        """Returns whether it stands still now."""
        if not alive(pid):
            return False
        self._send(pid, signal.SIGSTOP)
        is_stopped = wait_until(lambda: stands(pid))
        if is_stopped:
            self.stopped[pid] = Stop(pid, clock(), clock() + seconds)
        return is_stopped

    def wake(self, pid: int) -> None:
        stop = self.stopped.pop(pid)
        self._send(pid, signal.SIGCONT)
        self.stops.append(stop._replace(until=clock()))

    def wake_all(self) -> None:
        for pid in list(self.stopped):
            self.wake(pid)

    def end_one(self, place: Place) -> None:
        """By SIGTERM, as a deployment does; another is started once it has ended."""
        place.is_ending = True
        self.told_to_end[place.pid] = clock()
        place.is_young = clock() < place.started_at + START_SECONDS
        self._send(place.pid, signal.SIGTERM, to_all=False)

    def end(self) -> None:
        """Ends every process in good order: nothing of this may leave a message open."""
        self.trips.withdraw()
        self._notice_the_tripped()
        self.wake_all()
        running = [place for place in self.places if place.process]
        for place in running:
            self.end_one(place)
        for place in running:
            pid = place.pid
            if not wait_until(partial(self._has_ended, place), self.end_seconds):
                self.died[pid] = f"{place.name} (pid {pid}) did not end on SIGTERM"
                self.kill(pid)
            self._look_at(place)
        wait_until(lambda: not any(place.left() for place in self.places), self.end_seconds)
        for place in self.places:
            for pid in place.left():
                self.died[pid] = f"a worker of {place.name} (pid {pid}) outlives its supervisor"

    def kill_all(self) -> None:
        """When the run itself failed: leaves no process behind."""
        for place in self.places:
            for pid in place.left():
                self._send(pid, signal.SIGKILL)

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
        place.started_at = clock()
        place.known[place.pid] = birth(place.pid)

    def _look_at(self, place: Place) -> None:
        """Whoever is not there any more must have been ended by us."""
        if not place.process:
            return
        code = place.process.poll()
        found = children(place.pid) if place.sends and code is None else []
        workers = {pid for pid in found if is_worker(pid)}
        gone = place.workers - workers
        place.workers = workers
        place.known |= {pid: birth(pid) for pid in workers}
        if code is None and not gone:
            return
        self._notice_the_tripped()
        if code is not None:
            self._ended(place, code)
        elif not place.is_ending:
            for pid in gone - self.killed.keys():
                self.died[pid] = f"a worker of {place.name} (pid {pid}) ended by itself"

    def _ended(self, place: Place, code: int) -> None:
        if place.pid not in self.killed:
            if place.is_ending and code == 0:
                self.carried_out[END_A_BROADCASTER] += place.sends
            elif not (place.is_young and code == -signal.SIGTERM):
                self.died[place.pid] = f"{place.name} (pid {place.pid}) ended with {code}"
        place.process, place.workers = None, set()
        place.is_ending = place.is_young = False
        place.start_at = clock() + self.dice.uniform(0, 2)

    def _has_ended(self, place: Place) -> bool:
        assert place.process
        self._wake_the_forgotten()
        return place.process.poll() is not None

    def _wake_the_forgotten(self) -> None:
        """Wakes who stands without a stop on record: it had taken an order and was stopped by us
        before it carried it out, so that it stopped itself only once it had been woken."""
        places = [place for place in self.places if place.process]
        pids = [pid for place in places for pid in (place.pid, *place.workers)]
        standing = [pid for pid in pids if stands(pid)]  # before the look at what they have taken
        self._notice_the_tripped()
        for pid in standing:
            if pid not in self.stopped:
                self._send(pid, signal.SIGCONT)

    def _notice_the_tripped(self) -> None:
        """Takes over those that killed or stopped themselves where the driver told them to."""
        for taken in self.trips.taken():
            self.carried_out[taken.kind] += 1
            if taken.kind.startswith("kill"):
                self.killed[taken.pid] = taken.at
            elif taken.pid not in self.killed:
                self.stopped[taken.pid] = Stop(taken.pid, taken.at, taken.at + taken.seconds)

    def _send(self, pid: int, number: signal.Signals, *, to_all: bool = True) -> None:
        """A scheduler has processes of its own, which cannot do without it: they go with it."""
        is_scheduler = any(p.process and p.pid == pid and not p.sends for p in self.places)
        for each in [pid, *(descendants(pid) if is_scheduler and to_all else [])]:
            with suppress(ProcessLookupError):
                os.kill(each, number)


def wait_until(happened: Callable[[], bool], seconds: float = OBEY_SECONDS) -> bool:
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


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


def descendants(pid: int) -> list[int]:
    return [each for child in children(pid) for each in (child, *descendants(child))]


def is_worker(pid: int) -> bool:
    """Whether this child is one that its supervisor has started, in a session of its own. Whoever
    looks for a library starts what lists them, for a moment, and looks like itself until then."""
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False


def birth(pid: int) -> int:
    """Returns when a process began, in ticks since the host did; 0 for one that is not there."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError):
        return 0


def stands(pid: int) -> bool:
    """Whether this process is stopped."""
    stat = _stat(str(pid))
    return stat is not None and stat[0] == "T"


def alive(pid: int) -> bool:
    stat = _stat(str(pid))
    return stat is not None and stat[0] not in "ZX"
