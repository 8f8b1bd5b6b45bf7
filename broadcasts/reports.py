"""Every number on screen comes from here.

Each function is one to three statements that read a range of an index, so that a page costs the
same whether the table holds a thousand rows or a million.

What ended in a span of time is found by `finished_at` alone, closed at both ends, and everything
else is told apart while counting. A WHERE on status or campaign beside it looks more precise and
is a thousand times slower: SQLite, which keeps no statistics of its own accord, then takes the
index that begins with the equal column, or one in the order of the GROUP BY, and reads all of it
(37 s for the overview of a million messages; 0.5 s like this).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

from django.db.models import Count, Max, Min, Q, TextField
from django.db.models.functions import Concat, Now, TruncMinute
from django.utils import timezone
from django_q.models import Schedule, Task

from broadcasts.models import BroadcastMessage, Worker
from broadcasts.queryset import BroadcastMessageQuerySet
from devices.cards import Card
from devices.models import Device

Status = BroadcastMessage.Status
# Over how long a rate is taken: long enough to even out pauses of a minute, short enough to live.
RATE_WINDOW = timedelta(minutes=5)
# django-q2 looks at its schedules every 30 s; one that is this late has nobody to run it.
SCHEDULER_LATE_AFTER = timedelta(minutes=3)
EVERY_STATUS = [*Status.values]
EVERYTHING = Q()
SCHEDULED_BY = "campaigns.tasks.process_campaigns"


@dataclass(frozen=True)
class Today:
    """What ended today, by the calendar of the current time zone; rows by status."""

    starts_at: datetime
    ends_at: datetime
    counts: dict[str, int]
    delivered: int

    @property
    def sent(self) -> int:
        return self.counts[Status.SENT]

    @property
    def failed(self) -> int:
        return self.counts[Status.FAILED]

    @property
    def failed_percent(self) -> float:
        tried = self.sent + self.failed
        return self.failed / tried * 100 if tried else 0.0


@dataclass(frozen=True)
class Queue:
    """What has not ended yet. `oldest_due_at` is None where nothing waits that should have left."""

    waiting: int
    waiting_until_tonight: int
    due: int
    oldest_due_at: datetime | None
    being_sent: int
    paused: int
    unknown: int


@dataclass(frozen=True)
class Span:
    """A day or a minute, and what ended in it."""

    starts_at: datetime
    ends_at: datetime
    sent: int = 0
    failed: int = 0

    @property
    def day(self) -> date:
        return self.starts_at.date()

    @property
    def total(self) -> int:
        return self.sent + self.failed


@dataclass(frozen=True)
class Scheduler:
    """The schedules that are switched on, and how many of them nobody ran when it was time."""

    schedules: int
    late: int

    @property
    def runs(self) -> bool:
        return self.schedules > 0 and not self.late


@dataclass(frozen=True)
class Health:
    """Whether the engine runs; `scheduler_ran_at` is None where it never did.

    `repeated_today` counts messages of today whose text the same person had had today already,
    from whatever campaign or sequence. The keys of the table forbid it within one campaign.
    """

    broadcasters: int
    scheduler: Scheduler
    scheduler_ran_at: datetime | None
    stuck: int
    repeated_today: int


@dataclass(frozen=True)
class Fleet:
    """The devices: how many may send now, and the few that somebody should look at."""

    total: int
    online: int
    idle: int  # switched off, or offline without anything wrong
    troubled: list[Device]
    troubled_count: int


@dataclass(frozen=True)
class DeviceCounts:
    """One device's part of a campaign. `device` is None for rows that no device was found for."""

    device: Device | None
    counts: dict[str, int] = field(default_factory=dict)
    delivered: int = 0
    read: int = 0
    last_at: datetime | None = None

    @property
    def card(self) -> Card | None:
        """The device as its own pages show it."""
        return Card(self.device, self.remaining) if self.device else None

    @property
    def planned(self) -> int:
        return sum(self.counts.values())

    @property
    def sent(self) -> int:
        return self.counts.get(Status.SENT, 0)

    @property
    def failed(self) -> int:
        return self.counts.get(Status.FAILED, 0)

    @property
    def remaining(self) -> int:
        return sum(self.counts.get(status, 0) for status in BroadcastMessage.OPEN)


