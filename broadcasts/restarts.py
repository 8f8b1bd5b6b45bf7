"""By when messages that start over have to leave: reckoned as the fan-out does it, behind what
waits on their devices already. A flat window would let most of a large number expire again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from django.conf import settings
from django.db.models import Case, Count, F, Value, When
from django.db.models.functions import Now
from django.utils import timezone

from broadcasts import pacing
from broadcasts.allocation import DRIFT, play
from broadcasts.models import BroadcastMessage
from devices.models import Device

if TYPE_CHECKING:
    from broadcasts.queryset import BroadcastMessageQuerySet


@dataclass(slots=True)
class _Line:
    """Where a device stands once all that was counted so far has left."""

    pace: pacing.Pace
    slot: pacing.Slot
    moment: datetime

    def play(self, count: int, shortest: int, longest: int) -> None:
        gap = sum(pacing.gap_bounds(self.pace, shortest, longest)) / 2
        self.slot, self.moment = play(self.pace, self.slot, self.moment, gap, count)


class Deadlines:
    """Of messages that start over one after the other, in chunks."""

    def __init__(self) -> None:
        self._starts_at = timezone.now()
        self._lines: dict[int, _Line] = {}

    def of(self, rows: BroadcastMessageQuerySet) -> Case:
        """Returns the deadline of these rows, behind those it was asked about before.

        Each gets what the last of its device in this chunk has: one WHEN for a device.
        """
        counted = _counted(rows)
        self._begin(set(counted) - set(self._lines))
        for pk in counted.keys() & self._lines.keys():
            for group in counted[pk]:
                self._lines[pk].play(*group)
        whens = [
            When(device=pk, then=Value(self._deadline(self._lines[pk])))
            for pk in sorted(counted.keys() & self._lines.keys())
        ]
        # Without a device nobody knows when it leaves.
        return Case(*whens, default=Now() + settings.RECOVERY_WINDOW)

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
