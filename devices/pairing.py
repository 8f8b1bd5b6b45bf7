"""Linking a device to the WhatsApp account of a phone, and taking that back.

A row is what somebody asked for in the browser. A broadcaster of the host that is to have the
session claims it, and a process of its own does it (broadcasts/errands.py): a web request waits for
none of that, it reads the row. Whoever changes a row says in which state it must be.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from django.conf import settings
from django.db import IntegrityError, models, transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from devices.models import Device

if TYPE_CHECKING:
    from django.contrib.auth.models import User

# Of the text in templates/devices/_notice.html: changes with it, so that it is known who has read
# which.
NOTICE_VERSION = "2026-11-26"
# Nobody has taken it up by then: nobody is going to.
UNCLAIMED_SECONDS = 45
# Its process says every second or so that it lives.
SILENT_SECONDS = 20
# Its result is told to whoever comes back to the page.
SHOWN_AFTERWARDS = timedelta(minutes=10)
# Of an unlinking whose file is nowhere: it was lost with its host.
FORGOTTEN_AFTER = timedelta(days=7)
TRIES = 3


class PairingQuerySet(models.QuerySet["Pairing"]):
    def open(self) -> Self:
        return self.filter(is_open=True)

    def on_screen(self, device: Device) -> Pairing | None:
        """Returns the device's latest if somebody may still be looking at it."""
        lately = Q(finished_at__gt=Now() - SHOWN_AFTERWARDS)
        return self.filter(Q(is_open=True) | lately, device=device).order_by("-pk").first()

    def claim(self, worker_id: str) -> Pairing | None:
        """Takes up the oldest request, for which somebody is waiting in front of a screen."""
        asked = self.open().filter(state=Pairing.State.REQUESTED)
        for pairing in asked.order_by("pk")[:10]:
            session = f"{pairing.device_id}-{secrets.token_hex(8)}"
            if asked.filter(pk=pairing.pk).update(
                state=Pairing.State.STARTED, claimed_by=worker_id, session=session, seen_at=Now()
            ):
                return self.get(pk=pairing.pk)
        return None

    def close_abandoned(self) -> int:
        """Ends those that nobody took up, and those whose process died with its host."""
        unclaimed = Q(
            state=Pairing.State.REQUESTED,
            created_at__lt=Now() - timedelta(seconds=UNCLAIMED_SECONDS),
        )
        silent = Q(seen_at__lt=Now() - timedelta(seconds=SILENT_SECONDS))
        closed = 0
        for pairing in self.open().filter(unclaimed | silent):
            asked = pairing.state == Pairing.State.REQUESTED
            reason = Pairing.Reason.NOBODY if asked else Pairing.Reason.ENDED
            closed += pairing.fail(reason, only_if=unclaimed | silent)
        return closed


