"""Whom the fault suite writes to, from what, and what operators do meanwhile."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from django.db.models import Q
from django.utils import timezone

from broadcasts.models import BroadcastMessage
from campaigns.models import Campaign
from devices.models import Device
from leads.models import Lead, Niche, Trigger
from sequences.models import Sequence, SequenceStep
from tests.faults.trips import clock
from tests.faults.witness import NO_ANSWER, is_refused_once, is_unsure

STEPS = 3
SLOW_SHARE, SLOW_SECONDS = 5, 4  # every fifth device waits longer than a lease lasts


@dataclass
class Deed:
    """What an operator did, and when. While the database was away it may or may not have been
    done: then it never was `done`, though it was begun."""

    about: str
    holds: bool  # from when it was done on, nothing of this may be sent
    began_at: float
    done_at: float = math.inf


def names_of(message: BroadcastMessage) -> set[str]:
    """Returns what deeds may be about that hold this message back."""
    of_campaign, of_sequence = f"campaign {message.campaign_id}", f"sequence {message.sequence_id}"
    return {of_campaign, of_sequence, message.recipient_phone}


@dataclass
class World:
    """Devices, leads in niches that overlap, campaigns to one or more of them, and a sequence."""

    devices: int
    leads: int
    dice: random.Random
    expected: dict[int, int] = field(default_factory=dict)  # campaign: its audience
    deeds: list[Deed] = field(default_factory=list)

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
                sequence=sequence, position=n, delay_seconds=3 * n, message=f"step-{n} Hi {{name}}"
            )
            for n in range(1, STEPS + 1)
        )
        sequence.activate()
        for niches in (["NORTH"], ["SOUTH"], ["NORTH", "SOUTH"]):
            self.launch(niches)

    def launch(self, niches: list[str] | None = None) -> None:
        """Schedules a campaign for now. Its text names it, so that the witness knows it too."""
        niches = niches or self.dice.choice([["NORTH"], ["SOUTH"], ["NORTH", "SOUTH"]])
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
        if waiting < 5 * self.devices and not Campaign.objects.filter(status="scheduled").exists():
            self.launch()

    # What operators do. Each returns what was done, or "" when there was nothing to do it to.

    def pause(self) -> str:
        campaign = self._one_of("queuing", "sending")
        return f"paused {campaign}" if campaign and self._pause(campaign) else ""

    def resume(self) -> str:
        campaign = self._one_of("paused")
        if not campaign:
            self.pause()  # for the next time
        return f"resumed {campaign}" if campaign and self._resume(campaign) else ""

    def cancel(self) -> str:
        # Rather in the middle of being queued, which is over soon: the rest is to be listed.
        campaign = self._one_of("queuing") or self._one_of("sending", "paused")
        if not campaign or not self._do(campaign.cancel, f"campaign {campaign.pk}", holds=True):
            return ""
        return f"cancelled {campaign}"

    def pause_sequence(self) -> str:
        """Pauses it if it is active, else activates it again."""
        sequence = Sequence.objects.get()
        about = f"sequence {sequence.pk}"
        if self._do(sequence.pause, about, holds=True):
            return "paused the sequence"
        return "activated it" if self._do(sequence.activate, about, holds=False) else ""

    def opt_out(self) -> str:
        # In a short run one person is all that there is of whom the witness refuses, or is unsure.
        told = Lead.objects.filter(opted_out_at=None).values_list("phone", flat=True)
        phones = [phone for phone in told if not (is_refused_once(phone) or is_unsure(phone))]
        for phone in (some := self.dice.sample(phones, min(5, len(phones)))):
            lead = Lead.objects.filter(phone=phone)
            self._do(lambda lead=lead: lead.opt_out(source="STOP"), phone, holds=True)  # type: ignore[misc]
        return f"{len(some)} people opted out" if some else ""

    def retry_failed(self) -> str:
        """Of a campaign whose page offers it: of a cancelled one nothing starts over."""
        ended = Q(campaign=None) | Q(campaign__status="cancelled")
        failed = BroadcastMessage.objects.filter(status="failed").exclude(ended)
        campaigns = sorted(set(failed.values_list("campaign", flat=True)))
        if not campaigns:
            return ""
        failed = BroadcastMessage.objects.filter(
            campaign=(chosen := self.dice.choice(campaigns)), status="failed"
        )
        count = failed.retry_failed()
        return f"{count} of campaign {chosen} again" if count else ""

    def settle_as_arrived(self) -> str:
        """Takes one message of which the witness could not tell for sent, as it was."""
        unsure = BroadcastMessage.objects.filter(status="unknown", error_code=NO_ANSWER)
        starts = list(unsure.order_by("pk").values_list("pk", "restarts"))
        if not starts:
            return ""
        pk, restarts = self.dice.choice(starts)
        one = BroadcastMessage.objects.filter(pk=pk, restarts=restarts)
        return f"message {pk} arrived" if one.settle_as_sent() else ""

    def switch_off(self) -> str:
        """Half of the devices at most."""
        on = list(Device.objects.filter(enabled=True).order_by("pk"))
        if len(on) <= self.devices / 2:
            return ""
        device = self.dice.choice(on)
        return f"switched {device} off" if self._switch(device, on=False) else ""

    def switch_on(self) -> str:
        """All that are off: were it one at a time, its messages might expire."""
        if count := self._switch_all_on():
            return f"switched {count} devices on"
        self.switch_off()  # for the next time
        return ""

    def change_a_pace(self) -> str:
        """The longest pause and the name; the shortest is what the audit goes by."""
        device = self.dice.choice(list(Device.objects.order_by("pk")))
        device.name = f"Sales {device.pk:03}, edited at {clock():.0f}"
        device.max_delay_seconds = device.min_delay_seconds + self.dice.randrange(2)
        device.save(update_fields=["name", "max_delay_seconds"])
        return f"{device} waits up to {device.max_delay_seconds} s"

    def _switch_all_on(self) -> int:
        off = Device.objects.filter(enabled=False).order_by("pk")
        return sum(self._switch(device, on=True) for device in list(off))

    def _switch(self, device: Device, *, on: bool) -> bool:
        """As the device's page does it."""
        row = Device.objects.kept().filter(pk=device.pk, enabled=not on)
        return self._do(lambda: row.update(enabled=on), f"device {device.pk}", holds=not on)

    def _pause(self, campaign: Campaign) -> bool:
        return self._do(campaign.pause, f"campaign {campaign.pk}", holds=True)

    def _resume(self, campaign: Campaign) -> bool:
        return self._do(campaign.resume, f"campaign {campaign.pk}", holds=False)

    def _do(self, act: Callable[[], object], about: str, *, holds: bool) -> bool:
        """Does it and notes when; what turns out not to have been possible is not noted."""
        deed = Deed(about, holds, clock())
        self.deeds.append(deed)
        if act():
            deed.done_at = clock()
            return True
        self.deeds.remove(deed)
        return False

    def _one_of(self, *statuses: str) -> Campaign | None:
        campaigns = list(Campaign.objects.filter(status__in=statuses).order_by("pk"))
        return self.dice.choice(campaigns) if campaigns else None

    def settle(self) -> None:
        """The end of the havoc: everything goes on but one campaign, which stays paused."""
        self._switch_all_on()
        sequence = Sequence.objects.get()
        self._do(sequence.activate, f"sequence {sequence.pk}", holds=False)
        kept = Campaign.objects.filter(status__in=["queuing", "sending"]).order_by("-pk").first()
        if kept:
            self._pause(kept)
        for campaign in Campaign.objects.filter(status="paused"):
            if campaign != kept:
                self._resume(campaign)
