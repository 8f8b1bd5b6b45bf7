"""Writing a campaign: the draft, what it would do, and the page that asks before it is sent."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.admin.models import ADDITION, CHANGE
from django.contrib.auth.decorators import permission_required, user_passes_test
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from broadcasts.rendering import VARIABLES
from campaigns.actions import log
from campaigns.agreement import Agreement
from campaigns.forms import CampaignForm, zones
from campaigns.models import Campaign
from campaigns.preview import preview_of
from leads.models import SkipReason


@permission_required("campaigns.add_campaign", raise_exception=True)
def create(request: HttpRequest) -> HttpResponse:
    return _compose(request, Campaign())


# The browser's Back button loads it anew: else it would show what was stored before it was saved.
@never_cache
@permission_required("campaigns.change_campaign", raise_exception=True)
def edit(request: HttpRequest, pk: int) -> HttpResponse:
    campaign = get_object_or_404(Campaign, pk=pk)
    if not campaign.is_editable:
        messages.warning(request, _("It is no draft any more, so it stays as it is."))
        return redirect("campaigns:detail", pk)
    return _compose(request, campaign)


def _may_compose(user: User | AnonymousUser) -> bool:
    """Raises PermissionDenied to whom neither writing a new campaign nor editing one is allowed."""
    if user.has_perm("campaigns.add_campaign") or user.has_perm("campaigns.change_campaign"):
        return True
    raise PermissionDenied


@require_POST
@user_passes_test(_may_compose)
def live_preview(request: HttpRequest) -> HttpResponse:
    """Count, text and forecast for what was entered so far. Stores nothing."""
    form = CampaignForm(request.POST)
    context = _context(form, _offset(request))
    return render(request, "campaigns/_preview.html", context)


@permission_required("campaigns.send_campaign", raise_exception=True)
def review(request: HttpRequest, pk: int) -> HttpResponse:
    """What will happen, and the button that makes it happen."""
    campaign = get_object_or_404(Campaign, pk=pk)
    if not campaign.is_editable:
        if request.method == "POST":  # the second of two clicks, or a page from before
            messages.info(request, _already(campaign))
        return redirect("campaigns:detail", pk)
    of_draft = preview_of(campaign, _offset(request))
    agreement = campaign.agreement(of_draft.summary.will_receive)
    surprises: list[str] = []
    if request.method == "POST":
        agreed = Agreement.posted(request.POST.get("agreed", ""))
        surprises = agreed.surprises(agreement)
        if not (of_draft.blockers or campaign.is_late or surprises):
            return _send(request, campaign, agreed, agreement)
    context = {"campaign": campaign, "preview": of_draft, "reasons": SkipReason}
    context |= {"agreement": agreement, "surprises": surprises}
    with timezone.override(campaign.zone):
        return render(request, "campaigns/review.html", context)


@require_POST
@permission_required("campaigns.add_campaign", raise_exception=True)
def clone(request: HttpRequest, pk: int) -> HttpResponse:
    original = get_object_or_404(Campaign, pk=pk)
    copy = _copy(original, request)
    log(request, copy, ADDITION, _("Copied from campaign %(id)s.") % {"id": pk})
    messages.success(request, _("This is a copy, as a draft. Nothing is sent yet."))
    return redirect("campaigns:edit", copy.pk)


def _copy(original: Campaign, request: HttpRequest) -> Campaign:
    with transaction.atomic():
        copy = Campaign.objects.create(
            title=_("%(title)s (copy)") % {"title": original.title[:140]},
            message=original.message,
            attachment=original.attachment,
            target_status=original.target_status,
            timezone=original.timezone,
            min_delay_seconds=original.min_delay_seconds,
            max_delay_seconds=original.max_delay_seconds,
            created_by_id=request.user.pk,
        )
        copy.niches.set(original.niches.all())
        copy.devices.set(original.devices.all())
    return copy


def _compose(request: HttpRequest, campaign: Campaign) -> HttpResponse:
    is_new = campaign.pk is None
    form = CampaignForm(request.POST or None, request.FILES or None, instance=campaign)
    then = request.POST.get("then", "")
    if then in ("save", "review") and form.is_valid():
        if form.save_draft(request.user):
            log(request, form.instance, ADDITION if is_new else CHANGE, _("Saved the draft."))
            if then == "review" and request.user.has_perm("campaigns.send_campaign"):
                return redirect("campaigns:review", form.instance.pk)
            messages.success(request, _("Saved as a draft. Nothing is sent yet."))
            return redirect("campaigns:edit", form.instance.pk)
        if not form.errors:
            said = _("Somebody has scheduled it meanwhile: nothing was changed.")
            messages.warning(request, said)
            return redirect("campaigns:detail", campaign.pk)
    context = _context(form, _offset(request)) | {
        "campaign": campaign,
        "zones": zones(),
        "show_errors": then in ("save", "review"),
    }
    return render(request, "campaigns/compose.html", context)


def _context(form: CampaignForm, offset: int) -> dict[str, Any]:
    shown = form.preview(offset) if form.is_bound else preview_of(form.instance, offset)
    return {"form": form, "preview": shown, "reasons": SkipReason, "variables": VARIABLES}


def _send(
    request: HttpRequest, campaign: Campaign, agreed: Agreement, now: Agreement
) -> HttpResponse:
    if not campaign.send(agreed):
        # Somebody was quicker, this very moment: what they did is looked at, and said.
        return review(request, campaign.pk)
    log(request, campaign, CHANGE, _("Scheduled."))
    if campaign.is_late:
        Campaign.objects.process_soon()
        messages.success(request, _("On its way: its messages are being queued."))
    else:
        messages.success(request, _("Scheduled. Until it begins you can take it back."))
    if fewer := agreed.fewer(now):
        said = _("It goes to %(count)s, %(fewer)s fewer than the page showed.")
        counts = {"count": f"{now.will_receive:,}", "fewer": f"{fewer:,}"}
        messages.warning(request, said % counts)
    return redirect("campaigns:detail", campaign.pk)


def _already(campaign: Campaign) -> str:
    """Says to whom Send came too late, why it did nothing."""
    match campaign.status:
        case Campaign.Status.SCHEDULED:
            return _("Nothing to do: it is scheduled already.")
        case Campaign.Status.CANCELLED:
            return _("Nothing was sent: it was cancelled.")
    return _("Nothing to do: it was sent already.")


def _offset(request: HttpRequest) -> int:
    """Which of those who receive it is shown; 0 where the request says nothing usable."""
    text = request.POST.get("lead") or request.GET.get("lead") or ""
    return int(text) if text.isdecimal() and len(text) < 9 else 0
