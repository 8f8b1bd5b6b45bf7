"""From where messages that start over leave, and by when: reckoned as the fan-out does it, behind
what waits on their devices already. A flat window would let most of a large number expire again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db.models import BigIntegerField, Case, F, Value, When
from django.db.models.functions import Now
from django.utils import timezone

from broadcasts import pacing
from broadcasts.acquaintance import AGAIN, FIRST_CONTACT, known
from broadcasts.allocation import DRIFT, Allocation
from broadcasts.models import BroadcastMessage
from broadcasts.timeline import Group, Line, lines_of, waiting
from devices.models import Device

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from broadcasts.queryset import BroadcastMessageQuerySet

# The lanes of those whom somebody's device writes to, and which of them is not a first contact.
# What a person tries again begins anew, in a usual one.
_USUAL: dict[int, BroadcastMessage.Priority] = {
    lane: BroadcastMessage.Priority(usual)
    for usual, first in FIRST_CONTACT.items()
    if usual in AGAIN
    for lane in (usual, first, AGAIN[usual], AGAIN[first])
}


class Restarts:
    """Of messages that start over one after the other, in chunks."""

    def __init__(self) -> None:
        self.campaign_ids: set[int] = set()
        # By the database's clock, as everybody judges the deadline: this host's may be minutes off.
        at = Device.objects.order_by().values_list(Now(), flat=True).first()
        self._starts_at: datetime = at or timezone.now()  # without any device there is no line
        self._lines: dict[int, Line] = {}
        self._usable = set(Device.objects.usable().values_list("pk", flat=True))
        self._kept = set(Device.objects.kept().values_list("pk", flat=True))
        self._allocations: dict[tuple[int | None, int | None, bool], Allocation] = {}

    def of(self, rows: BroadcastMessageQuerySet) -> dict[str, Case]:
        """Returns the device, lane and deadline of these rows, behind those it was asked about
        before.

        By key and not by device: MySQL looks at a column after the value that it was just given.
        """
        found = list(rows.select_related("lead").defer("body").order_by("pk"))
        self.campaign_ids |= {row.campaign_id for row in found if row.campaign_id}
        talked = known(sorted({row.lead_id for row in found if row.lead_id}))
        moved = [row for row in found if self._move(row, talked)]
        # Behind what waits on their devices already.
        theirs = {row.device_id for row in found if row.device_id}
        new = Device.objects.filter(pk__in=theirs - set(self._lines))
        before = waiting(BroadcastMessage.objects.open().filter(device__in=new))
        self._lines |= lines_of(new, self._starts_at, before)
        deadlines = (
            When(pk=row.pk, then=Value(self._deadline(line, row)))
            for row in found
            if (line := self._lines.get(row.device_id or 0))
        )
        new_device = (When(pk=row.pk, then=Value(row.device_id)) for row in moved)
        new_lane = (When(pk=row.pk, then=Value(row.priority)) for row in moved)
        return {
            # Without a device, or in a zone unknown here, nobody knows when it leaves.
            "expires_at": Case(*deadlines, default=Now() + settings.RECOVERY_WINDOW),
            "device": Case(*new_device, default=F("device"), output_field=BigIntegerField()),
            "priority": Case(*new_lane, default=F("priority"), output_field=BigIntegerField()),
        }

    def _move(self, row: BroadcastMessage, talked: set[tuple[int, int]]) -> bool:
        """Puts this message, as it was read, where it belongs now; returns whether that is new.

        On another device, where its own sends nothing: switched off, or lost to WhatsApp, that
        would let it expire again. In another lane, where the two have talked since. A test message
        stays: it tries that very device.
        """
        if not row.device_id or row.priority not in _USUAL:
            return False
        before = row.device_id, row.priority
        usual, lead_id = _USUAL[row.priority], row.lead_id or 0
        if row.device_id not in self._usable and (allocation := self._allocation(row, usual)):
            own_id = row.lead.device_id if row.lead else None
            row.device, _ = allocation.place(own_id, knows=(lead_id, own_id) in talked)
        row.priority = usual if (lead_id, row.device_id) in talked else FIRST_CONTACT[usual]
        return before != (row.device_id, row.priority)

    def _allocation(self, row: BroadcastMessage, lane: BroadcastMessage.Priority) -> Allocation:
        """To the devices that its campaign or sequence may use; without either, to all.

        A deleted device never comes back: what waited for it goes to one that exists, whichever.
        """
        is_gone = row.device_id not in self._kept
        key = row.campaign_id, row.sequence_id, is_gone
        if key not in self._allocations:
            owner = row.campaign or row.sequence
            devices: Iterable[Device]
            if is_gone:
                anyone = Device.objects.instead_of_deleted
                devices = owner.devices_instead() if owner else anyone((), or_all=True)
            else:
                devices = owner.usable_devices() if owner else Device.objects.usable()
            self._allocations[key] = Allocation(
                devices,
                starts_at=self._starts_at,
                priority=lane,
                min_delay_seconds=row.min_delay_seconds,
                max_delay_seconds=row.max_delay_seconds,
            )
        return self._allocations[key]

    def _deadline(self, line: Line, row: BroadcastMessage) -> datetime:
        """Puts this message into the line; returns by when it has to leave."""
        at = line.play(Group(row.priority, row.min_delay_seconds, row.max_delay_seconds))
        late = (at - self._starts_at) * DRIFT
        return pacing.deadline(line.pace, at, settings.RECOVERY_WINDOW + late)
