"""The books: every promise about messages, checked on the live database."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from django.db.models import Case, CharField, Count, Exists, F, OuterRef, Q, QuerySet, Value, When

from broadcasts.models import BroadcastMessage
from campaigns.models import Campaign
from config.invariants import offences
from devices.models import Device, SimulatedMessage

SHOWN = 10
# What messages come from; others are those that somebody sends to try a device.
ORIGINS = ("campaigns", "sequences", "others")
AGAIN_AFTER_SECONDS = 2.0


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

    @property
    def differences(self) -> tuple[list[str], ...]:
        return (
            self.twice,
            self.sent_but_missing,
            self.received_against_the_record,
            self.received_from_nowhere,
        )

    @property
    def is_wrong(self) -> bool:
        return any(self.differences)


def by_origin(campaign: Campaign | None = None) -> dict[str, Counter[str]]:
    """Returns messages by status for each of what they come from: of this campaign, or of all.

    One statement, so that the columns add up to all there are at that moment.
    """
    origin = Case(
        When(campaign__isnull=False, then=Value("campaigns")),
        When(sequence__isnull=False, then=Value("sequences")),
        default=Value("others"),
        output_field=CharField(),
    )
    messages = BroadcastMessage.objects.order_by()
    if campaign:
        messages = messages.filter(campaign=campaign)
    found: dict[str, Counter[str]] = {name: Counter() for name in ORIGINS}
    rows = messages.annotate(origin=origin).values_list("origin", "status")
    for name, status, count in rows.annotate(Count("pk")):
        found[name][status] = count
    return found


def violations(
    campaign: Campaign | None = None, *, again_after_seconds: float = AGAIN_AFTER_SECONDS
) -> list[Violation]:
    """Returns every broken rule: of this campaign's messages, or of all.

    The rows move on while they are read. Whoever breaks a rule is looked at again after so many
    seconds, and only who breaks it still is an offender.
    """
    found = list(offences(campaign))
    if not found:
        return []
    time.sleep(again_after_seconds)
    still = Counter(offences(campaign)) & Counter(found)
    rows: dict[str, list[str]] = defaultdict(list)
    for rule, row in still:
        rows[rule].append(row)
    return [Violation(rule, len(rows[rule]), rows[rule][:SHOWN]) for rule in rows]


def reception(
    campaign: Campaign | None = None, *, again_after_seconds: float = AGAIN_AFTER_SECONDS
) -> Reception:
    """Compares the simulator's own record with the queue's: message by message, by their keys.

    What differs is looked at again after so many seconds: it may have been on its way.
    """
    first = _reception(campaign)
    if not first.is_wrong:
        return first
    time.sleep(again_after_seconds)
    second = _reception(campaign)
    for rows, before in zip(second.differences, first.differences, strict=True):
        rows[:] = sorted(set(rows) & set(before))
    return second


def _reception(campaign: Campaign | None) -> Reception:
    copies = Counter(
        SimulatedMessage.objects.filter(from_device=True)
        .order_by()
        .values_list("key", "phone")
        .iterator()
    )
    result = Reception()
    for message in _simulated(campaign).iterator():
        pk, status, phone = message.pk, message.status, message.recipient_phone
        phones = {phone, message.whatsapp_phone or phone}  # type: ignore[attr-defined]  # annotated
        # Whom a person sent it again on purpose may have it once for each of the keys.
        got = max(sum(copies.pop((key, to), 0) for to in phones) for key in message.keys)
        if not got and not _is_simulators(message):
            continue
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


def _simulated(campaign: Campaign | None) -> QuerySet[BroadcastMessage]:
    """The messages of every device that is simulated or ever was, under whatever name: a world of
    somebody's own is another transport, and devices change theirs."""
    received = SimulatedMessage.objects.filter(device=OuterRef("pk"), from_device=True)
    devices = Device.objects.filter(Exists(received) | Q(transport=Device.SIMULATOR))
    messages = BroadcastMessage.objects.filter(device__in=devices.order_by().values("pk"))
    if campaign:
        messages = messages.filter(campaign=campaign)
    needed = ("pk", "status", "recipient_phone", "restarts", "provider_message_id")
    return (
        messages.order_by()
        .only(*needed)
        .annotate(transport=F("device__transport"), whatsapp_phone=F("lead__whatsapp_phone"))
    )


def _is_simulators(message: BroadcastMessage) -> bool:
    """Whether its phone is one of the simulator's: by the id it got, or, as long as it has none, by
    what its device is now."""
    if message.provider_message_id:
        return message.provider_message_id.startswith(SimulatedMessage.ID_PREFIX)
    return bool(message.transport == Device.SIMULATOR)  # type: ignore[attr-defined]  # annotated
