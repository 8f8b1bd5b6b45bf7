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
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from hashlib import blake2b
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
from devices.transports.recorder import Answer, Arrival, Opening, Reply, Words, recorder
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
        # Not a checksum: of two traits of a person it makes one number with other bits turned, so
        # that nobody who reads would ever answer.
        name = f"{settings.SIMULATOR_SEED}:{trait}:{phone}".encode()
        return int.from_bytes(blake2b(name, digest_size=4).digest()) / 2**32

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
        return _Journey(self, message).begin()

    def refusal(self, phone: str) -> Outcome | None:
        """Why WhatsApp does not take a message to this number from this account, or None."""
        world = self.world
        if not world.is_on_whatsapp(phone):
            return Refused("not_on_whatsapp", "This number is not on WhatsApp.")
        if random.random() < world.blocked:
            return DeviceBlocked("429", "No messages for now.", "restricted", self._until())
        if world.strangers and world.nature("stranger", phone) < world.strangers:
            problem = "No messages to new people now."
            return DeviceBlocked("463", problem, "first_contacts", self._until())
        if random.random() < world.media_host_down:
            return Refused("media_host_down", "The media server did not answer.", timedelta(0))
        return NotSent() if self._closed else None

    def _until(self) -> datetime:
        return timezone.now() + timedelta(seconds=BLOCKED_SECONDS / self.speed)

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
            recorder.write(Opening(self.device_id, self._has_opened, self.token))

    def _has_opened(self, answer: Answer) -> None:
        if isinstance(answer, Exception):
            self._tell(Disconnected(str(answer)))
            timers.after(CONNECT_AGAIN_SECONDS, self._open)
            return
        self._opened = True
        timers.after(CONNECT_SECONDS / self.speed, partial(self._tell, Connected()))

    def respond(self, phone: str, provider_message_id: str) -> None:
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
        words = Words(self.device_id, phone, False, "", _new_id(), body)
        recorder.write(Reply(self.device_id, partial(self._replied, words), words))

    def _replied(self, words: Words, answer: Answer) -> None:
        if isinstance(answer, Exception):
            logger.error("Device %d: a person's reply was not written: %s", self.device_id, answer)
            return
        self._tell(Inbound(words.phone, words.body, timezone.now(), words.provider_message_id))

    def _tell(self, event: Event) -> None:
        with self._telling:
            if not self._closed:
                self._report(event)


class CheckingSession(SimulatorSession):
    __slots__ = ()

    def check(self, phones: Sequence[str]) -> dict[str, str]:
        return {phone: phone if self.world.is_on_whatsapp(phone) else "" for phone in phones}


class _Journey:
    """One message's way to a phone, and the answer's way back."""

    __slots__ = ("answer", "message", "name", "session", "way_seconds")

    def __init__(self, session: SimulatorSession, message: OutgoingMessage) -> None:
        self.session = session
        self.message = message
        self.name = _new_id()
        self.way_seconds = random.uniform(*session.world.latency_seconds) / 2 / session.speed
        self.answer: Future[Outcome] = Future()

    def begin(self) -> Future[Outcome]:
        self._after_the_way(self._reach)
        return self.answer

    def _reach(self) -> None:
        """It reaches WhatsApp, which hands it on to the phone or refuses it."""
        session, message, file = self.session, self.message, self.message.media
        if refusal := session.refusal(message.phone):
            self.answer.set_result(refusal)
            return
        media = f"{file.id} {file.kind} {file.sha256} {file.name}" if file else ""
        words = Words(
            session.device_id, message.phone, True, message.key, self.name, message.body, media
        )
        recorder.write(Arrival(session.device_id, self._arrived, session.token, words))

    def _arrived(self, answer: Answer) -> None:
        """It is on the phone, and the sender does not know yet. After an error of the database
        it may be: that error is the answer."""
        if isinstance(answer, Exception):
            self.answer.set_exception(answer)
        elif not answer:
            self.answer.set_result(NotSent())  # a newer connection took over
        else:
            self._take(self._be_received)

    def _be_received(self) -> None:
        self.session.respond(self.message.phone, self.name)
        self._after_the_way(self._come_back)

    def _come_back(self) -> None:
        outcome: Outcome = Accepted(self.name)
        if random.random() < self.session.world.answer_lost:
            outcome = Unknown("timed_out", "WhatsApp did not answer in time.", self.name)
        self.answer.set_result(outcome)

    def _after_the_way(self, step: Callable[[], None]) -> None:
        """Takes the step after so long, at once where there is no distance."""
        if self.way_seconds:
            timers.after(self.way_seconds, partial(self._take, step))
        else:
            self._take(step)

    def _take(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # whatever it is: somebody waits for this answer
            logger.exception("the simulator failed")
            self.answer.set_exception(error)


def _new_id() -> str:
    return f"{SimulatedMessage.ID_PREFIX}{secrets.token_hex(8).upper()}"


class SimulatorTransport:
    world = World()  # a subclass in EXTRA_TRANSPORTS may have another

    def __init__(self, world: World | None = None) -> None:
        if world:
            self.world = world

    def open(self, device: Device, report: Report) -> SimulatorSession:
        session = CheckingSession if self.world.checks else SimulatorSession
        return session(device, report, self.world)
