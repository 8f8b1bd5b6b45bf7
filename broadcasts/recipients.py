"""To whom a claimed message goes, and why it may not: read together with the claim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.db.models import F

from leads.models import Lead, SkipReason, skip_reason

if TYPE_CHECKING:
    from broadcasts.models import BroadcastMessage

# What a claimed message knows of its lead, without a read of its own.
RECIPIENT: dict[str, Any] = {
    "lead_device": F("lead__device_id"),
    "lead_whatsapp": F("lead__whatsapp_phone"),
    "lead_person": F("lead__person_id"),
    "refusal": skip_reason("lead__"),
}
HAD = ("processing", "queued", "sent", "unknown")


def refuse_second(model: type[BroadcastMessage], claimed: Sequence[BroadcastMessage]) -> None:
    """Refuses what the same person got, or is getting, under another number.

    That was written to before anybody knew that the two are one: the first of them is the person,
    whichever had the message. With keys, and only of people with several numbers: an index in which
    nearly all is NULL tells databases nothing, and they would go through all leads.
    """
    of_several = [m for m in claimed if m.lead_person and not m.refusal]  # type: ignore[attr-defined]
    if not of_several:
        return
    people = {m.lead_person for m in of_several}  # type: ignore[attr-defined]
    numbers = dict(Lead.objects.filter(person__in=people).values_list("pk", "person_id"))
    messages = model.objects.filter(lead__in=list(numbers), status__in=HAD)
    # Not what was claimed beside it and is left out itself.
    messages = messages.exclude(pk__in=[m.pk for m in claimed if m.refusal])  # type: ignore[attr-defined]
    had = {
        (numbers[lead_id], origin, lead_id)
        for lead_id, *origins in messages.values_list("lead_id", "campaign_id", "sequence_step_id")
        for origin in enumerate(origins)
    }
    for message in of_several:
        person = message.lead_person  # type: ignore[attr-defined]
        origins = list(enumerate((message.campaign_id, message.sequence_step_id)))
        if any(
            (person, origin, other) in had
            for origin in origins
            for other, whose in numbers.items()
            if origin[1] and whose == person and other != message.lead_id
        ):
            message.refusal = SkipReason.DUPLICATE  # type: ignore[attr-defined]
