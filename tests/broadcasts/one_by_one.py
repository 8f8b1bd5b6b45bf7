"""The slow, plain reading of the rules, one message at a time: what must agree with it is quicker.
Used by the tests of pacing, and of the allocation that takes a stretch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from broadcasts.pacing import Pace, Slot, after_send, earliest


def plan(pace: Pace, slot: Slot, start: datetime, gap_seconds: float) -> Iterator[datetime]:
    """Yields when one message after the other leaves from `start` on, with this pause between."""
    moment = start
    while True:
        moment = earliest(pace, slot, moment)
        yield moment
        slot = after_send(pace, slot, moment, gap_seconds)


def play(
    pace: Pace, slot: Slot, start: datetime, gap_seconds: float, count: int
) -> tuple[Slot, datetime]:
    """Returns the slot, and from when on the next may leave, after so many messages."""
    moment = start
    for _ in range(count):
        moment = earliest(pace, slot, moment)
        slot = after_send(pace, slot, moment, gap_seconds)
    return slot, moment
