from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from broadcasts.pacing import (
    Brake,
    Hold,
    Pace,
    Slot,
    Use,
    after_send,
    deadline,
    earliest,
    gap_bounds,
    held,
    may_contact_first,
    random_gap,
    use_of_caps,
    waits_for,
)
from tests.broadcasts.one_by_one import plan

KL = ZoneInfo("Asia/Kuala_Lumpur")
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=KL)
HOURS = Pace(sends_from=time(8), sends_until=time(22), zone=KL)


def test_a_device_that_never_sent_may_send_now() -> None:
    assert earliest(Pace(), Slot(), NOON) == NOON


def test_the_stored_slot_is_waited_for() -> None:
    slot = Slot(next_send_at=NOON + timedelta(seconds=9))

    assert earliest(Pace(), slot, NOON) == NOON + timedelta(seconds=9)


def test_a_slot_in_the_past_does_not_make_up_for_lost_time() -> None:
    assert earliest(Pace(), Slot(next_send_at=NOON - timedelta(hours=3)), NOON) == NOON


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("07:59:59", "23T08:00"),
        ("08:00", "23T08:00"),
        ("21:59:59", "23T21:59:59"),
        ("22:00", "24T08:00"),
        ("23:30", "24T08:00"),
        ("00:10", "23T08:00"),
    ],
)
def test_sending_hours_are_the_device_s_own(at: str, expected: str) -> None:
    moment = datetime.fromisoformat(f"2026-11-23T{at}").replace(tzinfo=KL).astimezone(UTC)

    begins = earliest(HOURS, Slot(), moment)

    assert begins == datetime.fromisoformat(f"2026-11-{expected}").replace(tzinfo=KL)


@pytest.mark.parametrize(
    ("at", "expected"), [("23:00", "23:00"), ("01:59", "01:59"), ("02:00", "20:00")]
)
def test_sending_hours_may_pass_midnight(at: str, expected: str) -> None:
    pace = Pace(sends_from=time(20), sends_until=time(2), zone=KL)
    moment = datetime.fromisoformat(f"2026-11-23T{at}").replace(tzinfo=KL)

    begins = earliest(pace, Slot(), moment)

    assert begins == datetime.fromisoformat(f"2026-11-23T{expected}").replace(tzinfo=KL)


def test_sending_hours_may_have_seconds() -> None:
    pace = Pace(sends_from=time(8, 0, 30), sends_until=time(23, 59, 59), zone=KL)
    midnight = datetime(2026, 11, 23, 23, 59, 59, tzinfo=KL)

    assert earliest(pace, Slot(), midnight) == datetime(2026, 11, 24, 8, 0, 30, tzinfo=KL)
    late = deadline(pace, midnight - timedelta(hours=1), timedelta(hours=2))
    assert late == datetime(2026, 11, 24, 9, 0, 30, tzinfo=KL)


def test_sending_hours_follow_the_clock_through_summer_time() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    pace = Pace(sends_from=time(8), sends_until=time(22), zone=berlin)
    night_of_the_change = datetime(2026, 3, 28, 23, 0, tzinfo=berlin)

    begins = earliest(pace, Slot(), night_of_the_change).astimezone(berlin)

    assert (begins.day, begins.hour) == (29, 8)


@pytest.mark.parametrize(
    ("pace", "hour", "brake", "until"),
    [
        (HOURS, 23, Brake.SENDING_HOURS, "24T08:00"),
        (replace(HOURS, daily_limit=5), 12, Brake.MESSAGES_A_DAY, "24T00:00"),
        (replace(HOURS, daily_limit=5), 23, Brake.SENDING_HOURS, "24T08:00"),
        (replace(HOURS, daily_limit=9, first_contact_limit=5).of_first_contacts, 12,
         Brake.NEW_PEOPLE_A_DAY, "24T00:00"),
        (replace(HOURS, daily_limit=5, first_contact_limit=9).of_first_contacts, 12,
         Brake.MESSAGES_A_DAY, "24T00:00"),
        (replace(HOURS, warmup_started_on=NOON.date(), daily_limit=50), 12,
         Brake.WARM_UP, "24T00:00"),
        (replace(HOURS, hourly_limit=3), 12, Brake.MESSAGES_AN_HOUR, "23T13:00"),
    ],
)  # fmt: skip
def test_what_holds_a_message_back_has_a_name_and_an_end(
    pace: Pace, hour: int, brake: Brake, until: str
) -> None:
    now = NOON.replace(hour=hour).astimezone(UTC)
    slot = Slot(usage_hour_at=now, usage_hour_count=3, usage_day=NOON.date(), usage_day_count=20)

    hold = held(pace, slot, now)

    assert hold
    assert (hold.brake, hold.since) == (brake, now)
    assert hold.until == datetime.fromisoformat(f"2026-11-{until}").replace(tzinfo=KL)


