from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)


class Timers:
    """Calls functions after a while, all of a process from one daemon thread.

    The thread starts with the first of them and sleeps until the next is due. A call must be short:
    the others wait for it.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        due = (time.monotonic() + seconds, next(self._order), call)
        with self._changed:
            heapq.heappush(self._heap, due)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="timers", daemon=True)
                self._thread.start()
            elif self._heap[0] is due:  # it is waiting for a later one
                self._changed.notify()

    def _run(self) -> None:
        while True:
            try:
                self._next()()
            except Exception:  # one person's reply must not silence all others
                logger.exception("a timer failed")

    def _next(self) -> Callable[[], None]:
        with self._changed:
            while True:
                wait = self._heap[0][0] - time.monotonic() if self._heap else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._heap)[2]
                self._changed.wait(wait)
