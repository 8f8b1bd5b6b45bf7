"""Which device writes to whom, and when: used by the fan-out that decides it and by the forecast
that says so beforehand, so the two agree."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from broadcasts import pacing
from broadcasts.acquaintance import FIRST_CONTACT
from broadcasts.models import BroadcastMessage
from broadcasts.pacing import Brake
from broadcasts.timeline import Group, Line, lines_of, waiting
from broadcasts.track import Turns
from devices.models import Device

# Retries, drips that go first and the time a send takes add up: the later a message is expected,
# the less exactly.
DRIFT = 0.5


@dataclass(slots=True)
class _Queue:
    """When the next messages of a device leave: to people it has talked with they go before the
    first contacts that wait on it, and before those of their own campaign."""

    ahead: Line
    line: Line
    known: Turns
    # Of whoever comes last, and of first contacts alone where these are capped.
    all: Turns
    first: Turns | None
    # Shared by all devices of the same pace.
    deadlines: dict[tuple[datetime, timedelta], datetime]
    # Of those who are still to come, for how many `all` has kept a place.
    kept: int = 0
    has_new: bool = False

    @property
    def free_at(self) -> datetime:
        """When it can write to somebody whom no device knows yet."""
        return max(self.all.next_at, self.first.next_at) if self.first else self.all.next_at

    def take(self, most: int, *, stays: bool, knows: bool) -> tuple[datetime, int]:
        """Puts so many messages into the line, but none beyond a cap or an hour that ends.

        Returns when the last of them leaves, and how many they are.
        """
        is_kept = stays and self.kept > 0
        own = self.known if knows else self.first
        count = min(most, self.kept if is_kept else self.all.room, own.room if own else most)
        if is_kept:
            self.kept -= count
        # Whoever is known does not wait for the first contacts, but they for them.
        last_at = self.all.next_at if is_kept else self.all.take(count)
        own_at = own.take(count) if own else last_at
        self.has_new |= not knows
        return own_at if knows else max(own_at, last_at), count


class Allocation:
    """Gives leads to devices: to the one that knows them, or else to the one free first.

    What already waits on a device and goes before is counted in: before people it has talked with,
    this lane and those before it; before others also the first contacts behind it.
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
        staying: Mapping[int | None, int] | None = None,
    ) -> None:
        """`now`, where it is asked ahead of `starts_at`: what waits leaves from then on, as things
        stand. What is held by a pause is passed over, as `outlooks` does it: it leaves
        when somebody resumes it, which nobody can foretell. Otherwise it is waited for as well: a
        deadline has to hold also if they do.

        `staying`: how many stay with each device of those who will be placed, if they come in no
        order. First contacts then stand behind all of these.
        """
        devices, last_lane = list(devices), FIRST_CONTACT[priority]
        messages = BroadcastMessage.objects.leaving() if now else BroadcastMessage.objects.open()
        ids = [device.pk for device in devices]
        before = waiting(messages.filter(priority__lte=last_lane, device__in=ids))
        ahead = lines_of(devices, starts_at, before, now, passing=last_lane)
        self._queues: dict[int, _Queue] = {}
        deadlines: dict[pacing.Pace, dict[tuple[datetime, timedelta], datetime]] = {}
        for pk, line in lines_of(devices, starts_at, before, now).items():
            gap, kept = line.gap(min_delay_seconds, max_delay_seconds), (staying or {}).get(pk, 0)
            line.play(Group(priority, min_delay_seconds, max_delay_seconds, messages=kept))
            self._queues[pk] = _Queue(
                ahead[pk],
                line,
                Turns(ahead[pk].all, gap),
                Turns(line.all, gap),
                Turns(line.first, gap) if line.first else None,
                deadlines.setdefault(line.pace, {}),
                kept,
            )
        self._free_first = [(queue.free_at, pk) for pk, queue in self._queues.items()]
        heapq.heapify(self._free_first)

    @property
    def passed(self) -> set[int]:
        """The devices on which first contacts wait that people whom it knows go before."""
        return {pk for pk, queue in self._queues.items() if queue.ahead.passed}

    @property
    def telling(self) -> set[int]:
        """The devices of which it matters whom they have talked with."""
        return self.passed | {pk for pk, queue in self._queues.items() if queue.first}

    def __bool__(self) -> bool:
        return bool(self._queues)

    def __contains__(self, device_id: object) -> bool:
        """Whether this device may be given something."""
        return device_id in self._queues

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
        own = self._queues.get(preferred_device_id or 0)
        queue = own or self._free_next()
        stays = own is not None
        expected_at, count = queue.take(most, stays=stays, knows=stays and knows)
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
        queue = self._queues[device.pk]
        return (queue.line if queue.has_new else queue.ahead).brake(finish_at)

    def _free_next(self) -> _Queue:
        while True:
            free_at, pk = self._free_first[0]
            queue = self._queues[pk]
            if queue.free_at == free_at:
                return queue
            # Served since, as somebody's own device: put it back where it belongs now.
            heapq.heapreplace(self._free_first, (queue.free_at, pk))
