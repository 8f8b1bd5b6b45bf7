from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, time, timedelta
from typing import Self
from zoneinfo import ZoneInfo, available_timezones

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from devices.transports import transport_choices


def validate_timezone(name: str) -> None:
    if name not in available_timezones():
        raise ValidationError(_("Not a time zone. Write it like Asia/Kuala_Lumpur."))


def default_timezone() -> str:
    return str(settings.TIME_ZONE)


class DeviceQuerySet(models.QuerySet["Device"]):
    def usable(self) -> Self:
        """Devices that may be given messages: switched on, and not lost to WhatsApp."""
        lost = Q(status__in=[Device.Status.LOGGED_OUT, Device.Status.BANNED])
        return self.filter(enabled=True).exclude(lost & ~_block_is_over())

    def usable_of(self, chosen: Iterable[Device], *, or_all: bool) -> Self:
        """Of the devices chosen those that may be given messages; of all, if none was chosen."""
        ids = [device.pk for device in chosen]
        return self.usable() if or_all and not ids else self.usable().filter(pk__in=ids)

    def unblocked(self) -> Self:
        """Devices that WhatsApp had blocked for a time which is over."""
        return self.blocked().filter(_block_is_over())

    def blocked(self) -> Self:
        """Devices that WhatsApp lets send nothing, as far as we have heard."""
        return self.filter(status__in=Device.BLOCKED)

    def work_again(self) -> int:
        """Takes the operator's word that WhatsApp lets these send again; returns how many.

        A block without an end has no other way back: nobody connects what is logged out or banned.
        """
        return self.blocked().update(
            status=Device.Status.OFFLINE,
            status_reason="",
            status_changed_at=Now(),
            restricted_until=None,
        )

    def leased(self) -> Self:
        """Devices that a broadcaster holds right now, by the database's clock."""
        return self.filter(lease_expires_at__gt=Now()).exclude(worker_id="")

    def online(self) -> Self:
        return self.leased().filter(enabled=True, status=Device.Status.ONLINE)

    def free(self) -> Self:
        """Devices without a holder, or whose holder let the lease run out."""
        return self.filter(
            Q(worker_id="") | Q(lease_expires_at__isnull=True) | Q(lease_expires_at__lte=Now())
        )

    def held_by(self, epochs: Mapping[int, int], worker_id: str) -> Self:
        """Of the devices {id: lease epoch}, those that `worker_id` still holds in that epoch."""
        held = Q(pk__in=[])
        for epoch in set(epochs.values()):
            ids = [pk for pk, of_device in epochs.items() if of_device == epoch]
            held |= Q(pk__in=sorted(ids), lease_epoch=epoch)
        return self.filter(held, worker_id=worker_id)

    def take_leases(self, ids: Iterable[int], worker_id: str) -> dict[int, int]:
        """Leases the free ones of these devices, of which `worker_id` works none yet; returns
        {device id: lease epoch} of those that are its own now.

        One compare-and-set per row, so of two broadcasters that want a device one gets it. The
        epoch grows with every change of hands: it fences whatever the former holder still does.
        Repeated after a lost answer it returns what the first try took.
        """
        ids = sorted(ids)
        self.filter(pk__in=ids).free().update(
            worker_id=worker_id,
            lease_epoch=F("lease_epoch") + 1,
            lease_expires_at=Now() + timedelta(seconds=settings.LEASE_SECONDS),
        )
        return dict(self.filter(pk__in=ids, worker_id=worker_id).values_list("pk", "lease_epoch"))

    def renew_leases(self, epochs: Mapping[int, int], worker_id: str) -> set[int]:
        """Extends the leases {device id: epoch} by LEASE_SECONDS; returns the ids still held."""
        held = self.held_by(epochs, worker_id)
        held.update(lease_expires_at=Now() + timedelta(seconds=settings.LEASE_SECONDS))
        return set(held.values_list("pk", flat=True))

    def release_leases(self, epochs: Mapping[int, int], worker_id: str) -> int:
        """Gives leases back; returns how many were still held."""
        return self.held_by(epochs, worker_id).update(
            worker_id="", lease_expires_at=None, status=_offline_if_online()
        )

    def put_off(self, until: Mapping[int, datetime]) -> int:
        """Lets these devices {id: moment} send nothing before then; returns how many."""
        at = Case(*(When(pk=pk, then=Value(until[pk])) for pk in sorted(until)))
        return self.filter(pk__in=sorted(until)).update(next_send_at=at)

    def change_status(
        self, status: Device.Status, *, reason: str = "", until: datetime | None = None
    ) -> int:
        """Records what WhatsApp says of these accounts; returns for how many that is news.

        What WhatsApp blocked is not brought back by a connection that begins or ends, only by
        the end of the time it was blocked for, or by pairing again.
        """
        reason = reason[:255]
        same = Q(status=status, status_reason=reason)
        same &= Q(restricted_until=until) if until else Q(restricted_until__isnull=True)
        changed = self.filter(~same)
        if status in (Device.Status.OFFLINE, Device.Status.ONLINE):
            changed = changed.exclude(Q(status__in=Device.BLOCKED) & ~_block_is_over())
        return changed.update(
            status=status,
            status_reason=reason,
            status_changed_at=Now(),
            restricted_until=until,
        )


