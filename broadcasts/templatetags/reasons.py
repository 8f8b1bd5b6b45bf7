"""Why a message is where it is, in plain words: on every page, and in the export."""

from __future__ import annotations

from django import template
from django.utils import timezone
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from broadcasts import reports
from broadcasts.claiming import CAMPAIGN_SENDS, SEQUENCE_SENDS
from broadcasts.models import BroadcastMessage
from broadcasts.templatetags.holds import away, held_at

register = template.Library()

Status = BroadcastMessage.Status
MOST = 10_000  # nobody counts on


@register.filter
def reason(message: BroadcastMessage) -> str:
    """Says it in a sentence or two; nothing where the status says all.

    Read it with its device, campaign and sequence: lists would ask for each of them.
    """
    match _as_good_as(message):
        case Status.SKIPPED:
            return capfirst(message.get_skip_reason_display())
        case Status.UNKNOWN:
            return message.error_message or _(
                "Nobody can tell whether it arrived. A delivery receipt may still settle it."
            )
        case Status.EXPIRED if message.device and message.device.deleted_at:
            return _("Its device was deleted. Rescheduled, it leaves from another.")
        case Status.EXPIRED:
            return _("It could not start in time.")
        case Status.PAUSED if message.campaign_id:
            return _("Its campaign is paused.")
        case Status.PAUSED:
            return _("Its sequence is paused.")
        case Status.CANCELLED if message.campaign_id:
            return _("Its campaign was cancelled.")
        case Status.CANCELLED:
            return _("It was cancelled.")
        case Status.PENDING:
            return " ".join(filter(None, (message.error_message, _waits(message))))
    if message.error_message:
        return message.error_message
    if message.read_at:
        return _("read")
    return _("delivered") if message.delivered_at else ""


@register.filter
def turn(message: BroadcastMessage) -> str:
    """Says who leaves before a waiting message, for its own page: it counts and looks them up."""
    if _as_good_as(message) != Status.PENDING or message.device is None:
        return ""
    if message.device.deleted_at:
        return ""
    if message.waits_for_other_number:
        return _("It waits until it is known what became of it at another number of this person.")
    count = reports.ahead_of(message, MOST)
    if not count:
        return _("It is the first in the line of %(device)s.") % {"device": message.device}
    text = ngettext(
        "%(count)s other on %(device)s leaves before it.",
        "%(count)s others on %(device)s leave before it.",
        count,
    )
    if count == MOST:
        text = _("%(count)s others or more on %(device)s leave before it.")
    return text % {"count": f"{count:,}", "device": message.device}


def _as_good_as(message: BroadcastMessage) -> str:
    """Returns the status that a pending message has as good as got: before its rows have moved, the
    claim passes over them already."""
    if message.status != Status.PENDING:
        return message.status
    if message.campaign and message.campaign.status in ("paused", "cancelled"):
        return message.campaign.status
    if message.sequence and message.sequence.status not in SEQUENCE_SENDS:
        return Status.PAUSED
    # Of a pause, from which it would get its time back, that was said above.
    if message.expires_at and message.expires_at <= timezone.now():
        return Status.EXPIRED
    return Status.PENDING


def _waits(message: BroadcastMessage) -> str:
    """Says what a pending message waits for, beside its turn; nothing where that is all."""
    device = message.device
    if message.campaign and message.campaign.status not in CAMPAIGN_SENDS:
        return _("Its campaign has not begun.")
    if device is None:
        return _("It has no device that could send it.")
    if device.deleted_at:
        return _("Its device was deleted. Within a minute it is listed as expired; rescheduled, it "
                 "leaves from another.")  # fmt: skip
    if gone := away(device):
        return gone.to(message)
    # What is not due yet may be held by then, and not by what holds the device now.
    at = max(timezone.now(), message.scheduled_at)
    is_first = message.priority in BroadcastMessage.FIRST_CONTACTS
    hold = held_at(device, at, first_contact=is_first)
    return hold.to(message) if hold else ""
