from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from broadcasts.rendering import check_message, validate_body
from devices.models import Device
from devices.queryset import DeviceQuerySet
from leads.models import Lead, LeadQuerySet
from sequences.queryset import SequenceContactQuerySet, SequenceQuerySet

LONGEST_DELAY = MaxValueValidator(365 * 86_400, _("A step waits for a year at most."))


class Sequence(models.Model):
    """A drip: its steps go one after the other to every lead that carries its trigger."""

    class Status(models.TextChoices):
        DRAFT = "draft", _("draft")
        ACTIVE = "active", _("active")
        PAUSED = "paused", _("paused")

    name = models.CharField(_("name"), max_length=150)
    description = models.TextField(_("description"), blank=True)
    trigger = models.ForeignKey(
        "leads.Trigger", on_delete=models.PROTECT, related_name="sequences",
        verbose_name=_("trigger"), help_text=_("Leads that carry it are enrolled."),
    )  # fmt: skip
    devices = models.ManyToManyField(
        "devices.Device", blank=True, related_name="sequences", db_table="sequence_devices",
        verbose_name=_("devices"), help_text=_("None chosen: every device that may send."),
    )  # fmt: skip
    # "None chosen: all" as somebody said it: deleting the one device that was chosen must not widen
    # it to every device.
    from_all_devices = models.BooleanField(default=True, db_default=True, editable=False)
    status = models.CharField(
        _("status"), max_length=10, choices=Status.choices, default=Status.DRAFT, db_index=True
    )
    paused_at = models.DateTimeField(null=True, blank=True, editable=False)
    resumed_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    objects = SequenceQuerySet.as_manager()

    class Meta:
        db_table = "sequences"
        ordering = ["name"]
        verbose_name = _("sequence")
        verbose_name_plural = _("sequences")

    def __str__(self) -> str:
        return self.name

    @property
    def is_active(self) -> bool:
        return self.status == self.Status.ACTIVE

    def usable_devices(self) -> DeviceQuerySet:
        """The devices chosen, or all if none was, as far as they may be given messages."""
        return Device.objects.usable_of(self.devices.all(), or_all=self.from_all_devices)

    @property
    def has_lost_its_devices(self) -> bool:
        """Whether devices were chosen for it, none of which exists any more."""
        mine = Device.objects.kept().filter(sequences=self)
        return not (self.from_all_devices or mine.exists())

    def devices_instead(self) -> DeviceQuerySet:
        """The devices for those of its messages whose device was deleted."""
        chosen, or_all = self.devices.all(), self.from_all_devices
        return Device.objects.instead_of_deleted(chosen, or_all=or_all)

    def newcomers(self) -> LeadQuerySet:
        """Leads that carry its trigger and never were in it: who is enrolled next."""
        known = SequenceContact.objects.filter(sequence=self.pk, lead=OuterRef("pk"))
        return Lead.objects.filter(~Exists(known), triggers=self.trigger_id)

    def activate(self) -> bool:
        """Lets it enrol and send. False: it is active already, or has no step to send, or another
        trigger than when it was read, of whose leads nobody was told."""
        if not self.steps.exists():
            return False
        inactive = [self.Status.DRAFT, self.Status.PAUSED]
        return self._change(inactive, self.Status.ACTIVE, trigger=self.trigger_id)

    def pause(self) -> bool:
        """Stops it at once: nobody is enrolled or sent on, and what waits is held."""
        return self._change([self.Status.ACTIVE], self.Status.PAUSED)

    def settle_messages(self) -> int:
        """Moves its messages where its state says they belong; returns how many it moved."""
        self.refresh_from_db()
        state = Q(Exists(Sequence.objects.filter(pk=self.pk, status=self.status)))
        if self.status != self.Status.ACTIVE:
            return self.messages.hold(state)
        paused_for = timedelta()
        if self.resumed_at and self.paused_at:
            paused_for = max(self.resumed_at - self.paused_at, timedelta())
        return self.messages.unhold(state, paused_for=paused_for)

    def _change(
        self, expected: list[Sequence.Status], status: Sequence.Status, **as_read: Any
    ) -> bool:
        moment = "resumed_at" if status == self.Status.ACTIVE else "paused_at"
        changed = Sequence.objects.filter(pk=self.pk, status__in=expected, **as_read).update(
            status=status, **{moment: Now()}
        )
        self.settle_messages()
        return bool(changed)


