"""The first page: what today is like, across all apps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.auth.decorators import permission_required
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from broadcasts import reports
from campaigns.models import Campaign
from campaigns.progress import RUNNING, Progress, progress_of
from sequences.models import Sequence, SequenceContact

SHOWN = 6


@dataclass(frozen=True)
class SequenceLine:
    """An active sequence, how many people are in it, how many are due before midnight, and whether
    none of its devices may send."""

    sequence: Sequence
    contacts: int
    due_today: int
    lacks_devices: bool


@permission_required("broadcasts.view_broadcastmessage", raise_exception=True)
def overview(request: HttpRequest) -> HttpResponse:
    """Today. Asked by htmx, it renders only the figures that move."""
    context: dict[str, Any] = {
        "now": timezone.localtime(),
        "today": reports.today(),
        "queue": reports.queue(),
        "running": running_now(),
        "health": reports.health(),
    }
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "overview/_live.html", context)
    coming = Campaign.objects.filter(status=Campaign.Status.SCHEDULED)
    context |= {
        "days": reports.days(),
        "fleet": reports.fleet(),
        "sequences": active_sequences(),
        "coming": progress_of(coming.order_by("scheduled_at")[:3]),
    }
    return render(request, "overview.html", context)


def running_now() -> list[Progress]:
    """Returns the campaigns that are under way or paused, the newest first."""
    shown = (*RUNNING, Campaign.Status.PAUSED)
    # Of those alone that are written down as such: this is asked every few seconds.
    under_way = Campaign.objects.filter(status__in=shown).standing(*shown)
    return progress_of(under_way.order_by("-started_at", "-pk")[:SHOWN])


def active_sequences() -> list[SequenceLine]:
    """Returns the active sequences with the people in them, those that lack a device first,
    then the fullest."""
    tonight = reports.day_bounds(timezone.localdate())[1]
    active = SequenceContact.objects.order_by().filter(
        status=SequenceContact.Status.ACTIVE, sequence__status=Sequence.Status.ACTIVE
    )
    rows = active.values_list("sequence_id").annotate(
        Count("pk"), due=Count("pk", filter=Q(next_due_at__lt=tonight))
    )
    counted = {pk: (contacts, due) for pk, contacts, due in rows}
    lacking = set(Sequence.objects.lacking_devices().values_list("pk", flat=True))
    lines = [
        SequenceLine(sequence, *counted.get(sequence.pk, (0, 0)), sequence.pk in lacking)
        for sequence in Sequence.objects.filter(status=Sequence.Status.ACTIVE)
    ]
    return sorted(lines, key=lambda line: (not line.lacks_devices, -line.contacts))[:SHOWN]
