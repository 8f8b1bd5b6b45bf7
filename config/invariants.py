"""What must hold of the rows at every moment, or at most a few minutes later.

Each rule is one statement, so it sees one state of the database; the rules about a message alone
are one statement together, one pass over the table. The others start from what is few (claimed and
held messages, devices, campaigns, the messages of today), but for the audiences: whether anybody
was forgotten is asked about every lead of every campaign.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, time, timedelta
from typing import Any

from django.conf import settings
from django.db.models import (
    Case,
    Count,
    Exists,
    F,
    IntegerField,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Value,
    When,
)
from django.db.models.functions import Coalesce, Now, NullIf
from django.utils import timezone
from django.utils.translation import gettext as _

from broadcasts.models import Attempt, BroadcastMessage
from campaigns.audience import Audience
from campaigns.models import Campaign
from campaigns.queryset import CampaignQuerySet
from devices.models import Device
from leads.models import Lead
from sequences.models import SequenceContact

# Of one rule's offenders no more are read: the first few tell what is wrong.
MOST = 1_000
# What the scheduler puts right with every pass may be out of place for so long.
PASSES = timedelta(minutes=10)
# Between the members of a cluster, whose clocks are not quite the same.
CLOCKS_APART = timedelta(minutes=1)

# A broken rule, and a row that breaks it.
Offence = tuple[str, str]


def offences(campaign: Campaign | None = None) -> Iterator[Offence]:
    """Yields what breaks a rule at this moment: of this campaign's messages, or anywhere."""
    messages = BroadcastMessage.objects.order_by()
    campaigns = Campaign.objects.order_by()
    if campaign:
        messages, campaigns = messages.filter(campaign=campaign), campaigns.filter(pk=campaign.pk)
    yield from _of_messages_alone(messages)
    for rule, rows in (*_of_few_messages(messages), *(() if campaign else _elsewhere())):
        for row in rows[:MOST]:
            yield rule, f"{row._meta.verbose_name} {row.pk}: {row}"
    yield from _doubles(messages)
    if not campaign:
        yield from _uncounted_sends()
    yield from _of_audiences(campaigns)
    yield from _forgotten(campaigns.filter(fanned_out_at__isnull=False))


def _of_messages_alone(messages: QuerySet[BroadcastMessage]) -> Iterator[Offence]:
    rules = _message_rules()
    broken = Case(
        *(When(condition, then=Value(n)) for n, (_rule, condition) in enumerate(rules)),
        output_field=IntegerField(),
    )
    found = messages.alias(broken=broken).filter(broken__isnull=False).annotate(rule=broken)
    for message in found.defer("body")[:MOST]:
        rule = rules[message.rule][0]
        yield rule, f"message {message.pk}: {message}"


def _message_rules() -> list[tuple[str, Q]]:
    """Returns each rule with what breaks it, all by the columns of one row."""
    claimed = Q(status__in=["processing", "queued"])
    handed_over = Q(status__in=["queued", "sent", "unknown"])
    closed = Q(status__in=BroadcastMessage.CLOSED)
    remembered = Attempt.objects.filter(message=OuterRef("pk"), number=OuterRef("restarts"))
    return [
        (_("A message has one of the known states"), ~Q(status__in=BroadcastMessage.Status.values)),
        (
            _("A claimed message names its claim"),
            claimed
            & (
                Q(processing_worker_id__isnull=True)
                | Q(processing_worker_id="")
                | Q(processing_started_at__isnull=True)
                | Q(lease_epoch__isnull=True)
            ),
        ),
        (
            _("A waiting message is claimed by nobody"),
            Q(status__in=["pending", "paused"], processing_worker_id__isnull=False),
        ),
        (
            _("A message that waits has a device to leave from"),
            Q(status__in=BroadcastMessage.OPEN, device__isnull=True),
        ),
        (
            _("What was handed over says when, and counts as an attempt"),
            handed_over & (Q(queued_at__isnull=True) | Q(attempts=0)),
        ),
        (
            _("A sent message says when, and from which device"),
            Q(status="sent") & (Q(sent_at__isnull=True) | Q(device__isnull=True)),
        ),
        (
            _("A message is sent after it was handed over"),
            Q(status="sent", sent_at__lt=F("queued_at") - CLOCKS_APART),
        ),
        (
            _("Only what was sent has arrived"),
            ~Q(status="sent")
            & (Q(sent_at__isnull=False) | Q(delivered_at__isnull=False) | Q(read_at__isnull=False)),
        ),
        (_("What was read was delivered"), Q(read_at__isnull=False, delivered_at__isnull=True)),
        (
            _("What is closed says since when, and what is open does not"),
            (closed & Q(finished_at__isnull=True)) | (~closed & Q(finished_at__isnull=False)),
        ),
        (_("A message that was left out says why"), Q(status="skipped", skip_reason="")),
        (
            _("A message that failed or is unknown says why"),
            Q(status__in=["failed", "unknown"], error_code=""),
        ),
        (
            _("A message that was sent on its way again remembers what it had ended as"),
            Q(~Exists(remembered), restarts__gt=0),
        ),
    ]


