"""Why a message is where it is, in plain words: on every page, and in the export."""

from __future__ import annotations

from django import template
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from broadcasts.models import BroadcastMessage
from broadcasts.templatetags.holds import waits

register = template.Library()

Status = BroadcastMessage.Status


@register.filter
def reason(message: BroadcastMessage) -> str:
    """Says it in a sentence or two; nothing where the status says all.

    Read it with its device, campaign and sequence: lists would ask for each of them.
    """
    match message.status:
        case Status.SKIPPED:
            return capfirst(message.get_skip_reason_display())
        case Status.UNKNOWN:
            return message.error_message or _(
                "Nobody can tell whether it arrived. A delivery receipt may still settle it."
            )
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
            return " ".join(filter(None, (message.error_message, waits(message))))
    if message.error_message:
        return message.error_message
    if message.read_at:
        return _("read")
    return _("delivered") if message.delivered_at else ""
