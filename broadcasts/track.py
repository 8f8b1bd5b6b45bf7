"""One pace played through, from message to message, as far as somebody asks. Pure, like `pacing`:
no device, no database.

A *stretch* is what makes it quick: messages that leave with nothing but the pause between them are
reckoned with at once.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import NamedTuple

from broadcasts import pacing
from broadcasts.pacing import Brake, Hold, Pace, Slot

DAY = timedelta(days=1)
YEAR = 366


@dataclass(slots=True)
class Track:
    """How far one pace was played through. Asks the rules once a stretch, not once a message."""

    pace: Pace
    slot: Slot
    moment: datetime  # when the last one leaves; at first, from when on one may
    holds: list[Hold] = field(default_factory=list)

    def play(self, gap_seconds: float, count: int) -> datetime:
        """Returns when the last one leaves, after so many messages.

        Days that are like the one before are skipped, and what held them is not noted.
        """
        yesterday: tuple[datetime, Slot, int] | None = None
        while count > 0:
            day = self.slot.usage_day
            count -= self.stretch(gap_seconds, count).messages
            if self.slot.usage_day != day:
                if yesterday:
                    count -= self._skip_days(*yesterday, count)
                yesterday = self.moment, self.slot, count
        return self.moment

    def play_until(self, until: datetime, gap_seconds: float, count: int) -> int:
        """Returns how many leave before `until`, of so many messages."""
        step = timedelta(seconds=gap_seconds / self.pace.speed)
        left = count
        while left > 0:
            found = self.stretch(gap_seconds, left)
            if found.ends_at >= until:
                # Those of the stretch that begin before it: rounded up, and none where it is past.
                fit = max(-((found.begins_at - until) // step), 0) if step else 0
                return count - left + min(fit, found.messages)
            left -= found.messages
        return count

    def _skip_days(self, moment: datetime, slot: Slot, before: int, count: int) -> int:
        """Goes on by whole days, as far as each is like the one since that moment, when so many
        more were left; returns how many messages leave in them."""
        day = self.slot.usage_day
        if day is None or (self.moment, self.slot) != (moment + DAY, _later(slot, DAY)):
            return 0
        a_day = before - count
        days = min(count // a_day, _steady_days(self.pace.zone, day))
        # It only ever grows.
        if self.pace.limit_on(day - DAY) != self.pace.limit_on(day + days * DAY):
            return 0
        self.moment += days * DAY
        self.slot = _later(self.slot, days * DAY)
        return days * a_day

    def held(self, upto: datetime) -> dict[Brake, timedelta]:
        """Returns for how long it was held until then, and by what."""
        held: dict[Brake, timedelta] = defaultdict(timedelta)
        for hold in self.holds:
            if hold.until <= upto:
                held[hold.brake] += hold.until - hold.since
        return held

    def stretch(self, gap_seconds: float, most: int | None = None) -> Stretch:
        """Goes on to the end of the next messages that have nothing but the pause between them."""
        found = _stretch(self.pace, self.slot, self.moment, gap_seconds)
        if most is not None and most < found.messages:
            found = _stretch(self.pace, self.slot, self.moment, gap_seconds, most)
        if found.hold:
            self.holds.append(found.hold)
        self.moment, self.slot = found.ends_at, found.slot
        return found


class Turns:
    """When messages leave one after the other, with the same pause between."""

    __slots__ = ("_gap_seconds", "_step", "_track", "next_at", "room")

    def __init__(self, track: Track, gap_seconds: float) -> None:
        self._track = track
        self._gap_seconds = gap_seconds
        self._step = timedelta(seconds=gap_seconds / track.pace.speed)
        self._go_on()

    def _go_on(self) -> None:
        stretch = self._track.stretch(self._gap_seconds)
        # When the next one leaves, and how many do so with nothing but the pause between them.
        self.next_at, self.room = stretch.begins_at, stretch.messages

    def take(self, count: int = 1) -> datetime:
        """Returns when the last of so many leaves: of `room` at most."""
        at = self.next_at + (count - 1) * self._step
        self.room -= count
        if self.room:
            self.next_at = at + self._step
        else:
            self._go_on()
        return at


class Stretch(NamedTuple):
    """Messages that leave with nothing but the pause between them."""

    begins_at: datetime
    ends_at: datetime  # when the last one leaves
    messages: int
    slot: Slot  # as it is then
    hold: Hold | None  # before the first one


# However the devices of one pace differ today: after a night, or a cap, their days are the same.
@functools.lru_cache(maxsize=8192)
def _stretch(
    pace: Pace, slot: Slot, moment: datetime, gap_seconds: float, most: int | None = None
) -> Stretch:
    step = timedelta(seconds=gap_seconds / pace.speed)
    begins_at = max(moment, slot.next_send_at or moment).astimezone(UTC)
    if hold := pacing.waits_for(pace, slot, begins_at):
        begins_at = hold.until
    count = _room(pace, slot, begins_at, step)
    count = count if most is None else min(count, most)
    ends_at = begins_at + (count - 1) * step
    slot = pacing.after_send(pace, slot, ends_at, gap_seconds)
    slot = slot._replace(
        usage_hour_count=slot.usage_hour_count + count - 1,
        usage_day_count=slot.usage_day_count + count - 1,
    )
    return Stretch(begins_at, ends_at, count, slot, hold)


def _later(slot: Slot, by: timedelta) -> Slot:
    """Returns the slot as it is so many whole days later, if they are all alike."""
    return slot._replace(
        next_send_at=slot.next_send_at and slot.next_send_at + by,
        usage_hour_at=slot.usage_hour_at and slot.usage_hour_at + by,
        usage_day=slot.usage_day and slot.usage_day + by,
    )


@functools.lru_cache(maxsize=1024)
def _steady_days(zone: tzinfo, day: date) -> int:
    """Returns how many days follow before the clocks change: none where they just did."""

    def offset(days: int) -> timedelta | None:
        return datetime.combine(day + days * DAY, time(), zone).utcoffset()

    # Two days more at either end: sending hours may pass midnight.
    changes = (n for n in range(-1, YEAR) if offset(n) != offset(-2))
    return max(next(changes, YEAR) - 3, 0)


def _room(pace: Pace, slot: Slot, moment: datetime, step: timedelta) -> int:
    """Returns how many messages from `moment` on leave with nothing but the pause between them.

    To the end of the hour at most, the day's, and the sending hours', and as far as the caps go.
    """
    hour = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    ends_at = hour + timedelta(hours=1)
    local = moment.astimezone(pace.zone)
    if local.utcoffset() != ends_at.astimezone(pace.zone).utcoffset():
        return 1  # the clocks change in this hour: step by step
    wall = local.replace(tzinfo=None)
    edges = [wall + (ends_at - moment), datetime.combine(wall + timedelta(days=1), time())]
    for clock in (pace.sends_from, pace.sends_until):
        if clock is not None and (edge := datetime.combine(wall, clock)) > wall:
            edges.append(edge)
    room = [-((wall - min(edges)) // max(step, timedelta.resolution))]
    if pace.hourly_limit is not None:
        used = slot.usage_hour_count if slot.usage_hour_at == hour else 0
        room.append(pace.hourly_limit - used)
    if (limit := pace.limit_on(wall.date())) is not None:
        used = slot.usage_day_count if slot.usage_day == wall.date() else 0
        room.append(limit - used)
    return max(1, min(room))
