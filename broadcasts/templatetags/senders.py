"""What a device's pages ask about broadcasters and messages, which devices know nothing of."""

from __future__ import annotations

from datetime import datetime

from django import template

from broadcasts.models import BroadcastMessage, Worker
from devices.models import Device

register = template.Library()

LATEST = 20  # of a lane: they leave in the order in which they are due, or nearly


@register.simple_tag
def can_pair() -> bool:
    """Whether a broadcaster is running that can link devices to WhatsApp."""
    return Worker.objects.alive().filter(can_pair=True).exists()


@register.filter
def last_sent(device: Device) -> datetime | None:
    """Returns when the device last sent something, as far as its latest messages say.

    Read lane by lane off the index that the claim uses: the largest of all would be a walk through
    everything that it ever sent.
    """
    sent = BroadcastMessage.objects.filter(device=device, status="sent")
    times = [
        at
        for lane in BroadcastMessage.Priority
        for at in sent.filter(priority=lane)
        .order_by("-scheduled_at")
        .values_list("sent_at", flat=True)[:LATEST]
        if at
    ]
    return max(times, default=None)
