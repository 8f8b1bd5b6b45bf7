"""When what waits on a device leaves, one after the other: played through by the rules of `pacing`,
at the mean of the pauses. Fan-out, start-over, forecast and the expected finish all ask here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from typing import NamedTuple

from django.db.models import Count, Min

from broadcasts import pacing
from broadcasts.models import BroadcastMessage
from broadcasts.pacing import Brake, Hold, Pace, Slot
from broadcasts.queryset import BroadcastMessageQuerySet
from devices.models import Device


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


def ends_of_campaigns(
    devices: Iterable[Device], starts_at: datetime, campaigns: Collection[int]
) -> dict[int, datetime]:
    """Returns {campaign id: when the last of its messages leaves}, of these campaigns that are sent
    from these devices; of others nothing leaves.

    Without those that also wait for a device of which nobody can say when it sends: their end
    cannot be told. One statement, for a look at each message that waits: for the scheduler, not
    for a page.
    """
    groups = waiting(BroadcastMessage.objects.open().exclude(status="paused"))
    ends: dict[int, datetime] = {}
    for device in devices:
        pace = Pace.if_known(device)
        if device.may_send_at(starts_at) is None or pace is None:
            continue
        line = Line.of(device, starts_at, pace)
        for group in groups.pop(device.pk, ()):
            if group.campaign_id is None:
                line.play(group)
            elif group.campaign_id in campaigns:
                at = line.play(group)
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
    begins_at: datetime  # not blocked by then
    # Of the first contacts alone, where the device may write to so many new people a day.
    first: Track | None = None

    @classmethod
    def of(cls, device: Device, starts_at: datetime, pace: Pace) -> Line:
        slot = Slot.of(device)
        # One that is blocked without an end sends as soon as somebody ends that: now, maybe.
        begins_at = device.may_send_at(starts_at) or starts_at
        line = cls(device, starts_at, Track(pace, slot, begins_at), begins_at)
        if pace.first_contact_limit is not None:
            slot = replace(slot, usage_day_count=slot.usage_first_count)
            line.first = Track(pace.of_first_contacts, slot, begins_at)
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
        self.starts_at, self.begins_at = starts_at, max(self.begins_at, starts_at)
        for track in filter(None, (self.all, self.first)):
            track.moment = max(track.moment, starts_at)
            track.holds = [
                Hold(Brake.BLOCK, starts_at, self.begins_at),
                Hold(Brake.QUEUE, self.begins_at, max(track.moment, self.begins_at)),
            ]

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
        """Returns when the last one leaves, after so many messages of `plan`."""
        while count > 0:
            count -= self.stretch(gap_seconds, count)[1]
        return self.moment

    def held(self, upto: datetime) -> dict[Brake, timedelta]:
        """Returns for how long it was held until then, and by what."""
        held: dict[Brake, timedelta] = defaultdict(timedelta)
        for hold in self.holds:
            if hold.until <= upto:
                held[hold.brake] += hold.until - hold.since
        return held

    def stretch(self, gap_seconds: float, most: int | None = None) -> tuple[datetime, int]:
        """Goes on to the end of the next messages that have nothing but the pause between them.

        Returns when the first of them leaves, and how many there are.
        """
        step = timedelta(seconds=gap_seconds / self.pace.speed)
        begin = max(self.moment, self.slot.next_send_at or self.moment).astimezone(UTC)
        if hold := pacing.waits_for(self.pace, self.slot, begin):
            begin = hold.until
            self.holds.append(hold)
        count = _room(self.pace, self.slot, begin, step)
        count = count if most is None else min(count, most)
        self.moment = begin + (count - 1) * step
        slot = pacing.after_send(self.pace, self.slot, self.moment, gap_seconds)
        self.slot = replace(
            slot,
            usage_hour_count=slot.usage_hour_count + count - 1,
            usage_day_count=slot.usage_day_count + count - 1,
        )
        return begin, count


class Plan:
    """When messages leave one after the other, with the same pause between.

    Worked out as far as somebody asks, and once for all devices that are alike.
    """

    def __init__(self, track: Track, gap_seconds: float) -> None:
        self.track = track
        self.step = timedelta(seconds=gap_seconds / track.pace.speed)
        self._gap_seconds = gap_seconds
        self._stretches: list[tuple[datetime, int]] = []

    def __getitem__(self, n: int) -> tuple[datetime, int]:
        """Returns when the first message of this stretch leaves, and how many there are."""
        while n >= len(self._stretches):
            self._stretches.append(self.track.stretch(self._gap_seconds))
        return self._stretches[n]


class Turn:
    """How far one device has come in a plan."""

    __slots__ = ("_n", "_plan", "next_at", "room")

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._n = 0
        # When the next one leaves, and how many do so with nothing but the pause between them.
        self.next_at, self.room = plan[0]

    def take(self, count: int = 1) -> datetime:
        """Returns when the last of so many leaves: of `room` at most."""
        at = self.next_at + (count - 1) * self._plan.step
        self.room -= count
        if self.room:
            self.next_at = at + self._plan.step
        else:
            self._n += 1
            self.next_at, self.room = self._plan[self._n]
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
