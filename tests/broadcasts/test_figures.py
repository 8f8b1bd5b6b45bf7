"""Figures drawn from numbers: what stands below a forecast's curve."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from broadcasts.templatetags.figures import curve

# In Kuala Lumpur it is half past four in the afternoon, on a Thursday.
BEGIN = datetime(2026, 11, 26, 8, 30, tzinfo=UTC)


@dataclass
class Forecast:
    half_after: timedelta
    done_after: timedelta
    first_at: datetime = BEGIN

    @property
    def half_at(self) -> datetime:
        return BEGIN + self.half_after

    @property
    def finish_at(self) -> datetime:
        return BEGIN + self.done_after


@pytest.mark.parametrize(
    ("half", "done", "labels"),
    [
        (timedelta(seconds=10), timedelta(seconds=25), ("16:30:00", "16:30:10", "16:30:25")),
        (timedelta(seconds=0.2), timedelta(seconds=5), ("16:30:00", "", "16:30:05")),
        (timedelta(minutes=20), timedelta(hours=1), ("16:30", "16:50", "17:30")),
        (timedelta(seconds=30), timedelta(hours=1), ("16:30", "", "17:30")),
        (timedelta(hours=20), timedelta(days=1), ("Thu 16:30", "Fri 12:30", "Fri 16:30")),
        (timedelta(days=9), timedelta(days=30), ("26 Nov", "5 Dec", "26 Dec")),
        (timedelta(days=9), timedelta(days=60), ("26 Nov 2026", "5 Dec 2026", "25 Jan 2027")),
    ],
)
def test_no_time_stands_twice_below_a_forecast(
    half: timedelta, done: timedelta, labels: tuple[str, str, str]
) -> None:
    drawn = curve(Forecast(half, done))
    assert drawn
    assert drawn.labels == labels


def test_what_all_leaves_at_once_has_no_curve() -> None:
    assert curve(Forecast(timedelta(), timedelta(seconds=0.4))) is None
