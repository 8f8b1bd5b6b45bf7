"""What is to be done about devices that another broadcaster held before."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from broadcasts.models import BroadcastMessage
from broadcasts.pacing import Pace, random_gap
from broadcasts.retrying import survive_conflicts
from devices.models import Device

GAP = ("min_delay_seconds", "max_delay_seconds")


def take_over(ids: Collection[int], now: datetime) -> dict[str, int]:
    """Frees what the former holders of these devices had not let go of; see `unstick`.

    `now` is the database's time. What is found handed over may have left late, as late as its lease
    let it, and whoever sent it could not say so any more: the pause behind it begins now.
    """
    messages = BroadcastMessage.objects.filter(device__in=sorted(ids))
    handed_over = messages.filter(status="queued").order_by()
    lost = {pk: gap for pk, *gap in handed_over.values_list("device_id", *GAP)}
    until: dict[int, datetime] = {}
    for device in Device.objects.filter(pk__in=sorted(lost)):
        if pace := Pace.if_known(device):
            pause = timedelta(seconds=random_gap(pace, *lost[device.pk]) / pace.speed)
            until[device.pk] = max(now + pause, device.next_send_at or now)
    if until:
        survive_conflicts(Device.objects.put_off)(until)
    return messages.unstick()
