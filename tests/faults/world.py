"""Whom the fault suite writes to, from what, and what operators do meanwhile."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from django.utils import timezone

from broadcasts.models import BroadcastMessage
from campaigns.models import Campaign
from devices.models import Device
from leads.models import Lead, Niche, Trigger
from sequences.models import Sequence, SequenceStep

STEPS = 3
SLOW_SHARE, SLOW_SECONDS = 5, 5  # every fifth device waits longer than a lease lasts


@dataclass
class World:
    """Devices, leads in niches that overlap, campaigns to one or more of them, and a sequence."""

    devices: int
    leads: int
    dice: random.Random
    expected: dict[int, int] = field(default_factory=dict)  # campaign: its audience

    def create(self) -> None:
        now = timezone.now()
        Device.objects.bulk_create(
            Device(
                name=f"Sales {n:03}", phone=f"6011{n:08}", transport="witness",
                min_delay_seconds=(gap := SLOW_SECONDS if n % SLOW_SHARE == 0 else 1),
                max_delay_seconds=gap,
                daily_limit=None, sends_from=None, sends_until=None,
            )
            for n in range(self.devices)
        )  # fmt: skip
        Lead.objects.bulk_create(
            Lead(
                phone=f"6012{n:08}", name=f"Lead {n}",
                consented_at=None if n % 40 == 1 else now, consent_source="sign-up form",
                opted_out_at=now if n % 20 == 0 else None,
            )
            for n in range(self.leads)
        )  # fmt: skip
        ids = list(Lead.objects.order_by("pk").values_list("pk", flat=True))
        third = len(ids) // 3
        # The middle third is in both niches.
        for name, members in (("NORTH", ids[: 2 * third]), ("SOUTH", ids[third:])):
            niche = Niche.objects.create(name=name)
            niche.leads.set(members)
        trigger = Trigger.objects.create(name="COLDVITAC")
        trigger.leads.set(ids[third : 2 * third])
        sequence = Sequence.objects.create(name="Drip", trigger=trigger)
        SequenceStep.objects.bulk_create(
            SequenceStep(
                sequence=sequence, position=n, delay_seconds=5 * n, message=f"step-{n} Hi {{name}}"
            )
            for n in range(1, STEPS + 1)
        )
        sequence.activate()
        for niches in (["NORTH"], ["SOUTH"], ["NORTH", "SOUTH"]):
            self.launch(niches)

    def launch(self, niches: list[str]) -> None:
        """Schedules a campaign for now. Its text names it, so that the witness knows it too."""
        number = Campaign.objects.count() + 1
        campaign = Campaign.objects.create(
            title=f"Campaign {number}", message=f"campaign-{number} Hi {{name|there}}"
        )
        chosen = list(Niche.objects.filter(name__in=niches))
        campaign.niches.set(chosen)
        self.expected[campaign.pk] = Lead.objects.filter(niches__in=chosen).distinct().count()
        campaign.schedule()

    def feed(self) -> None:
        """Sees to it that there is always something to send."""
        waiting = BroadcastMessage.objects.filter(status="pending").count()
        if waiting < 8 * self.devices and not Campaign.objects.filter(status="scheduled").exists():
            self.launch(self.dice.choice([["NORTH"], ["SOUTH"], ["NORTH", "SOUTH"]]))

    # What operators do. Each returns what was done, or "" when there was nothing to do it to.

    def pause(self) -> str:
        campaign = self._one_of("queuing", "sending")
        return f"paused {campaign}" if campaign and campaign.pause() else ""

    def resume(self) -> str:
        campaign = self._one_of("paused")
        return f"resumed {campaign}" if campaign and campaign.resume() else ""

    def cancel(self) -> str:
        campaign = self._one_of("queuing", "sending", "paused")
        return f"cancelled {campaign}" if campaign and campaign.cancel() else ""

    def pause_sequence(self) -> str:
        """Pauses it if it is active, else activates it again."""
        sequence = Sequence.objects.get()
        if sequence.pause():
            return "paused the sequence"
        return "activated the sequence" if sequence.activate() else ""

    def opt_out(self) -> str:
        ids = list(Lead.objects.filter(opted_out_at=None).values_list("pk", flat=True))
        someone = self.dice.sample(ids, min(5, len(ids)))
        return f"{Lead.objects.filter(pk__in=someone).opt_out(source='STOP')} people opted out"

    def _one_of(self, *statuses: str) -> Campaign | None:
        campaigns = list(Campaign.objects.filter(status__in=statuses).order_by("pk"))
        return self.dice.choice(campaigns) if campaigns else None

    def settle(self) -> None:
        """The end of the havoc: everything goes on but one campaign, which stays paused."""
        Sequence.objects.get().activate()
        kept = Campaign.objects.filter(status__in=["queuing", "sending"]).order_by("-pk").first()
        if kept:
            kept.pause()
        for campaign in Campaign.objects.filter(status="paused"):
            if campaign != kept:
                campaign.resume()
