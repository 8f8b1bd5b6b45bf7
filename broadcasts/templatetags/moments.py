"""When something is, in as few words as tell it from any other time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol

from django import template
from django.utils import timezone
from django.utils.formats import date_format

register = template.Library()

# What takes less than this is told in seconds: in minutes, beginning and end would read alike.
SHORT = timedelta(minutes=10)


class Expected(Protocol):
    """A forecast, as far as it is told."""

    first_at: datetime | None
    half_at: datetime | None
    finish_at: datetime | None


@register.filter
def day(at: datetime | None, shape: str = "D j M") -> str:
    """Returns the day in this format, and the year behind it where that is not this year."""
    if at is None:
        return ""
    local = timezone.localtime(at)
    is_this_year = local.year == timezone.localdate().year
    return date_format(local, shape if is_this_year else f"{shape} Y")


@register.filter
def moment(at: datetime | None, shape: str = "D j M") -> str:
    """Returns day and time: "Fri 27 Nov, 08:25"."""
    return f"{day(at, shape)}, {date_format(timezone.localtime(at), 'H:i')}" if at else ""


@register.filter
def foreign(zone: str) -> str:
    """Returns the zone's name where it is not the reader's, and nothing where it is."""
    return "" if zone == timezone.get_default_timezone_name() else zone


@register.filter
def within(at: datetime | None, forecast: Expected) -> str:
    """Returns day and time of what a forecast says, with the seconds of a short one."""
    if at is None:
        return ""
    clock = "H:i:s" if is_short(forecast) else "H:i"
    return f"{day(at)}, {date_format(timezone.localtime(at), clock)}"


def is_short(forecast: Expected) -> bool:
    first, finish = forecast.first_at, forecast.finish_at
    return bool(first and finish and finish - first < SHORT)
