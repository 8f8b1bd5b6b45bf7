"""A small world in the process: people who receive, read, answer and opt out, and a network that
is slow and sometimes fails. What they received is kept in SimulatedMessage, apart from the queue.

Whether a number is on WhatsApp, reads or answers is decided by a hash of it, so that a run can be
repeated and a test can pick a person of the kind it needs.
"""

from __future__ import annotations

import random
import secrets
import time
import zlib
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import close_old_connections, transaction
from django.db.models import F
from django.utils import timezone

from devices.models import SimulatedMessage, SimulatedSession
from devices.transports.base import (
    Accepted,
    Connected,
    DeviceBlocked,
    Event,
    Inbound,
    NotSent,
    Outcome,
    OutgoingMessage,
    Receipt,
    Refused,
    Report,
    Unknown,
)
from devices.transports.timers import Timers

if TYPE_CHECKING:
    from devices.models import Device


@dataclass(frozen=True, slots=True)
class World:
    """How people and the network behave. Shares are of 1, durations in seconds."""

    latency_seconds: tuple[float, float] = (0.1, 0.6)
    not_on_whatsapp: float = 0.02
    media_host_down: float = 0.01  # refused before the wire, worth another try
    blocked: float = 0.0  # the account is restricted for a while
    answer_lost: float = 0.0  # it arrived, but the sender never learns so
    delivered: float = 0.95
    read: float = 0.6
    replies: float = 0.08
    opts_out: float = 0.01
    receipt_seconds: tuple[float, float] = (0.5, 20.0)

    def nature(self, trait: str, phone: str) -> float:
        """Returns a number from 0 to 1 that this person has for this trait, always the same."""
        return zlib.crc32(f"{settings.SIMULATOR_SEED}:{trait}:{phone}".encode()) / 2**32

    def is_on_whatsapp(self, phone: str) -> bool:
        return self.nature("account", phone) >= self.not_on_whatsapp


REPLIES = ("Ok, thank you!", "How much is it?", "Berapa harga?", "Can I collect on Friday?")


class SimulatorSession:
    def __init__(self, device: Device, report: Report, world: World) -> None:
        self.device = device
        self.token = secrets.token_hex(16)
        self.world = world
        self._report = report
        self._timers = Timers()
        # The older connection, if any, is replaced from here on.
        SimulatedSession.objects.update_or_create(
            device_id=device.pk, defaults={"token": self.token}
        )
        self._later(0.05, Connected())

    def send(self, message: OutgoingMessage) -> Outcome:
        try:
            return self._send(message)
        finally:
            close_old_connections()

    def _send(self, message: OutgoingMessage) -> Outcome:
        world = self.world
        way_seconds = random.uniform(*world.latency_seconds) / 2 / self.device.speed
        time.sleep(way_seconds)
        if not world.is_on_whatsapp(message.phone):
            return Refused("not_on_whatsapp", "This number is not on WhatsApp.")
        if random.random() < world.blocked:
            until = timezone.now() + timedelta(seconds=600 / self.device.speed)
            return DeviceBlocked("463", "No messages to new people for now.", "restricted", until)
        if random.random() < world.media_host_down:
            return Refused("media_host_down", "The media server did not answer.", timedelta(0))
        provider_message_id = f"SIM{secrets.token_hex(8).upper()}"
        if not self._deliver(message, provider_message_id):
            return Refused("replaced", "A newer connection took over.", timedelta(0))
        self._answer(message.phone, provider_message_id)
        time.sleep(way_seconds)  # it has arrived, and the sender does not know yet
        if random.random() < world.answer_lost:
            return Unknown("timed_out", "WhatsApp did not answer in time.", provider_message_id)
        return Accepted(provider_message_id)

    def _deliver(self, message: OutgoingMessage, provider_message_id: str) -> bool:
        with transaction.atomic():
            # Locks the connection's row: it cannot be replaced between this check and the record.
            mine = SimulatedSession.objects.filter(device_id=self.device.pk, token=self.token)
            if not mine.update(messages=F("messages") + 1):
                return False
            SimulatedMessage.objects.create(
                device_id=self.device.pk,
                phone=message.phone,
                key=message.key,
                provider_message_id=provider_message_id,
                body=message.body,
            )
        return True

    def recall(self, key: str) -> Accepted | NotSent | None:
        received = SimulatedMessage.objects.filter(device_id=self.device.pk, key=key).first()
        return Accepted(received.provider_message_id) if received else NotSent()

    def close(self) -> None:
        self._timers.stop()

    def _answer(self, phone: str, provider_message_id: str) -> None:
        """Arranges what this person does on receiving it: receipts, a reply, an opt-out."""
        world, nature = self.world, self.world.nature
        if nature("delivered", phone) >= world.delivered:
            return
        wait = random.uniform(*world.receipt_seconds)
        self._later(wait, Receipt(provider_message_id, "delivered", timezone.now()))
        if nature("read", phone) >= world.read:
            return
        self._later(wait * 2, Receipt(provider_message_id, "read", timezone.now()))
        if nature("opts_out", phone) < world.opts_out:
            self._later(wait * 3, Inbound(phone, "STOP", timezone.now()))
        elif nature("replies", phone) < world.replies:
            self._later(wait * 3, Inbound(phone, random.choice(REPLIES), timezone.now()))

    def _later(self, seconds: float, event: Event) -> None:
        self._timers.after(seconds / self.device.speed, lambda: self._happen(event))

    def _happen(self, event: Event) -> None:
        if isinstance(event, Receipt | Inbound):
            event = replace(event, at=timezone.now())
        if isinstance(event, Inbound):
            SimulatedMessage.objects.create(
                device_id=self.device.pk, phone=event.phone, from_device=False, body=event.body
            )
            close_old_connections()
        self._report(event)


class SimulatorTransport:
    def __init__(self, world: World | None = None) -> None:
        self.world = world or World()

    def open(self, device: Device, report: Report) -> SimulatorSession:
        return SimulatorSession(device, report, self.world)
