"""A small world in the process: people who receive, read, answer and opt out, and a network that
is slow and sometimes fails. What they received is kept in SimulatedMessage, apart from the queue.

Whether a number is on WhatsApp, reads or answers is decided by a hash of it, so that a run can be
repeated and a test can pick a person of the kind it needs.
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from django.conf import settings
from django.utils import timezone

from devices.models import SimulatedMessage
from devices.transports.base import (
    Accepted,
    Connected,
    DeviceBlocked,
    Disconnected,
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
from devices.transports.recorder import Arrival, Opening, Reply, recorder
from devices.transports.timers import Timers

if TYPE_CHECKING:
    from devices.models import Device

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 0.05
CONNECT_AGAIN_SECONDS = 1.0
BLOCKED_SECONDS = 600.0

timers = Timers()


@dataclass(frozen=True, slots=True)
class World:
    """How people and the network behave. Shares are of 1, durations in seconds."""

    latency_seconds: tuple[float, float] = (0.1, 0.6)
    not_on_whatsapp: float = 0.02
    media_host_down: float = 0.01  # refused before the wire, worth another try
    blocked: float = 0.0  # the account is restricted for a while
    strangers: float = 0.0  # of the people: WhatsApp lets nobody write to them first
    answer_lost: float = 0.0  # it arrived, but the sender never learns so
    delivered: float = 0.95
    read: float = 0.6
    replies: float = 0.08
    opts_out: float = 0.01
    checks: bool = False  # whether it says before a send who is on WhatsApp
    receipt_seconds: tuple[float, float] = (0.5, 20.0)

    def nature(self, trait: str, phone: str) -> float:
        """Returns a number from 0 to 1 that this person has for this trait, always the same."""
        return zlib.crc32(f"{settings.SIMULATOR_SEED}:{trait}:{phone}".encode()) / 2**32

    def is_on_whatsapp(self, phone: str) -> bool:
        return self.nature("account", phone) >= self.not_on_whatsapp


REPLIES = ("Ok, thank you!", "How much is it?", "Berapa harga?", "Can I collect on Friday?")


class SimulatorSession:
    # There are thousands in a process: no dict for each.
    __slots__ = (
        "_closed",
        "_opened",
        "_report",
        "_telling",
        "device_id",
        "speed",
        "token",
        "world",
    )

    def __init__(self, device: Device, report: Report, world: World) -> None:
        self.device_id = device.pk
        self.speed = device.speed
        self.token = secrets.token_hex(16)
        self.world = world
        self._report = report
        self._telling = threading.RLock()  # held while reporting, so that close() waits for it
        self._closed = False
        self._opened = False
        self._open()

    def send(self, message: OutgoingMessage) -> Future[Outcome]:
        """Returns the answer to come: no thread waits for it, so that thousands of simulated
        devices need not have one each."""
        answer: Future[Outcome] = Future()
        way_seconds = random.uniform(*self.world.latency_seconds) / 2 / self.speed
        _later(way_seconds, partial(self._reach, message, way_seconds, answer), answer)
        return answer

    def _reach(self, message: OutgoingMessage, way_seconds: float, answer: Future[Outcome]) -> None:
        """It reaches WhatsApp, which hands it on to the phone or refuses it."""
        if refusal := self._refusal(message.phone):
            answer.set_result(refusal)
            return
        received = SimulatedMessage(
            device_id=self.device_id,
            phone=message.phone,
            key=message.key,
            provider_message_id=_new_id(),
            body=message.body,
        )
        if message.media:
            file = message.media
            received.media = f"{file.id} {file.kind} {file.sha256} {file.name}"
        arrival = recorder.write(Arrival(self.device_id, self.token, received))
        arrived = partial(self._arrived, arrival, received, way_seconds, answer)
        arrival.add_done_callback(lambda _: _later(0, arrived, answer))

    def _refusal(self, phone: str) -> Outcome | None:
        world = self.world
        if not world.is_on_whatsapp(phone):
            return Refused("not_on_whatsapp", "This number is not on WhatsApp.")
        until = timezone.now() + timedelta(seconds=BLOCKED_SECONDS / self.speed)
        if random.random() < world.blocked:
            return DeviceBlocked("429", "No messages for now.", "restricted", until)
        if world.nature("stranger", phone) < world.strangers:
            return DeviceBlocked("463", "No messages to new people now.", "first_contacts", until)
        if random.random() < world.media_host_down:
            return Refused("media_host_down", "The media server did not answer.", timedelta(0))
        return NotSent() if self._closed else None

    def _arrived(
        self,
        arrival: Future[bool],
        received: SimulatedMessage,
        way_seconds: float,
        answer: Future[Outcome],
    ) -> None:
        """It is on the phone, and the sender does not know yet. After an error of the database
        it may be: that error is the answer."""
        if error := arrival.exception():
            answer.set_exception(error)
            return
        if not arrival.result():
            answer.set_result(NotSent())  # a newer connection took over
            return
        self._answer(received.phone, received.provider_message_id)
        outcome: Outcome = Accepted(received.provider_message_id)
        if random.random() < self.world.answer_lost:
            outcome = Unknown(
                "timed_out", "WhatsApp did not answer in time.", received.provider_message_id
            )
        _later(way_seconds, partial(answer.set_result, outcome), answer)

    def recall(self, key: str) -> Accepted | NotSent | None:
        mine = SimulatedMessage.objects.filter(device_id=self.device_id, key=key)
        # Looked at first: what an older connection recorded before it was replaced is seen below.
        opened = self._opened
        if received := mine.first():
            return Accepted(received.provider_message_id)
        return NotSent() if opened else None

    def close(self) -> None:
        with self._telling:
            self._closed = True

    def _open(self) -> None:
        """Takes over from the older connection, if any; tries again while that fails."""
        if not self._closed:
            opening = recorder.write(Opening(self.device_id, self.token))
            opening.add_done_callback(self._has_opened)

    def _has_opened(self, opening: Future[bool]) -> None:
        if error := opening.exception():
            self._tell(Disconnected(str(error)))
            timers.after(CONNECT_AGAIN_SECONDS, self._open)
            return
        self._opened = True
        timers.after(CONNECT_SECONDS / self.speed, partial(self._tell, Connected()))

    def _answer(self, phone: str, provider_message_id: str) -> None:
        """Arranges what this person does on receiving it: receipts, a reply, an opt-out."""
        world, nature = self.world, self.world.nature
        if nature("delivered", phone) >= world.delivered:
            return
        wait = random.uniform(*world.receipt_seconds) / self.speed
        timers.after(wait, lambda: self._receive(provider_message_id, read=False))
        if nature("read", phone) >= world.read:
            return
        timers.after(wait * 2, lambda: self._receive(provider_message_id, read=True))
        if nature("opts_out", phone) < world.opts_out:
            timers.after(wait * 3, lambda: self._reply(phone, "STOP"))
        elif nature("replies", phone) < world.replies:
            timers.after(wait * 3, lambda: self._reply(phone, random.choice(REPLIES)))

    def _receive(self, provider_message_id: str, *, read: bool) -> None:
        self._tell(Receipt(provider_message_id, "read" if read else "delivered", timezone.now()))

    def _reply(self, phone: str, body: str) -> None:
        if self._closed:
            return
        written = SimulatedMessage(
            device_id=self.device_id, phone=phone, from_device=False, body=body,
            provider_message_id=_new_id(),
        )  # fmt: skip
        reply = recorder.write(Reply(self.device_id, written))
        reply.add_done_callback(lambda done: self._replied(done, written))

    def _replied(self, reply: Future[bool], written: SimulatedMessage) -> None:
        reply.result()
        name = written.provider_message_id
        self._tell(Inbound(written.phone, written.body, timezone.now(), name))

    def _tell(self, event: Event) -> None:
        with self._telling:
            if not self._closed:
                self._report(event)


class CheckingSession(SimulatorSession):
    __slots__ = ()

    def check(self, phones: Sequence[str]) -> dict[str, str]:
        return {phone: phone if self.world.is_on_whatsapp(phone) else "" for phone in phones}


def _new_id() -> str:
    return f"{SimulatedMessage.ID_PREFIX}{secrets.token_hex(8).upper()}"


def _later(seconds: float, call: Callable[[], None], answer: Future[Outcome]) -> None:
    """Calls it after so long, at once for 0; what it raises is the answer."""

    def answered() -> None:
        try:
            call()
        except Exception as error:  # whatever it is: somebody waits for this answer
            logger.exception("the simulator failed")
            answer.set_exception(error)

    if seconds:
        timers.after(seconds, answered)
    else:
        answered()


class SimulatorTransport:
    world = World()  # a subclass in EXTRA_TRANSPORTS may have another

    def __init__(self, world: World | None = None) -> None:
        if world:
            self.world = world

    def open(self, device: Device, report: Report) -> SimulatorSession:
        session = CheckingSession if self.world.checks else SimulatorSession
        return session(device, report, self.world)
