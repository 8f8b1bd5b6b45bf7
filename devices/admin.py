from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from config.adminsite import (
    ConfirmedAction,
    LookOnlyAdmin,
    NewestRelatedFilter,
    QuickAdmin,
    tag,
)
from devices.forms import AT_LEAST_ONE
from devices.models import Device, SimulatedMessage
from devices.pairing import Pairing, Unlinking


def switch_on(devices: QuerySet[Device]) -> int:
    return devices.filter(enabled=False).update(enabled=True)


def switch_off(devices: QuerySet[Device]) -> int:
    return devices.filter(enabled=True).update(enabled=False)


# What WhatsApp and the broadcasters say.
STATE = (
    "status", "status_reason", "status_changed_at", "restricted_until",
    "first_contacts_blocked_until", "next_send_at",
    "usage_hour_count", "usage_day_count", "usage_first_count",
    "session", "worker_id", "lease_expires_at", "lease_epoch", "created_at",
)  # fmt: skip


class DeviceForm(forms.ModelForm):  # type: ignore[type-arg]  # no generic at run time
    def clean(self) -> None:
        super().clean()
        chosen = self.cleaned_data
        if chosen.get("transport") == Device.SIMULATOR and chosen.get("phone"):
            said = _("A simulated device has no number: it could be that of a real account.")
            self.add_error("phone", said)


@admin.register(Device)
class DeviceAdmin(QuickAdmin):
    form = DeviceForm
    list_display = [
        "name", "phone", "transport", "state_now", "status_changed_at",
        "usage_day_count", "daily_limit", "next_send_at", "worker_id", "show_messages",
    ]  # fmt: skip
    list_filter = ["status", "enabled", "transport"]
    search_fields = ["name", "phone"]
    search_help_text = _("A part of the name or of the number")
    sortable_by = ["name", "phone"]
    readonly_fields = STATE
    fieldsets = [
        (None, {"fields": ["name", "phone", "transport", "enabled"]}),
        (
            _("Pace"),
            {
                "fields": [
                    ("min_delay_seconds", "max_delay_seconds"),
                    ("hourly_limit", "daily_limit", "first_contact_limit"),
                    "warmup_started_on",
                    ("sends_from", "sends_until", "timezone"),
                ]
            },
        ),
        (
            _("State"),
            {
                "fields": STATE,
                "description": _("What WhatsApp and the broadcasters say. Nobody sets it by hand."),
            },
        ),
    ]  # fmt: skip
    actions = ["switch_on", "switch_off", "work_again"]

    switch_on = ConfirmedAction(
        _("Switch on"),
        effect=_("They send again what waits for them, at their own pace."),
        may="change",
        applies_to=lambda devices: devices.filter(enabled=False),
        work=switch_on,
        nothing=_("They are all switched on already."),
    )
    switch_off = ConfirmedAction(
        _("Switch off"),
        effect=_("Nothing more leaves from them. A message that is being sent this moment will "
                 "finish; the others wait until the device is switched on or their time runs out."),
        may="change",
        applies_to=lambda devices: devices.filter(enabled=True),
        work=switch_off,
        nothing=_("They are all switched off already."),
    )  # fmt: skip

    work_again = ConfirmedAction(
        _("They work again"),
        effect=_("You have seen that WhatsApp lets these accounts send: linked again, or no longer "
                 "restricted. They connect and send what waits for them; what they were blocked "
                 "for is forgotten here, and said again if WhatsApp still refuses."),
        may="change",
        applies_to=lambda devices: devices.held_up(),
        work=lambda devices: devices.work_again(),
        nothing=_("None of these is restricted, logged out or banned."),
    )  # fmt: skip

    def formfield_for_dbfield(
        self, db_field: models.Field[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> forms.Field | None:
        """Caps and pauses are refused in words that say what to do instead."""
        if db_field.name in AT_LEAST_ONE:
            kwargs |= {"min_value": 1, "error_messages": {"min_value": AT_LEAST_ONE[db_field.name]}}
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def save_model(
        self, request: HttpRequest, obj: Device, form: forms.ModelForm[Device], change: bool
    ) -> None:
        super().save_model(request, obj, form, change)
        if change and not set(Device.ACCOUNT).isdisjoint(form.changed_data):
            Device.objects.filter(pk=obj.pk).change_account()

    @admin.display(description=_("state"))
    def state_now(self, device: Device) -> str:
        labels = dict(Device.Status.choices) | {
            "disabled": _("switched off"),
            "unpaired": _("not paired"),
        }
        return tag(device.state, str(labels[device.state]))

    @admin.display(description=_("messages"))
    def show_messages(self, device: Device) -> str:
        url = reverse(
            "admin:broadcasts_broadcastmessage_changelist", query={"device__id__exact": device.pk}
        )
        return format_html('<a href="{}">{}</a>', url, _("Show messages"))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Device]:
        return super().get_queryset(request).filter(deleted_at__isnull=True)

    def has_delete_permission(self, request: HttpRequest, obj: Device | None = None) -> bool:
        # A device with a history stays, switched off: Django would read all its messages only to
        # say that they are in the way.
        # One that is paired is logged out first, which the device's own page does.
        used = obj is not None and (bool(obj.session) or obj.messages.exists())
        return not used and super().has_delete_permission(request, obj)


@admin.register(SimulatedMessage)
class SimulatedMessageAdmin(LookOnlyAdmin):
    list_display = ["phone", "direction", "device", "body", "received_at"]
    list_filter = [("device", NewestRelatedFilter)]
    list_select_related = ["device"]
    sortable_by = ()
    ordering = ["-pk"]
    search_fields = ["phone"]
    search_help_text = _("The whole number, digits only")

    @admin.display(description=_("direction"))
    def direction(self, message: SimulatedMessage) -> str:
        return str(_("received") if message.from_device else _("wrote"))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[SimulatedMessage], search_term: str
    ) -> tuple[QuerySet[SimulatedMessage], bool]:
        digits = "".join(filter(str.isdigit, search_term))
        return (queryset.filter(phone=digits) if digits else queryset), False


class _OfDevices(LookOnlyAdmin):
    """Rows about a device: who may see that may see these."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("devices.view_device")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)


@admin.register(Pairing)
class PairingAdmin(_OfDevices):
    """Who has accepted the notice when, and what came of it."""

    list_display = [
        "device", "method", "state", "reason", "linked_phone", "accepted_by", "notice_version",
        "created_at", "finished_at",
    ]  # fmt: skip
    list_filter = ["state", ("device", NewestRelatedFilter)]
    list_select_related = ["device"]
    sortable_by = ()
    ordering = ["-pk"]
    exclude = ["code", "code_expires_at", "is_open"]  # who has the code has the account


@admin.register(Unlinking)
class UnlinkingAdmin(_OfDevices):
    list_display = ["session", "device", "state", "requested_by", "created_at", "finished_at"]
    list_filter = ["state"]
    list_select_related = ["device", "requested_by"]
    sortable_by = ()
    ordering = ["-pk"]
