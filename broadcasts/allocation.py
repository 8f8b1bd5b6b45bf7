"""Which device writes to whom, and when: used by the fan-out that decides it and by the forecast
that says so beforehand, so the two agree."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from broadcasts import pacing
from broadcasts.acquaintance import FIRST_CONTACT
from broadcasts.models import BroadcastMessage
from broadcasts.pacing import Brake
from broadcasts.timeline import Line, Turns, lines_of
from devices.models import Device

# Retries, drips that go first and the time a send takes add up: the later a message is expected,
# the less exactly.
DRIFT = 0.5


@dataclass(slots=True)
class _Queue:
    """When the next messages of a line leave."""

    line: Line
    all: Turns
    first: Turns | None
    # Shared by all devices of the same pace.
    deadlines: dict[tuple[datetime, timedelta], datetime]

    @property
    def free_at(self) -> datetime:
        """When it can write to somebody whom no device knows yet."""
        return max(self.all.next_at, self.first.next_at) if self.first else self.all.next_at

    def take(self, most: int, *, first_contact: bool) -> tuple[datetime, int]:
        """Puts so many messages into the line, but none beyond a cap or an hour that ends.

        Returns when the last of them leaves, and how many they are.
        """
        count = min(most, self.all.room)
        if not first_contact or self.first is None:
            return self.all.take(count), count
        count = min(count, self.first.room)
        return max(self.all.take(count), self.first.take(count)), count


class Allocation:
    """Gives leads to devices: to the one that knows them, or else to the one free first.

    What already waits on a device, in this lane or one before it, is counted in.
    """

    def __init__(
        self,
        devices: Iterable[Device],
        *,
        starts_at: datetime,
        priority: BroadcastMessage.Priority,
        min_delay_seconds: int = 0,
        max_delay_seconds: int = 0,
        now: datetime | None = None,
    ) -> None:
        """`now`, where it is asked ahead of `starts_at`: what waits leaves from then on, as things
        stand. What is held by a pause is passed over, as `ends_of_campaigns` does it: it leaves
        when somebody resumes it, which nobody can foretell. Otherwise it is waited for as well: a
        deadline has to hold also if they do.
        """
        messages = BroadcastMessage.objects.leaving() if now else BroadcastMessage.objects.open()
        before = messages.filter(priority__lte=FIRST_CONTACT[priority])
        self._queues: dict[int, _Queue] = {}
        deadlines: dict[pacing.Pace, dict[tuple[datetime, timedelta], datetime]] = {}
        for pk, line in lines_of(devices, starts_at, before, now).items():
            gap = line.gap(min_delay_seconds, max_delay_seconds)
            self._queues[pk] = _Queue(
                line,
                Turns(line.all, gap),
                Turns(line.first, gap) if line.first else None,
                deadlines.setdefault(line.pace, {}),
            )
        self._free_first = [(queue.free_at, pk) for pk, queue in self._queues.items()]
        heapq.heapify(self._free_first)

    @property
    def caps_first_contacts(self) -> bool:
        """Whether it matters who has talked with which device."""
        return any(queue.first for queue in self._queues.values())

    def __bool__(self) -> bool:
        return bool(self._queues)

    def place(
        self, preferred_device_id: int | None, *, knows: bool = False
    ) -> tuple[Device, datetime]:
        """Returns the device for the next lead and when its message is expected to leave.

        `knows`: whether the lead has talked with the preferred device, if that may send.
        """
        return self.place_alike(preferred_device_id, knows=knows, most=1)[:2]

    def place_alike(
        self, preferred_device_id: int | None, *, knows: bool, most: int
    ) -> tuple[Device, datetime, int]:
        """Returns the device for so many leads that are alike, when the last of them leaves, and
        how many they are: fewer, where others may be free before this device has sent them all."""
        queue = self._queues.get(preferred_device_id or 0)
        first_contact = not (queue and knows)
        queue = queue or self._free_next()
        expected_at, count = queue.take(most, first_contact=first_contact)
        return queue.line.device, expected_at, count

    def deadline(self, device: Device, expected_at: datetime, allowance: timedelta) -> datetime:
        """Returns `pacing.deadline`, remembered: a million messages share a few thousand."""
        queue = self._queues[device.pk]
        key = expected_at, allowance
        if (found := queue.deadlines.get(key)) is None:
            found = queue.deadlines[key] = pacing.deadline(queue.line.pace, *key)
        return found

    def brake(self, device: Device, finish_at: datetime) -> Brake:
        """Returns what most of the time goes to until this device's last message leaves."""
        return self._queues[device.pk].line.brake(finish_at)

    def _free_next(self) -> _Queue:
        while True:
            free_at, pk = self._free_first[0]
            queue = self._queues[pk]
            if queue.free_at == free_at:
                return queue
            # Served since, as somebody's own device: put it back where it belongs now.
            heapq.heapreplace(self._free_first, (queue.free_at, pk))