class Pairing(models.Model):
    """One attempt at linking one device, from the click to its end."""

    class Method(models.TextChoices):
        QR = "qr", _("Scan a QR code")
        CODE = "code", _("Type a code of 8 characters")

    class State(models.TextChoices):
        REQUESTED = "requested", _("waiting for a broadcaster")
        STARTED = "started", _("asking WhatsApp for a code")
        SHOWING = "showing", _("waiting for the phone")
        FINISHING = "finishing", _("linked, exchanging keys")
        DONE = "done", _("linked")
        FAILED = "failed", _("failed")
        CANCELLED = "cancelled", _("cancelled")

    # fmt: off
    class Reason(models.TextChoices):
        """Why it failed, as it is told: what is so, and what to do."""

        NOBODY = "nobody", _(
            "No broadcaster with WhatsApp support took it up. Is one running, with neonize and "
            "libmagic installed on its host? docs/whatsapp.md says how.")
        TIMED_OUT = "timed_out", _("The time ran out before the phone had linked it.")
        PASSKEY = "passkey", _(
            "This account needs a passkey to link a device, which this transport cannot do. "
            "Another number may work; so does the official WhatsApp Business API.")
        OUTDATED = "outdated", _(
            "WhatsApp no longer talks to this version of the library (neonize). Update Siaran on "
            "the broadcaster's host, then try again.")
        OTHER_DEVICE = "other_device", _(
            "This number is another device's, and one number is one device. It was logged out "
            "again.")
        OTHER_NUMBER = "other_number", _(
            "Another number was scanned than this device's. It was logged out again. Use the phone "
            "with this device's number, or add a device for the other.")
        UNREACHABLE = "unreachable", _(
            "WhatsApp cannot be reached from the broadcaster's host. Is it connected to the "
            "internet?")
        BAD_NUMBER = "bad_number", _(
            "WhatsApp gave no code for this number. Is it on WhatsApp, and complete with its "
            "country code? A QR code needs no number.")
        TOO_OFTEN = "too_often", _(
            "WhatsApp gives no more codes for a while. Try again in an hour, or scan a QR code.")
        REFUSED = "refused", _("WhatsApp refused to link it. Try again in a while.")
        ENDED = "ended", _("The pairing process ended before it was done. Try again.")
    # fmt: on

    device = models.ForeignKey(
        Device, on_delete=models.CASCADE, related_name="pairings", db_index=False,
        verbose_name=_("device"),
    )  # fmt: skip
    method = models.CharField(_("method"), max_length=4, choices=Method.choices)
    phone = models.CharField(_("phone"), max_length=15, blank=True)
    state = models.CharField(
        _("state"), max_length=10, choices=State.choices, default=State.REQUESTED
    )
    # True until it ends, then NULL: one open pairing a device, and NULLs are distinct.
    is_open = models.BooleanField(null=True, default=True, editable=False)
    reason = models.CharField(_("because"), max_length=16, blank=True)  # one of Reason
    linked_phone = models.CharField(_("linked number"), max_length=15, blank=True)
    code = models.TextField(_("code"), blank=True)
    code_expires_at = models.DateTimeField(null=True, blank=True)
    claimed_by = models.CharField(_("broadcaster"), max_length=64, blank=True)
    session = models.CharField(_("session"), max_length=64, blank=True, editable=False)
    seen_at = models.DateTimeField(null=True, blank=True, editable=False)
    # Who has accepted the notice, of which version, at `created_at`. By name too: logins go.
    started_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+",
        verbose_name=_("started by"),
    )  # fmt: skip
    accepted_by = models.CharField(_("notice accepted by"), max_length=150)
    notice_version = models.CharField(_("version of the notice"), max_length=20)
    created_at = models.DateTimeField(_("started"))
    finished_at = models.DateTimeField(_("ended"), null=True, blank=True)

    objects = PairingQuerySet.as_manager()

    class Meta:
        db_table = "pairings"
        ordering = ["-pk"]
        default_permissions = ()  # who may see the device may see this
        verbose_name = _("pairing")
        verbose_name_plural = _("pairings")
        constraints = [
            models.UniqueConstraint(fields=["device", "is_open"], name="unique_open_pairing")
        ]
        indexes = [models.Index(fields=["is_open", "state"], name="idx_pairing_open")]

    def __str__(self) -> str:
        return f"{self.device}: {self.get_state_display()}"

    @classmethod
    def start(cls, device: Device, method: str, phone: str, by: User) -> Pairing:
        """Asks for the device to be linked by somebody who has accepted the notice; returns the
        pairing that is open for it, whoever started that."""
        try:
            with transaction.atomic():
                return cls.objects.create(
                    device=device, method=method, phone=phone, started_by=by,
                    accepted_by=by.get_username(), notice_version=NOTICE_VERSION, created_at=Now(),
                )  # fmt: skip
        except IntegrityError:  # there is one; if that ended this moment, it is what was asked for
            if latest := cls.objects.filter(device=device).order_by("-pk").first():
                return latest
            raise

    @property
    def seconds_left(self) -> int:
        """How long the code is good for, for people to see."""
        if self.code_expires_at is None:
            return 0
        return max(0, round((self.code_expires_at - timezone.now()).total_seconds()))

    @property
    def version(self) -> str:
        """Changes whenever there is something new to show."""
        code_at = self.code_expires_at.timestamp() if self.code_expires_at else 0
        return f"{self.pk}-{self.state}-{code_at:.0f}"

    @property
    def why(self) -> str:
        """Why it failed, and what to do."""
        return str(self.Reason(self.reason).label) if self.reason else ""

    def problem_with(self, phone: str) -> str:
        """Returns why this number cannot be this device's, '' if it can."""
        if self.device.phone and self.device.phone != phone:
            return self.Reason.OTHER_NUMBER.value
        if Device.objects.filter(phone=phone).exclude(pk=self.device_id).exists():
            return self.Reason.OTHER_DEVICE.value
        return ""

    # What the process that does it says. Each of these is False once it is not wanted any more.

    def is_wanted(self) -> bool:
        """Says that its process lives."""
        return bool(self._open().update(seen_at=Now()))

    def show(self, code: str, seconds: float) -> bool:
        expires_at = Now() + timedelta(seconds=seconds)
        return bool(
            self._open().update(
                state=self.State.SHOWING, code=code, code_expires_at=expires_at, seen_at=Now()
            )
        )

    def has_linked(self, phone: str) -> bool:
        """The phone has linked it; what is left takes seconds."""
        values = {"code": "", "code_expires_at": None, "linked_phone": phone}
        self.state = self.State.FINISHING
        return bool(self._open().update(state=self.State.FINISHING, seen_at=Now(), **values))

    def succeed(self, phone: str) -> bool:
        """Gives the device its new session, and has its former one logged out."""
        try:
            with transaction.atomic():
                device = Device.objects.select_for_update().get(pk=self.device_id)
                self.device = device
                if reason := self.problem_with(phone):
                    self.fail(reason)
                    return False
                if device.deleted_at or not device.needs_pairing:
                    self.fail(self.Reason.ENDED)
                    return False
                if not self._close(self.State.DONE, linked_phone=phone):
                    return False
                Unlinking.ask(device, by=None)
                paired = Device.objects.filter(pk=device.pk)
                paired.update(phone=phone)
                paired.pair(self.session)
        except IntegrityError:  # two devices were linked to one number at the same moment
            self.fail(self.Reason.OTHER_DEVICE)
            return False
        return True

    def fail(self, reason: str, *, only_if: Q | None = None) -> bool:
        return self._end(self.State.FAILED, only_if=only_if, reason=reason)

    def cancel(self) -> bool:
        return self._end(self.State.CANCELLED)

    def _end(self, state: str, *, only_if: Q | None = None, **values: str) -> bool:
        """Ends it without a result: the session that it may have begun is thrown away."""
        with transaction.atomic():
            if not self._close(state, only_if=only_if, **values):
                return False
            session = type(self).objects.values_list("session", flat=True).get(pk=self.pk)
            if session:
                Unlinking.throw_away(session, self.device)
        return True

    def _close(self, state: str, *, only_if: Q | None = None, **values: str) -> bool:
        ended = {"is_open": None, "code": "", "code_expires_at": None, "finished_at": Now()}
        closing = self._open().filter(only_if or Q())
        return bool(closing.update(state=state, **ended, **values))

    def _open(self) -> PairingQuerySet:
        return type(self).objects.open().filter(pk=self.pk)


