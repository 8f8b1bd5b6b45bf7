from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from django import forms
from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models.functions import Now
from django.forms.utils import from_current_timezone
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from attachments.forms import AttachmentField
from broadcasts.rendering import BodyField, MessageForm
from campaigns.audience import Audience
from campaigns.models import Campaign
from campaigns.preview import Preview, preview
from devices.models import Device, validate_timezone
from leads.models import Lead
from leads.versions import Outdated, Version, digest, outdated

# Who means to send later than that has mistyped the year.
FURTHEST_DAYS = 365
# As <input type="datetime-local"> writes and reads it.
LOCAL_FORMAT = "%Y-%m-%dT%H:%M"


class WallClockField(forms.DateTimeField):
    """A date and time as a clock on the wall shows it: which zone the wall is in comes apart."""

    widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format=LOCAL_FORMAT)

    def to_python(self, value: Any) -> datetime | None:
        # In UTC every time of day exists, so that only the campaign's own zone can refuse one.
        with timezone.override(UTC):
            moment = super().to_python(value)
        return moment.replace(tzinfo=None) if moment else None


class CampaignForm(MessageForm):
    """A draft: who gets it, what it says, and when. Sending it is another page's business."""

    when = forms.ChoiceField(
        label=_("Start"),
        choices=[("now", _("Now")), ("later", _("Later"))],
        widget=forms.RadioSelect,
        initial="now",
    )
    starts_at = WallClockField(label=_("Date and time"), required=False)
    attachment = AttachmentField()

    class Meta:
        model = Campaign
        fields = [
            "title", "niches", "target_status", "devices", "message", "attachment", "timezone",
            "min_delay_seconds", "max_delay_seconds",
        ]  # fmt: skip
        labels = {
            "timezone": _("Time zone"),
            "min_delay_seconds": _("Shortest pause, seconds"),
            "max_delay_seconds": _("Longest pause, seconds"),
        }
        help_texts = {
            "target_status": "",
            "min_delay_seconds": _("Longer pauses than the devices' own, never shorter."),
            "max_delay_seconds": _("0: as the devices are set."),
        }
        field_classes = {"message": BodyField}
        widgets = {
            "niches": forms.CheckboxSelectMultiple,
            "devices": forms.CheckboxSelectMultiple,
            "message": forms.Textarea(attrs={"rows": 7}),
            "timezone": forms.TextInput(attrs={"list": "zones", "autocomplete": "off"}),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        devices = Device.objects.usable()
        if self.instance.pk:  # one that was chosen and is off by now stays so, and is seen
            chosen = list(self.instance.devices.values_list("pk", flat=True))
            devices |= Device.objects.filter(pk__in=chosen)
        self.fields["devices"].queryset = devices  # type: ignore[attr-defined]
        self.fields["target_status"].choices = [  # type: ignore[attr-defined]
            ("", _("everybody")),
            *Lead.Status.choices,
        ]
        self.fields["timezone"].validators = [validate_timezone]
        # What it was is what is stored, and not what a page says that it was.
        self.fields["timezone"].show_hidden_initial = False
        for name in ("min_delay_seconds", "max_delay_seconds"):
            self.fields[name].widget.attrs["min"] = 0
        self.version = Version.posted(_version(self.instance), self.data)
        if self.instance.scheduled_at:
            local = self.instance.scheduled_at.astimezone(self.instance.zone)
            self.initial["when"] = "later"
            self.initial["starts_at"] = local.replace(tzinfo=None)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("when") == "later" and "starts_at" in cleaned:
            cleaned["scheduled_at"] = self._moment(cleaned["starts_at"], cleaned.get("timezone"))
        return cleaned

    def _moment(self, wall_clock: datetime | None, zone: str | None) -> datetime | None:
        if wall_clock is None:
            self.add_error("starts_at", _("Give a date and time, or start now."))
            return None
        if zone is None:
            return None
        try:
            with timezone.override(ZoneInfo(zone)):
                moment = from_current_timezone(wall_clock)
        except ValidationError as error:
            self.add_error("starts_at", error)
            return None
        if moment <= timezone.now():
            self.add_error("starts_at", _("This time is past. Choose a later one, or start now."))
            return None
        if moment > timezone.now() + timedelta(days=FURTHEST_DAYS):
            said = _("This is more than a year away. Choose an earlier time: is the year right?")
            self.add_error("starts_at", said)
            return None
        return moment

    def save_draft(self, user: AbstractBaseUser | AnonymousUser) -> bool:
        """Stores the draft, a new one as `user`'s. False: somebody has scheduled it meanwhile;
        or, and then the form says so, saved something else since the page was loaded.

        With the row locked, in one transaction with the audience: what is scheduled stays as it was
        when it was reviewed, and nothing is overwritten that the page has not shown.
        """
        draft = self.instance
        draft.scheduled_at = self.cleaned_data.get("scheduled_at")
        if draft.pk is None:
            draft.created_by_id = user.pk
            self.save()
            return True
        names = [*(set(self._meta.fields or ()) - {"niches", "devices"}), "scheduled_at"]
        with transaction.atomic():
            drafts = Campaign.objects.filter(pk=draft.pk, status=Campaign.Status.DRAFT)
            stored = drafts.select_for_update().first()
            if stored is None or not self._is_up_to_date(stored):
                return False
            values = {name: getattr(draft, name) for name in names}
            drafts.update(**values, updated_at=Now())
            self._save_m2m()  # type: ignore[attr-defined]  # Django's own, not in the stubs
        return True

    def _is_up_to_date(self, stored: Campaign) -> bool:
        try:
            self.version.check(_version(stored), has_changes=self.has_changed())
        except Outdated:
            self.add_error(None, outdated(reverse("campaigns:detail", args=[stored.pk])))
            return False
        return True

    def audience(self) -> Audience:
        """The audience as chosen so far, whether or not the rest of the form is right."""
        self.is_valid()
        return Audience(
            niches=list(self.cleaned_data.get("niches") or ()),
            status=self.cleaned_data.get("target_status") or "",
            devices=list(self.cleaned_data.get("devices") or ()),
        )

    def _message(self) -> str:
        """The message as it was written, also where it is refused: what is wrong stands beside."""
        if "message" in self.cleaned_data:
            return str(self.cleaned_data["message"])
        return str(self.fields["message"].to_python(self["message"].data))

    def preview(self, offset: int = 0) -> Preview:
        """What would happen with what was entered so far; nothing is stored."""
        audience = self.audience()
        values = self.cleaned_data
        return preview(
            audience,
            self._message(),
            attachment=values.get("attachment"),
            starts_at=values.get("scheduled_at"),
            min_delay_seconds=values.get("min_delay_seconds") or 0,
            max_delay_seconds=values.get("max_delay_seconds") or 0,
            zone=ZoneInfo(values.get("timezone") or settings.TIME_ZONE),
            offset=offset,
        )


class CampaignFilterForm(forms.Form):
    """The list's search and filter, from the address."""

    q = forms.CharField(
        label=_("Search"),
        required=False,
        max_length=150,
        widget=forms.TextInput(attrs={"type": "search"}),
    )
    status = forms.ChoiceField(
        label=_("State"),
        required=False,
        choices=[("", _("any state")), *Campaign.Status.choices],
        widget=forms.Select(attrs={"data-submits": True}),
    )


def _version(campaign: Campaign) -> str:
    """By which the form tells what it shows of a draft from what is stored by now."""
    if campaign._state.adding:
        return ""
    return digest(campaign.title, campaign.mark)


def zones() -> list[str]:
    """The time zones people may choose from: those named after places."""
    return sorted(name for name in available_timezones() if "/" in name and name[0].isupper())
