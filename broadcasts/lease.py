from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from broadcasts import pacing
from broadcasts.claimed import Claimed
from broadcasts.outcomes import Sent
from devices.models import Device
from devices.transports.base import Session


@dataclass(slots=True)
class Lease:
    """A device in this broadcaster's hands."""

    device: Device
    epoch: int
    session: Session
    pace: pacing.Pace
    slot: pacing.Slot
    connected: bool = False
    is_given_up: bool = False
    in_flight: Claimed | None = None
    look_again_at: float = 0.0  # by clock(): what was due is held, ask again then
    idle_seconds: float = 0.5  # and so long after the next time

    def next_send_at(self, sent: Sent) -> datetime | None:
        """When the pause behind this one is over, which counts from when it really left."""
        at = self.slot.next_send_at
        return at and at + timedelta(seconds=sent.late_seconds)
