"""The books: every promise about messages, checked on the live database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.utils.translation import gettext as _

from broadcasts.models import BroadcastMessage
from campaigns.audience import Audience
from campaigns.models import Campaign
from devices.models import Device, SimulatedMessage

SHOWN = 10


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that does not hold, and some of the rows that break it."""

    rule: str
    count: int
    examples: list[str]


@dataclass(slots=True)
class Reception:
    """What the simulator's phones received, beside what the queue recorded of those messages."""

    recorded: Counter[str] = field(default_factory=Counter)  # messages by status
    received: Counter[str] = field(default_factory=Counter)  # of them, received at least once
    twice: list[str] = field(default_factory=list)
    sent_but_missing: list[str] = field(default_factory=list)
    received_against_the_record: list[str] = field(default_factory=list)
    received_from_nowhere: list[str] = field(default_factory=list)


def violations(campaign: Campaign | None = None) -> Iterator[Violation]:
    """Yields every broken rule: of this campaign's messages, or of all."""
    messages = BroadcastMessage.objects.order_by()
    campaigns = Campaign.objects.order_by()
    if campaign:
        messages, campaigns = messages.filter(campaign=campaign), campaigns.filter(pk=campaign.pk)
    for rule, rows in _message_rules(messages):
        if count := rows.count():
            yield Violation(rule, count, [f"message {m.pk}: {m}" for m in rows[:SHOWN]])
    for keys in (("campaign", "recipient_phone"), ("sequence_step", "recipient_phone")):
        doubles = (
            messages.filter(**{f"{keys[0]}__isnull": False})
            .values(*keys)
            .annotate(copies=Count("pk"))
            .filter(copies__gt=1)
        )
        if count := doubles.count():
            rule = _("Nobody has two messages of one campaign or step")
            yield Violation(rule, count, [str(row) for row in doubles[:SHOWN]])
    for each in campaigns.filter(fanned_out_at__isnull=False):
        yield from _audience_violations(each)


def reception(campaign: Campaign | None = None) -> Reception:
    """Compares the simulator's own record with the queue's: message by message, by their keys."""
    messages = BroadcastMessage.objects.filter(device__transport=Device.SIMULATOR).order_by()
    if campaign:
        messages = messages.filter(campaign=campaign)
    copies = Counter(
        SimulatedMessage.objects.filter(from_device=True)
        .order_by()
        .values_list("key", "phone")
        .iterator()
    )
    result = Reception()
    rows = messages.only("pk", "status", "recipient_phone", "restarts")
    for message in rows.iterator():
        pk, status, phone = message.pk, message.status, message.recipient_phone
        # Whom a person sent it again on purpose may have it once for each of the keys.
        got = max(copies.pop((key, phone), 0) for key in message.keys)
        result.recorded[status] += 1
        result.received[status] += bool(got)
        if got > 1:
            result.twice.append(f"message {pk} to {phone}: {got} copies")
        if status == "sent" and not got:
            result.sent_but_missing.append(f"message {pk} to {phone}")
        if got and status not in ("sent", "unknown", "queued"):
            result.received_against_the_record.append(f"message {pk} to {phone}: {status}")
    if campaign is None:
        # What is left belongs to no message of ours, or went to another number than its message's.
        result.received_from_nowhere = [f"{key} at {phone}" for key, phone in copies]
    return result


def _message_rules(
    messages: QuerySet[BroadcastMessage],
) -> Iterator[tuple[str, QuerySet[BroadcastMessage]]]:
    claimed = Q(status__in=["processing", "queued"])
    closed = Q(status__in=BroadcastMessage.CLOSED)
    yield (
        _("A claimed message names its claim"),
        messages.filter(
            claimed,
            Q(processing_worker_id__isnull=True)
            | Q(processing_worker_id="")
            | Q(processing_started_at__isnull=True)
            | Q(lease_epoch__isnull=True),
        ),
    )
    yield (
        _("A waiting message is claimed by nobody"),
        messages.filter(status__in=["pending", "paused"], processing_worker_id__isnull=False),
    )
    yield (
        _("A sent message says when, and from which device"),
        messages.filter(Q(status="sent"), Q(sent_at__isnull=True) | Q(device__isnull=True)),
    )
    yield (
        _("What is closed says since when, and what is open does not"),
        messages.filter(
            (closed & Q(finished_at__isnull=True)) | (~closed & Q(finished_at__isnull=False))
        ),
    )
    yield (
        _("A message that was left out says why"),
        messages.filter(status="skipped", skip_reason=""),
    )
    yield (
        _("A message that failed or is unknown says why"),
        messages.filter(status__in=["failed", "unknown"], error_code=""),
    )
    yield (
        _("A message that waits has a device to leave from"),
        messages.filter(status__in=BroadcastMessage.OPEN, device__isnull=True),
    )


def _audience_violations(campaign: Campaign) -> Iterator[Violation]:
    """Every lead that was in the audience when it was queued has a message, and none is extra."""
    rows = campaign.messages.count()
    if rows != campaign.audience_size:
        rule = _("The messages of a campaign add up to its audience")
        yield Violation(
            rule, 1, [f"{campaign}: {rows} messages for an audience of {campaign.audience_size}"]
        )
    message = BroadcastMessage.objects.filter(campaign=campaign, recipient_phone=OuterRef("phone"))
    forgotten = Audience.of(campaign).leads.filter(
        ~Exists(message),
        pk__lte=campaign.audience_max_lead_id or 0,
        # Who was changed since may have come into the audience only then.
        updated_at__lt=campaign.started_at or campaign.created_at,
    )
    if count := forgotten.count():
        rule = _("Every lead of a campaign's audience has a message")
        yield Violation(rule, count, [f"{campaign}: {lead}" for lead in forgotten[:SHOWN]])