def today(now: datetime | None = None) -> Today:
    """Returns what ended since midnight of the current time zone."""
    starts_at, ends_at = day_bounds(timezone.localtime(now).date())
    counts = _ended_between(starts_at, ends_at).aggregate(
        delivered=Count("delivered_at"), **_by_status(BroadcastMessage.CLOSED)
    )
    delivered = counts.pop("delivered")
    return Today(starts_at, ends_at, dict.fromkeys(EVERY_STATUS, 0) | counts, delivered)


def queue(now: datetime | None = None) -> Queue:
    """Returns what waits, what is under way and what only an operator can settle."""
    now = now or timezone.now()
    tonight = day_bounds(timezone.localtime(now).date())[1]
    is_due = Q(scheduled_at__lte=now)
    pending = BroadcastMessage.objects.filter(status=Status.PENDING).aggregate(
        waiting=Count("pk"),
        waiting_until_tonight=Count("pk", filter=Q(scheduled_at__lt=tonight)),
        due=Count("pk", filter=is_due),
        oldest_at=Min("scheduled_at"),
    )
    oldest_at = pending.pop("oldest_at")
    others = dict(
        BroadcastMessage.objects.order_by()
        .filter(status__in=[Status.PROCESSING, Status.QUEUED, Status.PAUSED, Status.UNKNOWN])
        .values_list("status")
        .annotate(Count("pk"))
    )
    return Queue(
        **pending,
        oldest_due_at=oldest_at if oldest_at and oldest_at <= now else None,
        being_sent=others.get("processing", 0) + others.get("queued", 0),
        paused=others.get("paused", 0),
        unknown=others.get("unknown", 0),
    )


def days(count: int = 14, now: datetime | None = None) -> list[Span]:
    """Returns the last `count` days of the current time zone, the oldest first, today last.

    A query a day: MySQL servers often lack the time-zone tables that grouping by a local day
    needs, and a range a day is ten times cheaper than a CASE over all of them.
    """
    last = timezone.localtime(now).date()
    spans = []
    for back in reversed(range(count)):
        starts_at, ends_at = day_bounds(last - timedelta(days=back))
        ended = _ended_between(starts_at, ends_at)
        spans.append(Span(starts_at, ends_at, **ended.aggregate(**_by_status(["sent", "failed"]))))
    return spans


def health(now: datetime | None = None) -> Health:
    """Returns whether broadcasters and scheduler are at work, and what must be zero."""
    runs = Task.objects.filter(func=SCHEDULED_BY).order_by("-stopped")
    starts_at, ends_at = day_bounds(timezone.localtime(now).date())
    sent = Q(status=Status.SENT) & ~Q(priority=BroadcastMessage.Priority.TEST)
    texts = _ended_between(starts_at, ends_at).aggregate(
        sent=Count("pk", filter=sent),
        different=Count(
            Concat("recipient_phone", "body", output_field=TextField()), filter=sent, distinct=True
        ),
    )
    return Health(
        broadcasters=Worker.objects.alive().count(),
        scheduler=scheduler(),
        scheduler_ran_at=runs.values_list("stopped", flat=True).first(),
        stuck=BroadcastMessage.objects.stuck().count(),
        repeated_today=texts["sent"] - texts["different"],
    )


def scheduler() -> Scheduler:
    """Returns whether somebody runs the schedules, by the database's clock. One statement."""
    is_late = Q(next_run__lt=Now() - SCHEDULER_LATE_AFTER)
    # Without repeats left a schedule is switched off.
    on = Schedule.objects.exclude(repeats=0)
    return Scheduler(**on.aggregate(schedules=Count("pk"), late=Count("pk", filter=is_late)))


def fleet(shown: int = 5) -> Fleet:
    """Returns how the devices are, with the first few of those that need somebody."""
    online = Device.objects.online()
    troubled = Device.objects.filter(enabled=True).held_up()
    total = Device.objects.count()
    return Fleet(
        total=total,
        online=online.count(),
        idle=total - (online | troubled).count(),
        troubled=list(troubled.order_by("-status_changed_at")[:shown]),
        troubled_count=troubled.count(),
    )


def counts_by_campaign(campaign_ids: Collection[int]) -> dict[int, dict[str, int]]:
    """Returns messages by status of each of these campaigns, zeros included. One statement."""
    counts = {pk: dict.fromkeys(EVERY_STATUS, 0) for pk in campaign_ids}
    rows = BroadcastMessage.objects.order_by().filter(
        campaign_id__in=counts, status__in=EVERY_STATUS
    )
    for pk, status, count in rows.values_list("campaign_id", "status").annotate(Count("pk")):
        counts[pk][status] = count
    return counts


