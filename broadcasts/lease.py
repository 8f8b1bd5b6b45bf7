from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from broadcasts import pacing
from broadcasts.claimed import Claimed
from broadcasts.outcomes import Sent
from devices.models import Device
from devices.transports.base import Session


def clock() -> float:
    """Seconds that also pass while the process is stopped or the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(slots=True)
class Lease:
    """A device in this broadcaster's hands."""

    device: Device
    device_id: int = field(init=False)  # asked for many times a message: a model's pk takes long
    epoch: int
    session: Session
    pace: pacing.Pace
    slot: pacing.Slot
    connected: bool = False
    is_given_up: bool = False
    in_flight: Claimed | None = None
    handed_over_at: float = 0.0  # by clock(): what is in flight
    look_again_at: float = 0.0  # by clock(): what was due is held, ask again then
    idle_seconds: float = 0.5  # and so long after the next time

    def __post_init__(self) -> None:
        self.device_id = self.device.pk

    def hand_over(self, message: Claimed, slot: pacing.Slot) -> None:
        self.slot, self.in_flight, self.handed_over_at = slot, message, clock()

    def is_silent_since(self, moment: float) -> bool:
        """Whether it owes an answer since before then."""
        return self.in_flight is not None and self.handed_over_at < moment

    def next_send_at(self, sent: Sent) -> datetime | None:
        """When the pause behind this one is over, which counts from when it really left."""
        at = self.slot.next_send_at
        return at and at + timedelta(seconds=sent.late_seconds)


class Departure:
    """What a session asks as the last thing before a message leaves: whether it may.

    The pause behind the message counts from the last time that it was asked: before that a session
    may have uploaded a file for seconds.
    """

    def __init__(self, may_send: Callable[[], bool], began_at: float) -> None:
        self._may_send = may_send
        self._began_at = self.asked_at = began_at  # by clock()

    def __call__(self) -> bool:
        self.asked_at = clock()
        return self._may_send()

    @property
    def late_seconds(self) -> float:
        return self.asked_at - self._began_at
