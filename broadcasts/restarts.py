"""From where messages that start over leave, and by when: reckoned as the fan-out does it, behind
what waits on their devices already. A flat window would let most of a large number expire again."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from django.conf import settings
from django.db.models import BigIntegerField, Case, Count, F, Value, When
from django.db.models.functions import Now
from django.utils import timezone

from broadcasts import pacing
from broadcasts.acquaintance import FIRST_CONTACT, known
from broadcasts.allocation import DRIFT, Allocation, play
from broadcasts.models import BroadcastMessage
from devices.models import Device

if TYPE_CHECKING:
    from broadcasts.queryset import BroadcastMessageQuerySet

# The lanes of those whom somebody's device writes to, and which of them is not a first contact.
_USUAL: dict[int, BroadcastMessage.Priority] = {
    lane: usual for usual, first in FIRST_CONTACT.items() for lane in (usual, first)
}


@dataclass(slots=True)
class _Line:
    """Where a device stands once all that was counted so far has left."""

    pace: pacing.Pace
    slot: pacing.Slot
    moment: datetime

    def play(self, count: int, shortest: int, longest: int) -> None:
        gap = sum(pacing.gap_bounds(self.pace, shortest, longest)) / 2
        self.slot, self.moment = play(self.pace, self.slot, self.moment, gap, count)


class _Row(NamedTuple):
    """A message that starts over."""

    pk: int
    device_id: int | None
    priority: int
    shortest: int
    longest: int
    campaign_id: int | None
    sequence_id: int | None
    lead_id: int | None
    lead_device_id: int | None
    campaign_from_all: bool | None
    sequence_from_all: bool | None


class Restarts:
    """Of messages that start over one after the other, in chunks."""

    def __init__(self) -> None:
        self._starts_at = timezone.now()
        self._lines: dict[int, _Line] = {}
        self._usable = set(Device.objects.usable().values_list("pk", flat=True))
        self._allocations: dict[tuple[int | None, int | None], Allocation] = {}

    def of(self, rows: BroadcastMessageQuerySet) -> dict[str, Case]:
        """Returns the device, lane and deadline of these rows, behind those it was asked about
        before.

        By key and not by device: MySQL looks at a column after the value that it was just given.
        """
        found = [
            _Row(*row)
            for row in rows.order_by("pk").values_list(
                "pk", "device_id", "priority", "min_delay_seconds", "max_delay_seconds",
                "campaign_id", "sequence_id", "lead_id", "lead__device_id",
                "campaign__from_all_devices", "sequence__from_all_devices",
            )
        ]  # fmt: skip
        moved = self._moved(found)
        placed: dict[int, list[_Row]] = defaultdict(list)
        for row in found:
            if device_id := moved[row.pk][0] if row.pk in moved else row.device_id:
                placed[device_id].append(row)
        self._begin(set(placed) - set(self._lines))
        deadlines = []
        for pk, its in sorted(placed.items()):
            for (shortest, longest), count in Counter((r.shortest, r.longest) for r in its).items():
                self._lines[pk].play(count, shortest, longest)
            # Each gets what the last of its device in this chunk has.
            at = Value(self._deadline(self._lines[pk]))
            deadlines.append(When(pk__in=[row.pk for row in its], then=at))
        new_device = (When(pk=pk, then=Value(device_id)) for pk, (device_id, _) in moved.items())
        new_lane = (When(pk=pk, then=Value(lane)) for pk, (_, lane) in moved.items())
        return {
            # Without a device nobody knows when it leaves.
            "expires_at": Case(*deadlines, default=Now() + settings.RECOVERY_WINDOW),
            "device": Case(*new_device, default=F("device"), output_field=BigIntegerField()),
            "priority": Case(*new_lane, default=F("priority"), output_field=BigIntegerField()),
        }

    def _moved(self, rows: Iterable[_Row]) -> dict[int, tuple[int, int]]:
        """Returns {key: (device id, lane)} of those that change either.

        Another device, where theirs sends nothing: switched off, or lost to WhatsApp, it would let
        them expire again. Another lane, where the two have talked since. A test message stays: it
        tries that very device.
        """
        movable = [row for row in rows if row.device_id and row.priority in _USUAL]
        leads = sorted({row.lead_id for row in movable if row.lead_id})
        talked = known(leads)
        moved: dict[int, tuple[int, int]] = {}
        for row in movable:
            usual, device_id = _USUAL[row.priority], row.device_id or 0
            if device_id not in self._usable and (allocation := self._allocation(row, usual)):
                knows = (row.lead_id or 0, row.lead_device_id or 0) in talked
                device_id = allocation.place(row.lead_device_id, knows=knows)[0].pk
            lane = usual if (row.lead_id or 0, device_id) in talked else FIRST_CONTACT[usual]
            if (device_id, lane) != (row.device_id, row.priority):
                moved[row.pk] = device_id, lane
        return moved

    def _allocation(self, row: _Row, lane: BroadcastMessage.Priority) -> Allocation:
        """To the devices chosen for its campaign or sequence, or to all, as far as they send."""
        key = row.campaign_id, row.sequence_id
        if key not in self._allocations:
            devices = Device.objects.filter(pk__in=self._usable)
            if row.campaign_id and not row.campaign_from_all:
                devices = devices.filter(campaigns=row.campaign_id)
            elif row.sequence_id and not row.sequence_from_all:
                devices = devices.filter(sequences=row.sequence_id)
            self._allocations[key] = Allocation(
                devices,
                starts_at=self._starts_at,
                priority=lane,
                min_delay_seconds=row.shortest,
                max_delay_seconds=row.longest,
            )
        return self._allocations[key]

    def _begin(self, pks: set[int]) -> None:
        """Puts what already waits on these devices at the head of their lines."""
        waiting = _counted(BroadcastMessage.objects.open().filter(device__in=sorted(pks)))
        for pk, device in Device.objects.in_bulk(sorted(pks)).items():
            slot = pacing.Slot.of(device)
            # As if all were to new people: too late a deadline does no harm, too early a one does.
            pace = pacing.Pace.of(device).of_first_contacts
            line = self._lines[pk] = _Line(pace, slot, self._starts_at)
            for group in waiting.get(pk, ()):
                line.play(*group)

    def _deadline(self, line: _Line) -> datetime:
        late = (line.moment - self._starts_at) * DRIFT
        return pacing.deadline(line.pace, line.moment, settings.RECOVERY_WINDOW + late)


def _counted(rows: BroadcastMessageQuerySet) -> dict[int, list[tuple[int, int, int]]]:
    """Returns {device id: [(how many, their shortest pause, their longest)]}."""
    groups = rows.order_by().values_list(
        F("device_id"), "min_delay_seconds", "max_delay_seconds", Count("pk")
    )
    counted: dict[int, list[tuple[int, int, int]]] = {}
    for pk, shortest, longest, count in groups:
        if pk:
            counted.setdefault(pk, []).append((count, shortest, longest))
    return counted
