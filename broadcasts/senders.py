from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)

GROWTH = 50  # threads started at once


class Senders:
    """Threads in which sessions send and wait for WhatsApp's answer.

    There become as many as sends really wait at one time, up to `most`: the next is started only
    for what the present ones have not come to since the last look. The threads of the standard
    library's pool follow the burst instead: hundreds, for sends that take a millisecond.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._work: queue.SimpleQueue[tuple[Callable[..., None], tuple[Any, ...]] | None]
        self._work = queue.SimpleQueue()
        self._threads = 0
        self._is_short = False

    def submit(self, send: Callable[..., None], *arguments: Any) -> None:
        """Calls send(*arguments) in one of the threads; it must not raise."""
        self._work.put((send, arguments))
        if not self._threads:
            self.grow()

    def grow(self) -> None:
        """Starts threads for what still waits. To be called every now and then."""
        for _ in range(min(self._work.qsize(), GROWTH, self.most - self._threads)):
            # A daemon, so that a transport that hangs for ever does not keep the process.
            thread = threading.Thread(target=self._run, name="sender", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the system's limit: those that there are go on
                if not self._is_short:
                    logger.error("Only %d threads send: %s", self._threads, error)
                self._is_short = True
                return
            self._threads += 1

    def stop(self) -> None:
        """Lets the threads end once nothing waits any more."""
        for _ in range(self._threads):
            self._work.put(None)

    def _run(self) -> None:
        while work := self._work.get():
            send, arguments = work
            send(*arguments)