def rates_by_campaign(
    began: Mapping[int, datetime | None], now: datetime | None = None
) -> dict[int, float]:
    """Returns how many messages a minute each campaign sent in the last minutes.

    Takes {campaign id: when it began or was resumed}: one that began a moment ago has not had the
    whole RATE_WINDOW to send in.
    """
    now = now or timezone.now()
    sent = _ended_between(now - RATE_WINDOW, now).aggregate(
        **{f"of_{pk}": Count("pk", filter=Q(campaign_id=pk, status=Status.SENT)) for pk in began}
    )
    longest = RATE_WINDOW.total_seconds() / 60
    rates = {}
    for pk, began_at in began.items():
        minutes = (now - began_at).total_seconds() / 60 if began_at else longest
        rates[pk] = sent[f"of_{pk}"] / min(max(minutes, 1.0), longest)
    return rates


def by_device(campaign_id: int) -> list[DeviceCounts]:
    """Returns a campaign's rows by device, in the order of the devices' names.

    Reads every row of the campaign (200 ms for 300,000): for what is asked a few times a minute.
    """
    rows = BroadcastMessage.objects.order_by().filter(
        campaign_id=campaign_id, status__in=EVERY_STATUS
    )
    found = rows.values_list("device_id", "status").annotate(
        Count("pk"), Count("delivered_at"), Count("read_at"), Max("finished_at")
    )
    lines = list(found)
    devices = Device.objects.in_bulk({pk for pk, *_rest in lines if pk})
    counted: dict[int | None, DeviceCounts] = {}
    for device_id, status, count, delivered, read, last_at in lines:
        before = counted.get(device_id, DeviceCounts(devices.get(device_id)))
        counted[device_id] = DeviceCounts(
            before.device,
            {**before.counts, status: count},
            before.delivered + delivered,
            before.read + read,
            _later(before.last_at, last_at if status == Status.SENT else None),
        )
    return sorted(counted.values(), key=lambda row: (row.device is None, str(row.device)))


def skipped_by_reason(campaign_id: int) -> dict[str, int]:
    """Returns how many leads a campaign left out, {reason: number}, the most frequent first."""
    rows = BroadcastMessage.objects.filter(campaign_id=campaign_id, status=Status.SKIPPED)
    counted = rows.order_by().values_list("skip_reason").annotate(count=Count("pk"))
    return dict(counted.order_by("-count", "skip_reason"))


def minutes(campaign_id: int, until: datetime, count: int = 60) -> list[Span]:
    """Returns what a campaign sent in each of the `count` minutes before `until`, oldest first.

    Minutes are the same in every time zone, so the database may group by them.
    """
    last = until.astimezone(UTC).replace(second=0, microsecond=0)
    first = last - timedelta(minutes=count - 1)
    found = (
        _ended_between(first, last + timedelta(minutes=1))
        .annotate(minute=TruncMinute("finished_at", tzinfo=UTC))
        .values_list("minute")
        .annotate(**_by_status(["sent", "failed"], Q(campaign_id=campaign_id)))
    )
    counts = {minute: (sent, failed) for minute, sent, failed in found}
    starts = (first + timedelta(minutes=n) for n in range(count))
    return [Span(at, at + timedelta(minutes=1), *counts.get(at, (0, 0))) for at in starts]


def day_bounds(day: date) -> tuple[datetime, datetime]:
    """Returns when this day begins and ends in the current time zone, as aware datetimes."""
    zone = timezone.get_current_timezone()
    return (
        datetime.combine(day, time.min, zone),
        datetime.combine(day + timedelta(days=1), time.min, zone),
    )


def _ended_between(starts_at: datetime, ends_at: datetime) -> BroadcastMessageQuerySet:
    """What ended in this time, and no other condition: see the top of this file."""
    return BroadcastMessage.objects.order_by().filter(
        finished_at__gte=starts_at, finished_at__lt=ends_at
    )


def _by_status(statuses: Iterable[str], condition: Q = EVERYTHING) -> dict[str, Count]:
    """Aggregates that count, under the name of each status, its rows that meet the condition."""
    return {str(status): Count("pk", filter=condition & Q(status=status)) for status in statuses}


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max((at for at in (one, other) if at), default=None)
