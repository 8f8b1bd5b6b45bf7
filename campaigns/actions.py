"""What operators do with a campaign under way. Each page says the effect first, then asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.decorators import permission_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from broadcasts.models import BroadcastMessage
from broadcasts.queryset import BroadcastMessageQuerySet
from campaigns.models import Campaign
from campaigns.progress import RUNNING, Progress, progress_of

if TYPE_CHECKING:
    from broadcasts.queryset import AnyUser

Status = Campaign.Status


@dataclass(frozen=True)
class Action:
    """Something that can be done to a campaign: where it applies, what it does, what to say.

    `do` is told who asked, and returns whether it did anything; False means that somebody else
    was first.
    """

    name: str
    label: Promise
    icon: str
    is_destructive: bool
    applies: Callable[[Progress], bool]
    effect: Callable[[Progress], str]
    do: Callable[[Campaign, AnyUser], bool | int]
    done: Promise

    @property
    def url_name(self) -> str:
        return f"campaigns:{self.name}"


def _finishing(progress: Progress) -> str:
    """Says what cannot be held any more: what was handed to a device."""
    if not progress.working:
        return _("Nothing is being sent this moment.")
    return ngettext(
        "%(count)d that is being sent now will finish.",
        "%(count)d being sent now will finish.",
        progress.working,
    ) % {"count": progress.working}


def _pause_effect(progress: Progress) -> str:
    if progress.campaign.status == Status.SCHEDULED:
        return _("It will not begin until you resume it.")
    waiting = _("%(count)s waiting messages stay where they are until you resume.")
    return f"{waiting % {'count': f'{progress.waiting:,}'}} {_finishing(progress)}"


def _cancel_effect(progress: Progress) -> str:
    if not progress.campaign.started_at:
        return _("Nothing of it is sent. This cannot be undone, but you can copy it.")
    gone = _("%(count)s waiting messages are not sent, and this cannot be undone.")
    return f"{gone % {'count': f'{progress.waiting:,}'}} {_finishing(progress)}"


def _again(progress: Progress, status: str, said: str) -> str:
    """Says how many are sent again, and who is left out by now, and why: before, for once it is
    done they are found missing."""
    all_of_them = progress.counts[status]
    left_out = _messages(progress.campaign, status).left_out()
    again = said % {"count": f"{all_of_them - sum(left_out.values()):,}"}
    if not left_out:
        return again
    why = ", ".join(f"{reason.label} {count:,}" for reason, count in left_out.items())
    return f"{again} " + _("Left out by now, of all %(all)s: %(why)s.") % {
        "all": f"{all_of_them:,}", "why": why
    }  # fmt: skip


PAUSE = Action(
    "pause", gettext_lazy("Pause"), "pause", False,
    lambda p: p.status in (Status.SCHEDULED, *RUNNING),
    _pause_effect,
    lambda campaign, by: campaign.pause(),
    gettext_lazy("Paused. Nothing more of it leaves until you resume it."),
)  # fmt: skip
RESUME = Action(
    "resume", gettext_lazy("Resume"), "play", False,
    lambda p: p.campaign.status == Status.PAUSED,
    lambda p: _("%(count)s waiting messages go on from where they stopped.")
    % {"count": f"{p.waiting:,}"},
    lambda campaign, by: campaign.resume(),
    gettext_lazy("Resumed: it goes on where it stopped."),
)  # fmt: skip
UNSCHEDULE = Action(
    "unschedule", gettext_lazy("Back to draft"), "edit", False,
    lambda p: p.campaign.status == Status.SCHEDULED,
    lambda p: _("It will not begin by itself any more, and you can change it again."),
    lambda campaign, by: campaign.unschedule(),
    gettext_lazy("It is a draft again. Nothing is sent until you schedule it."),
)  # fmt: skip
CANCEL = Action(
    "cancel", gettext_lazy("Cancel"), "stop", True,
    lambda p: p.status in (Status.SCHEDULED, *RUNNING, Status.PAUSED),
    _cancel_effect,
    lambda campaign, by: campaign.cancel(),
    gettext_lazy("Cancelled. What had not begun is not sent."),
)  # fmt: skip
RETRY = Action(
    "retry", gettext_lazy("Retry failed"), "refresh", False,
    lambda p: p.counts["failed"] > 0 and p.campaign.status not in (Status.DRAFT, Status.CANCELLED),
    lambda p: _again(p, "failed", _("%(count)s failed messages go back in line. Nothing of them "
                                    "was ever sent, so nobody gets it twice.")),
    lambda campaign, by: _messages(campaign, "failed").retry_failed(by=by),
    gettext_lazy("The failed messages are in line again."),
)  # fmt: skip
RESCHEDULE = Action(
    "reschedule", gettext_lazy("Send the expired"), "clock", False,
    lambda p: p.counts["expired"] > 0 and p.campaign.status not in (Status.DRAFT, Status.CANCELLED),
    lambda p: _again(p, "expired", _("%(count)s messages that came too late to be sent go back in "
                                     "line, from now.")),
    lambda campaign, by: _messages(campaign, "expired").reschedule_expired(by=by),
    gettext_lazy("The expired messages are in line again."),
)  # fmt: skip

DISCARD = Action(
    "discard", gettext_lazy("Discard"), "stop", True,
    lambda p: p.campaign.status == Status.DRAFT,
    lambda p: _("The draft is deleted. Nothing of it was ever sent."),
    lambda campaign, by: campaign.discard(),
    gettext_lazy("The draft is gone."),
)  # fmt: skip

OF_CAMPAIGNS = (PAUSE, RESUME, UNSCHEDULE, CANCEL)
OF_MESSAGES = (RETRY, RESCHEDULE)


@permission_required("campaigns.send_campaign", raise_exception=True)
def pause(request: HttpRequest, pk: int) -> HttpResponse:
    return _act(request, pk, PAUSE)


@permission_required("campaigns.send_campaign", raise_exception=True)
def resume(request: HttpRequest, pk: int) -> HttpResponse:
    return _act(request, pk, RESUME)


@permission_required("campaigns.send_campaign", raise_exception=True)
def cancel(request: HttpRequest, pk: int) -> HttpResponse:
    return _act(request, pk, CANCEL)


@permission_required("campaigns.send_campaign", raise_exception=True)
def unschedule(request: HttpRequest, pk: int) -> HttpResponse:
    return _act(request, pk, UNSCHEDULE)


@permission_required("broadcasts.settle_broadcastmessage", raise_exception=True)
def retry(request: HttpRequest, pk: int) -> HttpResponse:
    return _act(request, pk, RETRY)


@permission_required("broadcasts.settle_broadcastmessage", raise_exception=True)
def reschedule(request: HttpRequest, pk: int) -> HttpResponse:
    return _act(request, pk, RESCHEDULE)


@permission_required("campaigns.change_campaign", raise_exception=True)
def discard(request: HttpRequest, pk: int) -> HttpResponse:
    return _act(request, pk, DISCARD)


def log(request: HttpRequest, campaign: Campaign, flag: int, text: str) -> None:
    """Writes who did what to a campaign into the history that the admin shows."""
    user_id = request.user.pk
    assert user_id is not None  # every view here asks for a permission
    LogEntry.objects.log_actions(user_id, [campaign], flag, text, single_object=True)


def _act(request: HttpRequest, pk: int, action: Action) -> HttpResponse:
    """Asks, by GET; does it, by POST, once: the second of two clicks finds it done."""
    campaign = get_object_or_404(Campaign, pk=pk)
    [progress] = progress_of([campaign])
    if request.method != "POST":
        context = {"campaign": campaign, "progress": progress, "action": action}
        context["effect"] = action.effect(progress)
        context["applies"] = action.applies(progress)
        return render(request, "campaigns/confirm.html", context)
    if action.applies(progress) and action.do(campaign, request.user):
        log(request, campaign, CHANGE, f"{action.label}.")
        messages.success(request, str(action.done))
    else:
        messages.info(request, _("Nothing to do: somebody was quicker, or it has moved on."))
    return redirect("campaigns:list") if action is DISCARD else redirect("campaigns:detail", pk)


def _messages(campaign: Campaign, status: str) -> BroadcastMessageQuerySet:
    return BroadcastMessage.objects.filter(campaign=campaign, status=status)
