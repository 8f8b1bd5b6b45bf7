"""Which device writes to whom, and when: used by the fan-out that decides it and by the forecast
that says so beforehand, so the two agree."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from broadcasts import pacing
from broadcasts.acquaintance import FIRST_CONTACT
from broadcasts.models import BroadcastMessage
from broadcasts.pacing import Brake
from broadcasts.timeline import Line, lines_of
from devices.models import Device

# Retries, drips that go first and the time a send takes add up: the later a message is expected,
# the less exactly.
DRIFT = 0.5


@dataclass(slots=True)
class _Turns:
    """When the next messages of a line leave."""

    line: Line
    times: Iterator[datetime]
    next_at: datetime
    first_times: Iterator[datetime] | None
    next_first_at: datetime
    # Shared by all devices of the same pace.
    deadlines: dict[tuple[datetime, timedelta], datetime]

    @property
    def free_at(self) -> datetime:
        """When it can write to somebody whom no device knows yet."""
        return max(self.next_at, self.next_first_at)

    def take(self, *, first_contact: bool) -> datetime:
        """Returns when the next message leaves, and puts it into the line."""
        expected_at, self.next_at = self.next_at, next(self.times)
        if first_contact and self.first_times:
            expected_at = max(expected_at, self.next_first_at)
            self.next_first_at = next(self.first_times)
        return expected_at

    def skip(self, count: int, *, first_contact: bool) -> None:
        """Puts so many into the line. Quicker than to take them."""
        if not count:
            return
        self.next_at = next(islice(self.times, count - 1, None))
        if first_contact and self.first_times:
            self.next_first_at = next(islice(self.first_times, count - 1, None))


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
    ) -> None:
        before = BroadcastMessage.objects.open().filter(priority__lte=FIRST_CONTACT[priority])
        self._turns: dict[int, _Turns] = {}
        deadlines: dict[pacing.Pace, dict[tuple[datetime, timedelta], datetime]] = {}
        for pk, line in lines_of(devices, starts_at, before).items():
            gap = line.gap(min_delay_seconds, max_delay_seconds)
            times = line.all.plan(gap)
            first_times = line.first.plan(gap) if line.first else None
            self._turns[pk] = _Turns(
                line, times, next(times),
                first_times, next(first_times) if first_times else starts_at,
                deadlines.setdefault(line.pace, {}),
            )  # fmt: skip
        self._free_first = [(turns.free_at, pk) for pk, turns in self._turns.items()]
        heapq.heapify(self._free_first)

    @property
    def caps_first_contacts(self) -> bool:
        """Whether it matters who has talked with which device."""
        return any(turns.first_times for turns in self._turns.values())

    def __bool__(self) -> bool:
        return bool(self._turns)

    def place(
        self, preferred_device_id: int | None, *, knows: bool = False, count: int = 1
    ) -> tuple[Device, datetime]:
        """Returns the device for the next lead and when its message is expected to leave.

        `knows`: whether the lead has talked with the preferred device, if that may send. A `count`
        of leads that are alike go to the same device; the last of them leaves then.
        """
        turns = self._turns.get(preferred_device_id or 0)
        first_contact = not (turns and knows)
        turns = turns or self._free_next()
        if count > 1:
            turns.skip(count - 1, first_contact=first_contact)
        return turns.line.device, turns.take(first_contact=first_contact)

    def deadline(self, device: Device, expected_at: datetime, allowance: timedelta) -> datetime:
        """Returns `pacing.deadline`, remembered: a million messages share a few thousand."""
        turns = self._turns[device.pk]
        key = expected_at, allowance
        if (found := turns.deadlines.get(key)) is None:
            found = turns.deadlines[key] = pacing.deadline(turns.line.pace, *key)
        return found

    def brake(self, device: Device, finish_at: datetime) -> Brake:
        """Returns what most of the time goes to until this device's last message leaves."""
        return self._turns[device.pk].line.brake(finish_at)

    def _free_next(self) -> _Turns:
        while True:
            free_at, pk = self._free_first[0]
            turns = self._turns[pk]
            if turns.free_at == free_at:
                return turns
            # Served since, as somebody's own device: put it back where it belongs now.
            heapq.heapreplace(self._free_first, (turns.free_at, pk))
