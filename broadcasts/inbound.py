"""What sessions report: the state of the account, receipts, and what people write."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import takewhile

from django.db import IntegrityError, InterfaceError, OperationalError
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from broadcasts import acquaintance, claiming
from broadcasts.claiming import CASE_ROWS
from broadcasts.lease import Lease
from broadcasts.leases import Leases
from broadcasts.models import BroadcastMessage, InboundMessage
from broadcasts.outcomes import record_receipts
from broadcasts.retrying import survive_conflicts
from devices.models import Device
from devices.transports.base import (
    Blocked,
    Connected,
    Disconnected,
    Event,
    Inbound,
    Outdated,
    Receipt,
    Replaced,
)
from leads.models import Lead

logger = logging.getLogger(__name__)

# A receipt may overtake its own send's answer; so long it is kept for the message to appear.
RECEIPT_SECONDS = 60.0
RECORD_EVERY_SECONDS = 0.5
LOOK_AGAIN_SECONDS = 3.0  # for those that match nothing: also what others write to this account
# A device whose session was opened elsewhere is left alone for so long. Where our own older process
# woke up late and did so, it has ended by then; where somebody else goes on using the account, the
# two take it from each other twice an hour, until a person ends that.
REPLACED = timedelta(minutes=30)

# Said alone, as the whole message, in the languages of our leads. A sentence that merely contains
# one of these words ("when does the offer stop?") opts nobody out.
OPT_OUT_WORDS = frozenset(
    {"STOP", "BERHENTI", "UNSUBSCRIBE", "HENTI", "BATAL", "退订", "退訂", "நிறுத்து"}
)
_AROUND = re.compile(r"^[\W_]+|[\W_]+$")


def is_opt_out(text: str) -> bool:
    """Whether this reply says that the person wants no more messages."""
    return _AROUND.sub("", text.strip()).upper() in OPT_OUT_WORDS


@dataclass(frozen=True, slots=True)
class Said:
    """What a session reported, and under which lease it was opened."""

    device_id: int
    epoch: int
    event: Event


class Reports:
    """What sessions have reported, in that order, until it was acted on."""

    def __init__(self, leases: Leases) -> None:
        self.receipts = Receipts(leases)
        self._leases = leases
        self._waiting: list[Said] = []

    def add(self, said: Said) -> None:
        self._waiting.append(said)

    def act(self) -> Iterator[Lease]:
        """Acts on what was reported, and drops it once that is written down.

        Yields the leases that were spoken of. A broadcaster that starts opens thousands of
        sessions at a time, so as many as connect in a row are one statement.
        """
        while self._waiting:
            connected = list(takewhile(lambda each: each.event == Connected(), self._waiting))
            said = connected or self._waiting[:1]
            leases = [lease for each in said if (lease := self._lease_of(each))]
            if connected:
                self._connect(leases)
            else:
                try:
                    self._handle(said[0], leases)
                except (OperationalError, InterfaceError):
                    raise
                except Exception:  # one account's trouble must not end the others' sessions
                    logger.exception("Device %s: what it said is lost", said[0].device_id)
            del self._waiting[: len(said)]
            yield from leases
            # A commit for each that cannot go with others: thousands take longer than a lease.
            self._leases.renew_in_time()

    def _lease_of(self, said: Said) -> Lease | None:
        """The lease under which this was said, unless it ended: the device may have been another's
        since, and have a session that knows nothing of it."""
        lease = self._leases.held.get(said.device_id)
        is_its = lease and lease.epoch == said.epoch and not lease.is_given_up
        return lease if is_its else None

    def _connect(self, leases: list[Lease]) -> None:
        for lease in leases:
            lease.connected = True
        epochs = {lease.device_id: lease.epoch for lease in leases}
        self._leases.change_status(epochs, Device.Status.ONLINE)

    def _handle(self, said: Said, leases: list[Lease]) -> None:
        match said.event:
            # Facts, whoever holds the device by now.
            case Receipt():
                self.receipts.add(said.device_id, said.event)
            case Inbound():
                _note_reply(said.device_id, said.event)
            case event:
                for lease in leases:
                    self._change(lease, event)

    def _change(self, lease: Lease, event: Event) -> None:
        device, epochs = lease.device, {lease.device_id: lease.epoch}
        match event:
            case Disconnected(reason):
                lease.connected = False
                self._leases.change_status(epochs, Device.Status.OFFLINE, reason=reason)
            case Blocked("first_contacts"):
                self._leases.block_first_contacts(lease, event.ends_at(self._leases.now()))
            case Blocked(state, reason):
                until = event.ends_at(self._leases.now())
                lease.connected = lease.connected and state == "restricted"
                # The session has ended, also if somebody says that it works again before the next
                # look, which then finds nothing to end.
                lease.is_given_up |= state != "restricted"
                status = Device.Status(state)
                self._leases.change_status(epochs, status, reason=reason, until=until)
            case Replaced(reason):
                until = self._leases.now() + REPLACED
                self._leases.give_up(lease, reason, until=until)
            case Outdated(reason):
                logger.error("Device %s: the transport is outdated: %s", device, reason)
                self._leases.give_up(lease, reason, library=True)


@survive_conflicts
def _note_reply(device_id: int, reply: Inbound) -> None:
    leads, body = Lead.objects.at(reply.phone), reply.body
    leads.update(last_replied_at=Now())
    # Before all else: nothing that goes wrong below may cost a STOP.
    if is_opt_out(body) and leads.opt_out(source=_("replied “%s”") % body.strip()[:100]):
        logger.info("A lead of device %s opted out by reply", device_id)
    # The two have talked: the lead stays with the device, and is nobody new to it.
    writers = dict.fromkeys(leads.values_list("pk", flat=True), device_id)
    try:
        leads.update(replied_to=device_id)
        claiming.keep_with(BroadcastMessage, writers)
        for lead_id in writers:
            InboundMessage.keep(lead_id, device_id, reply)
    except IntegrityError:
        return  # the device was deleted this moment
    acquaintance.met(writers)


class Receipts:
    """Receipts on their way into the database: many at a time, since nobody waits for them."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._waiting: dict[tuple[int, Receipt], float] = {}  # until when it may find its message
        self._unmatched: set[tuple[int, Receipt]] = set()  # of those, looked for in vain so far
        self._record_at = 0.0
        self._again_at = 0.0

    def add(self, device_id: int, receipt: Receipt) -> None:
        self._waiting[device_id, receipt] = time.monotonic() + RECEIPT_SECONDS

    def record(self, *, at_once: bool = False) -> None:
        """Writes down what has come in, and forgets what matches no message for too long. What did
        not match is looked for again every few seconds.

        After an outage of the phone or of the database that is a day's receipts: so many at a time
        as a statement takes, each dropped once it is written, and the leases kept meanwhile.
        """
        now = time.monotonic()
        if now < self._record_at and not at_once:
            return
        again = at_once or now >= self._again_at
        if again:
            self._again_at = now + LOOK_AGAIN_SECONDS
        waiting = [pair for pair in self._waiting if again or pair not in self._unmatched]
        for start in range(0, len(waiting), CASE_ROWS):
            chunk = waiting[start : start + CASE_ROWS]
            unmatched = set(_record_what_can_be(chunk))
            for pair in chunk:
                if pair in unmatched and self._waiting[pair] > now:
                    self._unmatched.add(pair)
                else:
                    del self._waiting[pair]
                    self._unmatched.discard(pair)
            self._leases.renew_in_time()
        self._record_at = time.monotonic() + RECORD_EVERY_SECONDS


def _record_what_can_be(receipts: Sequence[tuple[int, Receipt]]) -> list[tuple[int, Receipt]]:
    """Like `record_receipts`. One that cannot be written, since its transport is mistaken about
    what belongs in it, is lost: it must not end the sessions of all others."""
    try:
        return record_receipts(receipts)
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        if len(receipts) > 1:
            return [pair for each in receipts for pair in _record_what_can_be([each])]
        logger.exception("Device %s: a receipt is lost", receipts[0][0])
        return []
