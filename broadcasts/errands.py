"""What only the host of a session can do, and only a process of its own: to link it to a phone, and
to log it out. People ask for it on the web, a row each (devices/pairing.py)."""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from django.conf import settings

from devices.pairing import Pairing, Unlinking
from devices.transports.neonize import environment
from devices.transports.neonize.store import Store, stored

logger = logging.getLogger(__name__)

MANAGE = Path(__file__).resolve().parent.parent / "manage.py"
LOOK_SECONDS = 1.5  # somebody waits in front of a screen
UNLINK_LOOK_SECONDS = 6.0  # nobody waits for this one, and an idle host is to cost next to nothing
AT_ONCE = 4  # of each kind; a process takes 90 MB, and a second of a core to begin
LONGEST_SECONDS = 300.0  # each ends by itself well before
STOP_SECONDS = 5.0


@dataclass
class Errand:
    """A process that is at it, and what to say if it dies."""

    what: str
    process: subprocess.Popen[bytes]
    has_died: Callable[[], object]
    started_at: float


class Errands:
    """Starts a process for each pairing and unlinking, and sees it end.

    Of the broadcasters of a host one does, whoever has the lock in the folder of the sessions.
    """

    def __init__(self, worker_id: str) -> None:
        self._worker_id = worker_id
        self._running: list[Errand] = []
        self._looked_at = -LOOK_SECONDS
        self._looked_to_unlink_at = -UNLINK_LOOK_SECONDS
        self._lock: int | None = None
        self.can_pair = not environment.problems()

    def look_around(self) -> None:
        """Does what is to be done. Where this host cannot, the sending goes on."""
        if not self.can_pair or time.monotonic() < self._looked_at + LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        try:
            if self._is_ours():
                self._reap()
                self._pair()
                self._unlink()
        except OSError as error:
            logger.error("Worker %s can pair nothing: %s", self._worker_id, error)

    def stop(self) -> None:
        """Ends what is going on: what was being linked is told so, and may be tried again."""
        for errand in self._running:
            errand.process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for errand in self._running:
            try:
                errand.process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                errand.process.kill()
                errand.process.wait()
        self._reap()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def are_running(self) -> bool:
        return bool(self._running)

    def _is_ours(self) -> bool:
        if self._lock is not None:
            return True
        folder = Path(settings.SESSION_DIR)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(folder / "errands.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        self._lock = lock
        return True

    def _pair(self) -> None:
        waiting = Pairing.objects.open().order_by().values_list("state", flat=True)
        states = list(waiting)
        if not states:
            return
        Pairing.objects.close_abandoned()
        for _ in range(min(states.count(Pairing.State.REQUESTED), self._room("pair"))):
            if pairing := Pairing.objects.claim(self._worker_id):
                # It is there, and nobody else's to read, before anything is in it.
                Store(pairing.session, pairing.device_id).create()
                self._start("pair", pairing.pk, partial(pairing.fail, Pairing.Reason.ENDED))

    def _unlink(self) -> None:
        if time.monotonic() < self._looked_to_unlink_at + UNLINK_LOOK_SECONDS:
            return
        self._looked_to_unlink_at = time.monotonic()
        waiting = Unlinking.objects.waiting()
        if not waiting.exists():
            return
        for unlinking in waiting.filter(session__in=sorted(stored())).order_by("pk"):
            if self._room("unlink") <= 0:
                return
            if Unlinking.objects.claim(unlinking.pk, self._worker_id):
                self._start("unlink", unlinking.pk, partial(_try_again, unlinking))

    def _room(self, what: str) -> int:
        """Apart: whoever is waiting in front of a screen does not wait for a hundred log-outs."""
        return AT_ONCE - sum(errand.what == what for errand in self._running)

    def _start(self, what: str, pk: int, has_died: Callable[[], object]) -> None:
        # Executed afresh, as a process with neonize may not be forked; with this one's environment,
        # which is the one that neonize needs. Ctrl-C is for us to pass on.
        process = subprocess.Popen(  # noqa: S603  (our own)
            [sys.executable, str(MANAGE), "run_errand", what, str(pk)], start_new_session=True
        )
        logger.info("Worker %s: process %d is to %s %d", self._worker_id, process.pid, what, pk)
        self._running.append(Errand(what, process, has_died, time.monotonic()))

    def _reap(self) -> None:
        for errand in self._running:
            if time.monotonic() > errand.started_at + LONGEST_SECONDS:
                errand.process.kill()
        ended = [errand for errand in self._running if errand.process.poll() is not None]
        self._running = [errand for errand in self._running if errand not in ended]
        for errand in ended:
            if errand.process.returncode:
                logger.error(
                    "Process %d ended with %d", errand.process.pid, errand.process.returncode
                )
            errand.has_died()  # changes nothing where it has said how it ended


def _try_again(unlinking: Unlinking) -> None:
    store = Store(unlinking.session, unlinking.device_id or 0)
    if not unlinking.try_again() and store.hold():
        store.delete()
