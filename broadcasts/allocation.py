"""Which device writes to whom, and when: used by the fan-out that decides it and by the forecast
that says so beforehand, so the two agree."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta

from django.db.models import Count

from broadcasts import pacing
from broadcasts.models import BroadcastMessage
from devices.models import Device


@dataclass(slots=True)
class _Line:
    """The messages that leave from one device, one after the other."""

    device: Device
    times: Iterator[datetime]
    next_at: datetime
    # Shared by all devices of the same pace.
    deadlines: dict[tuple[datetime, timedelta], datetime]


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
        waiting = self._waiting(devices, priority)
        self._lines: dict[int, _Line] = {}
        deadlines: dict[pacing.Pace, dict[tuple[datetime, timedelta], datetime]] = {}
        for device in devices:
            pace = pacing.Pace.of(device)
            slot, begins_at = pacing.Slot.of(device), starts_at
            for count, shortest, longest in waiting.get(device.pk, ()):
                gap = sum(pacing.gap_bounds(pace, shortest, longest)) / 2
                slot, begins_at = play(pace, slot, begins_at, gap, count)
            gap = sum(pacing.gap_bounds(pace, min_delay_seconds, max_delay_seconds)) / 2
            times = plan(pace, slot, begins_at, gap)
            shared = deadlines.setdefault(pace, {})
            self._lines[device.pk] = _Line(device, times, next(times), shared)
        self._free_first = [(line.next_at, pk) for pk, line in self._lines.items()]
        heapq.heapify(self._free_first)

    def _waiting(
        self, devices: list[Device], priority: int
    ) -> dict[int, list[tuple[int, int, int]]]:
        """Returns {device id: [(how many, shortest pause, longest pause)]} of what goes before."""
        rows = (
            BroadcastMessage.objects.open()
            .filter(device_id__in=[device.pk for device in devices], priority__lte=priority)
            .order_by()
            .values_list("device_id", "min_delay_seconds", "max_delay_seconds")
            .annotate(Count("pk"))
        )
        waiting: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
        for device_id, shortest, longest, count in rows:
            waiting[device_id or 0].append((count, shortest, longest))
        return waiting

    def __bool__(self) -> bool:
        return bool(self._lines)

    def place(self, preferred_device_id: int | None) -> tuple[Device, datetime]:
        """Returns the device for the next lead and when its message is expected to leave."""
        line = self._lines.get(preferred_device_id or 0) or self._line_free_first()
        expected_at, line.next_at = line.next_at, next(line.times)
        return line.device, expected_at

    def deadline(self, device: Device, expected_at: datetime, allowance: timedelta) -> datetime:
        """Returns `pacing.deadline`, remembered: a million messages share a few thousand."""
        line = self._lines[device.pk]
        key = expected_at, allowance
        if (found := line.deadlines.get(key)) is None:
            found = line.deadlines[key] = pacing.deadline(pacing.Pace.of(device), *key)
        return found

    def _line_free_first(self) -> _Line:
        while True:
            next_at, pk = self._free_first[0]
            line = self._lines[pk]
            if line.next_at == next_at:
                return line
            # Served since, as somebody's own device: put it back where it belongs now.
            heapq.heapreplace(self._free_first, (line.next_at, pk))


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
