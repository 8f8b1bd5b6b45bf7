"""What sessions report: the state of the account, receipts, and what people write."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable

from django.db.models.functions import Now
from django.utils.translation import gettext as _

from broadcasts.leases import Lease
from broadcasts.outcomes import record_receipts
from devices.models import Device
from devices.transports.base import (
    Blocked,
    Connected,
    Disconnected,
    Event,
    Inbound,
    Outdated,
    Receipt,
)
from leads.models import Lead

logger = logging.getLogger(__name__)

# A receipt may overtake its own send's answer; so long it is kept for the message to appear.
RECEIPT_SECONDS = 60.0
RECORD_EVERY_SECONDS = 0.5

# Said alone, as the whole message, in the languages of our leads. A sentence that merely contains
# one of these words ("when does the offer stop?") opts nobody out.
OPT_OUT_WORDS = frozenset(
    {"STOP", "BERHENTI", "UNSUBSCRIBE", "HENTI", "BATAL", "退订", "退訂", "நிறுத்து"}
)
_AROUND = re.compile(r"^[\W_]+|[\W_]+$")


def is_opt_out(text: str) -> bool:
    """Whether this reply says that the person wants no more messages."""
    return _AROUND.sub("", text.strip()).upper() in OPT_OUT_WORDS


def connected(leases: Iterable[Lease]) -> None:
    """Sessions that may send from now on: a broadcaster that starts opens thousands at a time."""
    ids = []
    for lease in leases:
        lease.connected = True
        ids.append(lease.device.pk)
    Device.objects.filter(pk__in=sorted(ids)).change_status(Device.Status.ONLINE)


def handle(lease: Lease, event: Event, receipts: Receipts) -> None:
    """Acts on what a session reported."""
    device = lease.device
    match event:
        case Connected():
            connected([lease])
        case Disconnected(reason):
            lease.connected = False
            device.change_status(Device.Status.OFFLINE, reason=reason)
        case Blocked(state, reason, until):
            lease.connected = lease.connected and state == "restricted"
            device.change_status(Device.Status(state), reason=reason, until=until)
        case Outdated(reason):
            lease.connected = False
            device.change_status(Device.Status.OFFLINE, reason=reason)
            logger.error("Device %s: the transport is outdated: %s", device, reason)
        case Receipt():
            receipts.add(device.pk, event)
        case Inbound(phone, body):
            leads = Lead.objects.filter(phone=phone)
            leads.update(last_replied_at=Now())
            if is_opt_out(body) and leads.opt_out(source=_("replied “%s”") % body.strip()[:100]):
                logger.info("A lead of device %s opted out by reply", device.pk)


class Receipts:
    """Receipts on their way into the database: many at a time, since nobody waits for them."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[int, Receipt], float] = {}  # until when it may find its message
        self._record_at = 0.0

    def add(self, device_id: int, receipt: Receipt) -> None:
        self._waiting[device_id, receipt] = time.monotonic() + RECEIPT_SECONDS

    def record(self, *, at_once: bool = False) -> None:
        """Writes down what has come in, and forgets what matches no message for too long."""
        now = time.monotonic()
        if not self._waiting or (now < self._record_at and not at_once):
            return
        unmatched = record_receipts(list(self._waiting))
        self._waiting = {
            pair: self._waiting[pair] for pair in unmatched if self._waiting[pair] > now
        }
        self._record_at = now + RECORD_EVERY_SECONDS
