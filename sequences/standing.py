"""How far the people in a sequence have come: sums for its pages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import Count, Min, Q
from django.utils import timezone
from django.utils.translation import ngettext

from broadcasts.models import BroadcastMessage
from leads.models import Lead, SkipReason, Trigger
from sequences.models import Sequence, SequenceContact, SequenceStep

# Among so many an active sequence's page looks for newcomers.
NEWEST = 5_000


@dataclass
class Standing:
    """One sequence in numbers: its contacts by state, and how many are due before midnight."""

    sequence: Sequence
    steps: int = 0
    active: int = 0
    completed: int = 0
    stopped: int = 0
    due_today: int = 0
    lacks_devices: bool = False  # it is active, and none of its devices may send

    @property
    def contacts(self) -> int:
        return self.active + self.completed + self.stopped


@dataclass
class StepStanding:
    """One step and what became of its messages, by status."""

    step: SequenceStep
    waiting: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def messages(self) -> int:
        return sum(self.counts.values())

    @property
    def delay(self) -> str:
        """The pause before the step, in the largest unit that it is whole in."""
        return delay_in_words(self.step.delay_seconds)


@dataclass
class Newcomers:
    """Who would be enrolled now: how many get the first step, and who is left out, by reason.

    What enrols them is a button that says so. It posts `agreement`, and does nothing where that
    does not cover everybody any more.
    """

    trigger: Trigger
    will_receive: int = 0
    skipped: dict[SkipReason, int] = field(default_factory=dict)
    # Of so many leads alone that got the trigger last; None: of all.
    among: int | None = None

    @property
    def total(self) -> int:
        return self.will_receive + sum(self.skipped.values())

    @property
    def agreement(self) -> str:
        """What somebody agrees to who was shown these numbers."""
        return f"{self.trigger.pk}-{self.will_receive}-{self.total}"

    def are_agreed_to(self, agreement: str) -> bool:
        """Whether it is about this trigger, and no fewer people than they are by now."""
        said = [int(part) if part.isdecimal() else 0 for part in agreement[:100].split("-")]
        trigger, will_receive, total = said if len(said) == 3 else (0, 0, 0)
        if self.total and trigger != self.trigger.pk:
            return False
        return self.will_receive <= will_receive and self.total <= total


def newcomers(sequence: Sequence, newest: int | None = None) -> Newcomers:
    """Counts who is enrolled next; of the `newest` alone that got the trigger last, if given.

    Whom an active sequence has not enrolled yet got the trigger just now: to look at a million that
    are in it takes seconds.
    """
    leads, is_cut = sequence.newcomers(), False
    if newest is not None:
        carriers = Lead.triggers.through.objects.filter(trigger=sequence.trigger_id)
        last = list(carriers.order_by("-pk").values_list("lead_id", flat=True)[: newest + 1])
        # By key, each list in a query of its own: databases would gather all contacts first.
        known = sequence.contacts.filter(lead__in=last[:newest]).order_by()
        new = set(last[:newest]).difference(known.values_list("lead_id", flat=True))
        leads, is_cut = Lead.objects.filter(pk__in=new), len(last) > newest
    counts = leads.with_skip_reason().skip_counts()
    return Newcomers(
        sequence.trigger,
        will_receive=counts.get("", 0),
        skipped={reason: counts[reason] for reason in SkipReason if reason in counts},
        among=newest if is_cut else None,
    )


def standings(sequences: Iterable[Sequence]) -> list[Standing]:
    """Returns the sums of each sequence, in order, with four queries for all of them."""
    rows = {sequence.pk: Standing(sequence) for sequence in sequences}
    steps = SequenceStep.objects.filter(sequence__in=rows).order_by()
    for pk, count in steps.values_list("sequence").annotate(Count("pk")):
        rows[pk].steps = count
    contacts = SequenceContact.objects.filter(sequence__in=rows).order_by()
    for pk, status, count in contacts.values_list("sequence", "status").annotate(Count("pk")):
        setattr(rows[pk], status, count)
    due = contacts.filter(status=SequenceContact.Status.ACTIVE, next_due_at__lt=_midnight())
    for pk, count in due.values_list("sequence").annotate(Count("pk")):
        rows[pk].due_today = count
    lacking = Sequence.objects.filter(pk__in=rows).lacking_devices()
    for pk in lacking.values_list("pk", flat=True):
        rows[pk].lacks_devices = True
    return list(rows.values())


def step_standings(sequence: Sequence) -> list[StepStanding]:
    """Returns each step with its messages by status and how many contacts wait for it."""
    rows = {step.pk: StepStanding(step) for step in sequence.steps.all()}
    messages = BroadcastMessage.objects.filter(sequence_step__in=rows).order_by()
    for pk, status, count in messages.values_list("sequence_step", "status").annotate(Count("pk")):
        rows[pk].counts[status] = count
    waiting = sequence.contacts.filter(
        status=SequenceContact.Status.ACTIVE, next_step__in=rows
    ).order_by()
    for pk, count in waiting.values_list("next_step").annotate(Count("pk")):
        rows[pk].waiting = count
    return list(rows.values())


def next_due_at(sequence: Sequence) -> datetime | None:
    """Returns when the next contact is due; None if nobody waits for a step."""
    active = Q(status=SequenceContact.Status.ACTIVE)
    due: datetime | None = sequence.contacts.filter(active).aggregate(at=Min("next_due_at"))["at"]
    return due


def delay_in_words(seconds: int) -> str:
    """Returns seconds as people say them: 90000 is "25 hours"."""
    if seconds and seconds % 86_400 == 0:
        n = seconds // 86_400
        return ngettext("%(n)d day", "%(n)d days", n) % {"n": n}
    if seconds and seconds % 3600 == 0:
        n = seconds // 3600
        return ngettext("%(n)d hour", "%(n)d hours", n) % {"n": n}
    if seconds % 60 == 0:
        n = seconds // 60
        return ngettext("%(n)d minute", "%(n)d minutes", n) % {"n": n}
    return ngettext("%(n)d second", "%(n)d seconds", seconds) % {"n": seconds}


def _midnight() -> datetime:
    day = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    return day + timedelta(days=1)