def _of_few_messages(
    messages: QuerySet[BroadcastMessage],
) -> Iterator[tuple[str, QuerySet[Any]]]:
    claimed = messages.filter(status__in=["processing", "queued"])
    yield (
        _("No claim is from a later lease than its device's"),
        claimed.filter(lease_epoch__gt=F("device__lease_epoch")),
    )
    yield (
        _("Nobody holds a message for longer than STUCK_AFTER"),
        claimed.filter(processing_started_at__lt=Now() - settings.STUCK_AFTER - PASSES),
    )
    resumed = Q(campaign__resumed_at__lt=Now() - PASSES) | Q(campaign__resumed_at__isnull=True)
    active = Q(sequence__status="active") & (
        Q(sequence__resumed_at__lt=Now() - PASSES) | Q(sequence__resumed_at__isnull=True)
    )
    unheld = Q(campaign__isnull=False) & resumed & ~Q(campaign__status__in=["paused", "cancelled"])
    ownerless = Q(campaign__isnull=True, sequence__isnull=True)
    yield (
        _("Only what belongs to something paused is held"),
        messages.filter(unheld | active | ownerless, status="paused"),
    )
    yield (
        _("Of a finished or cancelled campaign nothing waits"),
        messages.filter(
            status__in=["pending", "paused"],
            scheduled_at__lt=Now() - PASSES,
            campaign__status__in=["finished", "cancelled"],
            campaign__finished_at__lt=Now() - PASSES,
        ),
    )
    # What came back from the wire may have done so just now; when, its row does not say.
    waiting = messages.filter(status="pending", scheduled_at__lt=Now() - PASSES, attempts=0)
    yield (
        _("What is too late to be sent does not wait"),
        waiting.filter(expires_at__lt=Now() - PASSES),
    )
    yield (
        _("Nothing of what is paused waits"),
        waiting.filter(
            Q(campaign__status="paused", campaign__paused_at__lt=Now() - PASSES)
            | Q(
                ~Q(sequence__status="active"),
                Q(sequence__paused_at__lt=Now() - PASSES) | Q(sequence__paused_at__isnull=True),
                sequence__isnull=False,
            )
        ),
    )


def _elsewhere() -> Iterator[tuple[str, QuerySet[Any]]]:
    devices = Device.objects.order_by()
    yield (
        _("A lease has a holder and an end, or neither"),
        devices.filter(
            Q(worker_id="", lease_expires_at__isnull=False)
            | (~Q(worker_id="") & Q(lease_expires_at__isnull=True))
        ),
    )
    open_and_closed = (
        Q(status="active") & (Q(finished_at__isnull=False) | Q(next_due_at__isnull=True))
    ) | (~Q(status="active") & (Q(finished_at__isnull=True) | Q(next_due_at__isnull=False)))
    yield (
        _("A contact of a sequence has something due, or has finished"),
        SequenceContact.objects.order_by()
        .select_related("lead", "sequence")
        .filter(open_and_closed | Q(status="stopped", stop_reason="")),
    )


def _doubles(messages: QuerySet[BroadcastMessage]) -> Iterator[Offence]:
    """The unique keys forbid these; whoever dropped one would be told here."""
    for owner in ("campaign", "sequence_step"):
        doubles = (
            messages.filter(**{f"{owner}__isnull": False})
            .values(owner, "recipient_phone")
            .annotate(copies=Count("pk"))
            .filter(copies__gt=1)
        )
        for row in doubles[:MOST]:
            yield _("Nobody has two messages of one campaign or step"), str(row)


