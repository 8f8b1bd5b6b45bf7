"""When a device may send: pauses, caps, warm-up and sending hours. Pure functions.

The pace belongs to the device, whatever it serves. Nothing here reads a clock or a database:
times come in, times go out, all aware.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from devices.models import Device

# A new number starts small and doubles every third day: 20, 20, 20, 40, ... 1,280 on day 19.
WARMUP_FIRST_DAY = 20
WARMUP_DOUBLES_EVERY_DAYS = 3


@dataclass(frozen=True, slots=True)
class Pace:
    """A device's rules. `speed` is how many times faster than the clock its pauses pass."""

    min_delay_seconds: float = 5
    max_delay_seconds: float = 15
    hourly_limit: int | None = None
    daily_limit: int | None = None
    warmup_started_on: date | None = None
    sends_from: time | None = None
    sends_until: time | None = None
    zone: tzinfo = UTC
    speed: float = 1.0

    @classmethod
    def of(cls, device: Device) -> Pace:
        return cls(
            min_delay_seconds=device.min_delay_seconds,
            max_delay_seconds=device.max_delay_seconds,
            hourly_limit=device.hourly_limit,
            daily_limit=device.daily_limit,
            warmup_started_on=device.warmup_started_on,
            sends_from=device.sends_from,
            sends_until=device.sends_until,
            zone=device.zone,
            speed=device.speed,
        )

    def limit_on(self, day: date) -> int | None:
        """Returns how many messages may leave on this day: the cap, or the warm-up's if lower."""
        if self.warmup_started_on is None:
            return self.daily_limit
        age = max((day - self.warmup_started_on).days, 0)
        warmup: int = WARMUP_FIRST_DAY * 2 ** min(age // WARMUP_DOUBLES_EVERY_DAYS, 16)
        return warmup if self.daily_limit is None else min(warmup, self.daily_limit)


@dataclass(frozen=True, slots=True)
class Slot:
    """When the next message may leave, and what has been used of the caps so far."""

    next_send_at: datetime | None = None
    usage_hour_at: datetime | None = None
    usage_hour_count: int = 0
    usage_day: date | None = None
    usage_day_count: int = 0

    @classmethod
    def of(cls, device: Device) -> Slot:
        return cls(
            device.next_send_at,
            device.usage_hour_at,
            device.usage_hour_count,
            device.usage_day,
            device.usage_day_count,
        )


def earliest(pace: Pace, slot: Slot, now: datetime) -> datetime:
    """Returns the first moment from `now` on at which a message may leave."""
    moment = max(now, slot.next_send_at) if slot.next_send_at else now
    # Each step only moves forward; an hour or a day later the cap that stopped it is fresh.
    for _ in range(4):
        before = moment
        moment = _after_opening(pace, moment)
        day = moment.astimezone(pace.zone).date()
        limit = pace.limit_on(day)
        if limit is not None and slot.usage_day == day and slot.usage_day_count >= limit:
            moment = _midnight(day + timedelta(days=1), pace.zone)
        elif (
            pace.hourly_limit is not None
            and slot.usage_hour_at == _hour(moment)
            and slot.usage_hour_count >= pace.hourly_limit
        ):
            moment = _hour(moment) + timedelta(hours=1)
        if moment == before:
            break
    return moment


def after_send(pace: Pace, slot: Slot, now: datetime, gap_seconds: float) -> Slot:
    """Returns the slot that follows a message leaving at `now` with this pause behind it."""
    hour, day = _hour(now), now.astimezone(pace.zone).date()
    return Slot(
        next_send_at=now + timedelta(seconds=gap_seconds / pace.speed),
        usage_hour_at=hour,
        usage_hour_count=1 + (slot.usage_hour_count if slot.usage_hour_at == hour else 0),
        usage_day=day,
        usage_day_count=1 + (slot.usage_day_count if slot.usage_day == day else 0),
    )


def random_gap(pace: Pace, min_delay_seconds: float = 0, max_delay_seconds: float = 0) -> float:
    """Returns a pause in seconds. A campaign may ask for a longer one, never for a shorter."""
    return random.uniform(*gap_bounds(pace, min_delay_seconds, max_delay_seconds))


def gap_bounds(
    pace: Pace, min_delay_seconds: float = 0, max_delay_seconds: float = 0
) -> tuple[float, float]:
    shortest = max(pace.min_delay_seconds, min_delay_seconds)
    return shortest, max(pace.max_delay_seconds, max_delay_seconds, shortest)


def plan(pace: Pace, slot: Slot, start: datetime, gap_seconds: float) -> Iterator[datetime]:
    """Yields when one message after the other leaves from `start` on, with this pause between."""
    moment = start
    while True:
        moment = earliest(pace, slot, moment)
        yield moment
        slot = after_send(pace, slot, moment, gap_seconds)


def play(
    pace: Pace, slot: Slot, start: datetime, gap_seconds: float, count: int
) -> tuple[Slot, datetime]:
    """Returns the slot, and from when on the next may leave, after so many messages."""
    moment = start
    for _ in range(count):
        moment = earliest(pace, slot, moment)
        slot = after_send(pace, slot, moment, gap_seconds)
    return slot, moment


def deadline(pace: Pace, expected_at: datetime, allowance: timedelta) -> datetime:
    """Returns by when a message expected to leave then has to have left, or is too late.

    The allowance counts only while the device may send: a message that slips past closing time,
    or past the day's cap, is not late but tomorrow's.
    """
    moment, left = expected_at, allowance
    while True:
        closes_at = _closing_after(pace, moment)
        if closes_at is None or moment + left <= closes_at:
            moment += left
            break
        left -= closes_at - moment
        moment = _after_opening(pace, closes_at)
    day = expected_at.astimezone(pace.zone).date()
    if pace.limit_on(day) is None:
        return moment
    tomorrow = _after_opening(pace, _midnight(day + timedelta(days=1), pace.zone))
    return max(moment, tomorrow + allowance)


def _closing_after(pace: Pace, moment: datetime) -> datetime | None:
    """Returns when the sending hours end that `moment` lies in; None where there are none."""
    if pace.sends_from is None or pace.sends_until is None:
        return None
    local = moment.astimezone(pace.zone)
    closes = _at(local, pace.sends_until)
    if closes <= local:
        closes += timedelta(days=1)
    return closes.astimezone(UTC)


def _after_opening(pace: Pace, moment: datetime) -> datetime:
    """Returns `moment`, or when the sending hours that it is outside of begin next."""
    if pace.sends_from is None or pace.sends_until is None:
        return moment
    local = moment.astimezone(pace.zone)
    opens = _at(local, pace.sends_from)
    clock = local.time()
    if pace.sends_from < pace.sends_until:
        if pace.sends_from <= clock < pace.sends_until:
            return moment
        if clock >= pace.sends_until:
            opens += timedelta(days=1)
    elif clock >= pace.sends_from or clock < pace.sends_until:  # over midnight
        return moment
    return opens.astimezone(UTC)


def _at(local: datetime, clock: time) -> datetime:
    """Returns this time of the day that `local` lies in."""
    return local.replace(
        hour=clock.hour,
        minute=clock.minute,
        second=clock.second,
        microsecond=clock.microsecond,
    )


def _hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _midnight(day: date, zone: tzinfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)
