"""What the pages say about a device beside its own columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Count, Exists, OuterRef
from django.utils import timezone
from django.utils.timesince import timesince
from django.utils.translation import gettext as _

from devices.models import Device, SimulatedMessage
from devices.pairing import Pairing, Unlinking
from devices.transports import missing

# Statuses of messages that will still go somewhere by themselves (BroadcastMessage.OPEN; the
# devices know nobody, so the words stand here, and a test holds them together).
WAITING = ("pending", "processing", "queued", "paused")
# States of campaigns whose messages may still have to be written (UNWRITTEN, and what can come back
# to those; the same test holds these).
UNWRITTEN = ("scheduled", "queuing", "paused")
_RECENT = 500
_SHOWN_NUMBERS = 12
_SHOWN_BUBBLES = 100


@dataclass(frozen=True)
class Card:
    """A device with the length of its queue."""

    device: Device
    waiting: int

    @property
    def state_label(self) -> str:
        if self.device.deleted_at:
            return _("deleted")
        if self.device.state == "disabled":
            return _("switched off")
        if self.device.state == "unpaired":
            return _("not paired")
        return str(Device.Status(self.device.state).label)

    @property
    def transport_missing(self) -> str:
        """Why no broadcaster can open the device, if its transport is not configured any more."""
        return missing(self.device.transport)

    @property
    def linked(self) -> Pairing | None:
        """The pairing that gave the device the session which it has."""
        session = self.device.session
        return self.device.pairings.filter(session=session).first() if session else None

    @property
    def logged_out(self) -> Unlinking | None:
        """What somebody last asked for here, and how far that is."""
        return self.device.unlinkings.filter(requested_by__isnull=False).first()

    @property
    def next_slot(self) -> datetime | None:
        """When the pause after the last message ends; None if it has."""
        slot: datetime | None = self.device.next_send_at
        return slot if slot and slot > timezone.now() else None

    @property
    def may_send(self) -> bool:
        return self.device.state == Device.Status.ONLINE

    @property
    def lease_age(self) -> str:
        """How long ago its broadcaster last said that it holds the device."""
        expires_at: datetime | None = self.device.lease_expires_at
        if expires_at is None:
            return ""
        renewed_at = expires_at - timedelta(seconds=settings.LEASE_SECONDS)
        seconds = max(0, round((timezone.now() - renewed_at).total_seconds()))
        return _("%(seconds)s s") % {"seconds": seconds} if seconds < 60 else timesince(renewed_at)


def cards(devices: Iterable[Device]) -> list[Card]:
    """Returns a card for each device, in order, with one query for all the queues."""
    devices = list(devices)
    queues = Device.objects.filter(
        pk__in=[device.pk for device in devices], messages__status__in=WAITING
    )
    waiting = dict(queues.order_by().values_list("pk").annotate(Count("messages")))
    return [Card(device, waiting.get(device.pk, 0)) for device in devices]


@dataclass(frozen=True)
class Bound:
    """What is limited to one device: where that is deleted, no other sends it."""

    sequences: list[str]
    campaigns: list[str]


def bound_to(device: Device) -> Bound:
    """Returns the sequences, and the campaigns that are not all written, for which no device that
    exists was chosen but this one."""
    others = Device.objects.kept().exclude(pk=device.pk).order_by()
    sequences = device.sequences.filter(~Exists(others.filter(sequences=OuterRef("pk"))))
    campaigns = device.campaigns.filter(~Exists(others.filter(campaigns=OuterRef("pk"))))
    unwritten = campaigns.filter(status__in=UNWRITTEN, fanned_out_at=None)
    return Bound(
        list(sequences.values_list("name", flat=True)),
        list(unwritten.values_list("title", flat=True)),
    )


@dataclass(frozen=True)
class SimulatedPhone:
    """One number's screen: what it received and wrote, the newest last."""

    phone: str
    bubbles: list[SimulatedMessage]


def recent_numbers() -> list[SimulatedMessage]:
    """Returns the latest message of each of the numbers that last received or wrote something."""
    latest: dict[str, SimulatedMessage] = {}
    for message in SimulatedMessage.objects.order_by("-pk")[:_RECENT]:
        latest.setdefault(message.phone, message)
    return list(latest.values())[:_SHOWN_NUMBERS]


def simulated_phone(phone: str) -> SimulatedPhone:
    messages = SimulatedMessage.objects.filter(phone=phone).select_related("device")
    newest = messages.order_by("-received_at", "-pk")[:_SHOWN_BUBBLES]
    return SimulatedPhone(phone, list(newest)[::-1])
