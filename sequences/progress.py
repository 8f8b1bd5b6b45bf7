"""How leads come into a sequence and move through it.

A step's message is created when it is due, never before: editing or pausing a sequence has nothing
to undo. The unique key on (step, phone) and the compare-and-set on the contact's next step each
suffice for nobody to get a step twice.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now

from attachments.models import Attachment
from broadcasts.acquaintance import known
from broadcasts.allocation import Allocation
from broadcasts.enqueueing import enqueue
from broadcasts.models import BroadcastMessage
from broadcasts.rendering import render
from broadcasts.retrying import survive_conflicts
from leads.models import Lead
from sequences.models import Sequence, SequenceContact, SequenceStep

logger = logging.getLogger(__name__)

CHUNK = 500


def enrol(sequence: Sequence) -> int:
    """Enrols the leads that carry the sequence's trigger and never were in it; returns how many."""
    first = next(iter(sequence.steps.all()), None)
    if first is None:
        return 0
    newcomers = sequence.newcomers()
    enrolled = last = 0
    while ids := list(
        newcomers.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:CHUNK]
    ):
        new = _enrol(sequence, first, ids)
        if new is None:
            break
        enrolled += new
        last = ids[-1]
    return enrolled


@survive_conflicts
@transaction.atomic
def _enrol(sequence: Sequence, first: SequenceStep, lead_ids: list[int]) -> int | None:
    """Returns how many of these were not in it. By query: MySQL's row count lies.

    None: it was paused, or has another trigger, since it was read. Locked, so that another
    scheduler's are not counted as well.
    """
    as_read = Sequence.objects.select_for_update().active()
    if not as_read.filter(pk=sequence.pk, trigger=sequence.trigger_id).values_list("pk"):
        return None
    contacts = sequence.contacts.filter(lead__in=lead_ids)
    before = contacts.count()
    SequenceContact.objects.bulk_create(
        [
            SequenceContact(
                sequence=sequence,
                lead_id=pk,
                next_step=first,
                next_due_at=Now() + timedelta(seconds=first.delay_seconds),
            )
            for pk in lead_ids
        ],
        # Whoever another scheduler enrolled this moment stays as they are.
        update_conflicts=True,
        update_fields=["lead"],
        unique_fields=["sequence", "lead"]
        if connection.features.supports_update_conflicts_with_target
        else None,
    )
    return contacts.count() - before


def advance(sequence: Sequence) -> dict[str, int]:
    """Queues the next step of every contact that is due; returns counts."""
    counts = Counter({"queued": 0, "skipped": 0, "completed": 0})
    due = sequence.contacts.due().order_by("next_due_at", "pk")
    if not due.exists():
        return counts  # to play through what waits on all devices may take a second
    # The database's time: this host's may be wrong.
    now = Sequence.objects.filter(pk=sequence.pk).values_list(Now(), flat=True).get()
    lane = BroadcastMessage.Priority.SEQUENCE
    allocation = Allocation(sequence.usable_devices(), starts_at=now, priority=lane)
    if not allocation:
        logger.warning("Sequence %s waits: no device may send", sequence.pk)
        return counts
    steps = list(sequence.steps.all())
    while contacts := list(due[:CHUNK]):
        moved = _advance_chunk(sequence, steps, contacts, allocation, now)
        if not moved.total():
            break  # another scheduler is at these; it does them
        counts.update(moved)
    del counts["passed"]  # who had the step already, and who waited for one that is gone
    return counts


