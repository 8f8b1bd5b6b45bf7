"""How far campaigns are: counts, rate and expected finish, several at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from broadcasts import reports
from broadcasts.models import BroadcastMessage
from broadcasts.pacing import Holdup
from broadcasts.shares import Share, by_device, stands_behind
from campaigns.models import UNWRITTEN, Campaign

# Of what a campaign is by its messages: one that is written down as finished may be sending again.
RUNNING = (Campaign.Status.QUEUING, Campaign.Status.SENDING)
# Their rows do not change any more, whoever looks.
OVER = (Campaign.Status.FINISHED, Campaign.Status.CANCELLED)


@dataclass(frozen=True)
class Progress:
    """Where one campaign stands at `at`. `rate` is messages a minute; with its `devices` the counts
    are the sums of theirs."""

    campaign: Campaign
    counts: dict[str, int]
    rate: float
    at: datetime
    devices: Sequence[Share] | None = None
    lacks_devices: bool = False
    stands_behind: bool = False  # its devices are busy with what goes before

    @property
    def rows(self) -> int:
        return sum(self.counts.values())

    @property
    def audience(self) -> int:
        """Everybody the campaign is about; until that is listed, who is so far."""
        return self.campaign.audience_size or self.rows

    @property
    def has_list(self) -> bool:
        """Whether its audience is settled, and began to be listed."""
        return self.campaign.audience_max_lead_id is not None

    @property
    def is_listed(self) -> bool:
        """Whether everybody is: before that nobody knows how many they are."""
        return self.campaign.fanned_out_at is not None

    @property
    def looked_through_percent(self) -> int:
        """How many of the leads were looked through for its audience; by their numbers, which costs
        nothing, so that it is about as much."""
        newest = self.campaign.audience_max_lead_id or 0
        return self.campaign.checkpoint_lead_id * 100 // newest if newest else 0

    @property
    def planned(self) -> int:
        """Those who are to get it: the audience without those who are left out."""
        return max(self.audience, self.rows) - self.counts["skipped"]

    @property
    def sent(self) -> int:
        return self.counts["sent"]

    @property
    def working(self) -> int:
        return self.counts["processing"] + self.counts["queued"]

    @property
    def waiting(self) -> int:
        return self.counts["pending"] + self.counts["paused"]

    @property
    def remaining(self) -> int:
        return self.working + self.waiting

    @property
    def failed_percent(self) -> float:
        tried = self.sent + self.counts["failed"]
        return self.counts["failed"] / tried * 100 if tried else 0.0

    @property
    def needs_somebody(self) -> int:
        return self.counts["failed"] + self.counts["unknown"] + self.counts["expired"]

    @property
    def status(self) -> Campaign.Status:
        """Where it stands by its messages: it is finished with the last of them, and sends again
        with the first that is tried again. The scheduler writes it down within a minute.
        `CampaignQuerySet.standing` says the same."""
        stored = Campaign.Status(self.campaign.status)
        if stored == Campaign.Status.SENDING and not self.remaining:
            return Campaign.Status.FINISHED
        if stored == Campaign.Status.FINISHED and self.remaining:
            return Campaign.Status.SENDING
        return stored

    @property
    def states(self) -> str:
        """Where it stands by its messages, and as it is written down: its page tells by this
        whether it has to offer something else."""
        return f"{self.status}/{self.campaign.status}"

    @property
    def is_running(self) -> bool:
        return self.status in RUNNING

    @property
    def is_moving(self) -> bool:
        """Whether its numbers change by themselves."""
        return self.is_running or (self.campaign.is_cancelled and not self.is_over)

    @property
    def is_due(self) -> bool:
        """Scheduled, and its time has come: the scheduler begins it soon."""
        at: datetime | None = self.campaign.scheduled_at
        return (
            self.campaign.status == Campaign.Status.SCHEDULED and at is not None and at <= self.at
        )

    @property
    def is_over(self) -> bool:
        """Nothing moves any more, also not what a cancelled campaign had in hand or still has to
        list; and it is written down when that was."""
        is_ended = {self.status, self.campaign.status} <= set(OVER)
        return is_ended and not self.remaining and not self.campaign.is_being_listed

    @property
    def last_ended_at(self) -> datetime | None:
        """When the last of its messages ended, where its devices are known."""
        return max((row.ended_at for row in self.devices or () if row.ended_at), default=None)

    @property
    def is_young(self) -> bool:
        """Whether it has not been sending for as long as its rate is taken over."""
        since = self.campaign.sends_since
        return since is not None and self.at - since < reports.RATE_WINDOW

    @property
    def adds_up(self) -> bool:
        """Whether every lead of the audience has exactly one row, once all are queued."""
        return self.is_listed and self.rows == self.audience

    @property
    def finish_at(self) -> datetime | None:
        """When the scheduler expected it to end; None while that cannot be said, or is past."""
        if any(row.remaining and not row.will_send for row in self.devices or ()):
            return None  # since it looked
        at: datetime | None = self.campaign.expected_finish_at
        is_sent = self.campaign.status == Campaign.Status.SENDING and self.remaining
        return at if is_sent and at and at > self.at else None

    @property
    def holdup(self) -> Holdup | None:
        """How many of its devices caps or hours hold, if any: now, where its devices are known, or
        else as the scheduler's latest pass saw it."""
        if not self.is_running:
            return None
        found = self.campaign.holdup
        if self.devices is not None:
            found = Holdup.of([row.hold for row in self.devices if row.device and row.waiting])
        return found if found.held and found.until and found.until > self.at else None


