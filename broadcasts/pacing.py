"""When a device may send: pauses, caps, warm-up and sending hours. Pure functions.

The pace belongs to the device, whatever it serves. Nothing here reads a clock or a database:
times come in, times go out, all aware.
"""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from devices.models import Device

# A new number starts small and doubles every third day: 20, 20, 20, 40, ... 1,280 on day 19.
WARMUP_FIRST_DAY = 20
WARMUP_DOUBLES_EVERY_DAYS = 3
# Who has not left by then is late, however short the sending hours are.
MOST_OPENINGS = 30


class Brake(StrEnum):
    """What makes a message leave later than at once."""

    QUEUE = "queue"  # what waits on its device already
    BLOCK = "block"  # by WhatsApp, for a time
    FIRST_CONTACTS_BLOCK = "block of first contacts"  # the same, but of new people only
    PAUSES = "pauses"
    SENDING_HOURS = "sending hours"
    WARM_UP = "warm-up"
    NEW_PEOPLE_A_DAY = "new people a day"
    MESSAGES_A_DAY = "messages a day"
    MESSAGES_AN_HOUR = "messages an hour"


class Hold(NamedTuple):
    """Time in which a device may send nothing, though the pause after its last message is over."""

    brake: Brake
    since: datetime
    until: datetime
    limit: int | None = None  # of the cap that is used up


class Use(NamedTuple):
    """How much of a cap is used; `limit` is None where there is no such cap."""

    of: Brake
    used: int
    limit: int | None


@dataclass(frozen=True, slots=True)
class Pace:
    """A device's rules. `speed` is how many times faster than the clock its pauses pass."""

    min_delay_seconds: float = 5
    max_delay_seconds: float = 15
    hourly_limit: int | None = None
    daily_limit: int | None = None
    first_contact_limit: int | None = None
    first_contacts_blocked_until: datetime | None = None
    warmup_started_on: date | None = None
    sends_from: time | None = None
    sends_until: time | None = None
    zone: tzinfo = UTC
    speed: float = 1.0
    daily_brake: Brake = Brake.MESSAGES_A_DAY  # what `daily_limit` is called

    @classmethod
    def of(cls, device: Device) -> Pace:
        return cls(
            min_delay_seconds=device.min_delay_seconds,
            max_delay_seconds=device.max_delay_seconds,
            hourly_limit=device.hourly_limit,
            daily_limit=device.daily_limit,
            first_contact_limit=device.first_contact_limit,
            first_contacts_blocked_until=device.first_contacts_blocked_until,
            warmup_started_on=device.warmup_started_on,
            sends_from=device.sends_from,
            sends_until=device.sends_until,
            zone=device.zone,
            speed=device.speed,
        )

    @classmethod
    def if_known(cls, device: Device) -> Pace | None:
        """None where this host does not know its time zone: its tzdata is older than who chose it.

        Nothing can be said then of when the device sends; the others go on.
        """
        try:
            return cls.of(device)
        except (KeyError, ValueError, OSError):  # ZoneInfo's
            return None

    @property
    def of_first_contacts(self) -> Pace:
        """The same rules as they hold for messages to new people alone."""
        limit = self.first_contact_limit
        if limit is None or (self.daily_limit is not None and self.daily_limit < limit):
            return self
        return replace(self, daily_limit=limit, daily_brake=Brake.NEW_PEOPLE_A_DAY)

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
    usage_first_count: int = 0  # of that day's, those to people it had not talked with

    @classmethod
    def of(cls, device: Device) -> Slot:
        return cls(
            device.next_send_at,
            device.usage_hour_at,
            device.usage_hour_count,
            device.usage_day,
            device.usage_day_count,
            device.usage_first_count,
        )


def earliest(pace: Pace, slot: Slot, now: datetime) -> datetime:
    """Returns the first moment from `now` on, in UTC, at which a message may leave.

    A cap is one at least, whatever the column says: what is to send nothing is switched off.
    """
    moment = now.astimezone(UTC)
    if slot.next_send_at:
        moment = max(moment, slot.next_send_at.astimezone(UTC))
    # Ends: each step goes forward to a day or an hour in which nothing has been used yet.
    while hold := held(pace, slot, moment):
        moment = hold.until
    return moment


