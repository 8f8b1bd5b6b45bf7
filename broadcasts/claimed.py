"""A message in a broadcaster's hands: what sending it takes, and why it may not leave after all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.db.models import F
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce

from devices.among import Among
from leads.models import Lead, SkipReason, skip_reason

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from broadcasts.models import BroadcastMessage

# What the same person may still get, or may have got, under another number.
IN_DOUBT = ("processing", "queued", "unknown")
WAITS = "waits"  # a refusal for now, and no reason to leave anybody out


@dataclass(slots=True, eq=False)
class Claimed:
    """A message as it was when it was claimed, with what is to be known of its lead.

    No model, which takes longer to make than its row to read; and nothing of it can be saved.
    """

    pk: int
    token: str  # the claim's: everything that is written about it later names it
    device_id: int
    lead_id: int | None
    campaign_id: int | None
    sequence_step_id: int | None
    priority: int
    body: str
    attachment_id: int | None
    min_delay_seconds: int
    max_delay_seconds: int
    attempts: int  # before this one
    restarts: int
    phone: str  # by which WhatsApp knows the number, where that is another
    lead_device_id: int | None
    lead_person_id: int | None
    refusal: str

    @classmethod
    def read(
        cls, model: type[BroadcastMessage], *conditions: Among, **lookups: object
    ) -> list[Claimed]:
        """Returns the messages that fit, which must be claimed, by key."""
        return [cls(*row) for row in _rows(model).filter(*conditions, **lookups)]

    @property
    def key(self) -> str:
        """What the transport is given to recognise this message by."""
        return keys(self.pk, self.restarts)[-1]


@lru_cache
def _rows(model: type[BroadcastMessage]) -> QuerySet[BroadcastMessage, tuple[Any, ...]]:
    """All of them, in the order of Claimed's fields. Made once: it took as long as to read them."""
    sources: dict[str, str | Combinable] = {
        "token": "processing_worker_id",
        "phone": Coalesce("lead__whatsapp_phone", "recipient_phone"),
        "lead_device_id": F("lead__device_id"),
        "lead_person_id": F("lead__person_id"),
        "refusal": skip_reason("lead__"),
    }
    columns = [sources.get(field.name, field.name) for field in fields(Claimed)]
    return model.objects.order_by("pk").values_list(*columns)


def keys(pk: int, restarts: int) -> list[str]:
    """Returns the key of each start of a message, the present one last.

    Attempts that the machine makes by itself share a key: nothing of the earlier one left.
    Whoever sends it again by hand begins another. Otherwise the transport's record of the first
    ("I have sent that") would answer for the second, which may not have left at all; and what
    a person asked for could be taken for a repetition.
    """
    return [f"message-{pk}", *(f"message-{pk}-{n}" for n in range(1, restarts + 1))]


def refuse(model: type[BroadcastMessage], claimed: Sequence[Claimed]) -> None:
    """Refuses what has no lead any more, and what the person has had, which no lead tells."""
    for message in claimed:
        if not message.lead_id:
            # A test message has no lead from the start; a campaign's lost its own.
            is_test = message.priority == model.Priority.TEST
            message.refusal = "" if is_test else SkipReason.LEAD_DELETED
    _refuse_second(model, claimed)


def _refuse_second(model: type[BroadcastMessage], claimed: Sequence[Claimed]) -> None:
    """Refuses what the same person got under another number, for now what they may be getting.

    That was written to before anybody knew that the two are one: the first of them is the person,
    whichever had the message. With keys, and only of people with several numbers: an index in which
    nearly all is NULL tells databases nothing, and they would go through all leads.
    """
    of_several = [m for m in claimed if m.lead_person_id and not m.refusal]
    if not of_several:
        return
    people = sorted({m.lead_person_id or 0 for m in of_several})
    numbers = dict(Lead.objects.filter(person__in=people).values_list("pk", "person_id"))
    messages = model.objects.filter(lead__in=list(numbers), status__in=[*IN_DOUBT, "sent"])
    # Not what was claimed beside it and is left out itself.
    messages = messages.exclude(pk__in=[m.pk for m in claimed if m.refusal])
    had: dict[tuple[int | None, ...], dict[int | None, str]] = defaultdict(dict)
    rows = messages.values_list("lead_id", "campaign_id", "sequence_step_id", "status")
    for lead_id, campaign_id, step_id, status in rows:
        had[numbers[lead_id or 0], campaign_id, step_id][lead_id] = status
    for message in of_several:
        origin = message.campaign_id, message.sequence_step_id
        if not any(origin):
            continue
        numbers_had = had[message.lead_person_id, *origin].items()
        others = {status for lead_id, status in numbers_had if lead_id != message.lead_id}
        if others:
            # What is in doubt may come back, and then nobody would get it.
            message.refusal = SkipReason.DUPLICATE if "sent" in others else WAITS