def test_where_nothing_but_a_pause_is_in_the_way_nothing_holds_a_message_back() -> None:
    pace = replace(HOURS, daily_limit=6, hourly_limit=4)
    slot = Slot(
        next_send_at=NOON + timedelta(seconds=9), usage_hour_at=NOON.astimezone(UTC),
        usage_hour_count=3, usage_day=NOON.date(), usage_day_count=5,
    )  # fmt: skip

    assert held(pace, slot, NOON.astimezone(UTC)) is None


def test_the_hourly_cap_waits_for_the_next_hour() -> None:
    pace, slot = Pace(hourly_limit=2), Slot()
    for _ in range(2):
        slot = after_send(pace, slot, NOON, gap_seconds=5)

    assert earliest(pace, slot, NOON) == NOON + timedelta(hours=1)


def test_the_daily_cap_waits_for_the_next_day_s_sending_hours() -> None:
    pace = Pace(daily_limit=1, sends_from=time(8), sends_until=time(22), zone=KL)
    slot = after_send(pace, Slot(), NOON, gap_seconds=5)

    assert earliest(pace, slot, NOON) == datetime(2026, 11, 24, 8, tzinfo=KL)


def test_a_cap_used_up_yesterday_is_fresh_today() -> None:
    pace = Pace(daily_limit=1, zone=KL)
    slot = after_send(pace, Slot(), NOON - timedelta(days=1), gap_seconds=5)

    assert earliest(pace, slot, NOON) == NOON


@pytest.mark.parametrize(("day", "limit"), [(0, 20), (2, 20), (3, 40), (6, 80), (18, 1000)])
def test_warming_up_doubles_every_third_day_up_to_the_cap(day: int, limit: int) -> None:
    pace = Pace(daily_limit=1000, warmup_started_on=date(2026, 11, 1))

    assert pace.limit_on(date(2026, 11, 1) + timedelta(days=day)) == limit


def test_the_warm_up_limits_a_device_without_a_cap_too() -> None:
    pace = Pace(daily_limit=None, warmup_started_on=NOON.date(), zone=KL)

    times = list(islice(plan(pace, Slot(), NOON, gap_seconds=10), 21))

    assert times[19].date() == NOON.date()
    assert times[20].astimezone(KL).date() == NOON.date() + timedelta(days=1)


def test_a_campaign_may_ask_for_longer_pauses_but_never_for_shorter() -> None:
    pace = Pace(min_delay_seconds=5, max_delay_seconds=15)

    assert gap_bounds(pace, 1, 2) == (5, 15)
    assert gap_bounds(pace, 10, 30) == (10, 30)
    assert gap_bounds(pace, 20, 20) == (20, 20)


def test_pauses_stay_within_their_bounds_and_vary() -> None:
    gaps = [random_gap(Pace(min_delay_seconds=5, max_delay_seconds=15)) for _ in range(200)]

    assert 5 <= min(gaps) < 7 < 13 < max(gaps) <= 15


def test_only_the_simulator_s_clock_runs_faster() -> None:
    slot = after_send(Pace(speed=10), Slot(), NOON, gap_seconds=10)

    assert slot.next_send_at == NOON + timedelta(seconds=1)


def test_a_plan_counts_pauses_caps_and_hours_in() -> None:
    pace = Pace(hourly_limit=3, sends_from=time(8), sends_until=time(13), zone=KL)

    times = list(islice(plan(pace, Slot(), NOON, gap_seconds=60), 5))

    assert [t.astimezone(KL).strftime("%d %H:%M") for t in times] == [
        "23 12:00", "23 12:01", "23 12:02", "24 08:00", "24 08:01",
    ]  # fmt: skip


