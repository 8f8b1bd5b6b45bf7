from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from broadcasts.claimed import IN_DOUBT, keys
from broadcasts.passes import PassQuerySet
from broadcasts.queryset import BroadcastMessageQuerySet
from broadcasts.workers import WorkerQuerySet
from leads.models import SkipReason
from leads.phones import display_phone

if TYPE_CHECKING:
    from attachments.models import Attachment
    from devices.transports.base import Inbound


class BroadcastMessage(models.Model):
    """One message to one person: the queue and the history are this one table.

    No status is ever saved: every change is a compare-and-set in `queryset.py`, `claiming.py` or
    `outcomes.py`.
    """

    class Status(models.TextChoices):
        PENDING = "pending", _("pending")
        PROCESSING = "processing", _("processing")
        QUEUED = "queued", _("queued")
        SENT = "sent", _("sent")
        FAILED = "failed", _("failed")
        UNKNOWN = "unknown", _("unknown")
        PAUSED = "paused", _("paused")
        CANCELLED = "cancelled", _("cancelled")
        EXPIRED = "expired", _("expired")
        SKIPPED = "skipped", _("skipped")

    # Nothing more will happen to these by itself; the others are open.
    CLOSED = (
        Status.SENT,
        Status.FAILED,
        Status.UNKNOWN,
        Status.CANCELLED,
        Status.EXPIRED,
        Status.SKIPPED,
    )
    OPEN = (Status.PENDING, Status.PROCESSING, Status.QUEUED, Status.PAUSED)

    class Priority(models.IntegerChoices):
        """Lanes: the smaller leaves first, so a campaign of hours does not hold up a drip.

        To people whom the device has not talked with yet messages have lanes of their own: where
        it may write to no more of them today, the claim steps over these. So has what was refused
        for now, and waited: its turn had come, and whatever was queued since stands behind it.
        """

        TEST = 0, _("test")
        SEQUENCE_AGAIN = 8, _("sequence, tried again")
        SEQUENCE_AGAIN_FIRST = 9, _("sequence, first contact, tried again")
        SEQUENCE = 10, _("sequence")
        SEQUENCE_FIRST = 11, _("sequence, first contact")
        CAMPAIGN_AGAIN = 18, _("campaign, tried again")
        CAMPAIGN_AGAIN_FIRST = 19, _("campaign, first contact, tried again")
        CAMPAIGN = 20, _("campaign")
        CAMPAIGN_FIRST = 21, _("campaign, first contact")

    FIRST_CONTACTS = (
        Priority.SEQUENCE_AGAIN_FIRST, Priority.SEQUENCE_FIRST,
        Priority.CAMPAIGN_AGAIN_FIRST, Priority.CAMPAIGN_FIRST,
    )  # fmt: skip

    device = models.ForeignKey(
        "devices.Device",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="messages",
        db_index=False,  # idx_broadcast_receipt begins with it
        verbose_name=_("device"),
    )
    lead = models.ForeignKey(
        "leads.Lead",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="messages",
        verbose_name=_("lead"),
    )
    campaign = models.ForeignKey(
        "campaigns.Campaign",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="messages",
        db_index=False,  # unique_campaign_message begins with it
        verbose_name=_("campaign"),
    )
    sequence = models.ForeignKey(
        "sequences.Sequence",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="messages",
        verbose_name=_("sequence"),
    )
    sequence_step = models.ForeignKey(
        "sequences.SequenceStep",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="messages",
        db_column="sequence_stepid",
        db_index=False,  # unique_sequence_message begins with it
        verbose_name=_("step"),
    )
    recipient_phone = models.CharField(_("phone"), max_length=15)
    recipient_name = models.CharField(_("name"), max_length=150, blank=True)
    body = models.TextField(_("text"), blank=True)
    # A column and no more, in a table of millions: see Attachment.is_carried.
    attachment = models.ForeignKey(
        "attachments.Attachment",
        on_delete=models.DO_NOTHING,
        null=True,
        blank=True,
        related_name="+",
        db_constraint=False,
        db_index=False,
        verbose_name=_("attachment"),
    )
    priority = models.PositiveSmallIntegerField(
        _("lane"), choices=Priority.choices, default=Priority.CAMPAIGN
    )
    status = models.CharField(
        _("status"), max_length=10, choices=Status.choices, default=Status.PENDING
    )
    skip_reason = models.CharField(
        _("left out because"), max_length=20, choices=SkipReason.choices, blank=True
    )
    # A campaign may ask for longer pauses than its devices; 0 asks for nothing.
    min_delay_seconds = models.PositiveSmallIntegerField(_("shortest pause"), default=0)
    max_delay_seconds = models.PositiveSmallIntegerField(_("longest pause"), default=0)

    scheduled_at = models.DateTimeField(_("scheduled"))
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    processing_worker_id = models.CharField(
        _("claimed by"), max_length=100, null=True, blank=True, editable=False
    )
    lease_epoch = models.PositiveBigIntegerField(null=True, blank=True, editable=False)
    processing_started_at = models.DateTimeField(_("claimed"), null=True, blank=True)
    queued_at = models.DateTimeField(_("handed over"), null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    # How often a person sent it on its way again; `attempts` counts from the last of them.
    restarts = models.PositiveSmallIntegerField(_("sent on its way again"), default=0, db_default=0)

    sent_at = models.DateTimeField(_("sent"), null=True, blank=True)
    delivered_at = models.DateTimeField(_("delivered"), null=True, blank=True)
    read_at = models.DateTimeField(_("read"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)
    provider_message_id = models.CharField(_("WhatsApp id"), max_length=64, null=True, blank=True)
    error_code = models.CharField(_("error code"), max_length=40, blank=True)
    error_message = models.CharField(_("error"), max_length=255, blank=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    objects = BroadcastMessageQuerySet.as_manager()

    class Meta:
        db_table = "broadcast_messages"
        ordering = ["-pk"]
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        permissions = [("settle_broadcastmessage", "Can settle, retry and reschedule messages")]
        constraints = [
            # Plain keys over nullable columns: NULLs are distinct, and MySQL has no partial
            # indexes. No device in them: one person gets it once, whatever device sends it.
            models.UniqueConstraint(
                fields=["campaign", "recipient_phone"], name="unique_campaign_message"
            ),
            models.UniqueConstraint(
                fields=["sequence_step", "recipient_phone"], name="unique_sequence_message"
            ),
        ]
        indexes = [
            # The claim reads its head straight off this one.
            models.Index(
                fields=["status", "device", "priority", "scheduled_at"],
                name="idx_broadcast_optimize",
            ),
            models.Index(fields=["device", "provider_message_id"], name="idx_broadcast_receipt"),
            models.Index(fields=["campaign", "status"], name="idx_broadcast_campaign"),
            models.Index(fields=["finished_at", "status"], name="idx_broadcast_finished"),
        ]

    def __str__(self) -> str:
        return f"{display_phone(self.recipient_phone)} · {self.get_status_display()}"

    @property
    def display_phone(self) -> str:
        return display_phone(self.recipient_phone)

    @property
    def carried(self) -> Attachment | None:
        """The file that it brings; none where it was left out or cancelled before it was written,
        which is when it gets its device."""
        return self.attachment if self.device_id else None

    @property
    def key(self) -> str:
        """What the transport is given to recognise this message by."""
        return self.keys[-1]

    @property
    def waits_for_other_number(self) -> bool:
        """Whether it is not known yet what became of the same message to another number of this
        person: until then it is put back whenever its turn comes (`claimed.refuse`)."""
        if not (self.lead and self.lead.person_id and (self.campaign_id or self.sequence_step_id)):
            return False
        others = BroadcastMessage.objects.filter(
            lead__person=self.lead.person_id,
            campaign=self.campaign_id,
            sequence_step=self.sequence_step_id,
            status__in=IN_DOUBT,
        )
        return others.exclude(lead=self.lead_id).exists()

    @property
    def keys(self) -> list[str]:
        """The key of each of its starts, the present one last."""
        return keys(self.pk, self.restarts)


class Attempt(models.Model):
    """What became of a message before a person decided otherwise, and who that was.

    Written together with the decision, by `queryset.py`. The message itself starts over: its
    unique keys, one row for one person, hold through every retry.
    """

    class Decision(models.TextChoices):
        RETRIED = "retried", _("tried again")
        RESCHEDULED = "rescheduled", _("rescheduled")
        SENT_AGAIN = "sent_again", _("did not arrive: sent again")
        ARRIVED = "arrived", _("it arrived")
        NOT_ARRIVED = "not_arrived", _("did not arrive: left at that")

    message = models.ForeignKey(
        BroadcastMessage,
        on_delete=models.CASCADE,
        related_name="history",
        db_index=False,  # unique_message_attempt begins with it
        verbose_name=_("message"),
    )
    number = models.PositiveSmallIntegerField(_("number"))
    device = models.ForeignKey(
        "devices.Device",
        on_delete=models.SET_NULL,
        null=True,
        related_name="+",
        verbose_name=_("device"),
    )
    status = models.CharField(_("ended as"), max_length=10, choices=BroadcastMessage.Status.choices)
    attempts = models.PositiveSmallIntegerField(_("attempts"))
    error_code = models.CharField(_("error code"), max_length=40, blank=True)
    error_message = models.CharField(_("error"), max_length=255, blank=True)
    provider_message_id = models.CharField(_("WhatsApp id"), max_length=64, null=True, blank=True)
    queued_at = models.DateTimeField(_("handed over"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)
    decision = models.CharField(_("then"), max_length=12, choices=Decision.choices)
    decided_at = models.DateTimeField(_("decided"))
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("by"),
    )

    class Meta:
        db_table = "broadcast_attempts"
        ordering = ["number"]
        default_permissions = ()  # who may see the message may see this
        verbose_name = _("earlier attempt")
        verbose_name_plural = _("earlier attempts")
        constraints = [
            models.UniqueConstraint(fields=["message", "number"], name="unique_message_attempt")
        ]

    def __str__(self) -> str:
        return f"{self.number}. {self.get_status_display()}: {self.get_decision_display()}"

    @classmethod
    def of(cls, message: BroadcastMessage, decision: str, decided_by_id: int | None) -> Attempt:
        """Returns the line of history for what this message has just ended as."""
        copied = (
            "device_id", "status", "attempts", "error_code", "error_message",
            "provider_message_id", "queued_at", "finished_at",
        )  # fmt: skip
        return cls(
            message=message,
            number=message.restarts + 1,
            decision=decision,
            decided_at=Now(),
            decided_by_id=decided_by_id,
            **{name: getattr(message, name) for name in copied},
        )


class InboundManager(models.Manager["InboundMessage"]):
    def get_queryset(self) -> models.QuerySet[InboundMessage]:
        return super().get_queryset().select_related("device")  # a lead's page names it


class InboundMessage(models.Model):
    """What a lead wrote to one of our devices. Goes with the lead; of others nothing is kept, as
    the account may be somebody's own."""

    lead = models.ForeignKey(
        "leads.Lead", on_delete=models.CASCADE, related_name="replies", verbose_name=_("lead")
    )
    device = models.ForeignKey(
        "devices.Device", on_delete=models.CASCADE, related_name="+", db_index=False,
        verbose_name=_("device"),
    )  # fmt: skip
    body = models.TextField(_("text"), blank=True)
    provider_message_id = models.CharField(_("WhatsApp id"), max_length=64, null=True)
    received_at = models.DateTimeField(_("received"))

    objects = InboundManager()

    class Meta:
        db_table = "inbound_messages"
        ordering = ["-received_at", "-pk"]
        default_permissions = ()  # who may see messages may see these
        verbose_name = _("reply")
        verbose_name_plural = _("replies")
        constraints = [
            # WhatsApp hands out again what was not confirmed before a crash.
            models.UniqueConstraint(
                fields=["device", "provider_message_id", "lead"], name="unique_inbound_message"
            )
        ]

    def __str__(self) -> str:
        return self.body[:40]

    @classmethod
    def keep(cls, lead_id: int, device_id: int, reply: Inbound) -> None:
        """Writes a reply down, once. Raises IntegrityError where device or lead are gone."""
        values = {"body": reply.body, "received_at": reply.at}
        told = {"lead_id": lead_id, "device_id": device_id}
        if name := reply.provider_message_id[:64]:
            cls.objects.get_or_create(**told, provider_message_id=name, defaults=values)
        else:
            cls.objects.create(**told, **values)


class Worker(models.Model):
    """A broadcaster process. Its heartbeat, by the database's clock, says that it lives."""

    id = models.CharField(_("broadcaster"), primary_key=True, max_length=64)
    hostname = models.CharField(_("host"), max_length=255)
    pid = models.PositiveIntegerField(_("process"))
    devices = models.PositiveIntegerField(_("devices"), default=0)
    # By which the devices are shared; for a broadcaster of an older version, its default.
    capacity = models.PositiveIntegerField(_("at most"), default=200, db_default=200)
    can_pair = models.BooleanField(_("pairs phones"), default=False, db_default=False)
    started_at = models.DateTimeField(_("started"))
    heartbeat_at = models.DateTimeField(_("heartbeat"), db_index=True)
    stopped_at = models.DateTimeField(_("stopped"), null=True, blank=True)

    objects = WorkerQuerySet.as_manager()

    class Meta:
        db_table = "broadcast_workers"
        ordering = ["-heartbeat_at"]
        verbose_name = _("broadcaster")
        verbose_name_plural = _("broadcasters")

    def __str__(self) -> str:
        return self.id


class Pass(models.Model):
    """When one of the scheduler's tasks last ended well, by the database's clock."""

    task = models.CharField(primary_key=True, max_length=100)
    ended_at = models.DateTimeField()

    objects = PassQuerySet.as_manager()

    class Meta:
        db_table = "scheduler_passes"
