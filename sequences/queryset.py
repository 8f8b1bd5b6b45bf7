from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Self

from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now

from broadcasts.models import BroadcastMessage
from devices.models import Device
from leads.tags import fold_tag

if TYPE_CHECKING:
    from sequences.models import Sequence, SequenceContact

logger = logging.getLogger(__name__)


class SequenceQuerySet(models.QuerySet["Sequence"]):
    def active(self) -> Self:
        return self.filter(status="active")

    def lacking_devices(self) -> Self:
        """Active sequences that write nothing, because none of their devices may send."""
        return self.active().filter(Device.objects.none_usable_of("sequences"))

    def beside(self, sequence: Sequence, trigger: str) -> Self:
        """Other active sequences that this word starts: its leads get all of them."""
        return self.active().filter(trigger__name=fold_tag(trigger)).exclude(pk=sequence.pk)

    def process(self) -> dict[str, int]:
        """One pass of the scheduler: enrols who carries a trigger, sends on who is due.

        Any number of schedulers may do this at once and be killed anywhere. Returns counts.
        """
        from sequences.progress import advance, enrol  # they know Sequence, made of this class

        counts = {"enrolled": 0, "queued": 0, "skipped": 0, "completed": 0}
        failure: Exception | None = None
        for sequence in self.active().prefetch_related("steps", "devices"):
            try:
                counts["enrolled"] += enrol(sequence)
                for name, count in advance(sequence).items():
                    counts[name] += count
            except Exception as error:  # one sequence's trouble must not hold up all others
                logger.exception("Sequence %s could not go on", sequence.pk)
                failure = error
        counts["messages_moved"] = sum(s.settle_messages() for s in self.unsettled())
        if failure:  # the pass counts as failed, so that somebody looks
            raise failure
        return counts

    def unsettled(self) -> Self:
        """Sequences with messages that their state says should be elsewhere."""
        return self.filter(
            (Q(status="active") & _has("paused")) | (~Q(status="active") & _has("pending"))
        )


class SequenceContactQuerySet(models.QuerySet["SequenceContact"]):
    def due(self) -> Self:
        """Contacts whose next step should go out, by the database's clock."""
        return self.filter(status="active", next_due_at__lte=Now())


def _has(status: str) -> Exists:
    messages = BroadcastMessage.objects.filter(sequence=OuterRef("pk"), status=status)
    return Exists(messages.order_by())
