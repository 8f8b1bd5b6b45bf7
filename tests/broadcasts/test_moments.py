"""Days and times as pages say them, around midnight and the turn of the year."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from django.utils import timezone

from broadcasts.templatetags.moments import day, moment, within

KL = "Asia/Kuala_Lumpur"


def at_midnight(year: int) -> datetime:
    """When this year begins in Kuala Lumpur; elsewhere it may still be the one before."""
    return datetime(year - 1, 12, 31, 16, tzinfo=UTC)


def test_the_year_is_said_where_it_is_another_by_the_zone_of_the_page() -> None:
    with timezone.override(KL):
        year = timezone.localdate().year
        this, following = at_midnight(year), at_midnight(year + 1)
        assert day(this, "j M") == "1 Jan"
        assert moment(following - timedelta(minutes=1), "j M") == "31 Dec, 23:59"
        assert moment(following, "j M") == f"1 Jan {year + 1}, 00:00"
        assert day(this - timedelta(seconds=1), "j M") == f"31 Dec {year - 1}"
        assert day(None) == moment(None) == ""


@pytest.mark.parametrize(
    ("takes", "said"),
    [
        (timedelta(seconds=40), ("31 Dec, 23:59:30", "00:00:10")),
        (timedelta(hours=2), ("31 Dec, 23:59", "01:59")),
    ],
)
def test_a_short_forecast_is_told_in_seconds(takes: timedelta, said: tuple[str, str]) -> None:
    with timezone.override(KL):
        year = timezone.localdate().year
        first = at_midnight(year + 1) - timedelta(seconds=30)
        forecast = SimpleNamespace(first_at=first, half_at=first, finish_at=first + takes)
        assert within(forecast.first_at, forecast).endswith(said[0])
        ends = within(forecast.finish_at, forecast)
        assert ends.endswith(f"1 Jan {year + 1}, {said[1]}")
