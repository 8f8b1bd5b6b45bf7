"""Which device writes to whom, and when: used by the fan-out that decides it and by the forecast
that says so beforehand, so the two agree."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from typing import NamedTuple

from django.db.models import Count

from broadcasts import pacing
from broadcasts.acquaintance import FIRST_CONTACT
from broadcasts.models import BroadcastMessage
from devices.models import Device

# Retries, drips that go first and the time a send takes add up: the later a message is expected,
# the less exactly.
DRIFT = 0.5


@dataclass(slots=True)
class _Line:
    """The messages that leave from one device, one after the other."""

    device: Device
    pace: pacing.Pace
    times: Iterator[datetime]
    next_at: datetime
    # Of the first contacts alone, where the device may write to so many new people a day.
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
        devices = list(devices)
        waiting = _waiting(devices, FIRST_CONTACT[priority])
        self._lines: dict[int, _Line] = {}
        deadlines: dict[pacing.Pace, dict[tuple[datetime, timedelta], datetime]] = {}
        for device in devices:
            pace, before = pacing.Pace.of(device), waiting[device.pk]
            gap = sum(pacing.gap_bounds(pace, min_delay_seconds, max_delay_seconds)) / 2
            times = _times(pace, pacing.Slot.of(device), starts_at, gap, before)
            first_times = None
            if pace.first_contact_limit is not None:
                pace = pace.of_first_contacts
                slot = pacing.Slot.of(device)
                slot = replace(slot, usage_day_count=slot.usage_first_count)
                before = [each for each in before if each.is_first]
                first_times = _times(pace, slot, starts_at, gap, before)
            next_first_at = next(first_times) if first_times else starts_at
            self._lines[device.pk] = _Line(
                device, pace, times, next(times), first_times, next_first_at,
                deadlines.setdefault(pace, {}),
            )  # fmt: skip
        self._free_first = [(line.free_at, pk) for pk, line in self._lines.items()]
        heapq.heapify(self._free_first)

    @property
    def caps_first_contacts(self) -> bool:
        """Whether it matters who has talked with which device."""
        return any(line.first_times for line in self._lines.values())

    def __bool__(self) -> bool:
        return bool(self._lines)

    def place(
        self, preferred_device_id: int | None, *, knows: bool = False
    ) -> tuple[Device, datetime]:
        """Returns the device for the next lead and when its message is expected to leave.

        `knows`: whether the lead has talked with the preferred device, if that may send.
        """
        if line := self._lines.get(preferred_device_id or 0):
            return line.device, line.take(first_contact=not knows)
        line = self._line_free_first()
        return line.device, line.take(first_contact=True)

    def deadline(self, device: Device, expected_at: datetime, allowance: timedelta) -> datetime:
        """Returns `pacing.deadline`, remembered: a million messages share a few thousand."""
        line = self._lines[device.pk]
        key = expected_at, allowance
        if (found := line.deadlines.get(key)) is None:
            found = line.deadlines[key] = pacing.deadline(line.pace, *key)
        return found

    def _line_free_first(self) -> _Line:
        while True:
            free_at, pk = self._free_first[0]
            line = self._lines[pk]
            if line.free_at == free_at:
                return line
            # Served since, as somebody's own device: put it back where it belongs now.
            heapq.heapreplace(self._free_first, (line.free_at, pk))


class _Waiting(NamedTuple):
    """Messages that go before, of one kind."""

    is_first: bool
    shortest: int
    longest: int
    messages: int


def _waiting(devices: list[Device], lane: int) -> dict[int, list[_Waiting]]:
    """Returns {device id: what waits in this lane and those before it}."""
    rows = (
        BroadcastMessage.objects.open()
        .filter(device_id__in=[device.pk for device in devices], priority__lte=lane)
        .order_by()
        .values_list("device_id", "priority", "min_delay_seconds", "max_delay_seconds")
        .annotate(Count("pk"))
    )
    waiting: dict[int, list[_Waiting]] = defaultdict(list)
    for device_id, priority, shortest, longest, count in rows:
        is_first = priority in BroadcastMessage.FIRST_CONTACTS
        waiting[device_id or 0].append(_Waiting(is_first, shortest, longest, count))
    return waiting


def _times(
    pace: pacing.Pace,
    slot: pacing.Slot,
    starts_at: datetime,
    gap_seconds: float,
    before: Iterable[_Waiting],
) -> Iterator[datetime]:
    """Returns when one message after the other leaves, once what goes before has."""
    for each in before:
        gap = sum(pacing.gap_bounds(pace, each.shortest, each.longest)) / 2
        slot, starts_at = play(pace, slot, starts_at, gap, each.messages)
    return plan(pace, slot, starts_at, gap_seconds)


def plan(
    pace: pacing.Pace, slot: pacing.Slot, start: datetime, gap_seconds: float
) -> Iterator[datetime]:
    """Yields when one message after the other leaves from `start` on, with this pause between.

    Asks the rules once a stretch, not once a message.
    """
    moment, step = start, timedelta(seconds=gap_seconds / pace.speed)
    while True:
        moment = pacing.earliest(pace, slot, moment)
        count = _stretch(pace, slot, moment, step)
        for n in range(count):
            yield moment + n * step
        slot = _after_stretch(pace, slot, moment, gap_seconds, count)
        moment += (count - 1) * step


def play(
    pace: pacing.Pace, slot: pacing.Slot, start: datetime, gap_seconds: float, count: int
) -> tuple[pacing.Slot, datetime]:
    """Returns the slot, and when the last one leaves, after so many messages of `plan`."""
    moment, step = start, timedelta(seconds=gap_seconds / pace.speed)
    while count > 0:
        moment = pacing.earliest(pace, slot, moment)
        stretch = min(count, _stretch(pace, slot, moment, step))
        slot = _after_stretch(pace, slot, moment, gap_seconds, stretch)
        moment += (stretch - 1) * step
        count -= stretch
    return slot, moment


def _stretch(pace: pacing.Pace, slot: pacing.Slot, moment: datetime, step: timedelta) -> int:
    """Returns how many messages from `moment` on leave with nothing but the pause between them.

    To the end of the hour at most, the day's, and the sending hours', and as far as the caps go.
    """
    hour = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    ends_at = hour + timedelta(hours=1)
    local = moment.astimezone(pace.zone)
    if local.utcoffset() != ends_at.astimezone(pace.zone).utcoffset():
        return 1  # the clocks change in this hour: step by step
    wall = local.replace(tzinfo=None)
    edges = [wall + (ends_at - moment), datetime.combine(wall + timedelta(days=1), time())]
    for clock in (pace.sends_from, pace.sends_until):
        if clock is not None and (edge := datetime.combine(wall, clock)) > wall:
            edges.append(edge)
    room = [-((wall - min(edges)) // max(step, timedelta.resolution))]
    if pace.hourly_limit is not None:
        used = slot.usage_hour_count if slot.usage_hour_at == hour else 0
        room.append(pace.hourly_limit - used)
    if (limit := pace.limit_on(wall.date())) is not None:
        used = slot.usage_day_count if slot.usage_day == wall.date() else 0
        room.append(limit - used)
    return max(1, min(room))


def _after_stretch(
    pace: pacing.Pace, slot: pacing.Slot, moment: datetime, gap_seconds: float, count: int
) -> pacing.Slot:
    step = timedelta(seconds=gap_seconds / pace.speed)
    slot = pacing.after_send(pace, slot, moment + (count - 1) * step, gap_seconds)
    return replace(
        slot,
        usage_hour_count=slot.usage_hour_count + count - 1,
        usage_day_count=slot.usage_day_count + count - 1,
    )
