from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.db.models import QuerySet
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext_lazy as _

from leads.models import Lead, Niche
from leads.spreadsheets import UnreadableFile, read_layout, read_records
from leads.tags import split_tags
from leads.uploads import MAX_BYTES


class NicheSelect(forms.SelectMultiple):
    """One line to choose one niche from; a list where the address names several, as an audience
    may have."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        found = super().value_from_datadict(data, files, name)
        return [value for value in found or [] if value]  # "all" is none of them

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        context = super().get_context(name, value, attrs)
        if len(value or []) <= 1:
            del context["widget"]["attrs"]["multiple"]
        return context

    def optgroups(self, name: str, value: list[str], attrs: Any = None) -> Any:
        groups = super().optgroups(name, value, attrs)
        everything = self.create_option(name, "", str(_("all")), not value, 0)
        return [(None, [everything], 0), *groups]


class NichesField(forms.ModelMultipleChoiceField):  # type: ignore[type-arg]  # none at run time
    def clean(self, value: Any) -> Any:
        """Leaves out what is longer than any key: SQLite refuses to compare with it."""
        return super().clean([key for key in value or () if len(str(key)) < 19])


class LeadFilterForm(forms.Form):
    """What the list of leads can be narrowed to; every field may be empty."""

    q = forms.CharField(
        label=_("Number or name"), required=False, max_length=150,
        widget=forms.TextInput(attrs={"type": "search"}),
    )  # fmt: skip
    status = forms.ChoiceField(
        label=_("Status"), required=False, choices=[("", _("all")), *Lead.Status.choices]
    )
    niche = NichesField(Niche.objects.all(), label=_("Niche"), required=False, widget=NicheSelect)
    may = forms.ChoiceField(
        label=_("May be messaged"), required=False,
        choices=[
            ("", _("all")),
            ("yes", _("yes")),
            ("opted_out", _("opted out")),
            ("duplicate", _("duplicate number")),
            ("no_consent", _("no consent on record")),
            ("not_on_whatsapp", _("not on WhatsApp")),
        ],
    )  # fmt: skip

    def leads(self) -> QuerySet[Lead]:
        """The leads that the filled-in fields leave; a value that is not offered is ignored."""
        self.is_valid()
        chosen = self.cleaned_data
        niches = chosen.get("niche") or []
        leads = Lead.objects.matching(niches=niches, status=chosen.get("status", ""))
        if chosen.get("q"):
            leads = leads.search(chosen["q"])
        leads = leads.with_skip_reason()
        if may := chosen.get("may"):
            leads = leads.filter(skip_reason="" if may == "yes" else may)  # type: ignore[misc]
        return leads


class UploadForm(forms.Form):
    file = forms.FileField(
        label=_("File"),
        help_text=_("CSV in UTF-8. The first row names the columns: Phone, and if you have them "
                    "Name, Niche, Status, Trigger, Source, Consent, Consent source. Malay headings "
                    "are understood; any other column is ignored, and named on the next page."),
        widget=forms.FileInput(attrs={"accept": ".csv,.txt,.tsv,text/csv"}),
    )  # fmt: skip
    consent = forms.CharField(
        label=_("Where these people agreed to be messaged"), required=False, max_length=255,
        help_text=_("For example: sign-up form of the October fair. Kept with every lead whose row "
                    "does not say otherwise. Left empty, those without consent in the file are "
                    "imported, and campaigns pass them over until it is on record."),
    )  # fmt: skip
    niches = forms.CharField(
        label=_("Add to niches"), required=False, max_length=255,
        help_text=_("Added to those in the file. Several with commas."),
    )  # fmt: skip
    status = forms.ChoiceField(
        label=_("Status of rows that state none"), required=False,
        choices=[("", _("prospect, or as it is")), *Lead.Status.choices],
    )  # fmt: skip

    def clean_file(self) -> UploadedFile[bytes]:
        """Refuses here what cannot be imported at all, beside the field."""
        file: UploadedFile[bytes] = self.cleaned_data["file"]
        size = file.size or 0
        if size > MAX_BYTES:
            raise ValidationError(
                _("The file has %(size)s; up to %(limit)s can be uploaded. Split it, or have it "
                  "imported on the server with import_leads."),
                params={"size": filesizeformat(size), "limit": filesizeformat(MAX_BYTES)},
            )  # fmt: skip
        try:
            layout = read_layout(file.file)  # type: ignore[arg-type]
            first = next(read_records(file.file, layout), None)  # type: ignore[arg-type]
        except UnreadableFile as error:
            raise ValidationError(str(error)) from error
        if first is None:
            said = _("The file has no rows below its headings: %(headings)s.")
            named = ", ".join(filter(None, layout.headings[:20]))
            raise ValidationError(said, params={"headings": named})
        file.seek(0)
        return file

    def clean_niches(self) -> str:
        niches: str = self.cleaned_data["niches"]
        if any(len(tag) > 100 for tag in split_tags(niches)):
            raise ValidationError(_("A niche has at most 100 characters."))
        return niches
