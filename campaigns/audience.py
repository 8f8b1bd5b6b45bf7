"""Who gets a campaign, who does not and why: the same rule before sending and while queuing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from devices.models import Device
from leads.models import Lead, LeadQuerySet, Niche, SkipReason

if TYPE_CHECKING:
    from campaigns.models import Campaign


@dataclass(frozen=True, slots=True)
class AudienceSummary:
    """`total` leads match; of them `will_receive` get it, and `skipped` do not, by reason."""

    total: int
    will_receive: int
    skipped: dict[SkipReason, int]


@dataclass(frozen=True, slots=True)
class Audience:
    """The leads that match, and the devices that may write to them."""

    niches: Sequence[Niche] = ()
    status: str = ""
    devices: Sequence[Device] = ()
    # Whether no niche, or no device, means all of them; not if the one that was chosen is gone.
    for_all_niches: bool = True
    from_all_devices: bool = True

    @classmethod
    def of(cls, campaign: Campaign) -> Audience:
        return cls(
            niches=list(campaign.niches.all()),
            status=campaign.target_status,
            devices=list(campaign.devices.all()),
            for_all_niches=campaign.is_editable or campaign.for_all_niches,
            from_all_devices=campaign.is_editable or campaign.from_all_devices,
        )

    @property
    def leads(self) -> LeadQuerySet:
        """All that match, each annotated with `skip_reason` ('' for those who will receive)."""
        return self._leads(None)

    def leads_between(self, after: int, upto: int) -> LeadQuerySet:
        """Those of `leads` with an id above `after` and up to `upto`."""
        return self._leads((after, upto))

    def staying(self, after: int = 0) -> Mapping[int | None, int]:
        """How many of the leads with an id above `after` stay with which device: at least as many
        of them as it has talked with. Cheaper than to count these."""
        leads = self._matching(None).filter(pk__gt=after, device__isnull=False)
        return leads.by_device()

    def _leads(self, between: tuple[int, int] | None) -> LeadQuerySet:
        return self._matching(between).with_skip_reason()

    def _matching(self, between: tuple[int, int] | None) -> LeadQuerySet:
        leads = Lead.objects.matching(niches=self.niches, status=self.status, between=between)
        return leads if self.niches or self.for_all_niches else leads.none()

    def usable_devices(self) -> list[Device]:
        """The devices chosen, or all if none was, as far as they may be given messages."""
        return list(Device.objects.usable_of(self.devices, or_all=self.from_all_devices))

    def summary(self) -> AudienceSummary:
        counts = self.leads.skip_counts()
        will_receive = counts.pop("", 0)
        return AudienceSummary(
            total=will_receive + sum(counts.values()),
            will_receive=will_receive,
            skipped={reason: counts[reason] for reason in SkipReason if reason in counts},
        )

    def sample(self, offset: int = 0) -> Lead | None:
        """Returns one lead who will receive it, to show the message as that person reads it."""
        receivers = self.leads.messageable().order_by("pk").prefetch_related("niches")
        return receivers[offset : offset + 1].first() if offset >= 0 else None

    def blockers(self, summary: AudienceSummary | None = None) -> list[str]:
        """Returns what stands in the way of sending, in words; nothing when it may be sent."""
        summary = summary or self.summary()
        blockers = []
        if not summary.total:
            blockers.append(_("No lead matches this audience."))
        elif not summary.will_receive:
            blockers.append(_("Every lead that matches is left out."))
        if not self.usable_devices():
            blockers.append(self._without_devices())
        return blockers

    def _without_devices(self) -> str:
        """Says that no device may send, and of which that is said."""
        if self.devices:
            return ngettext(
                "The device chosen may not send: it is off, not paired, logged out or banned.",
                "None of the devices chosen may send: they are off, not paired, logged out or "
                "banned.",
                len(self.devices),
            )
        if not Device.objects.kept().exists():
            return _("There is no device yet.")
        return _("No device may send: all of them are off, not paired, logged out or banned.")
