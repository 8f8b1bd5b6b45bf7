"""What holds a device, in the operator's words; `reasons` says it of a message.

Worked out of the device's own columns: a list of messages asks nothing more than their devices.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time

from django import template
from django.utils import timezone
from django.utils.formats import time_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from broadcasts.models import BroadcastMessage
from broadcasts.pacing import Brake, Hold, Holdup, Pace, Slot, Use, use_of_caps, waits_for
from broadcasts.templatetags.moments import day
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
        """Says it of a message that waits for it: it may be too late before that, and is not the
        first to leave then."""
        expires_at: datetime | None = message.expires_at
        if not self.when:
            return self.why
        if not (self.until and expires_at and self.until > expires_at):
            text = _("%(device)s goes on %(when)s, with the first in its line.")
            return f"{self.why} {text % self._values}"
        text = _("%(device)s goes on %(when)s, but this message expires before that, %(expiry)s.")
        return f"{self.why} {text % {**self._values, 'expiry': _when(expires_at)}}"

    @property
    def _values(self) -> dict[str, object]:
        return {"device": self.device, "when": self.when}


@register.filter
def held(device: Device) -> Held | None:
    """Returns what keeps the device from sending anything; None where nothing does."""
    return held_at(device, timezone.now(), first_contact=False)


@register.filter
def held_to_new_people(device: Device) -> Held | None:
    """Returns what keeps it from writing to people whom it has not talked with."""
    return held_at(device, timezone.now(), first_contact=True)


def held_at(device: Device, at: datetime, *, first_contact: bool) -> Held | None:
    """Returns what holds at that time: what is not due yet is not held by what does so now."""
    pace = Pace.if_known(device)
    if pace is None:
        text = _("%(device)s is in the time zone %(zone)s, which this host does not know.")
        return Held(text % {"device": device, "zone": device.timezone}, "", device)
    found = waits_for(pace, Slot.of(device), at, first_contact=first_contact)
    if found is None:
        return None
    return Held(_why(device, found), _when(found.until), device, found.until)


@register.filter
def away(device: Device) -> Held | None:
    """Returns why the device does not send at all, whatever its pace; None where it does."""
    if device.state == Device.Status.ONLINE:
        return None
    if device.deleted_at:
        return Held(_("%(device)s never sends again.") % {"device": device}, "", device)
    if device.state == "disabled":
        return Held(_("%(device)s is switched off.") % {"device": device}, "", device)
    if device.state == "unpaired":
        return Held(_("%(device)s is not paired with a phone.") % {"device": device}, "", device)
    state = Device.Status(device.state).label
    why = _("%(device)s is %(state)s.") % {"device": device, "state": state}
    until = device.rests_until
    return Held(why, _when(until) if until else "", device, until)


# Of several devices, or where there is room for a few words only.
SHORT = {
    Brake.FIRST_CONTACTS_BLOCK: gettext_lazy("WhatsApp stops first contacts"),
    Brake.WARM_UP: gettext_lazy("today's messages of the warm-up sent"),
    Brake.NEW_PEOPLE_A_DAY: gettext_lazy("daily cap on new people reached"),
    Brake.MESSAGES_A_DAY: gettext_lazy("daily cap reached"),
    Brake.MESSAGES_AN_HOUR: gettext_lazy("hourly cap reached"),
    Brake.SENDING_HOURS: gettext_lazy("outside of sending hours"),
}


@register.filter
def in_short(hold: Hold) -> str:
    """Says of one device: "daily cap reached, goes on tomorrow at 00:00"."""
    values = {"why": SHORT[hold.brake], "when": _when(hold.until)}
    return _("%(why)s, goes on %(when)s") % values


@register.filter
def summed_up(holdup: Holdup) -> str:
    """Says how many devices of a campaign are held, by what, and when the first goes on."""
    assert holdup.until  # some are
    text = ngettext(
        "%(held)s of %(devices)s devices waits: %(why)s, goes on %(when)s.",
        "%(held)s of %(devices)s devices wait: %(why)s, the first goes on %(when)s.",
        holdup.held,
    )
    if holdup.devices == 1:
        text = _("Its device waits: %(why)s, goes on %(when)s.")
    return text % {
        "held": f"{holdup.held:,}",
        "devices": f"{holdup.devices:,}",
        "why": SHORT[Brake(holdup.brake)] if holdup.brake else _("caps or sending hours"),
        "when": _when(holdup.until),
    }


@register.filter
def caps(device: Device) -> list[Use]:
    """Returns what was sent today, and how much of each other cap of the device is used."""
    pace = Pace.if_known(device)
    if pace is None:
        return []  # which day it is there, nobody knows
    uses = use_of_caps(pace, Slot.of(device), timezone.now())
    return [use for use in uses if use.of == Brake.MESSAGES_A_DAY or use.limit is not None]


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
    return _("on %(day)s at %(clock)s") % {"day": day(until), "clock": clock}


def _clock(clock: time | None) -> str:
    return time_format(clock, "H:i") if clock is not None else ""
