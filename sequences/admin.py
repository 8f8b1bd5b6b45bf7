from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.db import models
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from broadcasts.rendering import BodyField, MessageForm
from config.adminsite import (
    ConfirmedAction,
    LookOnlyAdmin,
    NewestRelatedFilter,
    QuickAdmin,
    StatusFilter,
    tag,
)
from leads.models import Lead
from leads.phones import begins_with
from sequences.models import Sequence, SequenceContact, SequenceStep
from sequences.step_forms import PositionsFormSet

Status = Sequence.Status


class StepInline(admin.TabularInline):  # type: ignore[type-arg]
    model = SequenceStep
    form = MessageForm
    formset = PositionsFormSet  # type: ignore[assignment]  # whatever its forms are
    extra = 0
    formfield_overrides = {models.TextField: {"form_class": BodyField}}
    exclude = ["attachment"]  # chosen on the page of the sequence, which shows it
    # A step that was sent stays on record; Django would read its messages to find that out.
    can_delete = False


@admin.register(Sequence)
class SequenceAdmin(QuickAdmin):
    inlines = [StepInline]
    list_display = ["name", "trigger", "state", "steps_count", "show_contacts", "show_messages"]
    list_filter = ["status"]
    list_select_related = ["trigger"]
    search_fields = ["name"]
    sortable_by = ["name"]
    autocomplete_fields = ["trigger", "devices"]
    readonly_fields = ["status", "created_at", "updated_at"]
    fields = [
        "name", "description", "trigger", "devices", "status", "created_at", "updated_at",
    ]  # fmt: skip
    # Whom activating or another trigger enrols, the sequence's own page says before.
    actions = ["pause"]

    pause = ConfirmedAction(
        _("Pause"),
        effect=_("Nobody is enrolled and no step leaves until they are activated again. Messages "
                 "that are being sent this moment will finish."),
        may="change",
        applies_to=lambda sequences: sequences.filter(status=Status.ACTIVE),
        work=lambda sequences: [sequence for sequence in sequences if sequence.pause()],
        nothing=_("None of these is active."),
    )  # fmt: skip

    def save_model(self, request: HttpRequest, obj: Sequence, form: Any, change: bool) -> None:
        obj.from_all_devices = not form.cleaned_data["devices"]
        super().save_model(request, obj, form, change)
        if change and "devices" in form.changed_data:  # goes with them, and is no field itself
            obj.save(update_fields=["from_all_devices"])

    def get_readonly_fields(self, request: HttpRequest, obj: Sequence | None = None) -> list[str]:
        return [*super().get_readonly_fields(request, obj), *(["trigger"] if obj else [])]

    def view_on_site(self, sequence: Sequence) -> str:
        return reverse("sequences:detail", args=[sequence.pk])

    def get_queryset(self, request: HttpRequest) -> QuerySet[Sequence]:
        return super().get_queryset(request).annotate(steps_count=Count("steps"))  # type: ignore[no-any-return]

    @admin.display(description=_("status"))
    def state(self, sequence: Sequence) -> str:
        return tag(sequence.status, sequence.get_status_display())

    @admin.display(description=_("steps"))
    def steps_count(self, sequence: Sequence) -> int:
        return sequence.steps_count  # type: ignore[attr-defined, no-any-return]

    @admin.display(description=_("contacts"))
    def show_contacts(self, sequence: Sequence) -> str:
        url = reverse(
            "admin:sequences_sequencecontact_changelist",
            query={"sequence__id__exact": sequence.pk},
        )
        return format_html('<a href="{}">{}</a>', url, _("Show contacts"))

    @admin.display(description=_("messages"))
    def show_messages(self, sequence: Sequence) -> str:
        url = reverse(
            "admin:broadcasts_broadcastmessage_changelist",
            query={"sequence__id__exact": sequence.pk},
        )
        return format_html('<a href="{}">{}</a>', url, _("Show messages"))

    def has_delete_permission(self, request: HttpRequest, obj: Sequence | None = None) -> bool:
        used = obj is not None and (obj.messages.exists() or obj.contacts.exists())
        return not used and super().has_delete_permission(request, obj)


@admin.register(SequenceContact)
class SequenceContactAdmin(LookOnlyAdmin):
    list_display = ["lead", "sequence", "state", "next_step", "next_due_at", "stop_reason"]
    list_filter = [("status", StatusFilter), ("sequence", NewestRelatedFilter)]
    # Not joined: a database may begin at the few sequences and sort all contacts. And () rather
    # than False, which would join what the list shows.
    list_select_related = ()
    sortable_by = ()
    search_fields = ["lead__phone"]
    search_help_text = _("The beginning of a lead's number")

    @admin.display(description=_("status"))
    def state(self, contact: SequenceContact) -> str:
        return tag(contact.status, contact.get_status_display())

    def get_queryset(self, request: HttpRequest) -> QuerySet[SequenceContact]:
        contacts = super().get_queryset(request)
        return contacts.prefetch_related("lead", "sequence", "next_step__sequence")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[SequenceContact], search_term: str
    ) -> tuple[QuerySet[SequenceContact], bool]:
        if not search_term.strip():
            return queryset, False
        by_phone = begins_with(search_term, settings.PHONE_REGION)
        if by_phone is None:
            return queryset.none(), False
        leads = Lead.objects.filter(by_phone).order_by("phone").values_list("pk", flat=True)
        return queryset.filter(lead_id__in=list(leads[:500])), False