class SequenceStep(models.Model):
    """One message of a sequence, and how long after the one before it goes out."""

    sequence = models.ForeignKey(
        Sequence, on_delete=models.CASCADE, related_name="steps", verbose_name=_("sequence")
    )
    position = models.PositiveSmallIntegerField(_("position"))
    delay_seconds = models.PositiveIntegerField(
        _("delay"), default=86_400, validators=[LONGEST_DELAY],
        help_text=_("Seconds after the step before it; the first, after enrolment."),
    )  # fmt: skip
    # Empty where a file says it all.
    message = models.TextField(
        _("message"), max_length=4096, blank=True, validators=[validate_body]
    )
    attachment = models.ForeignKey(
        "attachments.Attachment", on_delete=models.PROTECT, null=True, blank=True,
        related_name="steps", verbose_name=_("picture, video or document"),
    )  # fmt: skip

    class Meta:
        db_table = "sequence_steps"
        ordering = ["sequence", "position"]
        verbose_name = _("step")
        verbose_name_plural = _("steps")
        constraints = [
            models.UniqueConstraint(
                fields=["sequence", "position"],
                name="unique_step_position",
                violation_error_message=_("Two steps have the same position."),
            )
        ]

    def __str__(self) -> str:
        return f"{self.sequence} · {self.position}"

    def clean(self) -> None:
        check_message(self.message, self.attachment)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Deletes the step; who waits for it waits for the one after it instead."""
        after = SequenceStep.objects.filter(
            sequence=self.sequence_id, position__gt=self.position
        ).first()
        SequenceContact.objects.filter(next_step=self.pk).update(next_step=after)
        return super().delete(*args, **kwargs)


class SequenceContact(models.Model):
    """One lead's progress through one sequence."""

    class Status(models.TextChoices):
        ACTIVE = "active", _("active")
        COMPLETED = "completed", _("completed")
        STOPPED = "stopped", _("stopped")

    sequence = models.ForeignKey(
        Sequence, on_delete=models.CASCADE, related_name="contacts", db_index=False,
        verbose_name=_("sequence"),
    )  # fmt: skip
    lead = models.ForeignKey(
        "leads.Lead", on_delete=models.CASCADE, related_name="sequence_contacts",
        verbose_name=_("lead"),
    )  # fmt: skip
    status = models.CharField(
        _("status"), max_length=10, choices=Status.choices, default=Status.ACTIVE
    )
    # What comes next and when. A step is only ever created when it is due, so editing or pausing
    # a sequence has nothing to undo.
    next_step = models.ForeignKey(
        SequenceStep, on_delete=models.SET_NULL, null=True, blank=True,
        related_name="+", verbose_name=_("next step"),
    )  # fmt: skip
    next_due_at = models.DateTimeField(_("next due"), null=True, blank=True)
    stop_reason = models.CharField(_("stopped because"), max_length=40, blank=True)
    enrolled_at = models.DateTimeField(_("enrolled"), auto_now_add=True)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)

    objects = SequenceContactQuerySet.as_manager()

    class Meta:
        db_table = "sequence_contacts"
        ordering = ["-pk"]
        verbose_name = _("contact")
        verbose_name_plural = _("contacts")
        constraints = [
            models.UniqueConstraint(fields=["sequence", "lead"], name="unique_sequence_contact")
        ]
        # What a pass takes, and all that a sequence's page counts, without a look at the rows.
        indexes = [
            models.Index(fields=["sequence", "status", "next_due_at"], name="idx_contact_state")
        ]

    def __str__(self) -> str:
        return f"{self.lead} · {self.sequence}"
