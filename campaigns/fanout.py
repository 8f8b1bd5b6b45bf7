"""From a campaign to its messages, in chunks that each commit how far they came.

Killed anywhere, it goes on from the checkpoint; run by two schedulers at once, one of them gets
each chunk and the other stops. The unique key sees to it that nobody has two messages even so.
"""

from __future__ import annotations

import logging
import math
import time
from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import F, Max
from django.db.models.functions import Now
from django.utils import timezone

from broadcasts import pacing
from broadcasts.allocation import Allocation
from broadcasts.enqueueing import enqueue
from broadcasts.models import BroadcastMessage
from broadcasts.rendering import render
from broadcasts.retrying import survive_conflicts
from campaigns.audience import Audience
from campaigns.models import Campaign
from leads.models import Lead

logger = logging.getLogger(__name__)

CHUNK = 1000
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
    while time.monotonic() < stop_at:
        if not _still_ours(campaign):
            return False
        leads = list(
            audience.leads.filter(
                pk__gt=campaign.checkpoint_lead_id, pk__lte=campaign.audience_max_lead_id or 0
            )
            .order_by("pk")
            .prefetch_related("niches")[:CHUNK]
        )
        if not leads:
            return _complete(campaign)
        messages = [_message(campaign, lead, allocation, starts_at) for lead in leads]
        if not _commit_chunk(campaign, messages, leads[-1].pk):
            return False
    return False


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
def _commit_chunk(campaign: Campaign, messages: list[BroadcastMessage], last_lead_id: int) -> bool:
    with transaction.atomic():
        enqueue(messages, unique=("campaign", "recipient_phone"))
        moved = Campaign.objects.filter(
            pk=campaign.pk,
            status=Campaign.Status.QUEUING,
            checkpoint_lead_id=campaign.checkpoint_lead_id,
        ).update(
            checkpoint_lead_id=last_lead_id,
            # Counted by leads, not by rows: the two must add up, and can be seen not to.
            audience_size=F("audience_size") + len(messages),
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


def _message(
    campaign: Campaign, lead: Lead, allocation: Allocation, starts_at: datetime
) -> BroadcastMessage:
    assert campaign.scheduled_at, "only a scheduled campaign is queued"
    skip_reason: str = lead.skip_reason  # type: ignore[attr-defined]  # annotated by Audience.leads
    message = BroadcastMessage(
        campaign=campaign,
        lead=lead,
        recipient_phone=lead.phone,
        recipient_name=lead.name,
        priority=BroadcastMessage.Priority.CAMPAIGN,
        scheduled_at=campaign.scheduled_at,
        min_delay_seconds=campaign.min_delay_seconds,
        max_delay_seconds=campaign.max_delay_seconds,
    )
    if skip_reason:
        message.status = BroadcastMessage.Status.SKIPPED
        message.skip_reason = skip_reason
        message.finished_at = timezone.now()
        return message
    message.device, expected_at = allocation.place(lead.device_id)
    message.expires_at = pacing.deadline(
        pacing.Pace.of(message.device),
        expected_at,
        settings.RECOVERY_WINDOW + (expected_at - starts_at) * DRIFT,
    )
    message.body = render(campaign.message, lead)
    return message
