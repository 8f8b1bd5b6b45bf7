"""From a campaign to its messages, in chunks that each commit how far they came.

Killed anywhere, it goes on from the checkpoint; run by two schedulers at once, one of them gets
each chunk and the other stops. The unique key sees to it that nobody has two messages even so.
"""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import starmap
from typing import NamedTuple

from django.conf import settings
from django.db import transaction
from django.db.models import F, Max
from django.db.models.functions import Now
from django.utils import timezone

from broadcasts.allocation import Allocation
from broadcasts.enqueueing import Entry, enqueue_staged, stage
from broadcasts.models import BroadcastMessage
from broadcasts.rendering import greeting_of, prepare, variables_of
from broadcasts.retrying import survive_conflicts
from campaigns.audience import Audience
from campaigns.models import Campaign
from leads.models import Lead

logger = logging.getLogger(__name__)

CHUNK = 2500
MINUTE = timedelta(minutes=1)
# Retries, drips that go first and the time a send takes add up: the later a message is expected,
# the less exactly.
DRIFT = 0.5


def fan_out(campaign: Campaign, *, stop_at: float = math.inf) -> bool:
    """Queues the campaign's messages, until `stop_at` by the monotonic clock.

    Returns whether it is complete; False: somebody else is at it, or a later pass goes on.
    """
    audience = Audience.of(campaign)
    # Time that it was paused for, or waited for a device, does not count against its messages.
    starts_at = max(filter(None, (campaign.scheduled_at, campaign.resumed_at)))
    allocation = Allocation(
        audience.usable_devices(),
        starts_at=starts_at,
        priority=BroadcastMessage.Priority.CAMPAIGN,
        min_delay_seconds=campaign.min_delay_seconds,
        max_delay_seconds=campaign.max_delay_seconds,
    )
    if not allocation:
        logger.warning("Campaign %s waits: no device may send", campaign.pk)
        Campaign.objects.filter(pk=campaign.pk).update(resumed_at=Now())
        return False
    _freeze_audience(campaign)
    entry = _entries(campaign, allocation, starts_at)
    while time.monotonic() < stop_at:
        if not _still_ours(campaign):
            return False
        last_lead_id = _end_of_chunk(campaign)
        if last_lead_id is None:
            return _complete(campaign)
        recipients = _recipients(campaign, audience, last_lead_id)
        entries = [entry(recipient) for recipient in recipients]
        if not _commit_chunk(campaign, entries, last_lead_id):
            return False
    return False


class _Recipient(NamedTuple):
    lead_id: int
    phone: str
    name: str
    device_id: int | None
    skip_reason: str
    niches: str = ""


def _end_of_chunk(campaign: Campaign) -> int | None:
    """Returns the last id of the next CHUNK leads, whoever they are; None after the last lead.

    Of leads, not of the audience: to find the next of a small audience, the database would look
    through all the rest, and for a large one gather its niches anew for each chunk.
    """
    ids = Lead.objects.filter(
        pk__gt=campaign.checkpoint_lead_id, pk__lte=campaign.audience_max_lead_id or 0
    ).order_by("pk")
    return max(ids.values_list("pk", flat=True)[:CHUNK], default=None)


def _recipients(campaign: Campaign, audience: Audience, last_lead_id: int) -> list[_Recipient]:
    """Returns the audience up to there, without making a Lead of each: there are many."""
    leads = audience.leads_between(campaign.checkpoint_lead_id, last_lead_id).order_by("pk")
    rows = leads.values_list("pk", "phone", "name", "device_id", F("skip_reason"))
    recipients = list(starmap(_Recipient, rows))
    if recipients and "niche" in variables_of(campaign.message):
        names = _niches(recipients)
        recipients = [
            recipient._replace(niches=", ".join(names[recipient.lead_id]))
            for recipient in recipients
        ]
    return recipients


def _niches(recipients: list[_Recipient]) -> dict[int, list[str]]:
    names: dict[int, list[str]] = defaultdict(list)
    ids = [recipient.lead_id for recipient in recipients]
    carried = Lead.niches.through.objects.filter(lead_id__in=ids)
    for lead_id, name in carried.order_by("niche__name").values_list("lead_id", "niche__name"):
        names[lead_id].append(name)
    return names


def _freeze_audience(campaign: Campaign) -> None:
    """Leads that come in from now on are not part of it."""
    newest = Lead.objects.aggregate(newest=Max("pk"))["newest"] or 0
    Campaign.objects.filter(pk=campaign.pk, audience_max_lead_id__isnull=True).update(
        audience_max_lead_id=newest, audience_size=0
    )
    campaign.refresh_from_db(fields=["audience_max_lead_id", "checkpoint_lead_id"])


def _still_ours(campaign: Campaign) -> bool:
    """Whether it may go on: not paused or cancelled, and no other scheduler is further on."""
    return Campaign.objects.filter(
        pk=campaign.pk,
        status=Campaign.Status.QUEUING,
        checkpoint_lead_id=campaign.checkpoint_lead_id,
    ).exists()


@survive_conflicts
def _commit_chunk(campaign: Campaign, entries: list[Entry], last_lead_id: int) -> bool:
    stage(entries)  # anew with each try: a connection that was lost took it away
    with transaction.atomic():
        enqueue_staged(
            {
                "campaign_id": campaign.pk,
                "priority": BroadcastMessage.Priority.CAMPAIGN,
                "scheduled_at": campaign.scheduled_at,
                "min_delay_seconds": campaign.min_delay_seconds,
                "max_delay_seconds": campaign.max_delay_seconds,
            },
            greeting_of(campaign.message),
            timezone.now(),
        )
        moved = Campaign.objects.filter(
            pk=campaign.pk,
            status=Campaign.Status.QUEUING,
            checkpoint_lead_id=campaign.checkpoint_lead_id,
        ).update(
            checkpoint_lead_id=last_lead_id,
            # Counted by leads, not by rows: the two must add up, and can be seen not to.
            audience_size=F("audience_size") + len(entries),
        )
        if not moved:
            # Paused or cancelled this moment, or another scheduler was first: undo the chunk.
            transaction.set_rollback(True)
            return False
    campaign.checkpoint_lead_id = last_lead_id
    return True


def _complete(campaign: Campaign) -> bool:
    return bool(
        Campaign.objects.filter(pk=campaign.pk, status=Campaign.Status.QUEUING).update(
            status=Campaign.Status.SENDING,
            fanned_out_at=Now(),
        )
    )


def _entries(
    campaign: Campaign, allocation: Allocation, starts_at: datetime
) -> Callable[[_Recipient], Entry]:
    """Returns what makes the message of one recipient: the text filled in, a device, a deadline."""
    # What the database can fill in itself need not travel there a million times.
    fill = None if greeting_of(campaign.message) else prepare(campaign.message)
    window = settings.RECOVERY_WINDOW

    def entry(recipient: _Recipient) -> Entry:
        lead_id, phone, name, device_id, skip_reason, niches = recipient
        if skip_reason:
            return Entry(lead_id, None, skip_reason, None)
        device, expected_at = allocation.place(device_id)
        # By the minute, so that a million messages have a few thousand deadlines between them:
        # reckoned from its beginning, with what that takes away given back.
        minute = starts_at + (expected_at - starts_at) // MINUTE * MINUTE
        late = minute if minute == expected_at else minute + MINUTE
        allowance = window + (late - starts_at) * DRIFT + (late - minute)
        expires_at = allocation.deadline(device, minute, allowance)
        body = fill(name, phone, niches) if fill else None
        return Entry(lead_id, device.pk, "", expires_at, body)

    return entry