def held(pace: Pace, slot: Slot, now: datetime) -> Hold | None:
    """Returns what holds a message back at `now`, pauses apart, and until when that at least does.

    Where several do, the first of them: the hours, then the day, then the hour.
    """
    opens_at = _after_opening(pace, now)
    if opens_at > now:
        return Hold(Brake.SENDING_HOURS, now, opens_at)
    day = now.astimezone(pace.zone).date()
    limit = pace.limit_on(day)
    if limit is not None and slot.usage_day == day and slot.usage_day_count >= limit:
        brake = pace.daily_brake if limit == pace.daily_limit else Brake.WARM_UP
        return Hold(brake, now, _beginning(pace, day + timedelta(days=1)), limit)
    hour = _hour(now)
    if (
        pace.hourly_limit is not None
        and slot.usage_hour_at == hour
        and slot.usage_hour_count >= pace.hourly_limit
    ):
        return Hold(Brake.MESSAGES_AN_HOUR, now, hour + timedelta(hours=1), pace.hourly_limit)
    return None


def waits_for(pace: Pace, slot: Slot, now: datetime, *, first_contact: bool = False) -> Hold | None:
    """Returns what keeps a message from leaving once the pause is over, until it really leaves.

    None where nothing does. Of several the first: one that is held over night by the cap of the
    day is the cap's, not the night's. A `first_contact` is also held by the cap on new people, and
    by WhatsApp's block of them.
    """
    moment = max(now, slot.next_send_at or now)
    hold = held(pace, slot, moment)
    until = earliest(pace, slot, hold.until) if hold else moment.astimezone(UTC)
    if first_contact and not may_contact_first(pace, slot, until):
        brake, limit = Brake.NEW_PEOPLE_A_DAY, pace.first_contact_limit
        if (blocked_until := pace.first_contacts_blocked_until) and blocked_until > until:
            brake, limit = Brake.FIRST_CONTACTS_BLOCK, None
            until = earliest(pace, slot, blocked_until)
        if not may_contact_first(pace, slot, until):
            tomorrow = until.astimezone(pace.zone).date() + timedelta(days=1)
            until = earliest(pace, slot, _beginning(pace, tomorrow))
        return Hold(brake, moment, until, limit)
    return hold and hold._replace(until=until)


def use_of_caps(pace: Pace, slot: Slot, now: datetime) -> list[Use]:
    """Returns how much of each cap is used at `now`; without a limit, where it is not capped."""
    day = now.astimezone(pace.zone).date()
    is_today, is_this_hour = slot.usage_day == day, slot.usage_hour_at == _hour(now)
    sent = slot.usage_day_count if is_today else 0
    new = slot.usage_first_count if is_today else 0
    this_hour = slot.usage_hour_count if is_this_hour else 0
    return [
        Use(Brake.MESSAGES_A_DAY, sent, pace.limit_on(day)),
        Use(Brake.NEW_PEOPLE_A_DAY, new, pace.first_contact_limit),
        Use(Brake.MESSAGES_AN_HOUR, this_hour, pace.hourly_limit),
    ]


def may_contact_first(pace: Pace, slot: Slot, now: datetime) -> bool:
    """Returns whether the device may write to somebody it has not talked with yet today."""
    if pace.first_contacts_blocked_until and now < pace.first_contacts_blocked_until:
        return False
    if pace.first_contact_limit is None or slot.usage_day != now.astimezone(pace.zone).date():
        return True
    return slot.usage_first_count < pace.first_contact_limit


def after_send(
    pace: Pace, slot: Slot, now: datetime, gap_seconds: float, *, first_contact: bool = False
) -> Slot:
    """Returns the slot that follows a message leaving at `now` with this pause behind it."""
    # In UTC: adding to a local time moves the hands of the clock, also where they jump.
    now = now.astimezone(UTC)
    hour, day = _hour(now), now.astimezone(pace.zone).date()
    return Slot(
        next_send_at=now + timedelta(seconds=gap_seconds / pace.speed),
        usage_hour_at=hour,
        usage_hour_count=1 + (slot.usage_hour_count if slot.usage_hour_at == hour else 0),
        usage_day=day,
        usage_day_count=1 + (slot.usage_day_count if slot.usage_day == day else 0),
        usage_first_count=first_contact + (slot.usage_first_count if slot.usage_day == day else 0),
    )


