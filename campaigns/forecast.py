"""When a campaign will be done, said before it is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate

from django.contrib.humanize.templatetags.humanize import intcomma
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, ngettext_lazy

from broadcasts.acquaintance import has_talked
from broadcasts.allocation import Allocation
from broadcasts.models import BroadcastMessage
from broadcasts.pacing import Brake
from campaigns.audience import Audience
from devices.models import Device

# Beyond this many they are placed several at a time: nobody waits for a page to place a million.
PLACED_ALONE = 20_000
WORDS = {
    Brake.QUEUE: ngettext_lazy(
        "Most of the time goes to what waits on %(shown)s device already.",
        "Most of the time goes to what waits on %(shown)s devices already.",
        "n",
    ),
    Brake.BLOCK: ngettext_lazy(
        "Most of the time goes by until WhatsApp lets %(shown)s device send again.",
        "Most of the time goes by until WhatsApp lets %(shown)s devices send again.",
        "n",
    ),
    Brake.FIRST_CONTACTS_BLOCK: ngettext_lazy(
        "Most of the time goes by until WhatsApp lets %(shown)s device write to new people again.",
        "Most of the time goes by until WhatsApp lets %(shown)s devices write to new people again.",
        "n",
    ),
    Brake.PAUSES: ngettext_lazy(
        "Most of the time goes to the pauses that %(shown)s device makes between messages.",
        "Most of the time goes to the pauses that %(shown)s devices make between messages.",
        "n",
    ),
    Brake.SENDING_HOURS: ngettext_lazy(
        "Most of the time goes by outside of the sending hours of %(shown)s device: %(detail)s.",
        "Most of the time goes by outside of the sending hours of %(shown)s devices: %(detail)s.",
        "n",
    ),
    Brake.WARM_UP: ngettext_lazy(
        "Most of the time goes to the warm-up of %(shown)s device.",
        "Most of the time goes to the warm-up of %(shown)s devices.",
        "n",
    ),
    Brake.NEW_PEOPLE_A_DAY: ngettext_lazy(
        "Most of the time goes to the cap on new people: %(detail)s a day on %(shown)s device.",
        "Most of the time goes to the cap on new people: %(detail)s a day on %(shown)s devices.",
        "n",
    ),
    Brake.MESSAGES_A_DAY: ngettext_lazy(
        "Most of the time goes to the cap on messages: %(detail)s a day on %(shown)s device.",
        "Most of the time goes to the cap on messages: %(detail)s a day on %(shown)s devices.",
        "n",
    ),
    Brake.MESSAGES_AN_HOUR: ngettext_lazy(
        "Most of the time goes to the cap on messages: %(detail)s an hour on %(shown)s device.",
        "Most of the time goes to the cap on messages: %(detail)s an hour on %(shown)s devices.",
        "n",
    ),
}


@dataclass(frozen=True, slots=True)
class DeviceShare:
    device: Device
    count: int
    finish_at: datetime


@dataclass(frozen=True, slots=True)
class Forecast:
    """All None and empty when nobody receives it, or no device may send. `brake`: what most of the
    time goes to, in words; `passes`: what it goes before, the same; `free_leads`: how many
    stay with none of the devices so far."""

    first_at: datetime | None
    half_at: datetime | None
    finish_at: datetime | None
    per_device: list[DeviceShare]
    brake: str = ""
    passes: str = ""
    free_leads: int = 0


NOBODY = Forecast(None, None, None, [])


def forecast(
    audience: Audience,
    starts_at: datetime,
    min_delay_seconds: int = 0,
    max_delay_seconds: int = 0,
) -> Forecast:
    """Plays the allocation through for this audience, from `starts_at` at each device's mean pace.

    Counts in what already waits on the devices and leaves from now on, their caps, warm-up and
    sending hours. What is paused is not counted in: it stands aside until somebody resumes it.
    """
    receivers = audience.leads.messageable().order_by()
    leads = receivers.by_device()
    total = leads.total()
    if not total:
        return NOBODY
    allocation = Allocation(
        audience.usable_devices(),
        starts_at=starts_at,
        priority=BroadcastMessage.Priority.CAMPAIGN,
        min_delay_seconds=min_delay_seconds,
        max_delay_seconds=max_delay_seconds,
        now=timezone.now(),
    )
    if not allocation:
        return NOBODY
    telling = allocation.telling
    asked = receivers.filter(device__in=telling)
    known = asked.filter(has_talked()).by_device() if telling else leads
    times: list[tuple[datetime, int]] = []
    counts: Counter[Device] = Counter()
    finishes: dict[Device, datetime] = {}
    for device, expected_at, count in _placed(allocation, leads, known):
        times.append((expected_at, count))
        counts[device] += count
        # The last placed need not be the last to leave: first contacts wait for their cap.
        finishes[device] = max(finishes.get(device, expected_at), expected_at)
    times.sort()
    shares = (DeviceShare(device, n, finishes[device]) for device, n in counts.items())
    per_device = sorted(shares, key=lambda share: share.device.name)
    return Forecast(
        first_at=times[0][0],
        half_at=_half(times, total),
        finish_at=times[-1][0],
        per_device=per_device,
        brake=_brake_of(allocation, per_device) if times[-1][0] > starts_at else "",
        free_leads=sum(count for pk, count in leads.items() if pk not in allocation),
        passes=_passes(allocation.passed, known),
    )


def _placed(
    allocation: Allocation, leads: Counter[int | None], known: Counter[int | None]
) -> Iterator[tuple[Device, datetime, int]]:
    """Yields (device, when the last of them leaves, how many) of leads that are placed at once."""
    most = max(1, leads.total() // PLACED_ALONE)
    # Those first who stay: whom their device knows goes before others who are given to it.
    order = sorted(leads, key=lambda pk: (pk in allocation, pk or 0), reverse=True)
    for device_id in order:
        count = leads[device_id]
        for knows, left in ((True, known[device_id]), (False, count - known[device_id])):
            # The first alone: it says when the first message leaves.
            size = 1
            while left > 0:
                placed = allocation.place_alike(device_id, knows=knows, most=min(size, left))
                yield placed
                left, size = left - placed[2], most


def _passes(passed: set[int], known: Counter[int | None]) -> str:
    """Says how many known people of these devices go before the new ones who wait there."""
    count = sum(known[pk] for pk in passed)
    if not count:
        return ""
    text = ngettext(
        "%(shown)s message goes to somebody whom its device has talked with. It leaves before what "
        "other campaigns have waiting there for new people: those campaigns finish later.",
        "%(shown)s messages go to people whom their device has talked with. They leave before what "
        "other campaigns have waiting there for new people: those campaigns finish later.",
        count,
    )
    return text % {"shown": intcomma(count)}


def _half(times: list[tuple[datetime, int]], total: int) -> datetime:
    """Returns when more than half of them have left; `times` in their order."""
    sent = accumulate(count for _, count in times)
    return next(at for (at, _), so_far in zip(times, sent, strict=True) if so_far * 2 > total)


def _brake_of(allocation: Allocation, shares: list[DeviceShare]) -> str:
    """Returns what the last device to finish spends most of the time with, and how many devices
    do so."""
    brakes = [_brake(allocation, share) for share in shares]
    last = max(range(len(shares)), key=lambda n: shares[n].finish_at)
    (brake, detail), n = brakes[last], brakes.count(brakes[last])
    return WORDS[brake] % {"n": n, "shown": intcomma(n), "detail": detail}


def _brake(allocation: Allocation, share: DeviceShare) -> tuple[Brake, str]:
    """Returns what this device spends most of the time with, and what is set there."""
    brake, device = allocation.brake(share.device, share.finish_at), share.device
    match brake:
        case Brake.NEW_PEOPLE_A_DAY:
            return brake, intcomma(device.first_contact_limit)
        case Brake.MESSAGES_A_DAY:
            return brake, intcomma(device.daily_limit)
        case Brake.MESSAGES_AN_HOUR:
            return brake, intcomma(device.hourly_limit)
        case Brake.SENDING_HOURS:
            opens, closes = f"{device.sends_from:%H:%M}", f"{device.sends_until:%H:%M}"
            text = _("%(opens)s to %(closes)s")
            if device.timezone != timezone.get_current_timezone_name():
                text = _("%(opens)s to %(closes)s (%(zone)s)")
            return brake, text % {"opens": opens, "closes": closes, "zone": device.timezone}
    return brake, ""
