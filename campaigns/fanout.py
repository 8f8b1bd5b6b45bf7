"""From a campaign to its messages, in chunks that each commit how far they came.

Killed anywhere, it goes on from the checkpoint; run by two schedulers at once, one of them gets
each chunk and the other stops. The unique key sees to it that nobody has two messages even so.
Of a campaign that is cancelled meanwhile the rest is written as well: as cancelled, so that nobody
is missing.
"""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Max
from django.db.models.functions import Now
from django.utils import timezone

from broadcasts.acquaintance import known
from broadcasts.allocation import DRIFT, Allocation
from broadcasts.enqueueing import Entry, enqueue_staged, server, stage
from broadcasts.models import BroadcastMessage
from broadcasts.overtaking import put_off
from broadcasts.rendering import greeting_of, prepare, variables_of
from broadcasts.retrying import survive_conflicts
from campaigns.audience import Audience
from campaigns.models import Campaign
from campaigns.pipeline import pipeline
from devices.models import Device
from leads.models import Lead, LeadQuerySet

logger = logging.getLogger(__name__)

# Read at once: what the database takes to find a page's audience is shared by many.
PAGE = 5_000
# Written and committed at once. So long whoever inserts another message, or writes to one of these
# leads or devices, has to wait.
CHUNK = 900
# Messages share a deadline for so long, so that a million have a few hundred between them.
GRAIN = timedelta(minutes=5)
Priority = BroadcastMessage.Priority
# Makes messages of recipients.
Placing = Callable[[Iterable[Any]], list[Entry]]


@dataclass
class Page:
    """The messages of PAGE leads, up to this one."""

    entries: list[Entry]
    last_lead_id: int
    # Lies ready on the connection of the thread that made this.
    is_staged: bool = False


def fan_out(campaign: Campaign, *, stop_at: float = math.inf) -> bool:
    """Queues the campaign's messages, until `stop_at` by the monotonic clock.

    Returns whether it is complete; False: somebody else is at it, or a later pass goes on.
    """
    audience = Audience.of(campaign)
    placed = _cancelled if campaign.is_cancelled else _placing(campaign, audience)
    if placed is None:
        logger.warning("Campaign %s waits: no device may send", campaign.pk)
        Campaign.objects.begun_as(campaign).update(resumed_at=Now())
        return False
    home = server()
    if not _freeze_audience(campaign) or time.monotonic() >= stop_at:
        return False
    pages = _pages(campaign, audience, placed)

    def leads_here() -> bool:
        return server() == home

    def prepare() -> Page | None:
        # It may have been connected anew meanwhile: another node of a cluster need not have heard
        # of all leads of the audience. The next pass goes on.
        if not leads_here():
            return None
        if page := next(pages, None):
            _stage(page)
        return page

    def write(page: Page) -> bool:
        return time.monotonic() < stop_at and _commit_page(campaign, page)

    return pipeline(prepare, write, leads_here=leads_here) and _complete(campaign)


def _pages(campaign: Campaign, audience: Audience, placed: Placing) -> Iterator[Page]:
    """Yields the messages of PAGE leads at a time.

    Begins behind the checkpoint, and then goes its own way: it is ahead of what is written.
    """
    after, newest = campaign.checkpoint_lead_id, campaign.audience_max_lead_id or 0
    while after < newest:
        upto = _end_of_page(after, newest)
        recipients = _recipients(campaign, audience.leads_between(after, upto))
        yield Page(placed(recipients), upto)
        after = upto


def _end_of_page(after: int, newest: int) -> int:
    """Returns the last id of the next PAGE leads, whoever they are.

    Of leads, not of the audience: to find the next of a small audience, the database would look
    through all the rest, and for a large one gather its niches anew for each page.
    """
    ids = Lead.objects.filter(pk__gt=after, pk__lte=newest).order_by("pk")
    return ids.values_list("pk", flat=True)[PAGE - 1 : PAGE].first() or newest


