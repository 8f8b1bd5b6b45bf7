"""Whom a device has talked with. First contacts are capped, and wait in lanes of their own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from django.db.models import Exists, F, OuterRef, Q

from broadcasts.models import BroadcastMessage
from broadcasts.retrying import survive_conflicts
from devices.among import Among
from leads.models import Lead

Priority = BroadcastMessage.Priority

# Of a range of ids, at least one in so many is asked about.
CLOSE = 4
WAITING = (BroadcastMessage.Status.PENDING, BroadcastMessage.Status.PAUSED)
FIRST_CONTACT: dict[int, BroadcastMessage.Priority] = {
    Priority.SEQUENCE_AGAIN: Priority.SEQUENCE_AGAIN_FIRST,
    Priority.SEQUENCE: Priority.SEQUENCE_FIRST,
    Priority.CAMPAIGN_AGAIN: Priority.CAMPAIGN_AGAIN_FIRST,
    Priority.CAMPAIGN: Priority.CAMPAIGN_FIRST,
}
# The lanes of what is tried again by itself.
AGAIN: dict[int, BroadcastMessage.Priority] = {
    Priority.SEQUENCE: Priority.SEQUENCE_AGAIN,
    Priority.SEQUENCE_FIRST: Priority.SEQUENCE_AGAIN_FIRST,
    Priority.CAMPAIGN: Priority.CAMPAIGN_AGAIN,
    Priority.CAMPAIGN_FIRST: Priority.CAMPAIGN_AGAIN_FIRST,
}


def known(leads: Sequence[int]) -> set[tuple[int, int]]:
    """Returns the (lead id, device id) of those who have talked: a message was sent, or the lead
    has written to it. Of these leads, and maybe of others between them."""
    if not leads:
        return set()
    sent = BroadcastMessage.objects.filter(
        _among("lead__pk", leads), sent_at__isnull=False, device__isnull=False
    )
    replied = Lead.objects.filter(_among("pk", leads), replied_to__isnull=False)
    pairs = [*sent.order_by().values_list("lead_id", "device_id").distinct()]
    pairs += replied.order_by().values_list("pk", "replied_to_id")
    return {(lead_id or 0, device_id or 0) for lead_id, device_id in pairs}


def _among(field: str, ids: Sequence[int]) -> Q:
    """These ids, as a range where they lie close together: thousands in a list take a database
    longer to read than to look up."""
    first, last = min(ids), max(ids)
    if last - first < CLOSE * len(ids):
        return Q((f"{field}__range", (first, last)))
    return Q((f"{field}__in", sorted(ids)))


def has_talked() -> Q:
    """Of leads: those who have talked with the device that they stay with."""
    sent = BroadcastMessage.objects.filter(
        lead=OuterRef("pk"), device=OuterRef("device"), sent_at__isnull=False
    )
    return Q(device__isnull=False) & (Q(replied_to=F("device")) | Q(Exists(sent)))


@survive_conflicts
def met(devices: Mapping[int, int]) -> int:
    """Writes down that these have talked {lead id: device id}: what else waits between them is no
    first contact any more. Returns how many messages changed lanes."""
    waiting = BroadcastMessage.objects.filter(
        Among("lead_id", sorted(devices)),
        priority__in=FIRST_CONTACT.values(),
        status__in=WAITING,
    )
    by_lane: dict[int, list[int]] = defaultdict(list)
    for pk, lead_id, device_id, lane in waiting.order_by().values_list(
        "pk", "lead_id", "device_id", "priority"
    ):
        if devices[lead_id or 0] == device_id:
            by_lane[lane].append(pk)
    changed = 0
    for usual, first in FIRST_CONTACT.items():
        if ids := sorted(by_lane[first]):
            rows = BroadcastMessage.objects.filter(pk__in=ids, priority=first, status__in=WAITING)
            changed += rows.update(priority=usual)
    return changed


def met_by(messages: Iterable[int]) -> None:
    """Writes down who has met by these messages (keys), if it turned out that they were sent."""
    sent = BroadcastMessage.objects.filter(
        pk__in=sorted(messages), status="sent", priority__in=FIRST_CONTACT.values(),
        lead__isnull=False, device__isnull=False,
    )  # fmt: skip
    rows = sent.order_by().values_list("lead_id", "device_id")
    pairs = {(lead_id or 0, device_id or 0) for lead_id, device_id in rows}
    while pairs:  # once, but where somebody has met two devices
        devices = dict(pairs)
        met(devices)
        pairs -= devices.items()
