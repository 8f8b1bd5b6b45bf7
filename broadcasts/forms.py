from __future__ import annotations

from datetime import date
from typing import Any

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from broadcasts.models import BroadcastMessage
from broadcasts.queryset import BroadcastMessageQuerySet
from broadcasts.reports import day_bounds, repeated
from leads.models import Lead
from leads.paging import key_in

OFFERED = 50
_ORIGINS = ("campaign", "sequence", "device")
# Beside the statuses, what figures count that link here.
_FIGURES = [
    ("working", _("being sent")),
    ("remaining", _("remaining")),
    ("stuck", _("stuck")),
    ("tried", _("sent or failed")),
    ("repeated", _("same text twice in a day")),
]


class MessageFilterForm(forms.Form):
    """What the list of messages can be narrowed to; every field may be empty."""

    q = forms.CharField(
        label=_("Number or name"), required=False, max_length=150,
        widget=forms.TextInput(attrs={"type": "search"}),
    )  # fmt: skip
    status = forms.ChoiceField(
        label=_("Status"), required=False,
        choices=[
            ("", _("all")),
            *BroadcastMessage.Status.choices,
            *_FIGURES,
        ],
    )  # fmt: skip
    day = forms.DateField(
        label=_("Ended on"), required=False, widget=forms.DateInput(attrs={"type": "date"}),
        # Where a calendar ends, no day has both its bounds.
        validators=[MinValueValidator(date(2000, 1, 1)), MaxValueValidator(date(2999, 12, 31))],
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # From the message's own columns: the queue does not know campaigns and sequences.
        for name in _ORIGINS:
            column = BroadcastMessage._meta.get_field(name)
            field = column.formfield(required=False, empty_label=_("all"))  # type: ignore[union-attr]
            assert isinstance(field, forms.ModelChoiceField)
            assert field.queryset is not None
            # The newest ones and the chosen one: a list of thousands is no help.
            choices = field.queryset.order_by("-pk").values_list("pk", flat=True)[:OFFERED]
            chosen = key_in(self.data, name)
            offered = [*choices, *([] if chosen is None else [chosen])]
            field.queryset = field.queryset.filter(pk__in=offered)
            self.fields[name] = field

    def messages(self) -> BroadcastMessageQuerySet:
        """The messages that the filled-in fields leave; a value that is not offered is ignored."""
        self.is_valid()
        chosen = {name: value for name, value in self.cleaned_data.items() if value}
        q = chosen.pop("q", "")
        status, day = chosen.pop("status", ""), chosen.pop("day", None)
        found = BroadcastMessage.objects.filter(**chosen)
        match status:
            case "working":
                found = found.filter(status__in=["processing", "queued"])
            case "remaining":
                found = found.open()
            case "stuck":
                found = found.stuck()
            case "tried":
                found = found.filter(status__in=["sent", "failed"])
            case "repeated":
                day = day or timezone.localdate()
                found = found.filter(pk__in=repeated(day).values("pk"))
            case str() if status:
                found = found.filter(status=status)
        if day:
            starts_at, ends_at = day_bounds(day)
            found = found.filter(finished_at__gte=starts_at, finished_at__lt=ends_at)
        return found.filter(_to(q)) if q else found


def _to(text: str) -> Q:
    """Messages to the leads that a search finds, by the leads' indexes: the queue has none for it.

    A lead that was deleted left its messages behind; they are looked for only by a whole number.
    """
    leads = Lead.objects.search(text)
    digits = "".join(filter(str.isdigit, text))
    if len(digits) >= 8 and not leads.exists():
        return Q(recipient_phone=digits)
    return Q(lead__in=leads.order_by().values("pk"))
