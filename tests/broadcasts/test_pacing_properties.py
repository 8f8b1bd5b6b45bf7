"""What holds of every pace, at every moment, in every zone: also in those whose clocks jump by half
an hour, or over midnight."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broadcasts.pacing import (
    Pace,
    Slot,
    after_send,
    deadline,
    earliest,
    gap_bounds,
    random_gap,
)
from tests.broadcasts.one_by_one import play

# Half an hour of summer time; over midnight, both ways; half and three-quarter hours off; a day
# left out; and clocks that were put back from one day into the day before.
ZONES = [
    "UTC", "Asia/Kuala_Lumpur", "Europe/Berlin", "Australia/Lord_Howe", "America/Santiago",
    "Asia/Beirut", "America/Havana", "Asia/Kathmandu", "Pacific/Apia", "America/St_Johns",
]  # fmt: skip
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MANY = settings(max_examples=150, deadline=None)

zones = st.sampled_from(ZONES).map(ZoneInfo)
clocks = st.builds(time, st.integers(0, 23), st.sampled_from([0, 1, 15, 30, 59]))
moments = st.datetimes(datetime(2010, 1, 1), datetime(2030, 1, 1)).map(  # noqa: DTZ001
    lambda naive: naive.replace(tzinfo=UTC)
)
limits = st.none() | st.integers(1, 5)


def hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


@st.composite
def paces(draw: st.DrawFn) -> Pace:
    with_hours = draw(st.booleans())
    shortest = draw(st.integers(1, 7200))
    return Pace(
        min_delay_seconds=shortest,
        max_delay_seconds=shortest + draw(st.integers(0, 600)),
        hourly_limit=draw(limits),
        daily_limit=draw(limits),
        warmup_started_on=draw(st.none() | st.dates(date(2009, 12, 1), date(2030, 1, 1))),
        sends_from=draw(clocks) if with_hours else None,
        sends_until=draw(clocks) if with_hours else None,
        zone=draw(zones),
        speed=draw(st.sampled_from([1.0, 1.0, 0.5, 60.0])),
    )


@st.composite
def slots(draw: st.DrawFn, pace: Pace, near: datetime) -> Slot:
    """What a device may have behind it at that time, its caps used up as often as not."""
    before = near - draw(st.timedeltas(timedelta(), DAY))
    day = before.astimezone(pace.zone).date()
    return Slot(
        next_send_at=draw(st.none() | st.just(near + draw(st.timedeltas(-DAY, DAY)))),
        usage_hour_at=hour_of(before),
        usage_hour_count=draw(st.integers(0, 6)),
        usage_day=draw(st.sampled_from([day, day - DAY, near.astimezone(pace.zone).date()])),
        usage_day_count=draw(st.integers(0, 30)),
    )


@st.composite
def situations(draw: st.DrawFn) -> tuple[Pace, Slot, datetime]:
    now, pace = draw(moments), draw(paces())
    return pace, draw(slots(pace, now)), now


def is_open(pace: Pace, moment: datetime) -> bool:
    """Whether the clock on the wall shows an hour at which the device sends."""
    if pace.sends_from is None or pace.sends_until is None:
        return True
    clock = moment.astimezone(pace.zone).time()
    if pace.sends_from < pace.sends_until:
        return pace.sends_from <= clock < pace.sends_until
    return clock >= pace.sends_from or clock < pace.sends_until


def is_settled(pace: Pace, moment: datetime) -> bool:
    """Whether the clock on the wall is not about to jump, nor just did: around that, hours that the
    hands show twice or not at all need not be used."""
    around = [moment - 3 * HOUR, moment, moment + 3 * HOUR]
    return len({each.astimezone(pace.zone).utcoffset() for each in around}) == 1


def may_leave(pace: Pace, slot: Slot, moment: datetime) -> bool:
    """The rules as one would tell them, about one moment."""
    day = moment.astimezone(pace.zone).date()
    used_today = slot.usage_day_count if slot.usage_day == day else 0
    used_this_hour = slot.usage_hour_count if slot.usage_hour_at == hour_of(moment) else 0
    limit = pace.limit_on(day)
    return (
        (slot.next_send_at is None or moment >= slot.next_send_at)
        and is_open(pace, moment)
        and (limit is None or used_today < limit)
        and (pace.hourly_limit is None or used_this_hour < pace.hourly_limit)
    )


@MANY
@given(situations())
def test_the_earliest_moment_is_allowed_in_every_way(
    situation: tuple[Pace, Slot, datetime],
) -> None:
    pace, slot, now = situation

    at = earliest(pace, slot, now)

    assert at >= now
    assert may_leave(pace, slot, at)
    assert earliest(pace, slot, at) == at  # what may leave then may still leave then


@MANY
@given(situations())
def test_no_moment_before_the_earliest_is_allowed(situation: tuple[Pace, Slot, datetime]) -> None:
    pace, slot, now = situation

    at = earliest(pace, slot, now)

    between = [now + (at - now) * n / 100 for n in range(100)]
    just_before = [at - early for early in (timedelta.resolution, SECOND, 60 * SECOND, HOUR / 2)]
    assert [
        moment
        for moment in (*between, *just_before)
        if now <= moment < at and is_settled(pace, moment) and may_leave(pace, slot, moment)
    ] == []


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


def played(pace: Pace, slot: Slot, now: datetime, dice: random.Random) -> Iterator[datetime]:
    """Yields when 60 messages leave, some of them as soon as they may, others when they come."""
    for _ in range(60):
        at = earliest(pace, slot, now)
        yield at
        slot = after_send(pace, slot, at, random_gap(pace))
        now = at + dice.choice([0, 0, 0, 1, 600, 20_000]) * SECOND


@MANY
@given(situations(), st.randoms(use_true_random=False))
@example(  # the clocks went back from a minute past midnight into the day before
    (
        Pace(7, 7, hourly_limit=5, daily_limit=3, zone=ZoneInfo("America/St_Johns")),
        Slot(),
        datetime(2010, 11, 7, 2, 29, tzinfo=UTC),
    ),
    random.Random(0),
)
def test_no_sequence_of_sends_breaks_a_rule(
    situation: tuple[Pace, Slot, datetime], dice: random.Random
) -> None:
    """Whatever was used of the caps before: what was, counts."""
    pace, slot, now = situation

    times = list(played(pace, slot, now, dice))

    assert times[0] >= max(now, slot.next_send_at or now)
    shortest = pace.min_delay_seconds / pace.speed * SECOND
    assert all(b - a >= shortest for a, b in pairwise(times))
    assert all(is_open(pace, at) for at in times)
    for hour, count in Counter(map(hour_of, times)).items():
        before = slot.usage_hour_count if slot.usage_hour_at == hour else 0
        assert pace.hourly_limit is None or before + count <= pace.hourly_limit
    for day, count in Counter(at.astimezone(pace.zone).date() for at in times).items():
        before = slot.usage_day_count if slot.usage_day == day else 0
        limit = pace.limit_on(day)
        assert limit is None or before + count <= limit


@MANY
@given(paces(), st.integers(0, 9000), st.integers(0, 9000))
def test_a_campaign_lengthens_a_device_s_pauses_and_never_shortens_them(
    pace: Pace, shortest: int, longest: int
) -> None:
    bounds = gap_bounds(pace, shortest, longest)

    assert gap_bounds(pace) == (pace.min_delay_seconds, pace.max_delay_seconds)
    assert all(bound >= own for bound, own in zip(bounds, gap_bounds(pace), strict=True))
    assert all(bound >= asked for bound, asked in zip(bounds, (shortest, longest), strict=True))
    assert bounds[0] <= random_gap(pace, shortest, longest) <= bounds[1]
    # And no further than somebody asked for.
    asked_for = {pace.min_delay_seconds, pace.max_delay_seconds, shortest, longest}
    assert bounds[0] in asked_for
    assert bounds[1] in asked_for


def open_time(pace: Pace, since: datetime, until: datetime, step: timedelta) -> timedelta:
    """Returns how long the device may send, as far as one sees who looks once a step; hours that
    the clocks' jumps make doubtful are left out."""
    open_steps, moment = 0, since
    while moment < until:
        open_steps += is_open(pace, moment) and is_settled(pace, moment)
        moment += step
    return open_steps * step


@MANY
@given(paces(), moments, st.integers(1, 12).map(lambda hours: hours * 3600 * SECOND))
def test_who_has_had_the_time_is_late(pace: Pace, now: datetime, allowance: timedelta) -> None:
    expected_at = earliest(pace, Slot(), now)

    late_at = deadline(pace, expected_at, allowance)

    begins_at = [expected_at]
    day = expected_at.astimezone(pace.zone).date()
    if (
        pace.limit_on(day) is not None
    ):  # the cap may push it on to tomorrow, and the time begins anew
        begins_at.append(datetime.combine(day + DAY, time(), pace.zone).astimezone(UTC))
    step = timedelta(minutes=10)
    # Looked at in steps, each opening may seem a step longer than it is.
    assert any(
        open_time(pace, since, late_at, step) <= allowance + ((late_at - since).days + 2) * step
        for since in begins_at
    )


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