@survive_conflicts
def _advance_chunk(
    sequence: Sequence,
    steps: list[SequenceStep],
    contacts: list[SequenceContact],
    allocation: Allocation,
    now: datetime,
) -> Counter[str]:
    """Returns how many contacts moved on, and how. All or nothing: one transaction."""
    leads = (
        Lead.objects.filter(pk__in=[contact.lead_id for contact in contacts])
        .with_skip_reason()
        .prefetch_related("niches")
        .in_bulk()
    )
    messages: dict[int, BroadcastMessage] = {}  # by contact
    found = {step.pk: step for step in steps}
    talked = known(list(leads))
    for contact in contacts:
        if step := found.get(contact.next_step_id or 0):  # None: it was deleted
            lead = leads[contact.lead_id]
            messages[contact.pk] = _message(sequence, step, lead, allocation, now, talked)
    moved: Counter[str] = Counter()
    carried = {message.attachment_id for message in messages.values() if message.attachment_id}
    with transaction.atomic():
        if carried:
            Attachment.objects.filter(pk__in=carried).mark_carried()
        had = _recipients(messages.values())
        enqueue(messages.values(), unique=("sequence_step", "recipient_phone"))
        alike: dict[tuple[int | None, str, bool], list[int]] = defaultdict(list)
        for contact in contacts:
            alike[_fate(messages.get(contact.pk), had)].append(contact.pk)
        for (step_pk, reason, is_new), ids in alike.items():
            following = _following(steps, found.get(step_pk or 0))
            if reason:
                count = _stop(ids, step_pk, reason)
            else:
                count = _move_on(ids, step_pk, following)
                moved["completed"] += count if following is None else 0
            moved[("skipped" if reason else "queued") if is_new else "passed"] += count
    return moved


def _recipients(messages: Iterable[BroadcastMessage]) -> set[tuple[int | None, str]]:
    """Returns who has which of these already, as leads that were deleted and came back."""
    there = BroadcastMessage.objects.order_by().filter(
        sequence_step__in={message.sequence_step_id for message in messages},
        recipient_phone__in=[message.recipient_phone for message in messages],
    )
    return set(there.values_list("sequence_step_id", "recipient_phone"))


def _fate(
    message: BroadcastMessage | None, had: set[tuple[int | None, str]]
) -> tuple[int | None, str, bool]:
    """Returns a contact's step, why it stops there ('': it does not), and whether that is new."""
    if message is None:
        return None, "", False
    step_pk, phone = message.sequence_step_id, message.recipient_phone
    return step_pk, message.skip_reason, (step_pk, phone) not in had


def _stop(contact_ids: list[int], step_pk: int | None, reason: str) -> int:
    return SequenceContact.objects.filter(
        pk__in=contact_ids, status="active", next_step=step_pk
    ).update(status="stopped", stop_reason=reason, next_due_at=None, finished_at=Now())


def _move_on(contact_ids: list[int], from_step: int | None, to: SequenceStep | None) -> int:
    contacts = SequenceContact.objects.filter(
        pk__in=contact_ids, status="active", next_step=from_step
    )
    if to is None:
        return contacts.update(
            status="completed", next_step=None, next_due_at=None, finished_at=Now()
        )
    # From now, not from when this one was due: after an outage steps do not come in a burst.
    return contacts.update(next_step=to, next_due_at=Now() + timedelta(seconds=to.delay_seconds))


def _following(steps: list[SequenceStep], step: SequenceStep | None) -> SequenceStep | None:
    if step is None:
        return None
    return next((other for other in steps if other.position > step.position), None)


def _message(
    sequence: Sequence,
    step: SequenceStep,
    lead: Lead,
    allocation: Allocation,
    now: datetime,
    talked: set[tuple[int, int]],
) -> BroadcastMessage:
    message = BroadcastMessage(
        sequence=sequence,
        sequence_step=step,
        lead=lead,
        recipient_phone=lead.phone,
        recipient_name=lead.name,
        priority=BroadcastMessage.Priority.SEQUENCE,
        scheduled_at=now,
    )
    if reason := lead.skip_reason:  # type: ignore[attr-defined]  # annotated by with_skip_reason
        message.status = BroadcastMessage.Status.SKIPPED
        message.skip_reason = reason
        message.finished_at = now
        return message
    knows = (lead.pk, lead.device_id) in talked
    message.device, expected_at = allocation.place(lead.device_id, knows=knows)
    if (lead.pk, message.device.pk) not in talked:
        message.priority = BroadcastMessage.Priority.SEQUENCE_FIRST
    message.expires_at = allocation.deadline(message.device, expected_at, settings.RECOVERY_WINDOW)
    message.body = render(step.message, lead)
    message.attachment_id = step.attachment_id
    return message
