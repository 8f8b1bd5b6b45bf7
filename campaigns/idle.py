"""Which devices get nothing of a campaign, and why: said before it is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from broadcasts.pacing import Pace, hold_of
from broadcasts.templatetags.holds import SHORT, away, held, in_short
from broadcasts.templatetags.moments import moment
from campaigns.audience import Audience
from campaigns.forecast import Forecast
from devices.cards import Card
from devices.models import Device

NAMED = 20


@dataclass(frozen=True, slots=True)
class Idle:
    """A device that gets nothing: `why`, and the same in `short`, where it is one of several."""

    card: Card
    why: str
    short: str


@dataclass(frozen=True, slots=True)
class IdleDevices:
    """Those that were chosen, one by one, as far as there is room; all others in one line."""

    named: Sequence[Idle] = ()
    others: str = ""


def idle_devices(
    audience: Audience, usable: Collection[Device], forecast: Forecast, starts_at: datetime
) -> IdleDevices:
    """Returns who gets nothing of what this forecast says, of the devices that were chosen, or of
    all if none was; `usable`: those that may send."""
    if not forecast.per_device:
        return IdleDevices()  # what stands in the way of all of them is said as such
    busy = {share.device.pk for share in forecast.per_device}
    may_send = {device.pk for device in usable}
    of_all = Device.objects.kept() if audience.from_all_devices else ()
    idle = [
        _idle(device, device.pk in may_send, forecast, starts_at)
        for device in sorted(audience.devices or of_all, key=lambda device: device.name)
        if device.pk not in busy
    ]
    named = idle[:NAMED] if audience.devices else []
    return IdleDevices(named, _together(idle[len(named) :], more=bool(named)))


def _idle(device: Device, may_send: bool, forecast: Forecast, starts_at: datetime) -> Idle:
    card = Card(device, 0)
    if not may_send:
        return Idle(card, str(away(device) or ""), card.state_label)
    if Pace.if_known(device) is None:
        return Idle(card, str(held(device)), _("in a time zone that is not known here"))
    if not forecast.free_leads:
        said = _("Everybody in this audience stays with another device.")
        return Idle(card, said, _("everybody stays with another"))
    if (until := device.may_send_at(starts_at)) and until > starts_at:
        said = _("WhatsApp lets it send nothing before %(when)s.")
        return Idle(card, said % {"when": moment(until, "j M")}, card.state_label)
    if hold := hold_of(device, starts_at, first_contact=True):
        said = _("%(why)s. The others are done before.") % {"why": capfirst(in_short(hold))}
        return Idle(card, said, str(SHORT[hold.brake]))
    said = _("The others are done before its turn comes.")
    return Idle(card, said, _("the others are done before"))


def _together(idle: Sequence[Idle], *, more: bool) -> str:
    """Says how many these are and why; `more` than those that are named."""
    if not idle:
        return ""
    if more:
        text = ngettext(
            "%(count)s more device gets nothing of it: %(why)s.",
            "%(count)s more devices get nothing of it: %(why)s.",
            len(idle),
        )
    else:
        text = ngettext(
            "%(count)s device gets nothing of it: %(why)s.",
            "%(count)s devices get nothing of it: %(why)s.",
            len(idle),
        )
    reasons = Counter(each.short for each in idle).most_common()
    why = ", ".join(f"{short} ({count:,})" for short, count in reasons)
    return text % {"count": f"{len(idle):,}", "why": why}
