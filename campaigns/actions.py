"""What operators do with a campaign under way. Each page says the effect first, then asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
    asks: Promise

    def question(self, campaign: Campaign) -> str:
        """Asks whether that is meant, as the heading above what it does."""
        return str(self.asks) % {"title": campaign.title}

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
    said = [waiting % {"count": f"{progress.waiting:,}"}]
    if not progress.is_listed:
        said.append(_("The rest of its audience is listed then."))
    return " ".join([*said, _finishing(progress)])


def _cancel_effect(progress: Progress) -> str:
    if not progress.campaign.started_at:
        return _("Nothing of it is sent. This cannot be undone, but you can copy it.")
    gone = _("%(count)s waiting messages are not sent, and this cannot be undone.")
    said = [gone % {"count": f"{progress.waiting:,}"}]
    if progress.has_list and not progress.is_listed:
        said.append(_("The rest of its audience is listed as cancelled."))
    return " ".join([*said, _finishing(progress)])


def _resume_effect(progress: Progress) -> str:
    waiting = _("%(count)s waiting messages go on from where they stopped.")
    said = waiting % {"count": f"{progress.waiting:,}"}
    if progress.is_listed or not progress.campaign.started_at:
        return said
    return f"{said} " + _("The rest of its audience is listed now.")


def _retry_effect(progress: Progress) -> str:
    said = _("%(count)s failed messages go back in line. Nothing of them was ever sent, so nobody "
             "gets it twice.")  # fmt: skip
    return " ".join([_again(progress, "failed", said), *_from_another(progress.campaign, "failed")])


def _reschedule_effect(progress: Progress) -> str:
    said = ngettext(
        "%(count)s expired message goes back in line, from now.",
        "%(count)s expired messages go back in line, from now.",
        progress.counts["expired"],
    )
    return " ".join(
        [_again(progress, "expired", said), *_from_another(progress.campaign, "expired")]
    )


def _from_another(campaign: Campaign, status: str) -> Iterator[str]:
    """Says from where those leave whose device was deleted."""
    if not _messages(campaign, status).filter(device__deleted_at__isnull=False).exists():
        return
    if campaign.has_lost_its_devices:
        yield _("Every device that was chosen for it was deleted: they leave from any that may "
                "send.")  # fmt: skip
    else:
        yield _("Those whose device was deleted leave from another.")


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
    gettext_lazy("Pause “%(title)s”?"),
)  # fmt: skip
RESUME = Action(
    "resume", gettext_lazy("Resume"), "play", False,
    lambda p: p.campaign.status == Status.PAUSED,
    _resume_effect,
    lambda campaign, by: campaign.resume(),
    gettext_lazy("Resumed: it goes on where it stopped."),
    gettext_lazy("Resume “%(title)s”?"),
)  # fmt: skip
UNSCHEDULE = Action(
    "unschedule", gettext_lazy("Back to draft"), "edit", False,
    lambda p: p.campaign.may_be_unscheduled,
    lambda p: _("It will not begin by itself any more, and you can change it again."),
    lambda campaign, by: campaign.unschedule(),
    gettext_lazy("It is a draft again and keeps its start. Nothing is sent until you schedule it."),
    gettext_lazy("Make “%(title)s” a draft again?"),
)  # fmt: skip
CANCEL = Action(
    "cancel", gettext_lazy("Cancel"), "stop", True,
    lambda p: p.status in (Status.SCHEDULED, *RUNNING, Status.PAUSED),
    _cancel_effect,
    lambda campaign, by: campaign.cancel(),
    gettext_lazy("Cancelled. What had not begun is not sent."),
    gettext_lazy("Cancel “%(title)s”?"),
)  # fmt: skip
RETRY = Action(
    "retry", gettext_lazy("Retry failed"), "refresh", False,
    lambda p: p.counts["failed"] > 0 and p.campaign.status not in (Status.DRAFT, Status.CANCELLED),
    _retry_effect,
    lambda campaign, by: _messages(campaign, "failed").retry_failed(by=by),
    gettext_lazy("The failed messages are in line again."),
    gettext_lazy("Retry what failed of “%(title)s”?"),
)  # fmt: skip
RESCHEDULE = Action(
    "reschedule", gettext_lazy("Send the expired"), "clock", False,
    lambda p: p.counts["expired"] > 0 and p.campaign.status not in (Status.DRAFT, Status.CANCELLED),
    _reschedule_effect,
    lambda campaign, by: _messages(campaign, "expired").reschedule_expired(by=by),
    gettext_lazy("The expired messages are in line again."),
    gettext_lazy("Send what expired of “%(title)s”?"),
)  # fmt: skip

DISCARD = Action(
    "discard", gettext_lazy("Discard"), "stop", True,
    lambda p: p.campaign.status == Status.DRAFT,
    lambda p: _("The draft is deleted. Nothing of it was ever sent."),
    lambda campaign, by: campaign.discard(),
    gettext_lazy("The draft is gone."),
    gettext_lazy("Discard “%(title)s”?"),
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
        context |= {"effect": action.effect(progress), "question": action.question(campaign)}
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