def _block_is_over() -> Q:
    return Q(restricted_until__isnull=False, restricted_until__lte=Now())


def _offline_if_online() -> Case:
    return Case(When(status="online", then=Value("offline")), default=F("status"))


class Device(models.Model):
    """One WhatsApp account that sends, with its pace and its broadcaster's lease."""

    SIMULATOR = "simulator"

    class Status(models.TextChoices):
        OFFLINE = "offline", _("offline")
        ONLINE = "online", _("online")
        RESTRICTED = "restricted", _("restricted")
        LOGGED_OUT = "logged_out", _("logged out")
        BANNED = "banned", _("banned")

    BLOCKED = (Status.RESTRICTED, Status.LOGGED_OUT, Status.BANNED)

    # Through which account it sends: that of another cannot say what this one has sent.
    ACCOUNT = ("transport", "phone")

    # What operators set and a broadcaster goes by.
    SETTINGS = (
        "name",
        "transport",
        "min_delay_seconds",
        "max_delay_seconds",
        "hourly_limit",
        "daily_limit",
        "first_contact_limit",
        "warmup_started_on",
        "sends_from",
        "sends_until",
        "timezone",
    )

    name = models.CharField(_("name"), max_length=100, unique=True)
    phone = models.CharField(
        _("phone"), max_length=15, unique=True, null=True, blank=True,
        validators=[RegexValidator(r"^[1-9]\d{6,14}$", _("Digits with country code, no plus."))],
        help_text=_("With country code, digits only: 60123456789"),
    )  # fmt: skip
    transport = models.CharField(
        _("transport"), max_length=20, choices=transport_choices, default=SIMULATOR
    )
    enabled = models.BooleanField(
        _("enabled"), default=True, help_text=_("A device that is switched off sends nothing.")
    )
    status = models.CharField(
        _("status"), max_length=10, choices=Status.choices, default=Status.OFFLINE
    )
    status_reason = models.CharField(_("reason"), max_length=255, blank=True)
    status_changed_at = models.DateTimeField(_("since"), null=True, blank=True)
    restricted_until = models.DateTimeField(_("restricted until"), null=True, blank=True)

    min_delay_seconds = models.PositiveSmallIntegerField(
        _("shortest pause"), default=5, validators=[MinValueValidator(1)], help_text=_("Seconds.")
    )
    max_delay_seconds = models.PositiveSmallIntegerField(
        _("longest pause"),
        default=15,
        validators=[MinValueValidator(1), MaxValueValidator(3600)],
        help_text=_("Seconds."),
    )
    hourly_limit = models.PositiveIntegerField(
        _("messages an hour"), null=True, blank=True, validators=[MinValueValidator(1)],
        help_text=_("Empty: as many as the pauses allow."),
    )  # fmt: skip
    daily_limit = models.PositiveIntegerField(
        _("messages a day"), null=True, blank=True, default=1000, validators=[MinValueValidator(1)],
        help_text=_("Empty: as many as the pauses allow."),
    )  # fmt: skip
    first_contact_limit = models.PositiveIntegerField(
        _("new people a day"), null=True, blank=True, validators=[MinValueValidator(1)],
        help_text=_("People this device has not talked with yet: WhatsApp watches those. "
                    "Empty: as many as messages a day."),
    )  # fmt: skip
    warmup_started_on = models.DateField(
        _("warming up since"), null=True, blank=True,
        help_text=_("A new number starts with 20 messages a day and doubles every third day."),
    )  # fmt: skip
    sends_from = models.TimeField(_("sends from"), default=time(8), blank=True, null=True)
    sends_until = models.TimeField(_("sends until"), default=time(22), blank=True, null=True)
    timezone = models.CharField(
        _("time zone"), max_length=64, default=default_timezone, validators=[validate_timezone]
    )

    # Pacing: when the next message may leave, and what was used of the caps. Stored, so that
    # neither a restart nor a change of broadcaster shortens a pause.
    next_send_at = models.DateTimeField(_("next slot"), null=True, blank=True)
    usage_hour_at = models.DateTimeField(null=True, blank=True, editable=False)
    usage_hour_count = models.PositiveIntegerField(_("sent this hour"), default=0)
    usage_day = models.DateField(null=True, blank=True, editable=False)
    usage_day_count = models.PositiveIntegerField(_("sent today"), default=0)
    usage_first_count = models.PositiveIntegerField(_("new people today"), default=0, db_default=0)

    # Lease: which broadcaster owns the device. Taken and renewed by compare-and-set.
    worker_id = models.CharField(_("broadcaster"), max_length=64, blank=True, db_index=True)
    lease_expires_at = models.DateTimeField(_("lease until"), null=True, blank=True)
    lease_epoch = models.PositiveBigIntegerField(_("lease epoch"), default=0)

    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    objects = DeviceQuerySet.as_manager()

    class Meta:
        db_table = "devices"
        ordering = ["name"]
        verbose_name = _("device")
        verbose_name_plural = _("devices")

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if (self.min_delay_seconds or 0) > (self.max_delay_seconds or 0):
            raise ValidationError(
                {"max_delay_seconds": _("The longest pause is shorter than the shortest.")}
            )
        if (self.sends_from is None) != (self.sends_until is None):
            raise ValidationError(
                {"sends_until": _("Give both ends of the sending hours, or neither.")}
            )
        if self.sends_from is not None and self.sends_from == self.sends_until:
            raise ValidationError({"sends_until": _("These hours leave no time to send.")})
        self.phone = self.phone or None
        self._keep_account()

    def _keep_account(self) -> None:
        """Refuses another account while what became of a message is asked of the present one.

        The other would say that it never sent it, and then it would be sent twice.
        """
        before = Device.objects.filter(pk=self.pk).values(*self.ACCOUNT).first() or {}
        changed = [name for name, value in before.items() if value != getattr(self, name)]
        being_sent = Q(status__in=["processing", "queued"])
        interrupted = Q(status="unknown", error_code="interrupted")
        if changed and self.messages.filter(being_sent | interrupted).exists():
            reason = _(
                "Messages of this device are being sent, or were interrupted and may have left: "
                "switch it off, settle those that are unknown, then change this."
            )
            raise ValidationError(dict.fromkeys(changed, reason))

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @property
    def speed(self) -> float:
        """How many times faster than the clock this device's pauses pass: 1, but for demos."""
        simulated = self.transport == self.SIMULATOR
        return settings.SIMULATOR_SPEED if simulated else 1.0

    @property
    def settings(self) -> tuple[object, ...]:
        """The values of SETTINGS, to tell whether an operator has changed one."""
        return tuple(getattr(self, name) for name in self.SETTINGS)

    @property
    def state(self) -> str:
        """The status as it is now: nobody is online without a broadcaster that holds it."""
        if not self.enabled:
            return "disabled"
        if self.status == self.Status.ONLINE and not self.is_leased:
            return self.Status.OFFLINE.value
        return self.status

    def may_send_at(self, now: datetime) -> datetime | None:
        """From when on it may send, its pace apart; None where nobody can say: it is switched off,
        or blocked without an end."""
        if not self.enabled:
            return None
        if self.status not in self.BLOCKED:
            return now
        until: datetime | None = self.restricted_until
        return until and max(now, until)

    @property
    def is_leased(self) -> bool:
        expires_at: datetime | None = self.lease_expires_at
        return bool(self.worker_id and expires_at and expires_at > timezone.now())


