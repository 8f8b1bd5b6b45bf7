"""A campaign by its devices: what each has sent, what waits for it, and what holds that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import Count, Max, Min, Q
from django.db.models.functions import Now
from django.utils import timezone

from broadcasts.models import BroadcastMessage
from broadcasts.pacing import Hold
from broadcasts.timeline import hold_of_waiting
from devices.cards import Card
from devices.models import Device

Status = BroadcastMessage.Status


@dataclass(frozen=True)
class Share:
    """One device's part of a campaign. `device` is None for rows that no device was found for."""

    device: Device | None
    counts: dict[str, int] = field(default_factory=dict)
    delivered: int = 0
    read: int = 0
    last_at: datetime | None = None  # when it last sent one
    only_new: bool = False  # what waits is all to people it has not talked with
    lane: int = 0  # the first in which something waits
    ended_at: datetime | None = None  # when the last of them ended, however it did

    @property
    def hold(self) -> Hold | None:
        """What holds what waits for it."""
        if not (self.device and self.waiting):
            return None
        return hold_of_waiting(self.device, timezone.now(), only_new=self.only_new)

    @property
    def card(self) -> Card | None:
        """The device as its own pages show it."""
        return Card(self.device, self.remaining) if self.device else None

    @property
    def will_send(self) -> bool:
        """Whether anybody can say when its device sends what remains."""
        return self.device is None or self.device.may_send_at(timezone.now()) is not None

    @property
    def planned(self) -> int:
        """Those who are to get it: all but those who are left out."""
        return sum(self.counts.values()) - self.skipped

    @property
    def skipped(self) -> int:
        return self.counts.get(Status.SKIPPED, 0)

    @property
    def sent(self) -> int:
        return self.counts.get(Status.SENT, 0)

    @property
    def failed(self) -> int:
        return self.counts.get(Status.FAILED, 0)

    @property
    def others(self) -> dict[str, int]:
        """How else its messages ended, each in its word: what sent, failed and remaining leave of
        what was planned."""
        ends = (Status.UNKNOWN, Status.EXPIRED, Status.CANCELLED)
        return {str(end.label): self.counts[end] for end in ends if self.counts.get(end)}

    @property
    def waiting(self) -> int:
        return self.counts.get(Status.PENDING, 0)

    @property
    def remaining(self) -> int:
        return sum(self.counts.get(status, 0) for status in BroadcastMessage.OPEN)


def by_device(campaign_id: int) -> list[Share]:
    """Returns a campaign's rows by device, in the order of the devices' names.

    Reads every row of the campaign (0.2 to 0.4 s for 300,000): the larger it is, the less often it
    is asked.
    """
    rows = BroadcastMessage.objects.order_by().filter(
        campaign_id=campaign_id, status__in=BroadcastMessage.Status.values
    )
    found = rows.values_list("device_id", "status").annotate(
        Count("pk"),
        Count("delivered_at"),
        Count("read_at"),
        Max("finished_at"),
        known=Count("pk", filter=~Q(priority__in=BroadcastMessage.FIRST_CONTACTS)),
        lane=Min("priority"),
    )
    lines = list(found)
    devices = Device.objects.in_bulk({pk for pk, *_rest in lines if pk})
    counted: dict[int | None, Share] = {}
    for device_id, status, count, delivered, read, last_at, known, lane in lines:
        before = counted.get(device_id, Share(devices.get(device_id)))
        counted[device_id] = Share(
            before.device,
            {**before.counts, status: count},
            before.delivered + delivered,
            before.read + read,
            _later(before.last_at, last_at if status == Status.SENT else None),
            before.only_new or (status == Status.PENDING and not known),
            lane if status == Status.PENDING else before.lane,
            _later(before.ended_at, last_at),
        )
    return sorted(counted.values(), key=lambda row: (row.device is None, str(row.device)))


def stands_behind(campaign_id: int, scheduled_at: datetime, shares: Iterable[Share]) -> bool:
    """Whether what waits of a campaign does so on devices that may send, and have others to send
    before: of lanes that go first, or in the same lane scheduled before."""
    lanes: dict[int, list[int]] = defaultdict(list)
    for share in shares:
        device = share.device
        if device and share.waiting and device.state == Device.Status.ONLINE and not share.hold:
            lanes[share.lane].append(device.pk)
    due = BroadcastMessage.objects.leaving().filter(status=Status.PENDING, scheduled_at__lte=Now())
    due = due.exclude(campaign=campaign_id)
    return any(
        due.filter(before, device__in=devices).exists()
        for lane, devices in lanes.items()
        for before in (Q(priority__lt=lane), Q(priority=lane, scheduled_at__lt=scheduled_at))
    )


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max((at for at in (one, other) if at), default=None)
