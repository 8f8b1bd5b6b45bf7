from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from devices.models import Device
from leads.models import Trigger
from leads.tags import fold_tag
from sequences.models import Sequence
from sequences.step_forms import BaseStepFormSet

if TYPE_CHECKING:  # Django's own form classes take no type in brackets
    _SequenceForm = forms.ModelForm[Sequence]
else:
    _SequenceForm = forms.ModelForm


class SequenceForm(_SequenceForm):
    trigger_word = forms.CharField(
        label=gettext_lazy("Trigger"), max_length=100,
        help_text=gettext_lazy("Leads that carry it are enrolled, those of today and later ones. "
                               "A new word is fine."),
        widget=forms.TextInput(attrs={"list": "triggers", "autocomplete": "off"}),
    )  # fmt: skip

    class Meta:
        model = Sequence
        fields = ("name", "description", "devices")
        widgets = {
            "devices": forms.CheckboxSelectMultiple,
            "description": forms.Textarea(attrs={"rows": 2, "class": "short"}),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        devices = Device.objects.kept()
        if self.instance.pk:
            # A deleted one stays ticked: left out, it would no longer be said that it was chosen.
            devices = (devices | self.instance.devices.all()).distinct()
        self.fields["devices"].queryset = devices  # type: ignore[attr-defined]
        if self.instance.pk:
            self.initial["trigger_word"] = self.instance.trigger.name

    @property
    def triggers(self) -> list[str]:
        """The words to choose from."""
        return list(Trigger.objects.values_list("name", flat=True)[:200])

    def clean_trigger_word(self) -> str:
        word = fold_tag(self.cleaned_data["trigger_word"])
        if "," in word or ";" in word:
            raise ValidationError(_("One word, or words without commas."))
        return word

    def save(self, commit: bool = True) -> Sequence:
        word = self.cleaned_data["trigger_word"]
        self.instance.trigger = Trigger.ensure([word])[word]
        self.instance.from_all_devices = not self.cleaned_data["devices"]
        if not commit or self.instance._state.adding:
            return super().save(commit)
        # Only what the form asks: somebody may have paused it since it was read.
        self.instance.save(
            update_fields=["name", "description", "trigger", "from_all_devices", "updated_at"]
        )
        self._save_m2m()  # type: ignore[attr-defined]  # Django's own, not in the stubs
        return self.instance


def save_with_steps(form: SequenceForm, steps: BaseStepFormSet) -> Sequence | None:
    """Saves a valid form and its valid formset, both or neither, and returns the sequence.

    None: somebody else was faster, with a step at the same position.
    """
    try:
        with transaction.atomic():
            steps.instance = form.save()
            steps.save()
    except IntegrityError:
        return None
    return steps.instance
