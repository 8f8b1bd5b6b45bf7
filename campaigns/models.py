from __future__ import annotations

from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _

from broadcasts.rendering import validate_body
from campaigns.queryset import CampaignQuerySet
from devices.models import default_timezone, validate_timezone
from leads.models import Lead


class Campaign(models.Model):
    """One message to an audience at a time."""

    class Status(models.TextChoices):
        DRAFT = "draft", _("draft")
        SCHEDULED = "scheduled", _("scheduled")
        QUEUING = "queuing", _("queuing")
        SENDING = "sending", _("sending")
        PAUSED = "paused", _("paused")
        FINISHED = "finished", _("finished")
        CANCELLED = "cancelled", _("cancelled")

    title = models.CharField(_("title"), max_length=150)
    message = models.TextField(
        _("message"),
        max_length=4096,
        validators=[validate_body],
        help_text=_("{name}, {first_name}, {phone} and {niche} are filled in; {name|there} says "
                    "“there” where no name is known. *bold* _italic_ ~struck~"),
    )  # fmt: skip
    niches = models.ManyToManyField(
        "leads.Niche", blank=True, related_name="campaigns", db_table="campaign_niches",
        verbose_name=_("niches"), help_text=_("Leads in any of these. None chosen: all leads."),
    )  # fmt: skip
    target_status = models.CharField(
        _("lead status"), max_length=10, choices=Lead.Status.choices, blank=True,
        help_text=_("Empty: prospects and customers."),
    )  # fmt: skip
    devices = models.ManyToManyField(
        "devices.Device", blank=True, related_name="campaigns", db_table="campaign_devices",
        verbose_name=_("devices"), help_text=_("None chosen: every device that may send."),
    )  # fmt: skip
    status = models.CharField(
        _("status"), max_length=10, choices=Status.choices, default=Status.DRAFT, db_index=True
    )
    scheduled_at = models.DateTimeField(_("scheduled"), null=True, blank=True)
    timezone = models.CharField(
        _("time zone"), max_length=64, default=default_timezone, validators=[validate_timezone]
    )
    min_delay_seconds = models.PositiveSmallIntegerField(
        _("shortest pause"), default=0,
        help_text=_("Seconds. A campaign may ask for longer pauses than its devices, not shorter."),
    )  # fmt: skip
    max_delay_seconds = models.PositiveSmallIntegerField(_("longest pause"), default=0)

    # Fan-out: the audience is frozen at its start, and each chunk commits how far it came.
    audience_max_lead_id = models.PositiveBigIntegerField(null=True, blank=True, editable=False)
    checkpoint_lead_id = models.PositiveBigIntegerField(default=0, editable=False)
    audience_size = models.PositiveIntegerField(_("audience"), null=True, blank=True)
    fanned_out_at = models.DateTimeField(_("queued"), null=True, blank=True)

    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    paused_at = models.DateTimeField(_("paused"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True,
        related_name="campaigns", verbose_name=_("created by"),
    )  # fmt: skip
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    objects = CampaignQuerySet.as_manager()

    class Meta:
        db_table = "campaigns"
        ordering = ["-pk"]
        verbose_name = _("campaign")
        verbose_name_plural = _("campaigns")
        permissions = [("send_campaign", "Can schedule, pause, resume and cancel campaigns")]

    def __str__(self) -> str:
        return self.title

    def clean(self) -> None:
        if (self.min_delay_seconds or 0) > (self.max_delay_seconds or 0):
            raise ValidationError(
                {"max_delay_seconds": _("The longest pause is shorter than the shortest.")}
            )

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @property
    def is_editable(self) -> bool:
        """Once queued, people are getting it: what they read and who they are is settled."""
        return self.status == self.Status.DRAFT
