"""The steps of a sequence as rows of its form."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Max
from django.utils.functional import cached_property
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from attachments.forms import AttachmentField
from broadcasts.rendering import BodyField, MessageForm
from sequences.models import LONGEST_DELAY, Sequence, SequenceStep

UNITS = (
    (86_400, gettext_lazy("days")),
    (3600, gettext_lazy("hours")),
    (60, gettext_lazy("minutes")),
    (1, gettext_lazy("seconds")),
)
# While steps change places each needs a position that no other has.
_ASIDE = 16_000


class StepForm(MessageForm):
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
            try:
                LONGEST_DELAY(self.instance.delay_seconds)
            except ValidationError as error:
                self.add_error("delay", error)
        return data


if TYPE_CHECKING:
    _InlineFormSet = forms.BaseInlineFormSet[SequenceStep, Sequence, StepForm]
else:
    _InlineFormSet = forms.BaseInlineFormSet


class PositionsFormSet(_InlineFormSet):
    """Says at each step which others have its position, by their number on the page."""

    def written(self) -> list[tuple[int, Any]]:
        """The forms of the steps as they would be, with their numbers on the page: without empty
        rows and those to be deleted."""
        return [
            (number, form)
            for number, form in enumerate(self.forms, start=1)
            if (form.instance.pk or form.has_changed()) and not self._should_delete_form(form)  # type: ignore[attr-defined]
        ]

    def validate_unique(self) -> None:
        by_position = defaultdict(list)
        for number, form in self.written():
            by_position[form.cleaned_data.get("position")].append((number, form))
        by_position.pop(None, None)  # nothing was entered, or nonsense: said there already
        for position, rows in by_position.items():
            for number, form in rows if len(rows) > 1 else ():
                others = [str(other) for other, _form in rows if other != number]
                form.add_error("position", _shared(position, others))
        # By somebody else, or by the first of two clicks.
        shown = [form.instance.pk for form in self.forms if form.instance.pk]
        added = SequenceStep.objects.filter(sequence=self.instance.pk, position__in=by_position)
        for step in added.exclude(pk__in=shown):
            for _number, form in by_position[step.position]:
                form.add_error("position", _taken(step.position))


class BaseStepFormSet(PositionsFormSet):
    def add_fields(self, form: StepForm, index: int | None) -> None:
        super().add_fields(form, index)
        if not form.instance.pk and index is not None:
            position = self._last_position + 1 + index - self.initial_form_count()
            form.initial["position"] = position
            if position == 1:  # the first one is mostly wanted at once
                form.initial["delay"], form.initial["unit"] = 0, 60

    def first_step(self) -> SequenceStep:
        """The one that would be sent first, of valid forms."""
        steps: list[SequenceStep] = [form.instance for _number, form in self.written()]
        return min(steps, key=lambda step: step.position)

    @cached_property
    def _last_position(self) -> int:
        last = self.get_queryset().aggregate(last=Max("position"))["last"]
        return last or 0

    def clean(self) -> None:
        super().clean()
        gone = [form for form in self.forms if self._should_delete_form(form)]  # type: ignore[attr-defined]
        received = [form for form in gone if form.received]
        for form in received:
            form.add_error(None, _("People have received this step, so it cannot be deleted."))
        if received:
            raise ValidationError(_("A step was to be deleted that people have received."))
        if not self.written():
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


def step_formset(extra: int) -> type[BaseStepFormSet]:
    """Returns the formset of a sequence's steps with this many empty ones at its end."""
    return forms.inlineformset_factory(  # type: ignore[return-value]
        Sequence, SequenceStep, form=StepForm, formset=BaseStepFormSet, extra=extra, max_num=100
    )


def _shared(position: int, others: list[str]) -> ValidationError:
    said = ngettext(
        "Step %(others)s on this page has position %(position)s as well. Give each its own.",
        "Steps %(others)s on this page have position %(position)s as well. Give each its own.",
        len(others),
    )
    return ValidationError(said, params={"others": ", ".join(others), "position": position})


def _taken(position: int) -> ValidationError:
    said = _("Position %(position)s is taken: a step was added there meanwhile. Choose another, or "
             "look at the sequence first.")  # fmt: skip
    return ValidationError(said, params={"position": position})
