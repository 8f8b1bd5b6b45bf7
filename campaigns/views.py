"""Looking at campaigns: the list, one's progress, its recipients. Nothing here changes anything."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC
from io import StringIO
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import permission_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, QueryDict, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from broadcasts import reports
from broadcasts.models import BroadcastMessage
from broadcasts.templatetags.figures import PARTS
from broadcasts.templatetags.reasons import reason
from campaigns.actions import OF_CAMPAIGNS, OF_MESSAGES
from campaigns.forms import CampaignFilterForm
from campaigns.models import Campaign
from campaigns.progress import Progress, needing_somebody, progress_by_device, progress_of
from leads.models import SkipReason
from leads.paging import window
from leads.phones import begins_with
from leads.spreadsheets import safe_cell

PAGE_SIZE = 25
# Of how many rows its page may be asked for a second.
ROWS_A_SECOND = 25_000
# The answer that tells htmx to ask no more.
STOP_POLLING = 286
# What people tell apart, as the bar and its legend do: {name: statuses}.
GROUPS: dict[str, list[str]] = {name: list(statuses) for name, _label, statuses in PARTS}
# And together, as the tile does that counts them.
GROUPS["remaining"] = [*BroadcastMessage.OPEN]


@permission_required("campaigns.view_campaign", raise_exception=True)
def campaign_list(request: HttpRequest) -> HttpResponse:
    form = CampaignFilterForm(request.GET)
    campaigns = Campaign.objects.defer("message").prefetch_related("niches")
    if form.is_valid():
        if text := form.cleaned_data["q"].strip():
            campaigns = campaigns.filter(title__icontains=text)
        if status := form.cleaned_data["status"]:
            campaigns = campaigns.standing(status)
    page = Paginator(campaigns, PAGE_SIZE).get_page(request.GET.get("page"))
    context = {
        "form": form,
        "page": page,
        "rows": progress_of(page.object_list),
        "filtered": bool(request.GET.get("q") or request.GET.get("status")),
    }
    return render(request, "campaigns/list.html", context)


@permission_required("campaigns.view_campaign", raise_exception=True)
def row(request: HttpRequest, pk: int) -> HttpResponse:
    """One line of the list, while the campaign moves; polling ends with it."""
    campaigns = Campaign.objects.defer("message").prefetch_related("niches")
    [of_one] = progress_of([get_object_or_404(campaigns, pk=pk)])
    status = 200 if of_one.is_moving else STOP_POLLING
    return render(request, "campaigns/_row.html", {"progress": of_one}, status=status)


@permission_required("campaigns.view_campaign", raise_exception=True)
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    campaign = get_object_or_404(Campaign.objects.select_related("created_by"), pk=pk)
    of_one = progress_by_device(campaign)
    context = {"campaign": campaign, **_progress_context(of_one), **_activity_context(of_one)}
    with timezone.override(campaign.zone):
        return render(request, "campaigns/detail.html", context)


@permission_required("campaigns.view_campaign", raise_exception=True)
def progress(request: HttpRequest, pk: int) -> HttpResponse:
    """State, bar, tiles and devices: one moment of all, so that their numbers agree."""
    campaign = get_object_or_404(Campaign.objects.select_related("created_by"), pk=pk)
    of_one = progress_by_device(campaign)
    if request.GET.get("was") == Campaign.Status.SCHEDULED:
        # The whole page changes when it begins; until then nothing does.
        has_changed = campaign.status != Campaign.Status.SCHEDULED
        return HttpResponse(status=204, headers={"HX-Refresh": "true"} if has_changed else None)
    context = _progress_context(of_one)
    context |= {"was": request.GET.get("was", ""), "said": request.GET.get("step", "")}
    status = STOP_POLLING if of_one.is_over else 200
    with timezone.override(campaign.zone):
        return render(request, "campaigns/_progress.html", context, status=status)


@permission_required("campaigns.view_campaign", raise_exception=True)
def activity(request: HttpRequest, pk: int) -> HttpResponse:
    """Minutes, receipts and what needs somebody: what may be a few seconds old."""
    campaign = get_object_or_404(Campaign, pk=pk)
    of_one = progress_by_device(campaign)
    status = STOP_POLLING if of_one.is_over else 200
    with timezone.override(campaign.zone):
        context = _activity_context(of_one)
        return render(request, "campaigns/_activity.html", context, status=status)


@permission_required(
    ["campaigns.view_campaign", "broadcasts.view_broadcastmessage"], raise_exception=True
)
def recipients(request: HttpRequest, pk: int) -> HttpResponse:
    campaign = get_object_or_404(Campaign, pk=pk)
    [of_one] = progress_of([campaign])
    chosen = request.GET.get("status", "")
    rows = _rows(campaign, request.GET).select_related("lead", "device", "campaign")
    context = {
        "campaign": campaign,
        "progress": of_one,
        "chosen": chosen if chosen in GROUPS else "",
        "tabs": _tabs(of_one, chosen),
        "page": window(rows.defer("body", "campaign__message"), request.GET),
        "skip_reason": _in_words(request.GET.get("reason", "")),
        "q": request.GET.get("q", ""),
    }
    with timezone.override(campaign.zone):
        return render(request, "campaigns/recipients.html", context)


@permission_required(
    ["campaigns.view_campaign", "broadcasts.view_broadcastmessage"], raise_exception=True
)
def export(request: HttpRequest, pk: int) -> StreamingHttpResponse:
    """The recipients as CSV, as they are read from the database. Times are UTC, ISO 8601."""
    campaign = get_object_or_404(Campaign, pk=pk)
    rows = _rows(campaign, request.GET).select_related("device").order_by("pk")
    response = StreamingHttpResponse(
        _csv(campaign, rows.defer("body").iterator(chunk_size=2000)),
        content_type="text/csv; charset=utf-8",
    )
    name = f"{slugify(campaign.title) or 'campaign'}-{campaign.pk}.csv"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _rows(campaign: Campaign, chosen: QueryDict) -> Any:
    """The campaign's recipients in this state, left out for this reason, whose number begins so, as
    people write numbers."""
    rows = BroadcastMessage.objects.filter(campaign=campaign)
    if status := GROUPS.get(chosen.get("status", "")):
        rows = rows.filter(status__in=status)
    if reason := chosen.get("reason"):
        rows = rows.filter(skip_reason=reason)
    begins = begins_with(chosen.get("q", ""), settings.PHONE_REGION, "recipient_phone")
    return rows.filter(begins) if begins else rows


def _progress_context(of_one: Progress) -> dict[str, Any]:
    every = 2 if of_one.is_moving or of_one.is_due else 15
    # Each look reads every row of it: of a million it takes more than a second.
    every = max(every, min(int(of_one.rows / ROWS_A_SECOND), 30))
    devices = [row for row in of_one.devices or () if row.device]
    away = [row for row in devices if row.remaining and row.device and row.device.state != "online"]
    # What is said aloud changes in steps of ten percent, not with every message.
    step = int(of_one.sent / of_one.planned * 10) * 10 if of_one.planned else 0
    actions = [
        (action, action.question(of_one.campaign), action.effect(of_one))
        for action in OF_CAMPAIGNS
        if action.applies(of_one)
    ]
    return {
        "campaign": of_one.campaign,
        "progress": of_one,
        "every": every,
        "step": str(step),
        "actions": actions,
        "adds_up": _accounted_for(of_one),
        "devices": devices,
        "deviceless": next((row for row in of_one.devices or () if not row.device), None),
        "away": away if of_one.is_running else [],
    }


def _accounted_for(of_one: Progress) -> str:
    """Says that the numbers are the whole audience, once it is known, and until then that they
    are not."""
    if not of_one.is_listed:
        return _("%(count)s listed so far") % {"count": f"{of_one.rows:,}"}
    if not of_one.adds_up:
        return ""
    return _("%(count)s in the audience, all accounted for") % {"count": f"{of_one.audience:,}"}


def _activity_context(of_one: Progress) -> dict[str, Any]:
    campaign = of_one.campaign
    if not campaign.started_at:
        return {"progress": of_one}
    devices = of_one.devices or ()
    return {
        "campaign": campaign,
        "progress": of_one,
        "delivered": sum(row.delivered for row in devices),
        "read": sum(row.read for row in devices),
        "minutes": reports.minutes(campaign.pk, campaign.finished_at or of_one.at),
        "needing": needing_somebody(campaign),
        "skipped": _skipped(of_one),
        "repairs": [action for action in OF_MESSAGES if action.applies(of_one)],
        "calm_seconds": 15 if of_one.is_running else 30,
    }


def _tabs(of_one: Progress, chosen: str) -> list[tuple[str, Any, int]]:
    """What the recipients are told apart by: name, label, number. Empty ones only if chosen."""
    tabs = [
        (name, label, sum(of_one.counts[status] for status in statuses))
        for name, label, statuses in PARTS
    ]
    if chosen == "remaining":
        tabs.append((chosen, gettext_lazy("Remaining"), of_one.remaining))
    return [tab for tab in tabs if tab[2] or tab[0] == chosen]


def _skipped(of_one: Progress) -> list[tuple[str, str, int]]:
    """Why leads were left out: the reason, in words, and how many each."""
    if not of_one.counts["skipped"]:
        return []
    found = reports.skipped_by_reason(of_one.campaign.pk)
    return [(reason, _in_words(reason), count) for reason, count in found.items()]


def _in_words(reason: str) -> str:
    return str(dict(SkipReason.choices).get(reason, reason))


def _reasons(campaign: Campaign) -> Callable[[BroadcastMessage], str]:
    """Returns what says why a message is where it is, by the campaign's clock.

    A million may wait, for a few things: what they wait for is worked out once for each.
    """
    said: dict[tuple[object, ...], str] = {}

    def why(row: BroadcastMessage) -> str:
        if row.status != BroadcastMessage.Status.PENDING:
            return reason(row)
        key = row.device_id, row.priority, row.scheduled_at, row.expires_at, row.error_message
        if key not in said:
            row.campaign = campaign
            with timezone.override(campaign.zone):
                said[key] = reason(row)
        return said[key]

    return why


def _csv(campaign: Campaign, rows: Iterable[BroadcastMessage]) -> Iterator[str]:
    buffer = StringIO()
    writer = csv.writer(buffer)
    why = _reasons(campaign)

    def line(*cells: object) -> str:
        writer.writerow([safe_cell(str(cell)) for cell in cells])
        text = buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
        return text

    # With a mark, or Excel reads the names in the wrong alphabet.
    yield "\ufeff" + line(
        _("Phone"), _("Name"), _("Status"), _("Why"), _("Device"), _("Attempts"),
        _("Sent"), _("Delivered"), _("Read"), _("Error code"),
    )  # fmt: skip
    for row in rows:
        times = (
            moment.astimezone(UTC).isoformat(timespec="seconds") if moment else ""
            for moment in (row.sent_at, row.delivered_at, row.read_at)
        )
        yield line(
            row.recipient_phone, row.recipient_name, row.status, why(row), row.device or "",
            row.attempts, *times, row.error_code,
        )  # fmt: skip
