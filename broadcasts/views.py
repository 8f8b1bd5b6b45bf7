"""The queue and the history as pages, and the operator's word on what the machine cannot know."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from django.contrib import messages as notes
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.decorators import permission_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from broadcasts.forms import MessageFilterForm
from broadcasts.models import BroadcastMessage
from broadcasts.queryset import BroadcastMessageQuerySet
from leads.moments import no_later
from leads.paging import window

_RELATED = ("lead", "device", "campaign", "sequence", "sequence_step", "attachment")


@permission_required("broadcasts.view_broadcastmessage", raise_exception=True)
def message_list(request: HttpRequest) -> HttpResponse:
    form = MessageFilterForm(request.GET)
    page = window(form.messages().select_related(*_RELATED), request.GET)
    filtered = any(value for value in form.cleaned_data.values())
    context = {"form": form, "page": page, "filtered": filtered}
    return render(request, "messages/list.html", context)


@permission_required("broadcasts.view_broadcastmessage", raise_exception=True)
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    message = get_object_or_404(BroadcastMessage.objects.select_related(*_RELATED), pk=pk)
    context = {
        "message": message,
        "life": _life(message),
        "history": message.history.select_related("device", "decided_by"),
    }
    return render(request, "messages/detail.html", context)


@require_POST
@permission_required("broadcasts.settle_broadcastmessage", raise_exception=True)
def arrived(request: HttpRequest, pk: int) -> HttpResponse:
    verb = BroadcastMessageQuerySet.settle_as_sent
    return _settle(request, pk, verb, _("Settled as sent: it arrived."))


@require_POST
@permission_required("broadcasts.settle_broadcastmessage", raise_exception=True)
def send_again(request: HttpRequest, pk: int) -> HttpResponse:
    verb = BroadcastMessageQuerySet.settle_as_not_sent
    return _settle(request, pk, verb, _("Settled as not sent: it is in the queue again."))


@require_POST
@permission_required("broadcasts.settle_broadcastmessage", raise_exception=True)
def not_arrived(request: HttpRequest, pk: int) -> HttpResponse:
    verb = BroadcastMessageQuerySet.settle_as_not_arrived
    return _settle(request, pk, verb, _("Settled as failed: it did not arrive."))


@require_POST
@permission_required("broadcasts.settle_broadcastmessage", raise_exception=True)
def retry(request: HttpRequest, pk: int) -> HttpResponse:
    verb = BroadcastMessageQuerySet.retry_failed
    return _settle(request, pk, verb, _("In the queue again."))


@require_POST
@permission_required("broadcasts.settle_broadcastmessage", raise_exception=True)
def ask_again(request: HttpRequest, pk: int) -> HttpResponse:
    verb = BroadcastMessageQuerySet.ask_again
    return _settle(request, pk, verb, _("In the queue again: WhatsApp is asked once more."))


@require_POST
@permission_required("broadcasts.settle_broadcastmessage", raise_exception=True)
def reschedule(request: HttpRequest, pk: int) -> HttpResponse:
    verb = BroadcastMessageQuerySet.reschedule_expired
    return _settle(request, pk, verb, _("Rescheduled: it is in the queue again."))


def _settle(request: HttpRequest, pk: int, verb: Callable[..., int], done: str) -> HttpResponse:
    """Does `verb` to the one message, notes who did it, and says so if somebody was first."""
    get_object_or_404(BroadcastMessage, pk=pk)
    message = rows = BroadcastMessage.objects.filter(pk=pk)
    if ended_at := request.POST.get("ended_at"):
        rows = _as_shown(rows, ended_at)
    if verb(rows, by=request.user):
        LogEntry.objects.log_actions(  # type: ignore[call-overload]
            request.user.pk, message, CHANGE, change_message=done, single_object=True
        )
        notes.success(request, done)
    else:
        notes.warning(request, _("Nothing was changed: the message is in another state by now."))
    return redirect("messages:detail", pk)


def _as_shown(rows: BroadcastMessageQuerySet, ended_at: str) -> BroadcastMessageQuerySet:
    """Those that have ended when a page said so. Somebody, or a transport that knew, may have sent
    them on their way again since, and of how that ended nobody has said anything."""
    try:
        return rows.filter(
            no_later("finished_at", datetime.fromisoformat(ended_at).astimezone(UTC))
        )
    except (ValueError, OverflowError):  # that said no page of ours
        return rows.none()


def _life(message: BroadcastMessage) -> list[tuple[str, datetime]]:
    """Returns what happened to it and is to, as names of columns with their times, in order.

    One follows from another, whatever the clocks of WhatsApp and of other hosts say; only when it
    is due, or would have been, may be anywhere between.
    """
    names = (
        "created_at", "processing_started_at", "queued_at", "sent_at", "delivered_at", "read_at",
        "" if message.status == BroadcastMessage.Status.SENT else "finished_at",
    )  # fmt: skip
    moments = [(name, at) for name in names if name and (at := getattr(message, name))]
    due_at = message.scheduled_at
    before = sum(at < due_at or (name, at) == ("created_at", due_at) for name, at in moments)
    return [*moments[:before], ("scheduled_at", due_at), *moments[before:]]
