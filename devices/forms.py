from __future__ import annotations

from typing import TYPE_CHECKING, Any

import phonenumbers
from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from devices.models import Device
from devices.pairing import NOTICE_VERSION, Pairing
from devices.transports import PAIRED
from devices.transports.neonize.environment import missing

if TYPE_CHECKING:  # Django's own form classes take no type in brackets
    from django.contrib.auth.models import User

    _DeviceForm = forms.ModelForm[Device]
else:
    _DeviceForm = forms.ModelForm

# Whose number nobody writes: a paired account has that of its phone, a simulated one has none. One
# that was made up could be a real account's, which could not be added then.
WITHOUT_NUMBER = PAIRED | {Device.SIMULATOR}
NO_CAP = gettext_lazy(
    "A cap is 1 or more. Leave it empty for no cap; to send nothing at all, switch the device off."
)
NO_PAUSE = gettext_lazy("A pause is 1 second or more: nobody writes without one.")
# What the fields refuse below 1, in which words.
AT_LEAST_ONE = {
    "min_delay_seconds": NO_PAUSE,
    "max_delay_seconds": NO_PAUSE,
    "hourly_limit": NO_CAP,
    "daily_limit": NO_CAP,
    "first_contact_limit": NO_CAP,
}
PACE = [
    *AT_LEAST_ONE,
    "warmup_started_on",
    "sends_from",
    "sends_until",
    "timezone",
]


def phone_in(text: str) -> str:
    """Returns the number that somebody wrote, as it is stored; '' for nothing.

    Any number that exists: unlike a lead's, an account's own may be a landline's.
    """
    if not text.strip():
        return ""
    try:
        number = phonenumbers.parse(text, settings.PHONE_REGION)
    except phonenumbers.NumberParseException as error:
        raise ValidationError(
            _("This is not a phone number. Write it like +60 12-345 6789.")
        ) from error
    if not phonenumbers.is_valid_number(number):
        raise ValidationError(_("There is no such number. Is it complete, with its country code?"))
    return f"{number.country_code}{phonenumbers.national_significant_number(number)}"


class DeviceForm(_DeviceForm):
    """A device's name and pace: what an operator may change of it at any time."""

    class Meta:
        model = Device
        fields = ("name", *PACE)
        widgets: dict[str, forms.Widget] = {
            "warmup_started_on": forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
            "sends_from": forms.TimeInput(attrs={"type": "time"}, format="%H:%M"),
            "sends_until": forms.TimeInput(attrs={"type": "time"}, format="%H:%M"),
        }
        error_messages = {
            "name": {"unique": gettext_lazy("Another device has this name.")},
        } | {name: {"min_value": words} for name, words in AT_LEAST_ONE.items()}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, words in AT_LEAST_ONE.items():
            field = self.fields[name]
            field.widget.attrs["min"] = 1
            # The model's own words come first, without these.
            field.validators = [_at_least_one(words)]
        for name, problems in self.instance.problems().items():
            if name in self.fields:
                hint = self.fields[name].help_text
                said = [hint, *problems, _("It stays like this until you change it.")]
                self.fields[name].help_text = " ".join(filter(None, map(str, said)))

    def save(self, commit: bool = True) -> Device:
        if not commit or self.instance._state.adding:
            return super().save(commit)
        # Only what the form asks: a broadcaster writes the rest of the row all the time.
        self.instance.save(update_fields=list(self.Meta.fields))
        return self.instance


def _at_least_one(words: Any) -> Any:
    def check(value: int) -> None:
        if value < 1:
            raise ValidationError(words)

    return check


