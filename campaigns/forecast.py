"""When a campaign will be done, said before it is sent."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count

from broadcasts.acquaintance import has_talked
from broadcasts.allocation import Allocation
from broadcasts.models import BroadcastMessage
from campaigns.audience import Audience
from devices.models import Device
from leads.models import LeadQuerySet

# Beyond this many the rest is reckoned from the rate so far: nobody waits for a page to play
# through a million messages.
PLAYED_THROUGH = 20_000


@dataclass(frozen=True, slots=True)
class DeviceShare:
    device: Device
    count: int
    finish_at: datetime


@dataclass(frozen=True, slots=True)
class Forecast:
    """All None and empty when nobody receives it, or no device may send."""

    first_at: datetime | None
    half_at: datetime | None
    finish_at: datetime | None
    per_device: list[DeviceShare]


NOBODY = Forecast(None, None, None, [])


def _by_device(leads: LeadQuerySet) -> Counter[int | None]:
    """Returns how many of them stay with which device; None: with none so far."""
    return Counter(dict(leads.values_list("device_id").annotate(Count("pk"))))


def forecast(
    audience: Audience,
    starts_at: datetime,
    min_delay_seconds: int = 0,
    max_delay_seconds: int = 0,
) -> Forecast:
    """Plays the allocation through for this audience, from `starts_at` at each device's mean pace.

    Counts in what already waits on the devices, their caps, warm-up and sending hours.
    """
    receivers = audience.leads.messageable().order_by()
    leads = _by_device(receivers)
    total = leads.total()
    if not total:
        return NOBODY
    allocation = Allocation(
        audience.usable_devices(),
        starts_at=starts_at,
        priority=BroadcastMessage.Priority.CAMPAIGN,
        min_delay_seconds=min_delay_seconds,
        max_delay_seconds=max_delay_seconds,
    )
    if not allocation:
        return NOBODY
    capped = receivers.filter(device__first_contact_limit__isnull=False)
    known = _by_device(capped.filter(has_talked())) if allocation.caps_first_contacts else leads
    times: list[datetime] = []
    shares: dict[int, DeviceShare] = {}
    scale = max(1.0, total / PLAYED_THROUGH)
    for device_id, count in sorted(leads.items(), key=lambda item: item[0] or 0, reverse=True):
        for n in range(max(1, round(count / scale))):
            device, expected_at = allocation.place(device_id, knows=n < known[device_id] / scale)
            times.append(expected_at)
            share = shares.get(device.pk, DeviceShare(device, 0, expected_at))
            # The last placed need not be the last to leave: first contacts wait for their cap.
            finish_at = max(share.finish_at, expected_at)
            shares[device.pk] = DeviceShare(device, share.count + 1, finish_at)
    times.sort()

    def stretched(moment: datetime) -> datetime:
        return starts_at + (moment - starts_at) * scale

    return Forecast(
        first_at=times[0],
        half_at=stretched(times[len(times) // 2]),
        finish_at=stretched(max(share.finish_at for share in shares.values())),
        per_device=[
            DeviceShare(share.device, round(share.count * scale), stretched(share.finish_at))
            for share in sorted(shares.values(), key=lambda share: share.device.name)
        ],
    )
