"""Asks WhatsApp whether people are on it, before a device first writes to them.

Beside the broadcaster's loop, in a thread that there is only while it holds a device whose
transport can tell. Who turns out not to be on WhatsApp is left out at the claim like everybody else
who may not be messaged, and of the next audience before Send. Whoever was not asked about yet, or
got no answer, is written to all the same: WhatsApp says it then.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db import connection
from django.utils import timezone

from broadcasts import pacing
from broadcasts.models import BroadcastMessage
from broadcasts.retrying import survive_conflicts
from devices.transports.base import Checking
from leads.models import Lead

if TYPE_CHECKING:
    from broadcasts.lease import Lease

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
# Of a device: so many numbers a minute, of the people whose turn is next. More than it writes to,
# and no more than somebody's phone looks up who adds a few contacts.
AT_ONCE, EVERY_SECONDS = 20, 60.0
AHEAD = 100
LONGEST_PAUSE_SECONDS = 3600.0  # after errors, from EVERY_SECONDS on
FORGOTTEN_SECONDS = 3600.0  # who got no answer is asked about again


@dataclass(slots=True)
class Turn:
    """When a device's numbers are next looked up."""

    lease: Lease
    next_at: float = 0.0
    pause_seconds: float = EVERY_SECONDS


class Checks:
    def __init__(self) -> None:
        self._turns: dict[int, Turn] = {}
        self._changing = threading.Lock()
        self._thread: threading.Thread | None = None
        self._asked: dict[str, float] = {}  # numbers that got no answer, and when

    def add(self, lease: Lease) -> None:
        """Takes in a device that was leased, if its transport can tell."""
        if not isinstance(lease.session, Checking):
            return
        with self._changing:
            self._turns[lease.device_id] = Turn(lease)
            if not self._thread:
                self._thread = threading.Thread(target=self._run, name="checks", daemon=True)
                self._thread.start()

    def drop(self, device_id: int) -> None:
        """Lets go of a device whose lease ends."""
        with self._changing:
            self._turns.pop(device_id, None)

    def _run(self) -> None:
        while True:
            with self._changing:
                if not self._turns:
                    self._thread = None
                    return
                turns = list(self._turns.values())
            self.look(turns)
            time.sleep(LOOK_SECONDS)

    def look(self, turns: list[Turn]) -> None:
        """Asks about the next people of each device whose turn it is."""
        now = time.monotonic()
        due = [turn for turn in turns if turn.next_at <= now and turn.lease.connected]
        if not due:
            return
        old = now - FORGOTTEN_SECONDS
        self._asked = {phone: at for phone, at in self._asked.items() if at > old}
        try:
            for turn in due:
                self._take(turn)
        finally:
            with suppress(Exception):  # whatever it is: this thread must live
                connection.close()  # for a minute it is not needed

    def _take(self, turn: Turn) -> None:
        pk = turn.lease.device_id
        try:
            self._check(turn.lease)
            turn.pause_seconds = EVERY_SECONDS
        except Exception as error:  # noqa: BLE001 (one account's trouble is not the others')
            if pk in self._turns:  # else its session has been closed meanwhile
                logger.warning("Device %s: numbers were not looked up: %s", pk, error)
            turn.pause_seconds = min(2 * turn.pause_seconds, LONGEST_PAUSE_SECONDS)
        turn.next_at = time.monotonic() + turn.pause_seconds / turn.lease.device.speed

    def _check(self, lease: Lease) -> None:
        if not pacing.may_contact_first(lease.pace, lease.slot, timezone.now()):
            return  # whoever may write to nobody new today looks nobody up either
        waiting = strangers_next(lease.device_id)
        phones = [phone for phone in waiting if phone not in self._asked][:AT_ONCE]
        if not phones or not isinstance(lease.session, Checking):
            return
        self._asked |= dict.fromkeys(phones, time.monotonic())
        answers = {
            phone: name for phone, name in lease.session.check(phones).items() if phone in phones
        }
        survive_conflicts(Lead.objects.note_presence)(answers)
        for phone in answers:  # now the lead knows
            del self._asked[phone]
        missing = sum(not name for name in answers.values())
        logger.info(
            "Device %s: of %d numbers looked up %d are not on WhatsApp",
            lease.device_id, len(answers), missing,
        )  # fmt: skip


def strangers_next(device_id: int) -> list[str]:
    """Returns the numbers of those among the device's next people of whom it is not known whether
    they are on WhatsApp.

    However long its queue is, only its head is looked at. Not at what is tried again: there may be
    many of these, and for them it is known.
    """
    lanes = BroadcastMessage.Priority.SEQUENCE_FIRST, BroadcastMessage.Priority.CAMPAIGN_FIRST
    waiting = BroadcastMessage.objects.filter(
        device=device_id, status="pending", priority__in=lanes
    )
    head = waiting.order_by("priority", "scheduled_at", "pk").values_list("lead_id", flat=True)
    leads = [lead_id for lead_id in head[:AHEAD] if lead_id]
    phones = dict(Lead.objects.unasked().filter(pk__in=leads).values_list("pk", "phone"))
    return [phones[lead_id] for lead_id in leads if lead_id in phones]
