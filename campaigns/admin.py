from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db import models
from django.db.models import Count
from django.forms import ModelForm
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from broadcasts.models import BroadcastMessage
from broadcasts.rendering import BodyField, MessageForm
from campaigns.models import Campaign
from config.adminsite import ConfirmedAction, QuickAdmin, tag

Status = Campaign.Status
RUNNING = [Status.SCHEDULED, Status.QUEUING, Status.SENDING]


@admin.register(Campaign)
class CampaignAdmin(QuickAdmin):
    list_display = [
        "title", "state", "target_status", "scheduled_at", "audience_size", "sent", "failed",
        "open_messages", "show_messages", "created_by",
    ]  # fmt: skip
    form = MessageForm
    formfield_overrides = {models.TextField: {"form_class": BodyField}}
    list_filter = ["status", "target_status"]
    list_select_related = ["created_by"]
    list_per_page = 25
    search_fields = ["title"]
    sortable_by = ["title"]
    autocomplete_fields = ["niches", "devices"]
    readonly_fields = [
        "status", "scheduled_at", "audience_size", "fanned_out_at", "started_at", "paused_at",
        "finished_at", "created_by", "created_at", "updated_at",
    ]  # fmt: skip
    fieldsets = [
        (None, {"fields": ["title", "message"]}),
        (_("Audience"), {"fields": ["niches", "target_status", "devices"]}),
        (_("Pace"), {"fields": [("min_delay_seconds", "max_delay_seconds"), "timezone"]}),
        (
            _("State"),
            {
                "fields": [
                    "status", "scheduled_at", "audience_size", "fanned_out_at", "started_at",
                    "paused_at", "finished_at", "created_by", "created_at", "updated_at",
                ],
                "description": _("A draft is scheduled from its own page, which shows who gets it "
                                 "before it asks. Once it is scheduled, nothing of it changes."),
            },
        ),
    ]  # fmt: skip
    actions = ["pause", "resume", "cancel"]

    pause = ConfirmedAction(
        _("Pause"),
        effect=_("Nothing more of them leaves until they are resumed. Messages that are being sent "
                 "this moment will finish."),
        may="send",
        applies_to=lambda campaigns: campaigns.filter(status__in=RUNNING),
        work=lambda campaigns: [campaign for campaign in campaigns if campaign.pause()],
        nothing=_("None of these is scheduled or sending."),
    )  # fmt: skip
    resume = ConfirmedAction(
        _("Resume"),
        effect=_("Their waiting messages go out again, at the pace of the devices."),
        may="send",
        applies_to=lambda campaigns: campaigns.filter(status=Status.PAUSED),
        work=lambda campaigns: [campaign for campaign in campaigns if campaign.resume()],
        nothing=_("None of these is paused."),
    )
    cancel = ConfirmedAction(
        _("Cancel"),
        effect=_("Everything of them that waits is cancelled, and cannot be brought back. Messages "
                 "that are being sent this moment will finish."),
        may="send",
        applies_to=lambda campaigns: campaigns.filter(status__in=[*RUNNING, Status.PAUSED]),
        work=lambda campaigns: [campaign for campaign in campaigns if campaign.cancel()],
        nothing=_("None of these is scheduled, sending or paused."),
    )  # fmt: skip

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """Counts the messages of the campaigns on this page, all in one query."""
        changelist = super().get_changelist_instance(request)
        campaigns = {campaign.pk: campaign for campaign in changelist.result_list}
        for campaign in campaigns.values():
            campaign.message_counts = dict.fromkeys(BroadcastMessage.Status.values, 0)
        messages = BroadcastMessage.objects.filter(campaign__in=campaigns).order_by()
        for pk, status, count in messages.values_list("campaign", "status").annotate(Count("pk")):
            campaigns[pk].message_counts[status] = count
        return changelist

    @admin.display(description=_("status"))
    def state(self, campaign: Campaign) -> str:
        return tag(campaign.status, campaign.get_status_display())

    @admin.display(description=_("sent"))
    def sent(self, campaign: Any) -> int:
        return campaign.message_counts["sent"]  # type: ignore[no-any-return]

    @admin.display(description=_("failed or unknown"))
    def failed(self, campaign: Any) -> int:
        counts = campaign.message_counts
        return counts["failed"] + counts["unknown"]  # type: ignore[no-any-return]

    @admin.display(description=_("remaining"))
    def open_messages(self, campaign: Any) -> int:
        return sum(campaign.message_counts[status] for status in BroadcastMessage.OPEN)

    @admin.display(description=_("messages"))
    def show_messages(self, campaign: Campaign) -> str:
        url = reverse(
            "admin:broadcasts_broadcastmessage_changelist",
            query={"campaign__id__exact": campaign.pk},
        )
        return format_html('<a href="{}">{}</a>', url, _("Show messages"))

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Campaign | None:
        campaign: Campaign | None = super().get_object(request, object_id, from_field)
        if campaign and request.method == "POST":
            # Saving is one transaction. With the row locked, nobody schedules the draft between
            # the check that it is one and the writing of another text.
            campaign.refresh_from_db(from_queryset=Campaign.objects.select_for_update())
        return campaign

    def has_change_permission(self, request: HttpRequest, obj: Campaign | None = None) -> bool:
        return (obj is None or obj.is_editable) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Campaign | None = None) -> bool:
        # What was sent stays on record.
        return (obj is None or obj.is_editable) and super().has_delete_permission(request, obj)

    def has_send_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("campaigns.send_campaign")

    def save_model(
        self, request: HttpRequest, obj: Campaign, form: ModelForm[Campaign], change: bool
    ) -> None:
        if not change:
            obj.created_by = request.user  # type: ignore[assignment]
        super().save_model(request, obj, form, change)
