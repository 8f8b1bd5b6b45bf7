"""Orders to fall over at an exact point, left in files: whichever process comes there first takes
one, by renaming it, and kills or stops itself."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


def clock() -> float:
    """Seconds since the host started: one clock for all its processes, wrong wall clocks or not."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Taken:
    """An order that was carried out: by whom, when, and for how many seconds it was given."""

    kind: str
    pid: int
    at: float
    seconds: float


class Trips:
    """An order's kind says what is done where: "kill before the send", "stop in a chunk"."""

    def __init__(self, folder: Path) -> None:
        self._orders, self._taken = folder / "orders", folder / "taken"
        for each in (self._orders, self._taken):
            each.mkdir(exist_ok=True)
        self._falling = threading.Lock()

    # The driver's side

    def order(self, kind: str, seconds: float) -> bool:
        """Returns False if the last one of this kind still waits for somebody."""
        if (self._orders / kind).exists():
            return False
        draft = self._orders / f".{kind}"
        draft.write_text(str(seconds))
        draft.rename(self._orders / kind)
        return True

    def taken(self) -> Iterator[Taken]:
        """Yields each order that was carried out since the last look."""
        for file in list(self._taken.iterdir()):
            # The kernel's time of the renaming, whatever that process thinks the time is.
            at = file.stat().st_ctime - time.time() + clock()
            yield Taken(file.stem, int(file.suffix[1:]), at, float(file.read_text()))
            file.unlink()

    def withdraw(self) -> None:
        for order in self._orders.iterdir():
            order.unlink(missing_ok=True)

    # The other processes' side

    def at(self, point: str) -> None:
        """Falls over here if the driver asked for it; of several processes exactly one does."""
        for verb, number in SIGNALS.items():
            order = self._orders / f"{verb} {point}"
            # One order at a time: a thread that has taken one must not be stopped by another's
            # before it has carried out its own. The driver would believe that it had.
            with self._falling:
                try:
                    order.rename(self._taken / f"{order.name}.{os.getpid()}")
                except FileNotFoundError:
                    continue
                os.kill(os.getpid(), number)
