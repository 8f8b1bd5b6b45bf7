from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from broadcasts.models import BroadcastMessage
from broadcasts.queryset import BroadcastMessageQuerySet
from broadcasts.reports import day_bounds
from leads.models import Lead

OFFERED = 50
_ORIGINS = ("campaign", "sequence", "device")
# What is at a broadcaster this moment, for the figures that count both.
_WORKING = "working"


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
            (_WORKING, _("being sent")),
            *BroadcastMessage.Status.choices,
        ],
    )  # fmt: skip
    day = forms.DateField(
        label=_("Ended on"), required=False, widget=forms.DateInput(attrs={"type": "date"})
    )

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
            chosen = str(self.data.get(name, ""))
            offered = [*choices, *([int(chosen)] if chosen.isdecimal() else [])]
            field.queryset = field.queryset.filter(pk__in=offered)
            self.fields[name] = field

    def messages(self) -> BroadcastMessageQuerySet:
        """The messages that the filled-in fields leave; a value that is not offered is ignored."""
        self.is_valid()
        chosen = {name: value for name, value in self.cleaned_data.items() if value}
        q = chosen.pop("q", "")
        if chosen.get("status") == _WORKING:
            chosen["status__in"] = ["processing", "queued"]
            del chosen["status"]
        if day := chosen.pop("day", None):
            chosen["finished_at__gte"], chosen["finished_at__lt"] = day_bounds(day)
        found = BroadcastMessage.objects.filter(**chosen)
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
