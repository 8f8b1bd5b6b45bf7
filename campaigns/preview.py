"""What the operator is told before a campaign is sent: who, what each will read, and when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from django.db.models import Case, Value, When
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from attachments.models import Attachment
from broadcasts.rendering import gaps_of, render_draft
from campaigns.audience import Audience, AudienceSummary
from campaigns.forecast import DeviceShare, Forecast, forecast
from campaigns.idle import IdleDevices, idle_devices
from campaigns.models import Campaign
from devices.cards import Card
from devices.models import Device
from leads.models import Lead, SkipReason

NAMED_DEVICES = NAMED_CAMPAIGNS = 3


@dataclass(frozen=True)
class Preview:
    """An audience counted, a message as one lead of it reads it, and when all have it.

    `lead` is the receiver number `offset`, None when nobody receives it. Blockers forbid sending,
    warnings do not.
    """

    audience: Audience
    summary: AudienceSummary
    devices: list[Device]
    blockers: list[str]
    warnings: list[str]
    lead: Lead | None
    offset: int
    text: str
    attachment: Attachment | None
    forecast: Forecast
    starts_at: datetime
    zone: ZoneInfo

    @property
    def skipped(self) -> list[tuple[SkipReason, int, str]]:
        """Who is left out: the reason, how many, and the address of the list of exactly those."""
        niches = [niche.pk for niche in self.audience.niches]
        shown = {"status": self.audience.status, "niche": niches}
        return [
            (reason, count, reverse("leads:list", query={"may": reason.value, **shown}))
            for reason, count in self.summary.skipped.items()
        ]

    @property
    def previous_offset(self) -> int | None:
        return self.offset - 1 if self.offset else None

    @property
    def shares(self) -> list[tuple[Card, DeviceShare]]:
        """What each device is expected to send, with the device as its own pages show it."""
        return [(Card(share.device, share.count), share) for share in self.forecast.per_device]

    @property
    def idle(self) -> IdleDevices:
        """The devices that get nothing of it, with the reason."""
        return idle_devices(self.audience, self.devices, self.forecast, self.starts_at)

    @property
    def next_offset(self) -> int | None:
        return self.offset + 1 if self.offset + 1 < self.summary.will_receive else None


def preview(
    audience: Audience,
    message: str,
    *,
    attachment: Attachment | None = None,
    starts_at: datetime | None = None,
    min_delay_seconds: int = 0,
    max_delay_seconds: int = 0,
    zone: ZoneInfo,
    offset: int = 0,
) -> Preview:
    """Returns what would happen if this message went to this audience. Changes nothing.

    `message` need not be right yet. `starts_at` None, or past, means now; an `offset` beyond the
    last receiver shows the last.
    """
    starts_at = max(starts_at or timezone.now(), timezone.now())
    summary = audience.summary()
    offset = max(0, min(offset, summary.will_receive - 1))
    lead = audience.sample(offset) if summary.will_receive else None
    devices = audience.usable_devices()
    return Preview(
        audience=audience,
        summary=summary,
        devices=devices,
        blockers=audience.blockers(summary),
        warnings=[*_about_devices(devices), *_about_text(message, audience)],
        lead=lead,
        offset=offset,
        text=render_draft(message, lead) if lead else message,
        attachment=attachment,
        forecast=forecast(audience, starts_at, min_delay_seconds, max_delay_seconds),
        starts_at=starts_at,
        zone=zone,
    )


def preview_of(campaign: Campaign, offset: int = 0) -> Preview:
    """Returns the preview of a campaign as it is stored; a new one is to everybody."""
    of_draft = preview(
        Audience.of(campaign) if campaign.pk else Audience(),
        campaign.message,
        attachment=campaign.attachment,
        starts_at=campaign.scheduled_at,
        min_delay_seconds=campaign.min_delay_seconds,
        max_delay_seconds=campaign.max_delay_seconds,
        zone=campaign.zone,
        offset=offset,
    )
    of_draft.warnings.extend(_about_others(campaign))
    return of_draft


def _about_others(campaign: Campaign) -> Iterator[str]:
    """A copy, the same written in two tabs, or a draft saved again by the browser's Back button."""
    sent_first = Case(When(status="draft", then=Value(1)), default=Value(0))
    same = Campaign.objects.saying_the_same(campaign).order_by(sent_first, "-pk")
    for other in same[:NAMED_CAMPAIGNS]:
        if other.is_editable:
            said = _("{campaign}, a draft, says the same, word for word. If both are sent, whoever "
                     "is in both reads it twice.")  # fmt: skip
        else:
            said = _("{campaign} says the same, word for word. Whoever is in both reads it twice.")
        link = format_html('<a href="{}">“{}”</a>', _page(other), other.title)
        yield format_html(said, campaign=link)


def _page(campaign: Campaign) -> str:
    return reverse("campaigns:detail", args=[campaign.pk])


def _about_devices(devices: list[Device]) -> Iterator[str]:
    away = [device.name for device in devices if device.state != "online"]
    if not away:
        return
    if len(away) == len(devices):
        yield _("No device is online now. The messages wait until one is.")
        return
    names = ", ".join(away[:NAMED_DEVICES])
    if len(away) > NAMED_DEVICES:
        names = _("%(names)s and %(more)d more") % {
            "names": names,
            "more": len(away) - NAMED_DEVICES,
        }
    yield ngettext(
        "%(names)s is not online. What it is given waits until it is back.",
        "%(names)s are not online. What they are given waits until they are back.",
        len(away),
    ) % {"names": names}


def _about_text(message: str, audience: Audience) -> Iterator[str]:
    gaps = gaps_of(message)
    receivers = audience.leads.messageable()
    if gaps & {"name", "first_name"} and (nameless := receivers.filter(name="").count()):
        yield ngettext(
            "%(count)s lead has no name and reads a gap there. Write {name|there} to fill it.",
            "%(count)s leads have no name and read a gap there. Write {name|there} to fill it.",
            nameless,
        ) % {"count": f"{nameless:,}"}
    # Whoever was chosen by a niche has one.
    if "niche" not in gaps or audience.niches:
        return
    if nicheless := receivers.filter(niches=None).count():
        yield ngettext(
            "%(count)s lead has no niche and reads a gap there. Write {niche|us} to fill it.",
            "%(count)s leads have no niche and read a gap there. Write {niche|us} to fill it.",
            nicheless,
        ) % {"count": f"{nicheless:,}"}