class UnlinkingQuerySet(models.QuerySet["Unlinking"]):
    def waiting(self) -> Self:
        """Those to be done, also where the process that was at it has died."""
        silent = Q(
            state=Unlinking.State.STARTED,
            seen_at__lt=Now() - timedelta(seconds=SILENT_SECONDS),
        )
        recent = Q(created_at__gt=Now() - FORGOTTEN_AFTER)
        return self.filter(Q(state=Unlinking.State.REQUESTED) | silent, recent)

    def claim(self, pk: int, worker_id: str) -> bool:
        return bool(
            self.waiting()
            .filter(pk=pk)
            .update(
                state=Unlinking.State.STARTED,
                claimed_by=worker_id,
                seen_at=Now(),
                tries=F("tries") + 1,
            )
        )


class Unlinking(models.Model):
    """A session that is to go: logged out with WhatsApp where that can be, its file deleted."""

    class State(models.TextChoices):
        REQUESTED = "requested", _("WhatsApp is being told")
        STARTED = "started", _("WhatsApp is being told now")
        DONE = "done", _("logged out")
        FAILED = "failed", _("WhatsApp could not be told")

    session = models.CharField(_("session"), max_length=64, unique=True)
    device = models.ForeignKey(
        Device, on_delete=models.SET_NULL, null=True, related_name="unlinkings",
        verbose_name=_("device"),
    )  # fmt: skip
    state = models.CharField(
        _("state"), max_length=10, choices=State.choices, default=State.REQUESTED
    )
    tries = models.PositiveSmallIntegerField(_("tries"), default=0)
    claimed_by = models.CharField(_("broadcaster"), max_length=64, blank=True)
    seen_at = models.DateTimeField(null=True, blank=True, editable=False)
    # Nobody where a new session takes its place, or a pairing came to nothing.
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+",
        verbose_name=_("asked for by"),
    )  # fmt: skip
    created_at = models.DateTimeField(_("asked for"))
    finished_at = models.DateTimeField(_("ended"), null=True, blank=True)

    objects = UnlinkingQuerySet.as_manager()

    class Meta:
        db_table = "unlinkings"
        ordering = ["-pk"]
        default_permissions = ()  # who may see the device may see this
        verbose_name = _("logging out")
        verbose_name_plural = _("loggings out")
        indexes = [models.Index(fields=["state"], name="idx_unlinking_state")]

    def __str__(self) -> str:
        return f"{self.session}: {self.get_state_display()}"

    @classmethod
    def ask(cls, device: Device, by: User | None) -> None:
        """Asks for the session that the device has, if it has one, to be logged out and deleted.

        Together with what leaves the device without it, in one transaction.
        """
        if device.session:
            cls.throw_away(device.session, device, by)

    @classmethod
    def throw_away(cls, session: str, device: Device, by: User | None = None) -> None:
        cls.objects.create(session=session, device=device, requested_by=by, created_at=Now())

    def is_wanted(self) -> bool:
        """Says that its process lives."""
        return bool(self._started().update(seen_at=Now()))

    def finish(self, *, told: bool) -> bool:
        """It is over: the file is gone, and WhatsApp was told or could not be."""
        state = self.State.DONE if told else self.State.FAILED
        return bool(self._started().update(state=state, finished_at=Now()))

    def try_again(self) -> bool:
        """Its process died: another begins anew, unless that was the last try."""
        again = self._started().filter(tries__lt=TRIES)
        return bool(again.update(state=self.State.REQUESTED)) or not self.finish(told=False)

    def _started(self) -> models.QuerySet[Unlinking]:
        return type(self).objects.filter(pk=self.pk, state=self.State.STARTED)