def _recipients(campaign: Campaign, leads: LeadQuerySet) -> Iterable[Any]:
    """Returns id, device and skip reason of each, and, where Python has to fill in the text, also
    name, number and niches.

    Without making an object of each: there are many.
    """
    leads = leads.order_by("pk")
    decided_by = ("pk", "device_id", F("skip_reason"))
    if campaign.is_cancelled or greeting_of(campaign.message):
        return leads.values_list(*decided_by)
    rows = leads.values_list(*decided_by, "name", "phone")
    names = _niches([row[0] for row in rows]) if "niche" in variables_of(campaign.message) else {}
    return [(*row, ", ".join(names.get(row[0], ()))) for row in rows]


def _niches(lead_ids: list[int]) -> dict[int, list[str]]:
    names: dict[int, list[str]] = defaultdict(list)
    carried = Lead.niches.through.objects.filter(lead_id__in=lead_ids)
    for lead_id, name in carried.order_by("niche__name").values_list("lead_id", "niche__name"):
        names[lead_id].append(name)
    return names


def _freeze_audience(campaign: Campaign) -> bool:
    """Leads that come in from now on are not part of it. False: it is not what it was any more."""
    newest = Lead.objects.aggregate(newest=Max("pk"))["newest"] or 0
    begun = Campaign.objects.begun_as(campaign)
    begun.filter(audience_max_lead_id__isnull=True).update(
        audience_max_lead_id=newest, audience_size=0
    )
    frozen = begun.filter(audience_max_lead_id__isnull=False)
    as_frozen = frozen.values_list("audience_max_lead_id", "checkpoint_lead_id").first()
    if as_frozen:
        campaign.audience_max_lead_id, campaign.checkpoint_lead_id = as_frozen
    return as_frozen is not None


@survive_conflicts
def _stage(page: Page) -> None:
    stage(page.entries)
    page.is_staged = True


@survive_conflicts
def _commit_page(campaign: Campaign, page: Page) -> bool:
    """Writes a page's messages by the CHUNK; returns whether all of them were ours to write."""
    left = [entry for entry in page.entries if entry[0] > campaign.checkpoint_lead_id]
    # A second try goes on behind the chunks of the first. It stages anew: a connection that was
    # lost took what was staged away.
    if not page.is_staged:
        stage(left)
    page.is_staged = False
    last_start = max(len(left) - 1, 0) // CHUNK * CHUNK
    for start in range(0, last_start, CHUNK):
        chunk = left[start : start + CHUNK]
        if not _commit_chunk(campaign, chunk, chunk[-1][0]):
            return False
    return _commit_chunk(campaign, left[last_start:], page.last_lead_id)


def _commit_chunk(campaign: Campaign, chunk: Sequence[Entry], last_lead_id: int) -> bool:
    """Returns whether the chunk was ours to write: the campaign was not paused or cancelled this
    moment, and no other scheduler is further on.

    What is written goes by the status that the checkpoint was moved under: of a cancelled campaign
    nothing ever waits, not for a moment.
    """
    with transaction.atomic():
        # First: whoever comes second waits here, and has nothing to undo.
        begun = Campaign.objects.begun_as(campaign)
        moved = begun.filter(checkpoint_lead_id=campaign.checkpoint_lead_id).update(
            checkpoint_lead_id=last_lead_id,
            # Counted by leads, not by rows: the two must add up, and can be seen not to.
            audience_size=F("audience_size") + len(chunk),
        )
        if not moved:
            return False
        enqueue_staged(
            (campaign.checkpoint_lead_id, last_lead_id),
            {
                "campaign_id": campaign.pk,
                "scheduled_at": campaign.scheduled_at,
                "attachment_id": campaign.attachment_id,
                "min_delay_seconds": campaign.min_delay_seconds,
                "max_delay_seconds": campaign.max_delay_seconds,
            },
            greeting_of(campaign.message),
            timezone.now(),
            cancelled=campaign.is_cancelled,
        )
    campaign.checkpoint_lead_id = last_lead_id
    return True


