from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timedelta

from broadcasts import claiming
from broadcasts.models import BroadcastMessage

LOOK_SECONDS = 0.5
# A look for what is due costs the more, the more devices there are, so many make it less often as
# long as nothing is new in the queue: what is resumed or tried again is no new row.
LOOK_SECONDS_A_DEVICE = 0.008
LONGEST_PAUSE_SECONDS = 12.0


class Lookout:
    """Tells when there is something for devices that had nothing to send.

    A queue in which nothing is due is looked at twice a second by every broadcaster: that must
    cost next to nothing, whatever waits in it for later.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._next_look_at = -math.inf
        self._next_look_through_at = -math.inf
        self._newest = 0  # message id

    def is_time(self) -> bool:
        """Whether something may have come, or long enough has passed since the last look."""
        now = self._clock()
        if now < self._next_look_at:
            return False
        self._next_look_at = now + LOOK_SECONDS
        newest = claiming.newest(BroadcastMessage)
        has_grown, self._newest = newest > self._newest, newest
        return has_grown or now >= self._next_look_through_at

    def first_due(self, devices: int) -> dict[int, datetime]:
        """Returns {device id: when its first message is due}, for all that have one due before the
        next look; that is the later, the more `devices` ask."""
        pause_seconds = min(LOOK_SECONDS_A_DEVICE * devices, LONGEST_PAUSE_SECONDS)
        self._next_look_through_at = self._clock() + pause_seconds
        return BroadcastMessage.objects.first_due(timedelta(seconds=LONGEST_PAUSE_SECONDS))
