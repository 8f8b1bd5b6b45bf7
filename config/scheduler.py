"""The scheduler: django-q2's cluster, started afresh when it can run nothing any more.

django-q2 starts another worker where one was killed. But whoever waits for a task holds the lock of
the queue that all of them share (multiprocessing.Queue), and one that is killed never gives it
back: the others wait for ever. Such a cluster looks alive, runs no task, and does not end when told
to. So it is watched from outside, and ended as a whole: a task may be killed anywhere, the next
pass takes up what it left.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.process import BaseProcess

from django.db import Error as DatabaseError
from django.db import connections
from django_q.cluster import Sentinel
from django_q.conf import Conf

from broadcasts.retrying import notice_silence
from broadcasts.schedules import make_due, scheduler

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
ASK_SECONDS = 30.0
START_SECONDS = 300.0  # in which one that has just begun may have ended no pass yet
RESTART_SECONDS = 5.0
# Shorter than what those wait who kill after it: honcho 5 s, Docker 10 s.
END_SECONDS = 4.0

FORK = multiprocessing.get_context("fork")  # as django-q2 makes its own


class Guard(Sentinel):  # type: ignore[misc]  # untyped
    """django-q2's guard of the workers, which ends with all of them where one was killed."""

    def reincarnate(self, process: BaseProcess) -> None:
        if process.exitcode is not None and process.exitcode < 0:
            logger.critical(
                "Process %s of the scheduler was killed (%d), perhaps while it held a lock of all: "
                "they are started afresh",
                process.pid, process.exitcode,
            )  # fmt: skip
            os.killpg(0, signal.SIGKILL)
        super().reincarnate(process)


class Scheduler:
    """Runs a cluster until it is told to stop, and another one after that where it had to end."""

    def __init__(self) -> None:
        self.stopping = False

    def stop(self) -> None:
        self.stopping = True

    def run(self) -> None:
        notice_silence(Conf.TIMEOUT)  # no statement outlasts a task
        while not self.stopping:
            cluster, lifeline = self._start()
            self._watch(cluster)
            os.close(lifeline)
            cluster.join(END_SECONDS)
            _kill(cluster)  # and whom it may have left behind
            if not self.stopping:
                logger.error("The next begins in %d s", RESTART_SECONDS)
                self._pause(RESTART_SECONDS)

    def _start(self) -> tuple[BaseProcess, int]:
        """Returns the process, which lives as long as nobody closes this file."""
        connections.close_all()  # no connection is for two processes
        theirs, ours = os.pipe()
        cluster = FORK.Process(target=_run_cluster, args=(theirs, ours))
        cluster.start()
        assert cluster.pid
        # Here as well as there: whoever comes second finds it done.
        with suppress(ProcessLookupError):
            os.setpgid(cluster.pid, cluster.pid)
        os.close(theirs)
        return cluster, ours

    def _watch(self, cluster: BaseProcess) -> None:
        """Returns when we are told to stop, and when the cluster has ended or might as well."""
        began_at = asked_at = time.monotonic()
        while not self.stopping:
            cluster.join(LOOK_SECONDS)
            if not cluster.is_alive():
                logger.error(
                    "The scheduler's process %d ended with %d", cluster.pid, cluster.exitcode
                )
                return
            now = time.monotonic()
            if now >= began_at + START_SECONDS and now >= asked_at + ASK_SECONDS:
                asked_at = now
                if _stands_still():
                    logger.critical("No task of the scheduler has ended for minutes")
                    return

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self.stopping and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)


def _run_cluster(lifeline: int, other_end: int) -> None:
    # A group of its own: it can be killed as a whole, and whoever signals ours (honcho, Ctrl-C)
    # does not end the workers before the guard, who then waits for them in vain.
    os.setpgid(0, 0)
    os.close(other_end)
    stop = FORK.Event()
    _hold_on(lifeline, stop.set)
    # Each of its processes by itself as well: the guard may be killed along with the one who
    # started it, or stand still.
    os.register_at_fork(after_in_child=lambda: _hold_on(lifeline))
    try:
        Guard(stop, FORK.Event(), uuid.uuid4())
    except DatabaseError as error:
        logger.error("The database does not answer: %s", error)
        sys.exit(1)


def _hold_on(lifeline: int, tell: Callable[[], None] | None = None) -> None:
    """Ends the cluster when the one who started it lets go or dies."""

    def end_with_it() -> None:
        os.read(lifeline, 1)
        if tell:
            tell()
        time.sleep(END_SECONDS)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=end_with_it, daemon=True).start()


def _kill(cluster: BaseProcess) -> None:
    assert cluster.pid
    with suppress(ProcessLookupError):
        os.killpg(cluster.pid, signal.SIGKILL)
    cluster.join()


def _stands_still() -> bool:
    """Whether nothing of what is to be run ends, whoever should run it. Not where nobody can tell,
    nor where one task fails again and again and the others do not: that is no lock. What a clock
    that was ahead has put off is due then, for the cluster that begins."""
    try:
        found = scheduler().stands_still
        if found:
            make_due()
        return found
    except DatabaseError as error:
        logger.warning("Nobody knows whether tasks end: %s", error)
        return False
    finally:
        connections.close_all()