def _complete(campaign: Campaign) -> bool:
    # The checkpoint has the last word on whether all of it is written.
    whole = Campaign.objects.begun_as(campaign).filter(
        checkpoint_lead_id__gte=campaign.audience_max_lead_id
    )
    if not campaign.is_cancelled and whole.exists():
        _put_others_off(campaign)
    status = campaign.status if campaign.is_cancelled else Campaign.Status.SENDING
    return bool(whole.update(status=status, fanned_out_at=Now()))


def _put_others_off(campaign: Campaign) -> None:
    """Gives the new people of other campaigns the time that the known ones of this take on their
    devices. Before it is complete: a pass that is killed here does it again."""
    under_way = Campaign.objects.filter(status__in=("queuing", "sending", "paused"))
    if others := list(under_way.exclude(pk=campaign.pk).values_list("pk", flat=True)):
        messages = BroadcastMessage.objects
        put_off(
            messages.filter(campaign__in=others, priority=Priority.CAMPAIGN_FIRST),
            ahead=messages.filter(campaign=campaign, priority=Priority.CAMPAIGN),
        )


def _cancelled(recipients: Iterable[Any]) -> list[Entry]:
    """Makes the messages of recipients who get nothing: without a device, nothing can leave."""
    lane = int(Priority.CAMPAIGN)
    return [(lead_id, None, lane, why, None, None) for lead_id, _own, why in recipients]


def _placing(campaign: Campaign, audience: Audience) -> Placing | None:
    """Returns what makes the messages of recipients: the text filled in, a device, its lane, a
    deadline. None: no device may send."""
    # Time that it was paused for, or waited for a device, does not count against its messages.
    starts_at = max(filter(None, (campaign.scheduled_at, campaign.resumed_at)))
    allocation = Allocation(
        audience.usable_devices(),
        starts_at=starts_at,
        priority=Priority.CAMPAIGN,
        min_delay_seconds=campaign.min_delay_seconds,
        max_delay_seconds=campaign.max_delay_seconds,
        # They come in the order of their ids: whom it knows may be among the last.
        staying=audience.staying(campaign.checkpoint_lead_id),
    )
    return _placed_by(allocation, campaign, starts_at) if allocation else None


def _placed_by(allocation: Allocation, campaign: Campaign, starts_at: datetime) -> Placing:
    # What the database can fill in itself need not travel there a million times.
    fill = None if greeting_of(campaign.message) else prepare(campaign.message)
    window = settings.RECOVERY_WINDOW
    # By device: what was reckoned last, and for when.
    latest: dict[int, tuple[datetime, datetime, datetime]] = {}
    nothing = (starts_at, starts_at, starts_at)
    usual, first_contact = int(Priority.CAMPAIGN), int(Priority.CAMPAIGN_FIRST)

    def reckon(device: Device, expected_at: datetime) -> tuple[datetime, datetime, datetime]:
        """Returns from when, and until when, a message has to be expected to expire at the third.

        Reckoned from the beginning of its GRAIN, with what that takes away given back.
        """
        begin = starts_at + (expected_at - starts_at) // GRAIN * GRAIN
        late = begin if begin == expected_at else begin + GRAIN
        allowance = window + (late - starts_at) * DRIFT + (late - begin)
        expires_at = allocation.deadline(device, begin, allowance)
        return expected_at, max(late, begin + timedelta.resolution), expires_at

    def placed(recipients: Iterable[Any]) -> list[Entry]:
        entries: list[Entry] = []
        recipients = list(recipients)
        # Of those who get it alone: their history is read, however much there is of others'.
        talked = known([row[0] for row in recipients if not row[2]])
        for lead_id, own_device_id, skip_reason, *about in recipients:
            if skip_reason:
                entries.append((lead_id, None, usual, skip_reason, None, None))
                continue
            knows = (lead_id, own_device_id) in talked
            device, expected_at = allocation.place(own_device_id, knows=knows)
            device_id = device.id
            lane = usual if (lead_id, device_id) in talked else first_contact
            since, until, expires_at = latest.get(device_id, nothing)
            if not since <= expected_at < until:
                latest[device_id] = _, _, expires_at = reckon(device, expected_at)
            body = fill(*about) if fill else None
            entries.append((lead_id, device_id, lane, "", expires_at, body))
        return entries

    return placed