def _uncounted_sends() -> Iterator[Offence]:
    """Devices that sent more today than they counted: their caps would not hold."""
    for name in Device.objects.order_by().values_list("timezone", flat=True).distinct():
        devices = Device.objects.filter(timezone=name)
        zone = Device(timezone=name).zone
        today = timezone.now().astimezone(zone).date()
        midnight = datetime.combine(today, time(), zone)
        # Read before the counters, which only grow: whatever leaves in between is counted by then.
        is_first = Q(priority__in=BroadcastMessage.FIRST_CONTACTS)
        sent = {
            device_id: counts
            for device_id, *counts in BroadcastMessage.objects.filter(
                status="sent", finished_at__gte=midnight, queued_at__gte=midnight,
                device__in=devices.values("pk"), device__usage_day=today,
            )
            .order_by()
            .values("device")
            .annotate(count=Count("pk"), first=Count("pk", filter=is_first))
            .values_list("device", "count", "first")
        }  # fmt: skip
        for device in devices.filter(usage_day=today, pk__in=sorted(sent)):
            count, first = sent[device.pk]
            if count > device.usage_day_count or first > device.usage_first_count:
                yield (
                    _("A device counts what it sends"),
                    f"device {device.pk}: {device} sent {count} today ({first} to new people) and "
                    "counted fewer",
                )


def _of_audiences(campaigns: CampaignQuerySet) -> Iterator[Offence]:
    """Of every campaign that began, whatever became of it: a chunk is counted as it is written."""
    rows_of_it = BroadcastMessage.objects.filter(campaign=OuterRef("pk")).order_by()
    counts = rows_of_it.values("campaign").annotate(count=Count("pk")).values("count")
    counted = campaigns.annotate(count=Coalesce(Subquery(counts), 0))
    began = counted.filter(Q(audience_max_lead_id__isnull=False) | Q(fanned_out_at__isnull=False))
    differs = Q(audience_size__isnull=True) | ~Q(count=F("audience_size"))
    for each in began.filter(differs)[:MOST]:
        count: int = each.count  # type: ignore[attr-defined]  # annotated
        yield (
            _("The messages of a campaign add up to its audience"),
            f"{each}: {count} messages for an audience of {each.audience_size}",
        )
    over = campaigns.being_listed().filter(status="cancelled", finished_at__lt=Now() - PASSES)
    for each in over[:MOST]:
        yield (
            _("Of a cancelled campaign the whole audience is listed"),
            # Who is at it is further on when it is looked at again: then it is no offence.
            f"{each}: up to lead {each.checkpoint_lead_id} of {each.audience_max_lead_id}",
        )


def _forgotten(campaigns: QuerySet[Campaign]) -> Iterator[Offence]:
    """Leads that were in the audience when it was queued and have no message.

    One statement finds the campaigns that forgot somebody, mostly none; who it was is then asked of
    each of these.
    """
    niches = Campaign.niches.through.objects.filter(campaign=OuterRef("pk"))
    carriers = Lead.niches.through.objects.filter(niche__campaigns=OuterRef("pk"))
    forgetful = campaigns.filter(
        Exists(_without_message(carriers, "lead__"))
        | Q(Exists(_without_message(Lead.objects.all())), ~Exists(niches), for_all_niches=True)
    )
    for campaign in forgetful:
        message = BroadcastMessage.objects.filter(
            campaign=campaign, recipient_phone=OuterRef("phone")
        )
        leads = Audience.of(campaign).leads.filter(
            ~Exists(message),
            pk__lte=campaign.audience_max_lead_id,
            updated_at__lt=campaign.started_at or campaign.created_at,
        )
        for lead in leads[:MOST]:
            yield _("Every lead of a campaign's audience has a message"), f"{campaign}: {lead}"


def _without_message(leads: QuerySet[Any], path: str = "") -> QuerySet[Any]:
    """Those of these leads, or of what `path` leads to them from, whom the outer campaign forgot.

    Who was changed since it began, or got a niche, may have come into its audience only then.
    """
    message = BroadcastMessage.objects.filter(
        campaign=OuterRef(OuterRef("pk")), recipient_phone=OuterRef(f"{path}phone")
    )
    began_at = Coalesce(OuterRef("started_at"), OuterRef("created_at"))
    of_any_status = Coalesce(NullIf(OuterRef("target_status"), Value("")), F(f"{path}status"))
    return leads.filter(
        ~Exists(message),
        Q((f"{path}status", of_any_status)),
        Q((f"{path}pk__lte", OuterRef("audience_max_lead_id"))),
        Q((f"{path}updated_at__lt", began_at)),
    )
