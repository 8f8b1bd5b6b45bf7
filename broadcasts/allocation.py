"""Which device writes to whom, and when: used by the fan-out that decides it and by the forecast
that says so beforehand, so the two agree."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

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
        for device in devices:
            pace = pacing.Pace.of(device)
            slot, begins_at = pacing.Slot.of(device), starts_at
            for count, shortest, longest in waiting.get(device.pk, ()):
                gap = sum(pacing.gap_bounds(pace, shortest, longest)) / 2
                slot, begins_at = pacing.play(pace, slot, begins_at, gap, count)
            gap = sum(pacing.gap_bounds(pace, min_delay_seconds, max_delay_seconds)) / 2
            times = pacing.plan(pace, slot, begins_at, gap)
            self._lines[device.pk] = _Line(device, times, next(times))
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

    def _line_free_first(self) -> _Line:
        while True:
            next_at, pk = self._free_first[0]
            line = self._lines[pk]
            if line.next_at == next_at:
                return line
            # Served since, as somebody's own device: put it back where it belongs now.
            heapq.heapreplace(self._free_first, (line.next_at, pk))