class SimulatedSession(models.Model):
    """Which connection a simulated account has now: a newer one replaces the older, as WhatsApp
    does, and what the older one sends afterwards is refused."""

    device = models.OneToOneField(
        Device, on_delete=models.CASCADE, primary_key=True, related_name="simulated_session"
    )
    token = models.CharField(max_length=32)

    class Meta:
        db_table = "simulator_sessions"

    def __str__(self) -> str:
        return f"{self.device} {self.token}"


class SimulatedMessage(models.Model):
    """What one simulated phone received or wrote: the simulator's own record.

    The queue never reads it. Tests and `verify_ledger` compare it with what the queue recorded.
    There is no unique rule on purpose: a second copy must be able to show up.
    """

    ID_PREFIX = "SIM"  # of the ids that the simulator gives

    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="simulated_messages")
    phone = models.CharField(_("phone"), max_length=15)
    from_device = models.BooleanField(_("from the device"), default=True)
    key = models.CharField(_("message key"), max_length=64, blank=True, db_index=True)
    provider_message_id = models.CharField(max_length=64, blank=True)
    body = models.TextField(_("text"))
    # The file that came with it: id, kind, hash, name. One column, as most have none.
    media = models.CharField(max_length=255, blank=True, default="", db_default="")
    received_at = models.DateTimeField(_("received"), auto_now_add=True)

    class Meta:
        db_table = "simulator_messages"
        ordering = ["received_at", "pk"]
        indexes = [models.Index(fields=["phone", "received_at"], name="idx_simulator_phone")]
        verbose_name = _("simulated message")
        verbose_name_plural = _("simulated messages")

    def __str__(self) -> str:
        return f"{self.phone}: {self.body[:40]}"

    @property
    def attachment(self) -> dict[str, object] | None:
        """What a page needs to show the file that came with it."""
        if not self.media:
            return None
        pk, kind, _sha256, name = self.media.split(" ", 3)
        return {"pk": int(pk), "kind": kind, "name": name}
