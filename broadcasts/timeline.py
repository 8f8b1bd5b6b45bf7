"""When what waits on a device leaves, one after the other, at the mean of its pauses. Fan-out,
start-over, forecast and the expected finish all ask here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Count, Min, Q

from broadcasts import pacing
from broadcasts.models import BroadcastMessage
from broadcasts.pacing import Brake, Hold, Holdup, Pace, Slot
from broadcasts.queryset import BroadcastMessageQuerySet
from broadcasts.track import Track
from devices.models import Device


class Group(NamedTuple):
    """Messages of one device that are alike."""

    lane: int
    min_delay_seconds: int
    max_delay_seconds: int
    campaign_id: int | None = None
    messages: int = 1
    pending: int = 1  # of these, those that nobody has taken yet


def lines_of(
    devices: Iterable[Device],
    starts_at: datetime,
    before: Mapping[int, Sequence[Group]],
    now: datetime | None = None,
    *,
    passing: int | None = None,
) -> dict[int, Line]:
    """Returns {device id: its line}, with those at its head that wait for it `before` others do.

    They leave from `now` on, if that is given: by `starts_at` they may have left. Those of the lane
    `passing` only until then: the others are passed. Without devices of which this host cannot
    say when they send.
    """
    now = min(now or starts_at, starts_at)
    lines = {
        device.pk: Line.of(device, now, pace)
        for device in devices
        if (pace := Pace.if_known(device))
    }
    for pk, line in lines.items():
        for group in before.get(pk, ()):
            if group.lane == passing:
                line.pass_by(group, starts_at)
            else:
                line.play(group)
        line.queue_up(starts_at)
    return lines


class Outlook(NamedTuple):
    """How a campaign goes on. `ends_at`: when the last of its messages leaves, None where that
    cannot be told; `holdup`: of the devices that something of it waits for."""

    ends_at: datetime | None
    holdup: Holdup


def outlooks(devices: Iterable[Device], starts_at: datetime) -> dict[int, Outlook]:
    """Returns {campaign id: how it goes on}, of the campaigns that are sent from these devices, the
    usable ones.

    No end can be told of those that also wait for a device of which nobody can say when it sends.
    One statement, for a look at each message that waits: for the scheduler, not for a page.
    """
    groups = waiting(BroadcastMessage.objects.leaving())
    ends: dict[int, datetime] = {}
    holds: dict[int, list[Hold | None]] = defaultdict(list)
    for device in devices:
        pace = Pace.if_known(device)
        if device.may_send_at(starts_at) is None or pace is None:
            continue
        line = Line.of(device, starts_at, pace)
        lanes: dict[int, set[int]] = defaultdict(set)
        for group in groups.pop(device.pk, ()):
            at = line.play(group)
            if pk := group.campaign_id:
                ends[pk] = max(ends.get(pk, at), at)
                if group.pending:
                    lanes[pk].add(group.lane)
        for pk, of_one in lanes.items():
            only_new = of_one <= set(BroadcastMessage.FIRST_CONTACTS)
            holds[pk].append(hold_of_waiting(device, starts_at, only_new=only_new))
    nowhere = groups.pop(0, [])
    for left in groups.values():
        for pk in {group.campaign_id for group in left if group.campaign_id and group.pending}:
            holds[pk].append(None)
    unknown = {group.campaign_id for left in (nowhere, *groups.values()) for group in left}
    return {
        pk: Outlook(None if pk in unknown else ends.get(pk), Holdup.of(holds[pk]))
        for pk in {*ends, *holds}
    }


def hold_of_waiting(device: Device, now: datetime, *, only_new: bool) -> Hold | None:
    """Returns what holds messages that wait for this device: all to new people, or not. One that is
    away is not held: it does not send whatever its pace."""
    if device.state != Device.Status.ONLINE:
        return None
    return pacing.hold_of(device, now, first_contact=only_new)


def waiting(messages: BroadcastMessageQuerySet) -> dict[int, list[Group]]:
    """Returns {device id: these messages of it, in the order in which they are claimed}; under 0
    those without a device."""
    fields = "device_id", "priority", "min_delay_seconds", "max_delay_seconds", "campaign_id"
    groups = messages.order_by().values_list(*fields)
    is_pending = Q(status=BroadcastMessage.Status.PENDING)
    groups = groups.annotate(Count("pk"), pending=Count("pk", filter=is_pending))
    groups = groups.alias(first_at=Min("scheduled_at"))
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
    # How many wait on it that who comes now does not have to wait for.
    passed: int = 0

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
            slot = slot._replace(usage_day_count=slot.usage_first_count)
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

    def pass_by(self, group: Group, until: datetime) -> None:
        """Puts only those of these behind all others that leave before then."""
        gap = self.gap(group.min_delay_seconds, group.max_delay_seconds)
        # Tried on copies: a track that is asked may go too far.
        tracks = (replace(track) for track in (self.all, self.first) if track)
        leave = min(track.play_until(until, gap, group.messages) for track in tracks)
        self.play(group._replace(messages=leave))
        self.passed += group.messages - leave

    def leave_before(self, until: datetime, known: int, new: int) -> int:
        """Returns how many of so many messages leave before then, of those to people it has talked
        with and of those to new ones, who stand behind them. Plays the line through."""
        gap = self.gap(0, 0)
        leave = self.all.play_until(until, gap, known + new)
        if self.first is None or leave <= known:
            return leave
        return min(leave, known + self.first.play_until(until, gap, new))

    def gap(self, min_delay_seconds: int, max_delay_seconds: int) -> float:
        """Returns the mean pause, where messages ask for one of so many seconds at least."""
        return sum(pacing.gap_bounds(self.all.pace, min_delay_seconds, max_delay_seconds)) / 2

    def queue_up(self, starts_at: datetime) -> None:
        """Says that all played so far belong to others, for whom those wait who come then."""
        self.starts_at = starts_at
        for track in filter(None, (self.all, self.first)):
            block = Hold(track.holds[0].brake, starts_at, max(track.holds[0].until, starts_at))
            track.moment = max(track.moment, block.until)
            # The pause behind the last of them is theirs; one that runs already is nobody's.
            pause_ends_at = track.slot.next_send_at
            theirs = pause_ends_at if pause_ends_at != self.device.next_send_at else None
            free_at = max(track.moment, theirs or track.moment)
            track.holds = [block, Hold(Brake.QUEUE, block.until, free_at)]

    def brake(self, ends_at: datetime) -> Brake:
        """Returns what most of the time goes to until `ends_at`, when the last of them leaves."""
        # Of the two tracks everybody waits for the one that is held longer.
        spent = max(
            (track.held(ends_at) for track in (self.all, self.first) if track),
            key=lambda held: sum(held.values(), timedelta()),
        )
        spent[Brake.PAUSES] = ends_at - self.starts_at - sum(spent.values(), timedelta())
        return max(spent, key=lambda brake: spent[brake])