class NewDeviceForm(DeviceForm):
    phone = forms.CharField(
        label=gettext_lazy("Number"), required=False, max_length=30,
        help_text=gettext_lazy("Of the account. A linked device has the number of the phone that "
                               "links it, a simulated one has none."),
        widget=forms.TextInput(attrs={"type": "tel", "autocomplete": "off"}),
        error_messages={"unique": gettext_lazy("This number is another device's.")},
    )  # fmt: skip

    class Meta(DeviceForm.Meta):
        fields = ("name", "transport", "phone", *PACE)
        widgets = DeviceForm.Meta.widgets | {"transport": forms.RadioSelect()}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # What most come for first.
        choices = sorted(self.fields["transport"].choices, key=lambda each: each[0] not in PAIRED)  # type: ignore[attr-defined]
        self.fields["transport"].choices = choices  # type: ignore[attr-defined]
        lacks = _lacks()
        works = [name for name, _label in choices if not (lacks and name in PAIRED)]
        self.initial["transport"] = works[0]
        if lacks:
            self.fields["transport"].help_text = lacks
        if WITHOUT_NUMBER.issuperset(name for name, _label in choices):
            del self.fields["phone"]

    def clean_phone(self) -> str | None:
        if self.cleaned_data.get("transport") in WITHOUT_NUMBER:
            return None  # whatever was left in there: it is not shown
        return phone_in(self.cleaned_data["phone"]) or None


def _lacks() -> str:
    """Returns why WhatsApp cannot be used from here, as far as this host can tell; '' where it can,
    or is used already: then it is other hosts that send."""
    linked = Device.objects.kept().filter(transport__in=PAIRED).exclude(session="")
    if not (problems := missing()) or linked.exists():
        return ""
    said = _("For WhatsApp something is missing on this host: %(problems)s Where broadcasters run "
             "on other hosts, only those need it.")  # fmt: skip
    return said % {"problems": " ".join(problems)}


class PairForm(forms.Form):
    method = forms.ChoiceField(
        label=gettext_lazy("How"), choices=Pairing.Method.choices, widget=forms.RadioSelect
    )
    phone = forms.CharField(
        label=gettext_lazy("Number of the phone"), required=False, max_length=30,
        help_text=gettext_lazy("For a code of 8 characters: WhatsApp makes it for this number."),
        widget=forms.TextInput(attrs={"type": "tel", "autocomplete": "off"}),
    )  # fmt: skip
    accepted = forms.BooleanField(
        label=gettext_lazy("I have read this and accept it."), required=False
    )

    def __init__(
        self, *args: Any, device: Device, by: User, last: Pairing | None = None, **kwargs: Any
    ) -> None:
        """`last` is what may be tried again, if it came to nothing."""
        super().__init__(*args, **kwargs)
        self.device = device
        last = None if last and last.state == Pairing.State.DONE else last
        phone = (last and last.phone) or device.phone
        self.initial["phone"] = f"+{phone}" if phone else ""
        self.initial["method"] = last.method if last else Pairing.Method.QR
        read = device.pairings.filter(started_by=by, notice_version=NOTICE_VERSION)
        self.accepted_before = read.first()
        if self.accepted_before:
            del self.fields["accepted"]

    def clean_phone(self) -> str:
        return phone_in(self.cleaned_data["phone"])

    def clean_accepted(self) -> bool:
        if not self.cleaned_data["accepted"]:
            raise ValidationError(_("Without this nothing is linked."))
        return True

    def clean(self) -> None:
        phone, by_code = self.cleaned_data.get("phone"), self.cleaned_data.get("method") == "code"
        if not by_code or phone is None:
            return
        if not phone:
            self.add_error("phone", _("WhatsApp makes the code for a number: write it here."))
        elif self.device.phone and phone != self.device.phone:
            text = _("This device's number is +%s. Add a device for another number.")
            self.add_error("phone", text % self.device.phone)
        elif Device.objects.filter(phone=phone).exclude(pk=self.device.pk).exists():
            self.add_error("phone", _("This number is another device's."))

    def start(self, by: User) -> Pairing:
        """Asks for the device to be linked; returns the pairing that is open for it now."""
        method = self.cleaned_data["method"]
        phone = self.cleaned_data["phone"] if method == Pairing.Method.CODE else ""
        return Pairing.start(self.device, method, phone, by)
