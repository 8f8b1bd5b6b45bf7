"""A stretch at a time must come to the same as a message at a time."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from broadcasts import allocation, pacing, timeline
from broadcasts.models import BroadcastMessage
from broadcasts.timeline import Track, Turns
from devices.models import Device
from tests.broadcasts import one_by_one
from tests.factories import BroadcastMessageFactory, DeviceFactory

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
    turns = Turns(Track(pace, slot, start), gap)
    assert [turns.take() for _ in range(count)] == expected
    track = Track(pace, slot, start)
    track.play(gap, count)
    assert (track.slot, track.moment) == one_by_one.play(pace, slot, start, gap, count)


@pytest.mark.parametrize("seed", range(40))
def test_days_that_are_skipped_give_the_same_as_a_message_at_a_time(seed: int) -> None:
    """Over clock changes in spring and autumn, warm-ups and hours that pass midnight."""
    pace, slot, start, gap, _ = some_case(seed)
    pace = replace(pace, daily_limit=random.Random(seed).choice([1, 3, 7]), speed=1.0)
    start += timedelta(days=150)

    track = Track(pace, slot, start)
    track.play(gap, 1500)

    assert (track.slot, track.moment) == one_by_one.play(pace, slot, start, gap, 1500)


def test_the_days_of_an_unchanged_cap_are_not_played_through() -> None:
    track = Track(pacing.Pace(daily_limit=20, zone=ZONES[3]), pacing.Slot(), START)
    timeline._stretch.cache_clear()

    track.play(10, 20 * 365 * 5)

    assert timeline._stretch.cache_info().misses < 100


def test_a_stretch_ends_at_closing_time_also_where_the_clock_jumps_within_an_hour() -> None:
    """On Lord Howe Island the hands go from 2:00 to 2:30, at half past an hour of UTC."""
    pace = pacing.Pace(sends_from=time(0), sends_until=time(2, 45), zone=ZONES[-1])
    slot, start = pacing.Slot(), datetime(2026, 10, 3, 15, tzinfo=UTC)

    expected = list(islice(one_by_one.plan(pace, slot, start, 60), 60))
    turns = Turns(Track(pace, slot, start), 60)
    assert [turns.take() for _ in range(60)] == expected
    assert expected[44] < datetime(2026, 10, 3, 15, 45, tzinfo=UTC) < expected[45]


START = datetime(2026, 11, 23, 8, tzinfo=UTC)


def allocation_of(*devices: Device) -> allocation.Allocation:
    return allocation.Allocation(
        devices, starts_at=START, priority=BroadcastMessage.Priority.CAMPAIGN
    )


@pytest.mark.django_db
def test_first_contacts_beyond_the_cap_are_expected_on_the_next_days() -> None:
    device = DeviceFactory(first_contact_limit=2, timezone="UTC")
    placed = allocation_of(device)

    times = [placed.place(None)[1] for _ in range(5)]

    assert [moment.day for moment in times] == [23, 23, 24, 24, 25]
    # Whoever has talked with it does not wait for them.
    assert placed.place(device.pk, knows=True)[1].day == 23
    assert placed.place(device.pk)[1].day == 25


@pytest.mark.django_db
def test_first_contacts_that_wait_already_use_up_the_cap_of_their_days() -> None:
    device = DeviceFactory(first_contact_limit=2, timezone="UTC")
    for lane in (21, 21, 21, 20, 20):
        BroadcastMessageFactory(device=device, priority=lane)

    assert allocation_of(device).place(None)[1].day == 24


@pytest.mark.django_db
def test_new_people_go_to_the_device_that_may_write_to_them_first() -> None:
    capped = DeviceFactory(first_contact_limit=1, timezone="UTC")
    free = DeviceFactory(timezone="UTC")
    placed = allocation_of(capped, free)

    chosen = [placed.place(None)[0] for _ in range(6)]

    assert chosen.count(capped) == 1


@pytest.mark.django_db
def test_days_that_are_alike_on_several_devices_are_worked_out_once() -> None:
    def stretches(count: int) -> int:
        """Returns how many were worked out for so many devices, each with a slot of its own."""
        timeline._stretch.cache_clear()
        devices = [
            DeviceFactory(
                first_contact_limit=2,
                timezone="UTC",
                next_send_at=START + timedelta(seconds=n),
                usage_day=START.date(),
                usage_first_count=1,
            )
            for n in range(count)
        ]
        placed = allocation_of(*devices)
        for device in devices:
            for _ in range(60):
                placed.place(device.pk)
        return timeline._stretch.cache_info().misses

    assert stretches(5) - stretches(1) < 30


@pytest.mark.django_db
def test_what_waits_for_the_next_day_s_first_contacts_has_not_expired_by_then() -> None:
    device = DeviceFactory(first_contact_limit=1, timezone="UTC")
    placed = allocation_of(device)

    deadlines = [placed.deadline(*placed.place(None), timedelta(hours=3)) for _ in range(3)]

    assert [moment.day for moment in deadlines] == [24, 25, 26]
