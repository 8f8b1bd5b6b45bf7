from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.auth.decorators import permission_required, user_passes_test
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from leads.paging import key_in
from sequences.forms import SequenceForm, save_with_steps
from sequences.models import Sequence
from sequences.standing import (
    NEWEST,
    StepStanding,
    newcomers,
    next_due_at,
    standings,
    step_standings,
)
from sequences.step_forms import BaseStepFormSet, step_formset


@permission_required("sequences.view_sequence", raise_exception=True)
def sequence_list(request: HttpRequest) -> HttpResponse:
    sequences = standings(Sequence.objects.select_related("trigger"))
    return render(request, "sequences/list.html", {"sequences": sequences})


@permission_required("sequences.view_sequence", raise_exception=True)
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    sequences = Sequence.objects.select_related("trigger").prefetch_related("devices")
    sequence = get_object_or_404(sequences, pk=pk)
    steps = step_standings(sequence)
    context = {
        "sequence": sequence,
        "standing": standings([sequence])[0],
        "steps": steps,
        "first": steps[0] if steps else None,
        "next_due_at": next_due_at(sequence),
        "newcomers": newcomers(sequence, NEWEST if sequence.is_active else None),
        "others": Sequence.objects.beside(sequence, sequence.trigger.name),
    }
    return render(request, "sequences/detail.html", context)


@permission_required("sequences.add_sequence", raise_exception=True)
def create(request: HttpRequest) -> HttpResponse:
    return _form_page(request, Sequence(), ADDITION, extra=2)


# The browser's Back button loads it anew: else it would show what was stored before it was saved.
@never_cache
@permission_required("sequences.change_sequence", raise_exception=True)
def edit(request: HttpRequest, pk: int) -> HttpResponse:
    return _form_page(request, get_object_or_404(Sequence, pk=pk), CHANGE, extra=0)


def _may_write(user: User | AnonymousUser) -> bool:
    """Raises PermissionDenied to whom neither a new sequence nor editing one is allowed."""
    if user.has_perm("sequences.add_sequence") or user.has_perm("sequences.change_sequence"):
        return True
    raise PermissionDenied


@user_passes_test(_may_write)
def others(request: HttpRequest) -> HttpResponse:
    """Which other active sequences the trigger starts that is being written into the form."""
    sequence = Sequence(pk=key_in(request.GET, "besides"))
    found = Sequence.objects.beside(sequence, request.GET.get("trigger_word", ""))
    return render(request, "sequences/_others.html", {"others": found})


@require_POST
@permission_required("sequences.change_sequence", raise_exception=True)
def activate(request: HttpRequest, pk: int) -> HttpResponse:
    sequence = get_object_or_404(Sequence, pk=pk)
    if not sequence.steps.exists():
        messages.error(request, _("Write a step first: there is nothing to send yet."))
        return redirect("sequences:detail", pk)
    agreed = request.POST.get("agreed", "")
    if not (sequence.is_active or newcomers(sequence).are_agreed_to(agreed)):
        changed = _("Who is enrolled has changed since you looked: nothing was activated.")
        again = _("Look at the numbers again, and confirm those.")
        messages.warning(request, f"{changed} {again}")
        return redirect("sequences:detail", pk)
    return _change(request, sequence, sequence.activate, _("Active: it enrols and sends."))


@require_POST
@permission_required("sequences.change_sequence", raise_exception=True)
def pause(request: HttpRequest, pk: int) -> HttpResponse:
    sequence = get_object_or_404(Sequence, pk=pk)
    return _change(request, sequence, sequence.pause, _("Paused: nobody gets its next step."))


def _change(
    request: HttpRequest, sequence: Sequence, verb: Callable[[], bool], done: str
) -> HttpResponse:
    if verb():
        _log(request, sequence, CHANGE, done)
        messages.success(request, done)
    else:
        messages.warning(request, _("Nothing was changed: it is in another state by now."))
    return redirect("sequences:detail", sequence.pk)


def _form_page(request: HttpRequest, sequence: Sequence, flag: int, *, extra: int) -> HttpResponse:
    """The sequence with its steps. The button "Add a step" shows the same form with one more; and
    the page posts what was entered and never saved, to be shown again."""
    data = request.POST.copy() if request.method == "POST" else None
    adding = data is not None and not {"add_step", "restored"}.isdisjoint(data)
    if data is not None and "add_step" in data:
        _one_more(data)
    form = SequenceForm(data, instance=sequence)
    steps = step_formset(extra)(data, request.FILES or None, instance=sequence, prefix="steps")
    context: dict[str, Any] = {"form": form, "steps": steps, "adding": adding}
    if data is not None and not adding and form.is_valid() and steps.is_valid():
        question = _question(form, steps, data.get("agreed", ""))
        if not question and (saved := save_with_steps(form, steps)):
            _log(request, saved, flag, _("Saved with its steps."))
            messages.success(request, _("Saved."))
            return redirect("sequences:detail", saved.pk)
        context |= question
    return render(request, "sequences/form.html", context)


def _question(form: SequenceForm, steps: BaseStepFormSet, agreed: str) -> dict[str, Any]:
    """Whom saving would enrol at once without this having been agreed to; empty if nobody."""
    enrolled = form.newcomers()
    if enrolled is None or enrolled.are_agreed_to(agreed):
        return {}
    first = StepStanding(steps.first_step())
    return {"newcomers": enrolled, "first": first, "has_changed": bool(agreed)}


def _one_more(data: QueryDict) -> None:
    """Adds an empty step to what was posted, a day after the last one."""
    total = data.get("steps-TOTAL_FORMS", "")
    number = min(int(total), 100) if total.isdecimal() else 0
    positions = [data.get(f"steps-{n}-position", "") for n in range(number)]
    last = max([int(p) for p in positions if p.isdecimal()], default=0)
    data["steps-TOTAL_FORMS"] = str(number + 1)
    data[f"steps-{number}-position"] = str(last + 1)
    data[f"steps-{number}-delay"], data[f"steps-{number}-unit"] = "1", "86400"


def _log(request: HttpRequest, sequence: Sequence, flag: int, text: str) -> None:
    LogEntry.objects.log_actions(  # type: ignore[call-overload]
        request.user.pk, [sequence], flag, change_message=text, single_object=True
    )
