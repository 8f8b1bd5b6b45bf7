from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Max
from django.utils.functional import cached_property
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from attachments.forms import AttachmentField
from broadcasts.rendering import BodyField
from devices.models import Device
from leads.models import Trigger
from leads.tags import fold_tag
from sequences.models import Sequence, SequenceStep

if TYPE_CHECKING:  # Django's own form classes take no type in brackets
    _SequenceForm = forms.ModelForm[Sequence]
    _StepForm = forms.ModelForm[SequenceStep]
else:
    _SequenceForm = _StepForm = forms.ModelForm

UNITS = (
    (86_400, gettext_lazy("days")),
    (3600, gettext_lazy("hours")),
    (60, gettext_lazy("minutes")),
    (1, gettext_lazy("seconds")),
)
_LONGEST_SECONDS = 365 * 86_400
# While steps change places each needs a position that no other has.
_ASIDE = 16_000


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


class StepForm(_StepForm):
    delay = forms.IntegerField(label=gettext_lazy("Wait"), min_value=0, initial=1)
    unit = forms.TypedChoiceField(
        label=gettext_lazy("Unit"), coerce=int, choices=UNITS[:3], initial=86_400
    )

    attachment = AttachmentField()

    class Meta:
        model = SequenceStep
        fields = ("position", "message", "attachment")
        field_classes = {"message": BodyField}
        widgets = {
            "position": forms.NumberInput(attrs={"min": 1, "max": _ASIDE - 1}),
            "message": forms.Textarea(attrs={"rows": 4}),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.received = self.instance.messages.count() if self.instance.pk else 0
        if self.instance.pk:
            seconds = self.instance.delay_seconds
            unit = next(unit for unit, _label in UNITS if seconds % unit == 0)
            self.initial["delay"], self.initial["unit"] = seconds // unit, unit
            if unit == 1:  # set by a program; people choose from minutes upwards
                self.fields["unit"].choices = UNITS  # type: ignore[attr-defined]

    def has_changed(self) -> bool:
        """An empty row of the form is no step, whatever its position and delay say."""
        if self.instance.pk:
            return super().has_changed()
        return not {"message", "attachment"}.isdisjoint(self.changed_data)

    def validate_constraints(self) -> None:
        """Left to the formset: two steps that change places are each in the other's way here."""

    def clean_position(self) -> int:
        position: int = self.cleaned_data["position"]
        if not 1 <= position < _ASIDE:
            last = {"last": _ASIDE - 1}
            raise ValidationError(_("Positions go from 1 to %(last)s."), params=last)
        return position

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        if "delay" in data and "unit" in data:
            self.instance.delay_seconds = data["delay"] * data["unit"]
            if self.instance.delay_seconds > _LONGEST_SECONDS:
                self.add_error("delay", _("A step waits for a year at most."))
        return data


if TYPE_CHECKING:
    _InlineFormSet = forms.BaseInlineFormSet[SequenceStep, Sequence, StepForm]
else:
    _InlineFormSet = forms.BaseInlineFormSet


class BaseStepFormSet(_InlineFormSet):
    def add_fields(self, form: StepForm, index: int | None) -> None:
        super().add_fields(form, index)
        if not form.instance.pk and index is not None:
            position = self._last_position + 1 + index - self.initial_form_count()
            form.initial["position"] = position
            if position == 1:  # the first one is mostly wanted at once
                form.initial["delay"], form.initial["unit"] = 0, 60

    @cached_property
    def _last_position(self) -> int:
        last = self.get_queryset().aggregate(last=Max("position"))["last"]
        return last or 0

    def clean(self) -> None:
        super().clean()
        gone = [form for form in self.forms if self._should_delete_form(form)]  # type: ignore[attr-defined]
        kept = [form for form in gone if form.received]
        for form in kept:
            form.add_error(None, _("People have received this step, so it cannot be deleted."))
        if kept:
            raise ValidationError(_("A step was to be deleted that people have received."))
        if not any(f.has_changed() or f.instance.pk for f in self.forms if f not in gone):
            raise ValidationError(_("A sequence needs at least one step."))

    @transaction.atomic
    def save(self, commit: bool = True) -> list[SequenceStep]:
        """Saves the steps. Those that change places step aside first: the position is unique."""
        moved = [form for form in self.initial_forms if "position" in form.changed_data]
        for number, form in enumerate(moved):
            SequenceStep.objects.filter(pk=form.instance.pk).update(position=_ASIDE + number)
        for form in self.deleted_forms:
            if form.instance.pk:
                form.instance.delete()
        return super().save(commit)


@transaction.atomic
def save_with_steps(form: SequenceForm, steps: BaseStepFormSet) -> Sequence:
    """Saves a valid form and its valid formset, both or neither; returns the sequence."""
    steps.instance = form.save()
    steps.save()
    return steps.instance


def step_formset(extra: int) -> type[BaseStepFormSet]:
    """Returns the formset of a sequence's steps with this many empty ones at its end."""
    return forms.inlineformset_factory(  # type: ignore[return-value]
        Sequence, SequenceStep, form=StepForm, formset=BaseStepFormSet, extra=extra, max_num=100
    )
