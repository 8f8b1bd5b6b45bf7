"""Ends a broadcaster that stands still, so that whoever has started it starts another.

One thread does everything for all devices: a transport that hangs in `open`, or a library that
keeps Python's lock, stops them all, and every signal with them. Its leases run out meanwhile and
others take the devices; what was on the wire is unknown, as after any other death.
"""

from __future__ import annotations

import faulthandler

STANDING_SECONDS = 300  # a turn takes seconds; where the database says nothing, up to 180


def feed() -> None:
    """Says that this process moves. Unless that is said again within STANDING_SECONDS, it writes to
    stderr where each thread stands, and ends with 1.

    By a thread outside of Python, so that nothing in Python can hold it up
    (https://docs.python.org/3/library/faulthandler.html).
    """
    faulthandler.dump_traceback_later(STANDING_SECONDS, exit=True)


def stop() -> None:
    """Lets this process stand for as long as it likes."""
    faulthandler.cancel_dump_traceback_later()
