from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from devices.models import Device
from leads.models import Trigger
from leads.tags import fold_tag
from leads.versions import Outdated, Version, digest, outdated
from sequences.models import Sequence
from sequences.queryset import SequenceQuerySet
from sequences.standing import Newcomers, newcomers
from sequences.step_forms import BaseStepFormSet

if TYPE_CHECKING:  # Django's own form classes take no type in brackets
    _SequenceForm = forms.ModelForm[Sequence]
else:
    _SequenceForm = forms.ModelForm


class Overtaken(Exception):
    """Somebody else has changed the sequence this very moment."""


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
        self.version = Version.posted(_version(self.instance), self.data)
        devices = Device.objects.kept()
        if self.instance.pk:
            # A deleted one stays ticked: left out, it would no longer be said that it was chosen.
            devices = (devices | self.instance.devices.all()).distinct()
        self.fields["devices"].queryset = devices  # type: ignore[attr-defined]
        if self.instance.pk:
            self.initial["trigger_word"] = self.instance.trigger.name
        # As it is chosen, the page says which other sequences the word starts.
        asks = f"{reverse('sequences:others')}?besides={self.instance.pk or 0}"
        self.fields["trigger_word"].widget.attrs |= {
            "hx-get": asks, "hx-target": "#others", "hx-sync": "this:replace",
            "hx-trigger": "input changed delay:300ms, change",
        }  # fmt: skip

    @property
    def triggers(self) -> list[str]:
        """The words to choose from."""
        return list(Trigger.objects.values_list("name", flat=True)[:200])

    @property
    def others(self) -> SequenceQuerySet:
        """Other active sequences that the word starts which the page shows."""
        word = self["trigger_word"].value() or ""
        return Sequence.objects.beside(self.instance, word)

    def newcomers(self) -> Newcomers | None:
        """Whom saving the valid form enrols: None, unless the trigger of an active one changes.

        One that is not active enrols nobody before it is activated, and asks then.
        """
        trigger = Trigger.objects.filter(name=self.cleaned_data["trigger_word"]).first()
        if not trigger or trigger.pk == self.instance.trigger_id or not self.instance.is_active:
            return None
        return newcomers(Sequence(pk=self.instance.pk, trigger=trigger))

    def clean_trigger_word(self) -> str:
        word = fold_tag(self.cleaned_data["trigger_word"])
        if "," in word or ";" in word:
            raise ValidationError(_("One word, or words without commas."))
        return word

    def save(self, commit: bool = True) -> Sequence:
        """Saves what the form asks and nothing else: somebody may have paused it meanwhile.

        Raises Overtaken where another trigger would enrol people of whom nobody was told.
        """
        word = self.cleaned_data["trigger_word"]
        before, trigger = self.instance.trigger_id, Trigger.ensure([word])[word]
        self.instance.trigger = trigger
        self.instance.from_all_devices = not self.cleaned_data["devices"]
        if not commit or self.instance._state.adding:
            return super().save(commit)
        if trigger.pk != before:
            as_read = Sequence.objects.filter(
                pk=self.instance.pk, status=self.instance.status, trigger=before
            )
            if not as_read.update(trigger=trigger):
                raise Overtaken
        self.instance.save(update_fields=["name", "description", "from_all_devices", "updated_at"])
        self._save_m2m()  # type: ignore[attr-defined]  # Django's own, not in the stubs
        return self.instance


def save_with_steps(form: SequenceForm, steps: BaseStepFormSet) -> Sequence | None:
    """Saves a valid form and its valid formset, both or neither, and returns the sequence.

    None: somebody else was faster, with its state, its trigger or a step at the same position, or
    has saved it since the page was loaded. The form says so.
    """
    pk = form.instance.pk
    try:
        with transaction.atomic():
            for stored in Sequence.objects.select_for_update().filter(pk=pk):
                has_changes = form.has_changed() or steps.has_changed()
                form.version.check(_version(stored), has_changes=has_changes)
            steps.instance = form.save()
            steps.save()
    except Outdated:
        form.add_error(None, outdated(reverse("sequences:detail", args=[pk])))
        return None
    except (Overtaken, IntegrityError):
        form.add_error(None, _("Somebody changed the sequence this moment. Save it again."))
        return None
    return steps.instance


def _version(sequence: Sequence) -> str:
    """By which the form tells what it shows of a sequence from what is stored by now."""
    if sequence._state.adding:
        return ""
    steps = sequence.steps.order_by("pk").values_list(
        "pk", "position", "message", "attachment", "delay_seconds"
    )
    return digest(
        sequence.name,
        sequence.description,
        sequence.trigger_id,
        sorted(sequence.devices.values_list("pk", flat=True)),
        list(steps),
    )
