from __future__ import annotations

from datetime import datetime, time
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, available_timezones

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from devices.limits import AT_MOST_A_DAY, AT_MOST_AN_HOUR, LONGEST_PAUSE
from devices.queryset import DeviceQuerySet
from devices.standing import Standing, refused_by
from devices.transports import PAIRED, transport_choices

if TYPE_CHECKING:
    from django.contrib.auth.models import User


def validate_timezone(name: str) -> None:
    if name not in available_timezones():
        raise ValidationError(_("Not a time zone. Write it like Asia/Kuala_Lumpur."))


def default_timezone() -> str:
    return str(settings.TIME_ZONE)


class Device(Standing):
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
    WARM_UP = ("warmup_started_on", "timezone")

    # What operators set, pairing or WhatsApp, and a broadcaster goes by.
    SETTINGS = (
        "name",
        "phone",
        "transport",
        "session",
        "min_delay_seconds",
        "max_delay_seconds",
        "hourly_limit",
        "daily_limit",
        "first_contact_limit",
        "first_contacts_blocked_until",
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
    # Given by pairing: the name of the file that a transport of PAIRED keeps on one host. And the
    # last lease before it, or before another account.
    session = models.CharField(
        _("session"), max_length=64, blank=True, editable=False, default="", db_default=""
    )
    session_epoch = models.PositiveBigIntegerField(editable=False, default=0, db_default=0)
    enabled = models.BooleanField(
        _("enabled"), default=True, help_text=_("A device that is switched off sends nothing.")
    )
    status = models.CharField(
        _("status"), max_length=10, choices=Status.choices, default=Status.OFFLINE
    )
    status_reason = models.CharField(_("reason"), max_length=255, blank=True)
    status_changed_at = models.DateTimeField(_("since"), null=True, blank=True)
    # Of a device that is offline: until when it is left alone.
    restricted_until = models.DateTimeField(_("restricted until"), null=True, blank=True)
    first_contacts_blocked_until = models.DateTimeField(
        _("no new people until"), null=True, blank=True, editable=False
    )

    min_delay_seconds = models.PositiveSmallIntegerField(
        _("shortest pause"),
        default=5,
        validators=[MinValueValidator(1), LONGEST_PAUSE],
        help_text=_("Seconds."),
    )
    max_delay_seconds = models.PositiveSmallIntegerField(
        _("longest pause"),
        default=15,
        validators=[MinValueValidator(1), LONGEST_PAUSE],
        help_text=_("Seconds."),
    )
    hourly_limit = models.PositiveIntegerField(
        _("messages an hour"), null=True, blank=True,
        validators=[MinValueValidator(1), AT_MOST_AN_HOUR],
        help_text=_("Empty: as many as the pauses allow."),
    )  # fmt: skip
    daily_limit = models.PositiveIntegerField(
        _("messages a day"), null=True, blank=True, default=1000,
        validators=[MinValueValidator(1), AT_MOST_A_DAY],
        help_text=_("Empty: as many as the pauses allow."),
    )  # fmt: skip
    first_contact_limit = models.PositiveIntegerField(
        _("new people a day"), null=True, blank=True,
        validators=[MinValueValidator(1), AT_MOST_A_DAY],
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
    # It has sent messages, which name it: so it stays, unseen and switched off.
    deleted_at = models.DateTimeField(_("deleted"), null=True, blank=True, editable=False)

    objects = DeviceQuerySet.as_manager()

    class Meta:
        db_table = "devices"
        ordering = ["name"]
        verbose_name = _("device")
        verbose_name_plural = _("devices")

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        # One that is too long by itself says so.
        shortest = self.min_delay_seconds or 0
        if (self.max_delay_seconds or 0) < shortest <= LONGEST_PAUSE.limit_value:
            raise ValidationError(
                {"max_delay_seconds": _("The longest pause is shorter than the shortest.")}
            )
        if (self.sends_from is None) != (self.sends_until is None):
            raise ValidationError(
                {"sends_until": _("Give both ends of the sending hours, or neither.")}
            )
        if self.sends_from is not None and self.sends_from == self.sends_until:
            raise ValidationError({"sends_until": _("These hours leave no time to send.")})
        stored = self.stored()
        if any(stored.get(name) != getattr(self, name) for name in self.WARM_UP):
            self._check_warm_up()
        self.phone = self.phone or None
        self._keep_account(stored)

    def problems(self) -> dict[str, list[str]]:
        return super().problems() | refused_by(self._check_warm_up)

    def _check_warm_up(self) -> None:
        """Refuses a day to come: until then it would send as few a day as on the first."""
        if self.warmup_started_on is None or self.timezone not in available_timezones():
            return
        if self.warmup_started_on > timezone.localdate(timezone=self.zone):
            raise ValidationError(
                {"warmup_started_on": _(
                    "This day is still to come. Give today, or the day on which the number began "
                    "to send; to send nothing before a day, switch the device off until then."
                )}
            )  # fmt: skip

    def _keep_account(self, stored: dict[str, Any]) -> None:
        """Refuses another account while what became of a message is asked of the present one.

        The other would say that it never sent it, and then it would be sent twice.
        """
        changed = [name for name in self.ACCOUNT if stored and stored[name] != getattr(self, name)]
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

    def log_out(self, by: User) -> bool:
        """Takes its session away, and has it logged out; False if it has none any more."""
        with transaction.atomic():
            changed = (
                Device.objects.filter(pk=self.pk, session=self.session)
                .exclude(session="")
                .update(
                    session="",
                    status=self.Status.OFFLINE,
                    status_reason="",
                    status_changed_at=Now(),
                    restricted_until=None,
                )
            )
            if changed:
                Unlinking.ask(self, by)
        return bool(changed)

    def remove(self, by: User) -> bool:
        """Deletes it as far as people see: its messages stay, and name it; False if that was done.

        Its name and number are free for another.
        """
        at = timezone.localtime().strftime("%Y-%m-%d %H:%M:%S")
        name = _("%(name)s (deleted %(at)s)") % {"name": self.name[:60], "at": at}
        with transaction.atomic():
            kept = Device.objects.kept().filter(pk=self.pk)
            if not kept.update(name=name, phone=None, enabled=False, deleted_at=Now()):
                return False
            for pairing in self.pairings.filter(is_open=True):
                pairing.cancel()
            # Read only now: a pairing that succeeded this moment has given it another session.
            Device.objects.get(pk=self.pk).log_out(by)
        return True

    @property
    def needs_pairing(self) -> bool:
        return self.transport in PAIRED

    @property
    def is_paired(self) -> bool:
        """Whether it has a session, where its transport needs one."""
        return bool(self.session) or not self.needs_pairing

    def has_same_session(self, before: Device) -> bool:
        """Whether the session that was opened for it as it was before is still the right one."""
        account = (self.transport, self.phone, self.session)
        return account == (before.transport, before.phone, before.session)

    @property
    def settings(self) -> tuple[object, ...]:
        """The values of SETTINGS, to tell whether an operator has changed one."""
        return tuple(getattr(self, name) for name in self.SETTINGS)

    @property
    def state(self) -> str:
        """The status as it is now: nobody is online without a broadcaster that holds it."""
        if not self.enabled:
            return "disabled"
        if not self.is_paired:
            return "unpaired"
        if self.status == self.Status.ONLINE and not self.is_leased:
            return self.Status.OFFLINE.value
        return self.status

    @property
    def state_since(self) -> datetime | None:
        """Since when it is in that state, as far as that is known."""
        if self.status == self.Status.ONLINE and not self.is_leased:
            return self.lease_expires_at
        return self.status_changed_at

    def may_send_at(self, now: datetime) -> datetime | None:
        """From when on it may send, its pace apart; None where nobody can say: it is switched off,
        not paired, or blocked without an end."""
        if not (self.enabled and self.is_paired):
            return None
        until: datetime | None = self.restricted_until
        if until is None:
            return None if self.status in self.BLOCKED else now
        return max(now, until)

    @property
    def rests_until(self) -> datetime | None:
        """Until when it is blocked or left alone, if that is known and to come."""
        until: datetime | None = self.restricted_until
        return until if until and until > timezone.now() else None

    @property
    def first_contacts_are_blocked(self) -> bool:
        """Whether WhatsApp lets it write only to people it has talked with."""
        until: datetime | None = self.first_contacts_blocked_until
        return bool(until and until > timezone.now())

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
    key = models.CharField(_("message key"), max_length=64, blank=True)
    provider_message_id = models.CharField(max_length=64, blank=True)
    body = models.TextField(_("text"))
    # The file that came with it: id, kind, hash, name. One column, as most have none.
    media = models.CharField(max_length=255, blank=True, default="", db_default="")
    received_at = models.DateTimeField(_("received"), auto_now_add=True)

    class Meta:
        db_table = "simulator_messages"
        ordering = ["received_at", "pk"]
        indexes = [
            # What a session remembers, and all of a device: every index costs each message.
            models.Index(fields=["device", "key"], name="idx_simulator_key"),
            models.Index(fields=["phone", "received_at"], name="idx_simulator_phone"),
        ]
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


from devices.pairing import Pairing, Unlinking  # noqa: E402, F401  (it knows devices)
