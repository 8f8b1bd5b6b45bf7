from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.db.models import Case, QuerySet, When
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from broadcasts.models import Attempt, BroadcastMessage, Worker
from config.adminsite import ConfirmedAction, LookOnlyAdmin, NewestRelatedFilter, StatusFilter, tag
from leads.models import Lead
from leads.phones import begins_with

Status = BroadcastMessage.Status


class AttemptInline(admin.TabularInline):  # type: ignore[type-arg]
    """What became of it before somebody sent it again."""

    model = Attempt
    extra = 0
    can_delete = False
    fields = [
        "number", "status", "device", "attempts", "error_code", "error_message",
        "provider_message_id", "queued_at", "finished_at", "decision", "decided_at", "decided_by",
    ]  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[Attempt]:
        return super().get_queryset(request).select_related("device", "decided_by")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("broadcasts.view_broadcastmessage")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(BroadcastMessage)
class BroadcastMessageAdmin(LookOnlyAdmin):
    list_display = [
        "display_phone", "recipient_name", "state", "why", "origin", "device", "scheduled_at",
        "sent_at", "attempts",
    ]  # fmt: skip
    list_filter = [
        ("status", StatusFilter),
        ("campaign", NewestRelatedFilter),
        ("sequence", NewestRelatedFilter),
        ("device", NewestRelatedFilter),
    ]
    list_select_related = ["device", "campaign", "sequence"]
    # By key only, newest first: every other order of a million rows would have to be sorted.
    sortable_by = ()
    search_fields = ["recipient_phone"]
    search_help_text = _("The beginning of a lead's number, or #123 for the message with that id")
    fieldsets = [
        (
            None,
            {
                "fields": [
                    "recipient_phone", "recipient_name", "lead", "campaign", "sequence",
                    "sequence_step", "device", "attachment", "body",
                ]
            },
        ),
        (
            _("State"),
            {
                "fields": [
                    "status", "skip_reason", "error_code", "error_message", "attempts", "restarts",
                    "priority", "processing_worker_id", "lease_epoch", "provider_message_id",
                ]
            },
        ),
        (
            _("Times"),
            {
                "fields": [
                    "created_at", "scheduled_at", "expires_at", "processing_started_at",
                    "queued_at", "sent_at", "delivered_at", "read_at", "finished_at",
                ]
            },
        ),
    ]  # fmt: skip
    inlines = [AttemptInline]
    actions = [
        "retry_failed", "settle_as_sent", "settle_as_not_sent", "settle_as_not_arrived",
        "reschedule_expired", "cancel", "unstick",
    ]  # fmt: skip

    retry_failed = ConfirmedAction(
        _("Try failed messages again"),
        effect=_("WhatsApp refused these; nobody got them. They are due at once, at the pace of "
                 "their devices."),
        may="settle",
        applies_to=lambda messages: messages.filter(status=Status.FAILED),
        work=lambda messages, by: messages.retry_failed(by=by),
        is_signed=True,
        nothing=_("None of these has failed."),
    )  # fmt: skip
    settle_as_sent = ConfirmedAction(
        _("Unknown: they arrived"),
        effect=_("You have seen that they arrived. They count as sent and are not sent again."),
        may="settle",
        applies_to=lambda messages: messages.filter(status=Status.UNKNOWN),
        work=lambda messages, by: messages.settle_as_sent(by=by),
        is_signed=True,
        dated="finished_at",
        nothing=_("Of none of these is the outcome unknown."),
    )
    settle_as_not_sent = ConfirmedAction(
        _("Unknown: send them again"),
        effect=_("You have seen that they did not arrive. They are sent again: whoever got one "
                 "all the same gets it twice."),
        may="settle",
        applies_to=lambda messages: messages.filter(status=Status.UNKNOWN),
        work=lambda messages, by: messages.settle_as_not_sent(by=by),
        is_signed=True,
        dated="finished_at",
        nothing=_("Of none of these is the outcome unknown."),
    )  # fmt: skip
    settle_as_not_arrived = ConfirmedAction(
        _("Unknown: they did not arrive"),
        effect=_("You have seen that they did not arrive. They count as failed and are not sent "
                 "again, unless somebody tries them again later."),
        may="settle",
        applies_to=lambda messages: messages.filter(status=Status.UNKNOWN),
        work=lambda messages, by: messages.settle_as_not_arrived(by=by),
        is_signed=True,
        dated="finished_at",
        nothing=_("Of none of these is the outcome unknown."),
    )  # fmt: skip
    reschedule_expired = ConfirmedAction(
        _("Send expired messages now"),
        effect=_("Their time had passed before they could be sent. They are due at once, at the "
                 "pace of their devices."),
        may="settle",
        applies_to=lambda messages: messages.filter(status=Status.EXPIRED),
        work=lambda messages, by: messages.reschedule_expired(by=by),
        is_signed=True,
        nothing=_("None of these has expired."),
    )  # fmt: skip
    cancel = ConfirmedAction(
        _("Cancel waiting messages"),
        effect=_("They are never sent. Messages that a broadcaster has already taken will finish."),
        may="settle",
        applies_to=lambda messages: messages.filter(status__in=[Status.PENDING, Status.PAUSED]),
        work=lambda messages: messages.cancel(),
        nothing=_("None of these is waiting."),
    )
    unstick = ConfirmedAction(
        _("Release what a dead broadcaster holds"),
        effect=_("What had not left goes back to pending. What was being handed over becomes "
                 "unknown, because it may have arrived."),
        may="settle",
        applies_to=lambda messages: messages.stuck(),
        work=lambda messages: sum(messages.unstick().values()),
        nothing=_("None of these is stuck: what is claimed is held by a broadcaster that lives."),
    )  # fmt: skip

    @admin.display(description=_("phone"))
    def display_phone(self, message: BroadcastMessage) -> str:
        return message.display_phone

    @admin.display(description=_("from"))
    def origin(self, message: BroadcastMessage) -> str:
        return str(message.campaign or message.sequence or _("test"))

    @admin.display(description=_("status"))
    def state(self, message: BroadcastMessage) -> str:
        return tag(message.status, message.get_status_display())

    @admin.display(description=_("reason"), empty_value="")
    def why(self, message: BroadcastMessage) -> str:
        return message.get_skip_reason_display() or message.error_message

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[BroadcastMessage], search_term: str
    ) -> tuple[QuerySet[BroadcastMessage], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        if term.startswith("#") and term[1:].isdecimal():
            return queryset.filter(pk=term[1:]), False
        by_phone = begins_with(term, settings.PHONE_REGION)
        if by_phone is None:
            return queryset.none(), False
        # By way of the leads, whose numbers are indexed. The ids as a list: MySQL would walk the
        # messages and look each one's lead up.
        leads = Lead.objects.filter(by_phone).order_by("phone").values_list("pk", flat=True)
        return queryset.filter(lead_id__in=list(leads[:500])), False

    def has_settle_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("broadcasts.settle_broadcastmessage")


@admin.register(Worker)
class WorkerAdmin(LookOnlyAdmin):
    list_display = [
        "id",
        "hostname",
        "pid",
        "devices",
        "capacity",
        "alive",
        "heartbeat_at",
        "started_at",
    ]
    list_filter = ["hostname"]
    search_fields = ["id", "hostname"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Worker]:
        alive = Worker.objects.alive().values("pk")
        workers = super().get_queryset(request)
        return workers.annotate(is_alive=Case(When(pk__in=alive, then=True), default=False))  # type: ignore[no-any-return]

    @admin.display(description=_("alive"), boolean=True)
    def alive(self, worker: Worker) -> bool:
        return worker.is_alive  # type: ignore[attr-defined, no-any-return]
