"""How long something takes. Django's own words begin at a minute: half of one is "0 minutes"."""

from __future__ import annotations

from datetime import datetime

from django import template
from django.utils import timezone
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

register = template.Library()

COARSE_FROM = 120  # seconds


@register.filter
def since(start: datetime | None, end: datetime | None = None) -> str:
    """Returns the time from then until `end`, or now: "under a second", "45 seconds", "3 hours"."""
    if start is None:
        return ""
    end = end or timezone.now()
    seconds = int((end - start).total_seconds())
    if seconds >= COARSE_FROM:
        return timesince(start, end)
    if seconds < 1:
        return _("under a second")
    return ngettext("%(count)d second", "%(count)d seconds", seconds) % {"count": seconds}


@register.filter
def until(end: datetime | None) -> str:
    """Returns the time from now until then."""
    return since(timezone.now(), end) if end else ""