def test_first_contacts_are_counted_for_the_day_and_capped_apart_from_the_rest() -> None:
    pace = Pace(first_contact_limit=1, zone=KL)
    slot = after_send(pace, Slot(), NOON, gap_seconds=5)
    assert may_contact_first(pace, slot, NOON)

    slot = after_send(pace, slot, NOON, gap_seconds=5, first_contact=True)

    assert (slot.usage_first_count, slot.usage_day_count) == (1, 2)
    assert not may_contact_first(pace, slot, NOON)
    assert may_contact_first(Pace(zone=KL), slot, NOON)
    tomorrow = NOON + timedelta(days=1)
    assert may_contact_first(pace, slot, tomorrow)
    assert after_send(pace, slot, tomorrow, 5, first_contact=True).usage_first_count == 1


# What holds a device

TODAY, TOMORROW_8 = NOON.date(), NOON.replace(hour=8) + timedelta(days=1)
FULL = Slot(
    usage_hour_at=NOON.astimezone(UTC), usage_hour_count=30,
    usage_day=TODAY, usage_day_count=60, usage_first_count=20,
)  # fmt: skip


def test_nothing_holds_a_device_but_its_pause() -> None:
    slot = Slot(next_send_at=NOON + timedelta(minutes=9))

    assert waits_for(HOURS, slot, NOON) is None
    assert waits_for(HOURS, slot, NOON, first_contact=True) is None


@pytest.mark.parametrize(
    ("pace", "expected"),
    [
        ({"daily_limit": 60}, Hold(Brake.MESSAGES_A_DAY, NOON, TOMORROW_8, 60)),
        ({"daily_limit": 61}, None),
        ({"hourly_limit": 30}, Hold(Brake.MESSAGES_AN_HOUR, NOON, NOON + timedelta(hours=1), 30)),
        ({"hourly_limit": 30, "daily_limit": 60}, Hold(Brake.MESSAGES_A_DAY, NOON, TOMORROW_8, 60)),
        ({"first_contact_limit": 20}, None),
        (
            {"warmup_started_on": TODAY, "daily_limit": 1000},
            Hold(Brake.WARM_UP, NOON, TOMORROW_8, 20),
        ),
        ({"sends_until": time(11)}, Hold(Brake.SENDING_HOURS, NOON, TOMORROW_8)),
        ({"sends_until": time(11), "daily_limit": 60}, Hold(Brake.SENDING_HOURS, NOON, TOMORROW_8)),
    ],
    ids=str,
)
def test_what_holds_a_device_is_told_with_its_end(
    pace: dict[str, Any], expected: Hold | None
) -> None:
    assert waits_for(replace(HOURS, **pace), FULL, NOON) == expected


@pytest.mark.parametrize(
    ("pace", "expected"),
    [
        ({"first_contact_limit": 20}, Hold(Brake.NEW_PEOPLE_A_DAY, NOON, TOMORROW_8, 20)),
        ({"first_contact_limit": 21}, None),
        # The hour would let it go on, to those it knows.
        (
            {"first_contact_limit": 20, "hourly_limit": 30},
            Hold(Brake.NEW_PEOPLE_A_DAY, NOON, TOMORROW_8, 20),
        ),
        (
            {"first_contact_limit": 20, "daily_limit": 60},
            Hold(Brake.MESSAGES_A_DAY, NOON, TOMORROW_8, 60),
        ),
    ],
    ids=str,
)
def test_a_first_contact_is_held_by_the_cap_on_new_people_as_well(
    pace: dict[str, Any], expected: Hold | None
) -> None:
    assert waits_for(replace(HOURS, **pace), FULL, NOON, first_contact=True) == expected


def test_a_hold_ends_when_the_next_message_may_leave() -> None:
    pace = replace(HOURS, daily_limit=60, first_contact_limit=20)
    for at in (NOON + timedelta(minutes=7 * n) for n in range(400)):
        found = waits_for(pace, FULL, at)
        assert (found.until if found else at) == earliest(pace, FULL, at)
        new = waits_for(pace, FULL, at, first_contact=True)
        assert may_contact_first(pace, FULL, new.until if new else at)


def test_the_use_of_caps_is_that_of_this_day_and_hour() -> None:
    pace = replace(HOURS, daily_limit=100, first_contact_limit=20)

    def used(at: datetime) -> list[int]:
        return [use.used for use in use_of_caps(pace, FULL, at)]

    assert use_of_caps(pace, FULL, NOON) == [
        Use(Brake.MESSAGES_A_DAY, 60, 100),
        Use(Brake.NEW_PEOPLE_A_DAY, 20, 20),
        Use(Brake.MESSAGES_AN_HOUR, 30, None),
    ]
    assert used(NOON + timedelta(hours=1)) == [60, 20, 0]
    assert used(NOON + timedelta(days=1)) == [0, 0, 0]
