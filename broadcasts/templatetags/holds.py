"""What holds a device, or a message that waits for it, in the operator's words.

Worked out of the device's own columns: a list of messages asks nothing more than their devices.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time

from django import template
from django.utils import timezone
from django.utils.formats import date_format, time_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from broadcasts.claiming import CAMPAIGN_SENDS, SEQUENCE_SENDS
from broadcasts.models import BroadcastMessage
from broadcasts.pacing import Brake, Hold, Pace, Slot, Use, use_of_caps, waits_for
from devices.models import Device

register = template.Library()


@dataclass(frozen=True)
class Held:
    """Why a device does not send, and when it goes on: "tomorrow at 08:00"; empty where this host
    cannot say."""

    why: str
    when: str
    device: Device
    until: datetime | None = None

    def __str__(self) -> str:
        if not self.when:
            return self.why
        return f"{self.why} {_('%(device)s goes on %(when)s.') % self._values}"

    def to(self, message: BroadcastMessage) -> str:
        """Says it of a message that waits for it, which may be too late before that."""
        expires_at: datetime | None = message.expires_at
        if not (self.until and expires_at and self.until > expires_at):
            return str(self)
        text = _("%(device)s goes on %(when)s, but this message expires before that, %(expiry)s.")
        return f"{self.why} {text % {**self._values, 'expiry': _when(expires_at)}}"

    @property
    def _values(self) -> dict[str, object]:
        return {"device": self.device, "when": self.when}


@register.filter
def held(device: Device) -> Held | None:
    """Returns what keeps the device from sending anything; None where nothing does."""
    return _held(device, timezone.now(), first_contact=False)


@register.filter
def held_to_new_people(device: Device) -> Held | None:
    """Returns what keeps it from writing to people whom it has not talked with."""
    return _held(device, timezone.now(), first_contact=True)


@register.filter
def waits(message: BroadcastMessage) -> str:
    """Says what a pending message waits for, beside its turn; nothing where that is all.

    Read it with its device, campaign and sequence: lists would ask for each of them.
    """
    device, now = message.device, timezone.now()
    if message.status != BroadcastMessage.Status.PENDING:
        return ""
    # Before its rows have moved, the claim passes over them already.
    if message.campaign and message.campaign.status not in CAMPAIGN_SENDS:
        if message.campaign.status == "cancelled":
            return _("Its campaign was cancelled.")
        if message.campaign.status == "paused":
            return _("Its campaign is paused.")
        return _("Its campaign has not begun.")
    if message.sequence and message.sequence.status not in SEQUENCE_SENDS:
        return _("Its sequence is paused.")
    if message.expires_at and message.expires_at <= now:
        return _("It could not start in time.")
    if device is None:
        return _("It has no device that could send it.")
    if device.state == "disabled":
        return _("%(device)s is switched off.") % {"device": device}
    if device.state == "unpaired":
        return _("%(device)s is not paired with a phone.") % {"device": device}
    if device.state != Device.Status.ONLINE:
        state = Device.Status(device.state).label
        away = _("%(device)s is %(state)s.") % {"device": device, "state": state}
        until = device.rests_until
        return Held(away, _when(until), device, until).to(message) if until else away
    # What is not due yet may be held by then, and not by what holds the device now.
    at = max(now, message.scheduled_at)
    is_first = message.priority in BroadcastMessage.FIRST_CONTACTS
    hold = _held(device, at, first_contact=is_first)
    return hold.to(message) if hold else ""


@register.filter
def caps(device: Device) -> list[Use]:
    """Returns what was sent today, and how much of each other cap of the device is used."""
    pace = Pace.if_known(device)
    if pace is None:
        return []  # which day it is there, nobody knows
    uses = use_of_caps(pace, Slot.of(device), timezone.now())
    return [use for use in uses if use.of == Brake.MESSAGES_A_DAY or use.limit is not None]


def _held(device: Device, at: datetime, *, first_contact: bool) -> Held | None:
    pace = Pace.if_known(device)
    if pace is None:
        text = _("%(device)s is in the time zone %(zone)s, which this host does not know.")
        return Held(text % {"device": device, "zone": device.timezone}, "", device)
    found = waits_for(pace, Slot.of(device), at, first_contact=first_contact)
    if found is None:
        return None
    return Held(_why(device, found), _when(found.until), device, found.until)


def _why(device: Device, found: Hold) -> str:
    limit = found.limit or 0
    values = {"device": device, "limit": f"{limit:,}"}
    if found.brake == Brake.FIRST_CONTACTS_BLOCK:
        text = _("WhatsApp lets %(device)s write only to people it has talked with.")
    elif found.brake == Brake.NEW_PEOPLE_A_DAY:
        text = ngettext(
            "%(device)s has written to its %(limit)s new person of today.",
            "%(device)s has written to its %(limit)s new people of today.",
            limit,
        )
    elif found.brake == Brake.MESSAGES_AN_HOUR:
        text = ngettext(
            "%(device)s has sent its %(limit)s message of this hour.",
            "%(device)s has sent its %(limit)s messages of this hour.",
            limit,
        )
    elif found.brake == Brake.SENDING_HOURS:
        values |= {"from": _clock(device.sends_from), "until": _clock(device.sends_until)}
        text = _("%(device)s sends from %(from)s to %(until)s.")
        if device.timezone != timezone.get_current_timezone_name():
            values["zone"] = device.timezone
            text = _("%(device)s sends from %(from)s to %(until)s (%(zone)s).")
    elif found.brake == Brake.WARM_UP:
        text = _("%(device)s is warming up and has sent its %(limit)s messages of today.")
    else:
        text = ngettext(
            "%(device)s has sent its %(limit)s message of today.",
            "%(device)s has sent its %(limit)s messages of today.",
            limit,
        )
    return text % values


def _when(until: datetime) -> str:
    local = timezone.localtime(until)
    clock = _clock(local.time())
    days = (local.date() - timezone.localdate()).days
    if days == 0:
        return _("at %(clock)s") % {"clock": clock}
    if days == 1:
        return _("tomorrow at %(clock)s") % {"clock": clock}
    return _("on %(day)s at %(clock)s") % {"day": date_format(local, "D j M"), "clock": clock}


def _clock(clock: time | None) -> str:
    return time_format(clock, "H:i") if clock is not None else ""
