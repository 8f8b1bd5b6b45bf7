"""What holds of every pace, at every moment, in every zone: also in those whose clocks jump by half
an hour, or over midnight."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broadcasts.pacing import Pace, Slot, after_send, deadline, earliest, plan, play

# Half an hour of summer time; over midnight, both ways; half and three-quarter hours off; a day
# left out; and clocks that were put back from one day into the day before.
ZONES = [
    "UTC", "Asia/Kuala_Lumpur", "Europe/Berlin", "Australia/Lord_Howe", "America/Santiago",
    "Asia/Beirut", "America/Havana", "Asia/Kathmandu", "Pacific/Apia", "America/St_Johns",
]  # fmt: skip
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
MANY = settings(max_examples=150, deadline=None)

zones = st.sampled_from(ZONES).map(ZoneInfo)
clocks = st.builds(time, st.integers(0, 23), st.sampled_from([0, 1, 15, 30, 59]))
moments = st.datetimes(datetime(2010, 1, 1), datetime(2030, 1, 1)).map(  # noqa: DTZ001
    lambda naive: naive.replace(tzinfo=UTC)
)
limits = st.none() | st.integers(1, 5)


@st.composite
def paces(draw: st.DrawFn) -> Pace:
    with_hours = draw(st.booleans())
    shortest = draw(st.integers(1, 7200))
    return Pace(
        min_delay_seconds=shortest,
        max_delay_seconds=shortest,
        hourly_limit=draw(limits),
        daily_limit=draw(limits),
        warmup_started_on=draw(st.none() | st.dates(date(2009, 12, 1), date(2030, 1, 1))),
        sends_from=draw(clocks) if with_hours else None,
        sends_until=draw(clocks) if with_hours else None,
        zone=draw(zones),
    )


@st.composite
def slots(draw: st.DrawFn, near: datetime) -> Slot:
    """What a device may have behind it at that time, its caps used up as often as not."""
    before = near - draw(st.timedeltas(timedelta(), DAY))
    return Slot(
        next_send_at=draw(st.none() | st.just(near + draw(st.timedeltas(-DAY, DAY)))),
        usage_hour_at=before.replace(minute=0, second=0, microsecond=0),
        usage_hour_count=draw(st.integers(0, 6)),
        usage_day=draw(st.sampled_from([before.date(), before.date() - DAY, near.date()])),
        usage_day_count=draw(st.integers(0, 30)),
    )


@st.composite
def situations(draw: st.DrawFn) -> tuple[Pace, Slot, datetime]:
    now = draw(moments)
    return draw(paces()), draw(slots(now)), now


def is_open(pace: Pace, moment: datetime) -> bool:
    """Whether the clock on the wall shows an hour at which the device sends."""
    if pace.sends_from is None or pace.sends_until is None:
        return True
    clock = moment.astimezone(pace.zone).time()
    if pace.sends_from < pace.sends_until:
        return pace.sends_from <= clock < pace.sends_until
    return clock >= pace.sends_from or clock < pace.sends_until


@MANY
@given(situations())
def test_the_earliest_moment_is_allowed_in_every_way(
    situation: tuple[Pace, Slot, datetime],
) -> None:
    pace, slot, now = situation

    at = earliest(pace, slot, now)

    assert at >= now
    assert slot.next_send_at is None or at >= slot.next_send_at
    assert is_open(pace, at)
    day, hour = at.astimezone(pace.zone).date(), at.replace(minute=0, second=0, microsecond=0)
    limit = pace.limit_on(day)
    assert limit is None or slot.usage_day != day or slot.usage_day_count < limit
    assert (
        pace.hourly_limit is None
        or slot.usage_hour_at != hour
        or slot.usage_hour_count < pace.hourly_limit
    )
    assert earliest(pace, slot, at) == at  # what may leave then may still leave then


@MANY
@given(situations(), st.timedeltas(timedelta(), 3 * DAY))
def test_who_asks_later_is_never_told_something_earlier(
    situation: tuple[Pace, Slot, datetime], later: timedelta
) -> None:
    pace, slot, now = situation

    assert earliest(pace, slot, now) <= earliest(pace, slot, now + later)


@MANY
@given(situations(), zones)
def test_the_zone_in_which_now_is_written_changes_nothing(
    situation: tuple[Pace, Slot, datetime], zone: tzinfo
) -> None:
    pace, slot, now = situation
    local = now.astimezone(zone)

    assert earliest(pace, slot, local) == earliest(pace, slot, now)
    assert after_send(pace, slot, local, 9.0) == after_send(pace, slot, now, 9.0)
    assert deadline(pace, local, DAY / 8) == deadline(pace, now, DAY / 8)


@MANY
@given(situations(), st.floats(0, 9000), st.floats(0.1, 100))
def test_a_send_counts_once_and_leaves_its_pause_behind_it(
    situation: tuple[Pace, Slot, datetime], gap: float, speed: float
) -> None:
    pace, slot, _ = situation
    pace = Pace(**{name: getattr(pace, name) for name in Pace.__slots__} | {"speed": speed})
    at = earliest(pace, slot, situation[2])

    after = after_send(pace, slot, at, gap)

    assert after.next_send_at == at + timedelta(seconds=gap / speed)
    same_day = slot.usage_day == after.usage_day
    assert after.usage_day_count == 1 + (slot.usage_day_count if same_day else 0)
    same_hour = slot.usage_hour_at == after.usage_hour_at
    assert after.usage_hour_count == 1 + (slot.usage_hour_count if same_hour else 0)


@MANY
@given(paces(), moments)
@example(  # the clocks went back from a minute past midnight into the day before
    Pace(7, 7, hourly_limit=5, daily_limit=3, zone=ZoneInfo("America/St_Johns")),
    datetime(2010, 11, 7, 2, 29, tzinfo=UTC),
)
def test_no_sequence_of_sends_breaks_a_rule(pace: Pace, start: datetime) -> None:
    times = list(islice(plan(pace, Slot(), start, pace.min_delay_seconds), 60))

    assert times[0] >= start
    assert all(b - a >= pace.min_delay_seconds * SECOND for a, b in pairwise(times))
    assert all(is_open(pace, at) for at in times)
    hours = Counter(at.replace(minute=0, second=0, microsecond=0) for at in times)
    assert pace.hourly_limit is None or max(hours.values()) <= pace.hourly_limit
    days = Counter(at.astimezone(pace.zone).date() for at in times)
    for day, count in days.items():
        limit = pace.limit_on(day)
        assert limit is None or count <= limit


@MANY
@given(situations(), st.integers(1, 40), st.floats(1, 7200))
def test_playing_is_planning_with_the_slot_kept(
    situation: tuple[Pace, Slot, datetime], count: int, gap: float
) -> None:
    pace, slot, start = situation
    times = list(islice(plan(pace, slot, start, gap), count + 1))

    after, last = play(pace, slot, start, gap, count)

    assert last == times[count - 1]
    assert earliest(pace, after, last) == times[count]


@MANY
@given(paces(), moments, st.integers(1, 12).map(lambda hours: hours * 3600 * SECOND))
def test_nobody_is_late_before_having_had_the_time(
    pace: Pace, now: datetime, allowance: timedelta
) -> None:
    expected_at = earliest(pace, Slot(), now)

    late_at = deadline(pace, expected_at, allowance)

    assert late_at >= expected_at + allowance
    if pace.sends_from and pace.sends_until:
        # So short are these hours that the month is over first.
        step, open_time, moment = timedelta(minutes=5), timedelta(), expected_at
        while moment < late_at and open_time < allowance:
            open_time += step if is_open(pace, moment) else timedelta()
            moment += step
        # Counted in steps, each opening may look a step shorter than it is.
        openings = (late_at - expected_at).days + 2
        assert open_time >= allowance - openings * step or late_at >= expected_at + 28 * DAY


@MANY
@given(paces(), moments)
def test_a_message_that_the_day_s_cap_pushes_on_has_its_time_tomorrow(
    pace: Pace, now: datetime
) -> None:
    pace = Pace(**{name: getattr(pace, name) for name in Pace.__slots__} | {"daily_limit": 1})
    expected_at = earliest(pace, Slot(), now)
    tomorrow = earliest(pace, after_send(pace, Slot(), expected_at, 1), expected_at)

    assert deadline(pace, expected_at, timedelta(hours=3)) > tomorrow


@pytest.mark.parametrize("limit", [0, 1])
@pytest.mark.parametrize("zone", ZONES)
def test_rules_that_leave_no_time_end_all_the_same(limit: int, zone: str) -> None:
    """The forms refuse these; a row that was changed by hand must not hang a broadcaster."""
    noon = datetime(2026, 11, 23, 12, tzinfo=UTC)
    for until in (time(12), time(12, 0, 0, 1)):
        pace = Pace(
            hourly_limit=limit, daily_limit=limit, sends_from=time(12), sends_until=until,
            zone=ZoneInfo(zone), warmup_started_on=date(2030, 1, 1),
        )  # fmt: skip
        slot, at = play(pace, Slot(), noon, 5, 20)
        assert slot.usage_day_count == 1
        assert at >= noon + 18 * DAY
        assert deadline(pace, noon, timedelta(days=3000)) > noon
