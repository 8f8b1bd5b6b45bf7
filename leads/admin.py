from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from config.adminsite import ConfirmedAction, NewestRelatedFilter, QuickAdmin, StatusFilter
from leads.models import Lead, Niche, Tag, Trigger
from leads.phones import InvalidPhone, normalise_phone


class TagFilter(admin.SimpleListFilter):
    """Leads with one niche or trigger, by name: `?niche=VITAC`. Offers the first 30."""

    model: type[Tag]
    through: Any

    def lookups(
        self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]
    ) -> list[tuple[str, str]]:
        names = list(self.model._default_manager.values_list("name", flat=True)[:30])
        chosen = request.GET.get(self.parameter_name or "")
        return [(name, name) for name in dict.fromkeys([*names, *filter(None, [chosen])])]

    def has_output(self) -> bool:
        return True

    def queryset(self, request: HttpRequest, queryset: QuerySet[Lead]) -> QuerySet[Lead]:
        if not self.value():
            return queryset
        # A sub-select and no join: nothing twice, and an action can update what it lists.
        carriers = self.through.objects.filter(**{f"{self.parameter_name}__name": self.value()})
        return queryset.filter(pk__in=carriers.values("lead_id"))


class NicheFilter(TagFilter):
    title = _("niche")
    parameter_name = "niche"
    model = Niche
    through = Lead.niches.through


class TriggerFilter(TagFilter):
    title = _("trigger")
    parameter_name = "trigger"
    model = Trigger
    through = Lead.triggers.through


class LeadForm(forms.ModelForm):  # type: ignore[type-arg]
    # As people write it; stored as digits.
    phone = forms.CharField(
        label=_("Phone"), max_length=40, help_text=_("As on paper: 012-345 6789 or +60 12-345 6789")
    )

    class Meta:
        model = Lead
        fields = "__all__"

    def clean_phone(self) -> str:
        try:
            return normalise_phone(self.cleaned_data["phone"], settings.PHONE_REGION)
        except InvalidPhone as error:
            raise forms.ValidationError(str(error)) from error

    def clean(self) -> None:
        super().clean()
        recorded = "consented_at" in self.changed_data and self.cleaned_data.get("consented_at")
        if recorded and not self.cleaned_data.get("consent_source"):
            self.add_error("consent_source", _("Say where they agreed."))


@admin.register(Lead)
class LeadAdmin(QuickAdmin):
    form = LeadForm
    list_display = ["display_phone", "name", "status", "device", "may_be_messaged", "created_at"]
    list_display_links = ["display_phone", "name"]
    list_filter = [
        ("status", StatusFilter),
        NicheFilter,
        TriggerFilter,
        ("device", NewestRelatedFilter),
    ]
    list_select_related = ["device"]
    sortable_by = ["display_phone"]
    search_fields = ["phone"]
    search_help_text = _("The beginning of a number, or a part of a name")
    autocomplete_fields = ["device", "niches", "triggers"]
    readonly_fields = [
        "opted_out_at", "opt_out_source", "on_whatsapp_at", "not_on_whatsapp_at",
        "last_replied_at", "created_at", "updated_at",
    ]  # fmt: skip
    fieldsets = [
        (None, {"fields": ["phone", "name", "status", "niches", "triggers", "device"]}),
        (
            _("Consent"),
            {
                "fields": ["consented_at", "consent_source", "opted_out_at", "opt_out_source"],
                "description": _("Without consent on record a lead gets no message. An opt-out "
                                 "stays: its row is what keeps a later import from undoing it."),
            },
        ),
        (
            _("More"),
            {
                "fields": [
                    "source", "timezone", "on_whatsapp_at", "not_on_whatsapp_at",
                    "last_replied_at", "created_at", "updated_at",
                ]
            },
        ),
    ]  # fmt: skip
    actions = ["opt_out"]

    opt_out = ConfirmedAction(
        _("Opt out"),
        effect=_("They get no more messages, from any campaign or sequence. This cannot be undone "
                 "here: they have to agree again."),
        may="opt_out",
        applies_to=lambda leads: leads.filter(opted_out_at__isnull=True),
        work=lambda leads: leads.opt_out(source="admin"),
        nothing=_("They have all opted out already."),
    )  # fmt: skip

    @admin.display(description=_("phone"), ordering="phone")
    def display_phone(self, lead: Lead) -> str:
        return lead.display_phone

    @admin.display(description=_("may be messaged"), boolean=True)
    def may_be_messaged(self, lead: Lead) -> bool:
        return not lead.skip_reason  # type: ignore[attr-defined]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Lead]:
        return super().get_queryset(request).with_skip_reason()  # type: ignore[no-any-return, attr-defined]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Lead], search_term: str
    ) -> tuple[QuerySet[Lead], bool]:
        if not search_term.strip():
            return queryset, False
        return queryset.search(search_term), False  # type: ignore[attr-defined]

    def get_readonly_fields(self, request: HttpRequest, obj: Lead | None = None) -> list[str]:
        # The number says who has got what already. Another number is another lead.
        return [*self.readonly_fields, "phone"] if obj else list(self.readonly_fields)

    def has_delete_permission(self, request: HttpRequest, obj: Lead | None = None) -> bool:
        # Who opted out stays on record: imported again, they would be messaged again.
        kept = obj is not None and obj.opted_out_at is not None
        return not kept and super().has_delete_permission(request, obj)

    def has_opt_out_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("leads.opt_out_lead")


class TagAdmin(QuickAdmin):
    list_display = ["name", "show_leads"]
    search_fields = ["name"]

    @admin.display(description=_("leads"))
    def show_leads(self, tag: Tag) -> str:
        url = reverse("admin:leads_lead_changelist", query={tag._meta.model_name: tag.name})
        return format_html('<a href="{}">{}</a>', url, _("Show leads"))

    def has_delete_permission(self, request: HttpRequest, obj: Tag | None = None) -> bool:
        # Django would read every lead that carries it, to say that it lets go of it.
        used = obj is not None and obj.leads.exists()  # type: ignore[attr-defined]
        return not used and super().has_delete_permission(request, obj)


admin.site.register(Niche, TagAdmin)
admin.site.register(Trigger, TagAdmin)
