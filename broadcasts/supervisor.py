from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

from devices.transports.neonize import environment

logger = logging.getLogger(__name__)

MANAGE = Path(__file__).resolve().parent.parent / "manage.py"
RESTART_SECONDS = 5.0
MARK = "SIARAN_BEGUN_ANEW"  # once, also on a host that does not tell what a process began with


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
        self.workers = workers
        self.processes: list[subprocess.Popen[bytes]] = []

    def stop(self) -> None:
        self.stopping = True

    def run(self) -> None:
        """Runs until stopped or, draining, until every worker has ended well."""
        self.processes = [self._start() for _ in range(self.workers)]
        while not self.stopping and self.processes:
            time.sleep(0.2)
            self._restart_the_dead()
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()

    def _restart_the_dead(self) -> None:
        ended = [process for process in self.processes if process.poll() is not None]
        self.processes = [process for process in self.processes if process not in ended]
        # One that ended well has drained its part; where there is nothing to drain, somebody has
        # sent it a signal that was not meant for us.
        dead = [process for process in ended if process.returncode or not self.drains]
        if not dead:
            return
        for process in dead:
            logger.error("Worker process %d ended with %d", process.pid, process.returncode)
        time.sleep(RESTART_SECONDS)
        if not self.stopping:
            self.processes += [self._start() for _ in dead]

    def _start(self) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C goes to the supervisor alone, which passes it on once.
        return subprocess.Popen(  # noqa: S603  (our own)
            self.command, start_new_session=True, env=os.environ | environment.ENVIRONMENT
        )


def begin_anew_if_needed() -> None:
    """Starts this very process again, once, with what a transport's library reads before Python.

    The number of the process stays the same, so whoever has started it notices nothing.
    """
    if environment.missing() or environment.is_set() or MARK in os.environ:
        return
    with_it = os.environ | environment.ENVIRONMENT | {MARK: "1"}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], with_it)  # noqa: S606
