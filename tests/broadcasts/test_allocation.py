"""A stretch at a time must come to the same as a message at a time."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from broadcasts import allocation, pacing
from tests.broadcasts import one_by_one

ZONES = [
    ZoneInfo(name)
    for name in ("UTC", "Asia/Kuala_Lumpur", "Asia/Kathmandu", "Europe/Berlin",
                 "America/New_York", "Australia/Lord_Howe")
]  # fmt: skip
# Around the nights on which clocks are put forward or back.
NIGHTS = [date(2026, 3, 8), date(2026, 3, 29), date(2026, 10, 25), date(2026, 4, 5)]


def some_case(seed: int) -> tuple[pacing.Pace, pacing.Slot, datetime, float, int]:
    """Returns a pace, what was used of it, a start, a gap in seconds and how many messages."""
    dice = random.Random(seed)
    zone = dice.choice(ZONES)
    start = datetime.combine(dice.choice(NIGHTS), time(), UTC) + timedelta(
        seconds=dice.uniform(-100_000, 100_000)
    )
    hours: tuple[time | None, time | None] = (None, None)
    if dice.random() < 0.6:
        one, other = dice.sample(range(24), 2)
        hours = time(one, dice.choice([0, 30])), time(other, dice.choice([0, 0, 15]), 30)
    day = start.astimezone(zone).date()
    pace = pacing.Pace(
        hourly_limit=dice.choice([None, None, 1, 7, 50]),
        daily_limit=dice.choice([None, None, 3, 90, 400]),
        warmup_started_on=dice.choice([None, None, day - timedelta(days=dice.randrange(9))]),
        sends_from=hours[0],
        sends_until=hours[1],
        zone=zone,
        speed=dice.choice([1.0, 1.0, 3.0, 60.0]),
    )
    slot = pacing.Slot(
        next_send_at=dice.choice([None, start + timedelta(seconds=dice.uniform(-50, 5000))]),
        usage_hour_at=start.replace(minute=0, second=0, microsecond=0),
        usage_hour_count=dice.randrange(8),
        usage_day=day,
        usage_day_count=dice.randrange(100),
    )
    gap = dice.choice([dice.uniform(1, 20), dice.uniform(60, 9000), 10.0])
    return pace, slot, start, gap, dice.randrange(0, 400)


@pytest.mark.parametrize("seed", range(300))
def test_a_stretch_at_a_time_gives_the_same_as_a_message_at_a_time(seed: int) -> None:
    pace, slot, start, gap, count = some_case(seed)

    expected = list(islice(one_by_one.plan(pace, slot, start, gap), count))
    assert list(islice(allocation.plan(pace, slot, start, gap), count)) == expected
    assert allocation.play(pace, slot, start, gap, count) == one_by_one.play(
        pace, slot, start, gap, count
    )


def test_a_stretch_ends_at_closing_time_also_where_the_clock_jumps_within_an_hour() -> None:
    """On Lord Howe Island the hands go from 2:00 to 2:30, at half past an hour of UTC."""
    pace = pacing.Pace(sends_from=time(0), sends_until=time(2, 45), zone=ZONES[-1])
    slot, start = pacing.Slot(), datetime(2026, 10, 3, 15, tzinfo=UTC)

    expected = list(islice(one_by_one.plan(pace, slot, start, 60), 60))
    assert list(islice(allocation.plan(pace, slot, start, 60), 60)) == expected
    assert expected[44] < datetime(2026, 10, 3, 15, 45, tzinfo=UTC) < expected[45]
