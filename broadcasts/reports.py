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
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from django.db.models import (
    Case,
    CharField,
    Count,
    Min,
    Q,
    TextField,
    Value,
    When,
)
from django.db.models.functions import Cast, Concat, TruncMinute
from django.utils import timezone

from broadcasts.models import BroadcastMessage, Worker
from broadcasts.pacing import Pace
from broadcasts.queryset import BroadcastMessageQuerySet
from broadcasts.schedules import Scheduler, scheduler
from broadcasts.timeline import Line
from devices.models import Device

Status = BroadcastMessage.Status
# Over how long a rate is taken: long enough to even out pauses of a minute, short enough to live.
RATE_WINDOW = timedelta(minutes=5)
EVERY_STATUS = [*Status.values]
EVERYTHING = Q()
# What a message says; without a text, which file. No text begins with a blank.
SAID = Case(
    When(body="", then=Concat(Value(" "), Cast("attachment_id", CharField()))),
    default="body",
    output_field=TextField(),
)


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
    """What has not ended yet. `oldest_due_at` is None where nothing waits that should have left.

    `leaving_today`: what of it the caps, sending hours and pauses of the devices let leave before
    midnight; campaigns may ask for longer pauses.
    """

    waiting: int
    leaving_today: int
    due: int
    oldest_due_at: datetime | None
    being_sent: int
    paused: int
    unknown: int

    @property
    def waiting_longer(self) -> int:
        return self.waiting - self.leaving_today


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
class Health:
    """Whether the engine runs.

    `repeated_today` counts messages of today whose text the same person had had today already,
    from whatever campaign or sequence. The keys of the table forbid it within one campaign.
    """

    broadcasters: int
    scheduler: Scheduler
    stuck: int
    repeated_today: int


@dataclass(frozen=True)
class Fleet:
    """The devices: how many may send now, and the few that somebody should look at."""

    total: int
    online: int
    unpaired: int
    idle: int  # switched off, or offline without anything wrong
    troubled: list[Device]
    troubled_count: int


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
    # In the order of idx_broadcast_optimize, and all of it read off there.
    lines = list(
        BroadcastMessage.objects.filter(status=Status.PENDING)
        .order_by()
        .values_list("device_id", "priority")
        .annotate(
            waiting=Count("pk"),
            today=Count("pk", filter=Q(scheduled_at__lt=tonight)),
            due=Count("pk", filter=Q(scheduled_at__lte=now)),
            oldest_at=Min("scheduled_at"),
        )
    )
    oldest_at = min((line[-1] for line in lines), default=None)
    others = dict(
        BroadcastMessage.objects.order_by()
        .filter(status__in=[Status.PROCESSING, Status.QUEUED, Status.PAUSED, Status.UNKNOWN])
        .values_list("status")
        .annotate(Count("pk"))
    )
    return Queue(
        waiting=sum(waiting for _, _, waiting, *_ in lines),
        leaving_today=_leaving(
            ((pk, lane, today) for pk, lane, _, today, *_ in lines), now, tonight
        ),
        due=sum(due for *_, due, _ in lines),
        oldest_due_at=oldest_at if oldest_at and oldest_at <= now else None,
        being_sent=others.get("processing", 0) + others.get("queued", 0),
        paused=others.get("paused", 0),
        unknown=others.get("unknown", 0),
    )


def _leaving(lines: Iterable[tuple[int | None, int, int]], now: datetime, until: datetime) -> int:
    """Returns how many of these (device id, lane, number) leave before then."""
    counts: dict[int, list[int]] = {}
    for pk, lane, count in lines:
        if pk and count:
            is_new = lane in BroadcastMessage.FIRST_CONTACTS
            counts.setdefault(pk, [0, 0])[is_new] += count
    leaving = 0
    for device in Device.objects.filter(pk__in=sorted(counts)):
        pace = Pace.if_known(device)
        if pace and device.may_send_at(now):
            leaving += Line.of(device, now, pace).leave_before(until, *counts[device.pk])
    return leaving


def ahead_of(message: BroadcastMessage, most: int) -> int:
    """Returns how many leave from its device before this message that waits, or `most` if more.

    A look at each of them: for the page of one message, not for a list.
    """
    due_by = max(timezone.now(), message.scheduled_at)
    same_lane = Q(priority=message.priority)
    first = (
        Q(priority__lt=message.priority)
        | same_lane & Q(scheduled_at__lt=message.scheduled_at)
        | same_lane & Q(scheduled_at=message.scheduled_at, pk__lt=message.pk)
    )
    line = BroadcastMessage.objects.leaving().filter(
        device=message.device_id, status=Status.PENDING, scheduled_at__lte=due_by
    )
    return line.filter(first).order_by()[:most].count()


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
    sent = _sent_in_earnest()
    texts = _ended_between(*day_bounds(timezone.localtime(now).date())).aggregate(
        sent=Count("pk", filter=sent),
        different=Count(
            Concat("recipient_phone", SAID, output_field=TextField()), filter=sent, distinct=True
        ),
    )
    return Health(
        broadcasters=Worker.objects.alive().count(),
        scheduler=scheduler(),
        stuck=BroadcastMessage.objects.stuck().count(),
        repeated_today=texts["sent"] - texts["different"],
    )


def repeated(day: date) -> BroadcastMessageQuerySet:
    """Returns the messages that `Health.repeated_today` counts: all of a text but the first."""
    sent = _ended_between(*day_bounds(day)).filter(_sent_in_earnest())
    alike = sent.values("recipient_phone", said=SAID)
    firsts = alike.annotate(first=Min("pk")).values("first")
    return sent.exclude(pk__in=firsts)


def _sent_in_earnest() -> Q:
    return Q(status=Status.SENT) & ~Q(priority=BroadcastMessage.Priority.TEST)


def fleet(shown: int = 5) -> Fleet:
    """Returns how the devices are, with the first few of those that need somebody."""
    online = Device.objects.online()
    troubled = Device.objects.filter(enabled=True).held_up()
    total, told = Device.objects.kept().count(), (online | troubled).count()
    with_unpaired = (online | troubled | Device.objects.unpaired()).count()
    return Fleet(
        total=total,
        online=online.count(),
        unpaired=with_unpaired - told,
        idle=total - with_unpaired,
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
