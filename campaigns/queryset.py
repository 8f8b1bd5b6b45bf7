from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from django.db import models
from django.db.models import Case, Exists, F, OuterRef, Q, Value, When
from django.db.models.functions import Now
from django.utils import timezone
from django_q.tasks import async_task

from broadcasts.models import BroadcastMessage, Worker
from broadcasts.pacing import Holdup
from broadcasts.retrying import survive_conflicts
from broadcasts.timeline import Outlook, outlooks
from devices.models import Device
from leads.moments import no_later

if TYPE_CHECKING:
    from campaigns.models import Campaign


logger = logging.getLogger(__name__)

# A scheduler task is to be short; the next minute's pass takes up where this one stopped.
BUDGET_SECONDS = 45


class CampaignQuerySet(models.QuerySet["Campaign"]):
    def standing(self, *statuses: str) -> Self:
        """Campaigns that their messages put into one of these states: Progress.status in SQL."""
        by_messages = Case(
            When(_has(*BroadcastMessage.OPEN), then=Value("sending")), default=Value("finished")
        )
        stands = Case(
            When(status__in=["sending", "finished"], then=by_messages), default=F("status")
        )
        return self.alias(stands=stands).filter(stands__in=statuses)

    def saying_the_same(self, campaign: Campaign) -> Self:
        """Others with the same text, word for word, that were sent in the last week or will be, or
        are drafts of this week. One campaign reaches nobody twice; two of these do."""
        recent = timezone.now() - timedelta(days=7)
        same = self.filter(message=campaign.message).exclude(pk=campaign.pk)
        if not campaign.message:  # then the file is what it says
            same = same.filter(attachment__isnull=False, attachment=campaign.attachment)
        drafts = Q(status="draft", updated_at__gte=recent)
        sent = Q(scheduled_at__gte=recent) & ~Q(status__in=["draft", "cancelled"])
        return same.filter(drafts | sent)

    def due(self) -> Self:
        return self.filter(status="scheduled", scheduled_at__lte=Now())

    def lacking_devices(self) -> Self:
        """Campaigns that wait until one of their devices may send, or will, if they begin now."""
        return self.filter(
            Device.objects.none_usable_of("campaigns"), status__in=["scheduled", "queuing"]
        )

    def being_listed(self) -> Self:
        """Campaigns whose audience a pass goes on to list: Campaign.is_being_listed in SQL. Those
        first that people are to get."""
        began = Q(status="cancelled", audience_max_lead_id__isnull=False)
        unlisted = self.filter(Q(status="queuing") | began, fanned_out_at__isnull=True)
        return unlisted.order_by("-status", "-pk")

    def begun_as(self, campaign: Campaign) -> Self:
        """That campaign, as long as it is being queued, or is cancelled, as when it was read. Not
        one that was made a draft since, changed, and begun anew: a pass that was slow would write
        what it read before."""
        status = "cancelled" if campaign.is_cancelled else "queuing"
        begun = self.filter(pk=campaign.pk, status=status)
        if campaign.started_at is None:
            return begun
        return begun.filter(no_later("started_at", campaign.started_at))

    def process(self) -> dict[str, int]:
        """One pass of the scheduler: starts what is due, queues, and finishes what is done.

        Every step is a compare-and-set or idempotent, so any number of schedulers may do this at
        once and be killed anywhere. Returns counts.
        """
        from campaigns.fanout import fan_out  # it knows Campaign, which is made of this class

        started = sum(campaign.start() for campaign in self.due())
        stop_at = time.monotonic() + BUDGET_SECONDS
        queued = 0
        for campaign in self.being_listed():
            try:
                queued += fan_out(campaign, stop_at=stop_at)
            except Exception:  # one campaign's trouble must not hold up all others
                logger.exception("Campaign %s could not be queued", campaign.pk)
        moved = sum(campaign.settle_messages() for campaign in self.unsettled())
        counts = {
            "started": started,
            "queued": queued,
            "messages_moved": moved,
            "finished": self.finish(),
            "reopened": self.reopen(),
            "foreseen": 0,
        }
        try:
            counts["foreseen"] = self.foresee()
        except Exception:  # what is only told must not hold up what is sent
            logger.exception("Nobody can say when campaigns finish")
        return counts

    def process_soon(self) -> None:
        """Asks the scheduler for a pass now: somebody waits for it, or very many messages do."""
        async_task("campaigns.tasks.process_campaigns")

    def unsettled(self) -> Self:
        """Campaigns with messages that their state says should be elsewhere."""
        paused = Q(status="paused") & _has("pending")
        resumed = Q(status="sending") & _has("paused")
        cancelled = Q(status="cancelled") & _has("pending", "paused")
        return self.filter(paused | resumed | cancelled)

    def finish(self) -> int:
        """Ends the campaigns that have nothing open any more; returns how many."""
        done = self.filter(~_has(*BroadcastMessage.OPEN), status="sending")
        return done.update(status="finished", finished_at=Now())

    @survive_conflicts
    def reopen(self) -> int:
        """Finished campaigns of which messages are tried again are sending; returns how many."""
        again = self.filter(_has(*BroadcastMessage.OPEN), status="finished")
        return again.update(status="sending", finished_at=None)

    def foresee(self) -> int:
        """Writes down when each campaign that is being sent is expected to finish, and how many of
        its devices are held, as far as that has changed; returns of how many an end can be said.

        Of none while no broadcaster is running: nothing leaves, however long that lasts.
        """
        sending = self.filter(status="sending")
        if not sending.exists():
            return 0
        found = outlooks(Device.objects.usable(), timezone.now())
        if not Worker.objects.alive().exists():
            found = {pk: outlook._replace(ends_at=None) for pk, outlook in found.items()}
        nothing = Outlook(None, Holdup.of([]))
        for campaign in sending.defer("message"):
            if changed := campaign.outlook_changes(found.get(campaign.pk, nothing)):
                sending.filter(pk=campaign.pk).update(**changed)
        return sum(outlook.ends_at is not None for outlook in found.values())


def _has(*statuses: str) -> Exists:
    """Whether a campaign has messages in one of these statuses. Read off idx_broadcast_campaign."""
    return Exists(
        BroadcastMessage.objects.filter(campaign=OuterRef("pk"), status__in=statuses).order_by()
    )