def progress_of(campaigns: Iterable[Campaign]) -> list[Progress]:
    """Returns the progress of each of these campaigns, in their order. Two
    statements in all, or three."""
    campaigns = list(campaigns)
    now = timezone.now()
    counts = reports.counts_by_campaign([campaign.pk for campaign in campaigns])
    rates, lacking = _rates(campaigns, now), _lacking_devices(campaigns)
    return [
        Progress(c, counts[c.pk], rates.get(c.pk, 0.0), now, lacks_devices=c.pk in lacking)
        for c in campaigns
    ]


def progress_by_device(campaign: Campaign) -> Progress:
    """Returns the progress of this campaign and of its devices, as of one moment.

    Dearer than `progress_of`, see `shares.by_device`: for its own page.
    """
    now, devices = timezone.now(), by_device(campaign.pk)
    counts = dict.fromkeys(BroadcastMessage.Status.values, 0)
    for share in devices:
        for status, count in share.counts.items():
            counts[status] += count
    rate = _rates([campaign], now).get(campaign.pk, 0.0)
    at: datetime | None = campaign.scheduled_at if campaign.status in RUNNING else None
    return Progress(
        campaign,
        counts,
        rate,
        now,
        devices,
        lacks_devices=bool(_lacking_devices([campaign])),
        # Asked only where nothing else says what it waits for.
        stands_behind=at is not None and not rate and stands_behind(campaign.pk, at, devices),
    )


def _lacking_devices(campaigns: list[Campaign]) -> set[int]:
    ids = [c.pk for c in campaigns if c.status in UNWRITTEN]
    lacking = Campaign.objects.filter(pk__in=ids).lacking_devices()
    return set(lacking.values_list("pk", flat=True)) if ids else set()


def _rates(campaigns: list[Campaign], now: datetime) -> dict[int, float]:
    began = {c.pk: c.sends_since for c in campaigns if c.status in RUNNING}
    return reports.rates_by_campaign(began, now) if began else {}


def needing_somebody(campaign: Campaign, limit: int = 8) -> list[BroadcastMessage]:
    """Returns the newest rows that only a person can take further: unknown first, then failed."""
    rows = BroadcastMessage.objects.filter(campaign=campaign).select_related("lead", "device")
    found: list[BroadcastMessage] = []
    for status in ("unknown", "failed", "expired"):
        if len(found) < limit:
            found += rows.filter(status=status).order_by("-pk")[: limit - len(found)]
    return found