def random_gap(pace: Pace, min_delay_seconds: float = 0, max_delay_seconds: float = 0) -> float:
    """Returns a pause in seconds. A campaign may ask for a longer one, never for a shorter."""
    return random.uniform(*gap_bounds(pace, min_delay_seconds, max_delay_seconds))


def gap_bounds(
    pace: Pace, min_delay_seconds: float = 0, max_delay_seconds: float = 0
) -> tuple[float, float]:
    shortest = max(pace.min_delay_seconds, min_delay_seconds)
    return shortest, max(pace.max_delay_seconds, max_delay_seconds, shortest)


def deadline(pace: Pace, expected_at: datetime, allowance: timedelta) -> datetime:
    """Returns by when a message expected to leave then has to have left, or is too late.

    The allowance counts only while the device may send: a message that slips past closing time,
    or past the day's cap, is not late but tomorrow's.
    """
    late_at = _after_open_time(pace, expected_at, allowance)
    day = expected_at.astimezone(pace.zone).date()
    if pace.limit_on(day) is None:
        return late_at
    tomorrow = _beginning(pace, day + timedelta(days=1))
    return max(late_at, _after_open_time(pace, tomorrow, allowance))


def _after_open_time(pace: Pace, moment: datetime, allowance: timedelta) -> datetime:
    """Returns when the device has had so much time to send from `moment` on.

    Or the end of its thirtieth sending hours, where a day has only minutes of them.
    """
    moment = moment.astimezone(UTC)
    for _ in range(MOST_OPENINGS):
        window = _window(pace, moment)
        if window is None:
            return moment + allowance
        opens_at, closes_at = window
        moment = max(moment, opens_at)
        if moment + allowance <= closes_at:
            return moment + allowance
        allowance -= closes_at - moment
        moment = closes_at
    return moment


def _after_opening(pace: Pace, moment: datetime) -> datetime:
    """Returns `moment`, or when the sending hours that it is outside of begin next."""
    window = _window(pace, moment)
    return max(moment, window[0]) if window else moment


def _window(pace: Pace, moment: datetime) -> tuple[datetime, datetime] | None:
    """Returns the sending hours that `moment` lies in, or else the next; None where any will do."""
    if pace.sends_from is None or pace.sends_until is None or pace.sends_from == pace.sends_until:
        return None
    day = moment.astimezone(pace.zone).date() - timedelta(days=1)  # they may pass midnight
    while True:
        opens_at, closes_at = _hours(pace.sends_from, pace.sends_until, pace.zone, day)
        if opens_at < closes_at and moment < closes_at:
            return opens_at, closes_at
        day += timedelta(days=1)


@functools.lru_cache(maxsize=4096)  # a forecast asks for the same few days a million times
def _hours(
    sends_from: time, sends_until: time, zone: tzinfo, day: date
) -> tuple[datetime, datetime]:
    """Returns the sending hours that begin on this day; none, where they end before they begin.

    Where the clock is put back over one of their ends, the later beginning and the earlier end
    count: the hands never show an hour outside of them, and no hour opens twice.
    """
    last_day = day if sends_from < sends_until else day + timedelta(days=1)
    return _latest(day, sends_from, zone), _earliest(last_day, sends_until, zone)


def _earliest(day: date, clock: time, zone: tzinfo) -> datetime:
    return min(_readings(day, clock, zone))


def _latest(day: date, clock: time, zone: tzinfo) -> datetime:
    return max(_readings(day, clock, zone))


def _readings(day: date, clock: time, zone: tzinfo) -> tuple[datetime, datetime]:
    """What this local time may mean: two moments where the clock is put back over it or forward,
    else one and the same."""
    local = datetime.combine(day, clock, zone)
    return local.replace(fold=0).astimezone(UTC), local.replace(fold=1).astimezone(UTC)


def _beginning(pace: Pace, day: date) -> datetime:
    return _latest(day, time(), pace.zone)


def _hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
