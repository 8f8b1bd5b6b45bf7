from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from django.db import connections

from devices.transports.neonize import environment

logger = logging.getLogger(__name__)

MANAGE = Path(__file__).resolve().parent.parent / "manage.py"
# Before a new one takes the place of one that died: longer each time, until one has stood.
RESTART_SECONDS, LONGEST_RESTART_SECONDS = 5.0, 300.0
STOOD_SECONDS = 60.0
LOOK_SECONDS = 0.5
END_SECONDS = 120.0  # longer than a worker takes to finish what is on the wire (STOP_SECONDS)
STDOUT = 1
MARK = "SIARAN_BEGUN_ANEW"  # once, also on a host that does not tell what a process began with

Process = subprocess.Popen[bytes]


@dataclass(slots=True)
class Place:
    """Of one of several processes; empty while it waits for the next."""

    process: Process | None = None
    since: float = 0.0  # by time.monotonic(): it was started, or died
    pause_seconds: float = 0.0

    def note_death(self) -> None:
        now = time.monotonic()
        longer = max(2 * self.pause_seconds, RESTART_SECONDS)
        if now >= self.since + STOOD_SECONDS:
            longer = RESTART_SECONDS
        self.process, self.since = None, now
        self.pause_seconds = min(longer, LONGEST_RESTART_SECONDS)


class Supervisor:
    """Runs several worker processes, each started afresh (never forked: a transport's library may
    not survive that), and starts a new one where one died."""

    def __init__(self, workers: int, arguments: list[str]) -> None:
        self.command = [
            sys.executable,
            str(MANAGE),
            "runbroadcaster",
            "--workers=1",
            f"--supervisor={os.getpid()}",
            *arguments,
        ]
        self.drains = "--drain" in arguments
        self.stopping = False
        self.places = [Place() for _ in range(workers)]

    def stop(self) -> None:
        self.stopping = True

    def run(self) -> None:
        """Runs until stopped or, draining, until every worker has ended well."""
        while not self.stopping and self.places:
            self.places = [place for place in self.places if self._look_after(place)]
            time.sleep(LOOK_SECONDS)
        running = [place.process for place in self.places if place.process]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + END_SECONDS
        for process in running:
            try:
                process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                logger.error("Worker process %d did not end, and is killed", process.pid)
                process.kill()
                process.wait()

    def _look_after(self, place: Place) -> bool:
        """Whether this place is needed still."""
        if place.process is None:
            if time.monotonic() >= place.since + place.pause_seconds:
                place.process, place.since = self._start(), time.monotonic()
            return True
        code = place.process.poll()
        # One that ended well has drained its part; where there is nothing to drain, somebody has
        # sent it a signal that was not meant for us.
        if code == 0 and self.drains:
            return False
        if code is not None:
            pid = place.process.pid
            place.note_death()
            logger.error(
                "Worker process %d ended with %d, the next begins in %d s",
                pid, code, place.pause_seconds,
            )  # fmt: skip
        return True

    def _start(self) -> Process:
        # A session of its own: Ctrl-C goes to the supervisor alone, which passes it on once.
        return subprocess.Popen(  # noqa: S603  (our own)
            self.command, start_new_session=True, env=os.environ | environment.ENVIRONMENT
        )


def begin_anew_if_needed() -> None:
    """Starts this very process again, once, with what a transport's library reads before Python."""
    if environment.missing() or environment.is_set() or MARK in os.environ:
        return
    begin_anew()


def begin_anew() -> None:
    """Starts this very process again. Its number stays the same, so whoever has started it, and
    would start it again if it ended, notices nothing: it needs no process more to watch it."""
    connections.close_all()
    if sys.stdout and sys.stdout.fileno() != STDOUT:
        os.dup2(sys.stdout.fileno(), STDOUT)  # neonize's client.py had moved it
    with_it = os.environ | environment.ENVIRONMENT | {MARK: "1"}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], with_it)  # noqa: S606


def reap() -> None:
    """Takes leave of the children of the process that this one was before it began anew."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return
