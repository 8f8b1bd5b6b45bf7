"""When what waits on a device leaves, one after the other: played through by the rules of `pacing`,
at the mean of the pauses. Fan-out, start-over, forecast and the expected finish all ask here."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import NamedTuple

from django.db.models import Count, Min

from broadcasts import pacing
from broadcasts.models import BroadcastMessage
from broadcasts.pacing import Brake, Hold, Pace, Slot
from broadcasts.queryset import BroadcastMessageQuerySet
from devices.models import Device

DAY = timedelta(days=1)
YEAR = 366


class Group(NamedTuple):
    """Messages of one device that are alike."""

    lane: int
    min_delay_seconds: int
    max_delay_seconds: int
    campaign_id: int | None = None
    messages: int = 1


def lines_of(
    devices: Iterable[Device],
    starts_at: datetime,
    messages: BroadcastMessageQuerySet,
    now: datetime | None = None,
) -> dict[int, Line]:
    """Returns {device id: its line}, with those of these messages at its head that wait for it.

    They leave from `now` on, if that is given: by `starts_at` they may have left. Without devices
    of which this host cannot say when they send.
    """
    now = min(now or starts_at, starts_at)
    lines = {
        device.pk: Line.of(device, now, pace)
        for device in devices
        if (pace := Pace.if_known(device))
    }
    before = waiting(messages.filter(device__in=sorted(lines)))
    for pk, line in lines.items():
        for group in before[pk]:
            line.play(group)
        line.queue_up(starts_at)
    return lines


def ends_of_campaigns(devices: Iterable[Device], starts_at: datetime) -> dict[int, datetime]:
    """Returns {campaign id: when the last of its messages leaves}, of the campaigns that are sent
    from these devices.

    Without those that also wait for a device of which nobody can say when it sends: their end
    cannot be told. One statement, for a look at each message that waits: for the scheduler, not
    for a page.
    """
    groups = waiting(BroadcastMessage.objects.leaving())
    ends: dict[int, datetime] = {}
    for device in devices:
        pace = Pace.if_known(device)
        if device.may_send_at(starts_at) is None or pace is None:
            continue
        line = Line.of(device, starts_at, pace)
        for group in groups.pop(device.pk, ()):
            at = line.play(group)
            if group.campaign_id:
                ends[group.campaign_id] = max(ends.get(group.campaign_id, at), at)
    unknown = {group.campaign_id for left in groups.values() for group in left}
    return {pk: at for pk, at in ends.items() if pk not in unknown}


def waiting(messages: BroadcastMessageQuerySet) -> dict[int, list[Group]]:
    """Returns {device id: these messages of it, in the order in which they are claimed}; under 0
    those without a device."""
    fields = "device_id", "priority", "min_delay_seconds", "max_delay_seconds", "campaign_id"
    groups = messages.order_by().values_list(*fields)
    groups = groups.annotate(Count("pk")).alias(first_at=Min("scheduled_at"))
    found: dict[int, list[Group]] = defaultdict(list)
    for device_id, *group in groups.order_by("priority", "first_at"):
        found[device_id or 0].append(Group(*group))
    return found


@dataclass(slots=True)
class Line:
    """The messages that leave from one device, as far as they were played through."""

    device: Device
    starts_at: datetime
    all: Track
    # Of the first contacts alone, where the device may write to so many new people a day, or to
    # none for a while.
    first: Track | None = None

    @classmethod
    def of(cls, device: Device, starts_at: datetime, pace: Pace) -> Line:
        slot = Slot.of(device)
        # One that is blocked without an end sends as soon as somebody ends that: now, maybe.
        begins_at = device.may_send_at(starts_at) or starts_at
        block = Hold(Brake.BLOCK, starts_at, begins_at)
        line = cls(device, starts_at, Track(pace, slot, begins_at, [block]))
        if (until := device.first_contacts_blocked_until) and until > begins_at:
            block = Hold(Brake.FIRST_CONTACTS_BLOCK, starts_at, until)
        if pace.first_contact_limit is not None or block.brake != Brake.BLOCK:
            slot = replace(slot, usage_day_count=slot.usage_first_count)
            line.first = Track(pace.of_first_contacts, slot, block.until, [block])
        return line

    @property
    def pace(self) -> Pace:
        """The strictest of its rules: too late a deadline does no harm, too early a one does."""
        return (self.first or self.all).pace

    def play(self, group: Group) -> datetime:
        """Puts these behind all that were played before; returns when the last of them leaves."""
        gap = self.gap(group.min_delay_seconds, group.max_delay_seconds)
        at = self.all.play(gap, group.messages)
        if self.first and group.lane in BroadcastMessage.FIRST_CONTACTS:
            at = max(at, self.first.play(gap, group.messages))
        return at

    def gap(self, min_delay_seconds: int, max_delay_seconds: int) -> float:
        """Returns the mean pause, where messages ask for one of so many seconds at least."""
        return sum(pacing.gap_bounds(self.all.pace, min_delay_seconds, max_delay_seconds)) / 2

    def queue_up(self, starts_at: datetime) -> None:
        """Says that all played so far belong to others, for whom those wait who come then."""
        self.starts_at = starts_at
        for track in filter(None, (self.all, self.first)):
            block = Hold(track.holds[0].brake, starts_at, max(track.holds[0].until, starts_at))
            track.moment = max(track.moment, block.until)
            track.holds = [block, Hold(Brake.QUEUE, block.until, track.moment)]

    def brake(self, ends_at: datetime) -> Brake:
        """Returns what most of the time goes to until `ends_at`, when the last of them leaves."""
        # Of the two tracks everybody waits for the one that is held longer.
        spent = max(
            (track.held(ends_at) for track in (self.all, self.first) if track),
            key=lambda held: sum(held.values(), timedelta()),
        )
        spent[Brake.PAUSES] = ends_at - self.starts_at - sum(spent.values(), timedelta())
        return max(spent, key=lambda brake: spent[brake])


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
    slot = replace(
        slot,
        usage_hour_count=slot.usage_hour_count + count - 1,
        usage_day_count=slot.usage_day_count + count - 1,
    )
    return Stretch(begins_at, ends_at, count, slot, hold)


def _later(slot: Slot, by: timedelta) -> Slot:
    """Returns the slot as it is so many whole days later, if they are all alike."""
    return replace(
        slot,
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
