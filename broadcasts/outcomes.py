"""What became of a send, written down: one statement per kind of outcome, not per message.

Each is fenced by the claim under which the message was sent. An answer that comes late, when the
message was already declared unknown, settles it; one that comes after somebody released the
message changes nothing.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import InterfaceError, OperationalError
from django.db.models import BigIntegerField, Case, Exists, F, OuterRef, Q, When
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _

from broadcasts import acquaintance, claiming
from broadcasts.claimed import Claimed
from broadcasts.models import BroadcastMessage
from broadcasts.queryset import NEVER_LEFT, RELEASED
from broadcasts.retrying import survive_conflicts
from devices.models import Device
from devices.transports.base import (
    Accepted,
    DeviceBlocked,
    NotSent,
    Outcome,
    Receipt,
    Refused,
    Session,
    Unknown,
    aware,
)
from leads.models import Lead, SkipReason

if TYPE_CHECKING:
    from django.db.models import QuerySet

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 5
# Whoever is tried again goes first: these alone outlast a media host that is down for an hour.
BACKOFF_SECONDS = (5, 300, 1800, 3600)  # after the first attempt, the second, ...


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that was given to a transport, and what came of it."""

    message: Claimed
    outcome: Outcome
    late_seconds: float = 0.0  # from when its hand-over began to when it was really sent


OUTCOMES = (Accepted, Refused, Unknown, DeviceBlocked, NotSent)


def understood(answer: object) -> Outcome:
    """What a transport has answered; Unknown where that is no outcome.

    What is not written down would look, after the next trouble with the database, as if nobody had
    been given the message.
    """
    if type(answer) in OUTCOMES:
        return answer  # type: ignore[return-value]
    logger.error("A transport answered %r, which is no outcome", answer)
    return Unknown("no_outcome", _("The transport did not say what became of it."))


def write_down(results: Sequence[Sent], *, on_wire: Collection[tuple[int, str]]) -> None:
    """Records what came of these; `on_wire`: (message id, claim) of all that has no outcome yet.

    Together, but for a message that hangs in an earlier session while it was claimed anew: a
    statement that names its first claim must not name the second too, with another's message.
    """
    claims = {*on_wire, *((r.message.pk, r.message.token) for r in results)}
    count = Counter(pk for pk, _ in claims)
    once = [result for result in results if count[result.message.pk] == 1]
    twice = [result for result in results if count[result.message.pk] > 1]
    for together in [once, *([result] for result in twice)]:
        if together:
            _record_whatever_it_is(together)


def _record_whatever_it_is(results: Sequence[Sent]) -> None:
    """One that cannot be written as it is, since its transport is mistaken about what belongs in
    it, is unknown: it must not end the sessions of all others."""
    try:
        record(results)
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:
        if len(results) > 1:
            for result in results:  # what is recorded already does not match again
                _record_whatever_it_is([result])
            return
        logger.exception("Message %s: its outcome cannot be written", results[0].message.pk)
        record([Sent(results[0].message, Unknown("transport_error", str(error)))])


def record(results: Sequence[Sent]) -> None:
    """Writes these outcomes down. Safe to repeat: what is recorded already does not match again."""
    by_kind: dict[type, list[Sent]] = defaultdict(list)
    for result in results:
        by_kind[type(result.outcome)].append(result)
    recorded = 0
    if accepted := by_kind.get(Accepted):
        recorded += _record_accepted(accepted)
    for refused in _grouped(by_kind.get(Refused, ())):
        recorded += _record_refused(refused)
    for unknown in _grouped(by_kind.get(Unknown, ())):
        recorded += _record_unknown(unknown)
    for blocked in _grouped(by_kind.get(DeviceBlocked, ())):
        recorded += _record_blocked(blocked)
    if not_sent := by_kind.get(NotSent):
        logger.info("%d messages did not leave and wait again", len(not_sent))
        recorded += _update(_mine(not_sent), **NEVER_LEFT)
    if recorded < len(results):
        # Not an error of the moment: somebody released these, or a repeat found them recorded.
        lost = len(results) - recorded
        logger.warning("%d of %d outcomes were no longer ours", lost, len(results))


def record_receipts(receipts: Sequence[tuple[int, Receipt]]) -> list[tuple[int, Receipt]]:
    """Writes (device id, receipt) pairs down; returns those that match no message (yet).

    A receipt also settles a message whose outcome was unknown, where the transport knew its id.
    """
    names: dict[int, set[str]] = defaultdict(set)
    for device_id, receipt in receipts:
        names[device_id].add(_id(receipt))
    # Device by device: of two lists databases make every pair, and past some tens of thousands of
    # them MariaDB goes by the devices alone, through all that they have ever sent.
    wanted = Q(pk__in=())
    for device_id, its in names.items():
        wanted |= Q(device_id=device_id, provider_message_id__in=sorted(its))
    rows = BroadcastMessage.objects.filter(wanted)
    found: dict[tuple[int | None, str | None], Any] = {
        (device_id, name): row
        for device_id, name, *row in rows.order_by().values_list(
            "device_id", "provider_message_id", "pk", "status", "sent_at"
        )
    }
    latest = timezone.now() + timedelta(days=1)
    delivered: dict[int, tuple[str, datetime]] = {}
    read: dict[int, tuple[str, datetime]] = {}
    arrived: set[int] = set()
    unmatched = []
    for device_id, receipt in receipts:
        name = _id(receipt)
        if (device_id, name) not in found:
            unmatched.append((device_id, receipt))
            continue
        pk, status, sent_at = found[device_id, name]
        # By the receipt's clock, which is not the database's: never before it was sent, and not in
        # a year that no page could show.
        happened_at = min(aware(receipt.at), latest)
        at = max(happened_at, sent_at or happened_at)
        # Whoever read a message received it, whatever got lost in between.
        for moments in [delivered, read] if receipt.kind == "read" else [delivered]:
            moments.setdefault(pk, (name, at))
        if status == "unknown":
            arrived.add(pk)
    claiming.receive(BroadcastMessage, "delivered_at", delivered)
    claiming.receive(BroadcastMessage, "read_at", read)
    if arrived:
        written = {delivered[pk][0] for pk in arrived}
        lost = BroadcastMessage.objects.filter(pk__in=sorted(arrived), status="unknown")
        _update(lost.filter(provider_message_id__in=written), **_sent_values())
        acquaintance.met_by(arrived)
    return unmatched


def _id(receipt: Receipt) -> str:
    """The id as it is stored with the message: no longer than its column."""
    return receipt.provider_message_id[:64]


def unknown_of(worker_id: str, *, newer_than: timedelta) -> list[int]:
    """Returns the keys of the messages of this worker's devices whose outcome got lost lately."""
    unknown = BroadcastMessage.objects.filter(
        device__worker_id=worker_id,
        status="unknown",
        finished_at__gt=Now() - newer_than,
    )
    # Sorted here: in the order of keys, MySQL would walk the whole table.
    return sorted(unknown.order_by().values_list("pk", flat=True))


def settle_unknown(
    keys: Sequence[int],
    sessions: Mapping[int, Session],
    *,
    in_flight: Sequence[Claimed] = (),
) -> int:
    """Asks the transports {device id: session} about these messages, whose outcome got lost;
    returns how many they settled.

    `in_flight` is what these very sessions are sending: declared unknown because it takes too
    long, it may still leave, so that "not sent" would not be the last word.
    """
    unknown = BroadcastMessage.objects.filter(pk__in=keys, status="unknown")
    # What was handed over before this session was paired is not in its memory, sent or not.
    unknown = unknown.annotate(is_older=Q(lease_epoch__lte=F("device__session_epoch")))
    sending = {message.pk for message in in_flight}
    settled = 0
    for message in unknown.order_by("pk"):
        session = sessions.get(message.device_id or 0)
        if message.pk in sending or not session:
            continue
        try:
            settled += _settle(message, session.recall(message.key))
        except (OperationalError, InterfaceError):
            raise
        except Exception:  # one account's trouble must not end the others' sessions
            logger.exception("Message %s: the transport could not be asked", message.pk)
    if settled:
        logger.info("The transports settled %d unknown messages", settled)
    return settled


def _settle(message: BroadcastMessage, memory: object) -> int:
    """Writes down what a transport says of a message whose outcome got lost; returns how many that
    settles. `message.is_older`: it was handed over to an account's former session."""
    row = BroadcastMessage.objects.filter(
        pk=message.pk,
        status="unknown",
        processing_worker_id=message.processing_worker_id,
    )
    match memory:
        case Accepted(provider_message_id):
            values = {"provider_message_id": provider_message_id[:64]} | _sent_values()
            settled = _update(row, **values)
            acquaintance.met_by([message.pk])
            return settled
        case Unknown(provider_message_id=name) if name:
            # What was interrupted learns only here under which id a receipt may name it.
            if name[:64] != message.provider_message_id:
                _update(row, provider_message_id=name[:64])
        case NotSent() if message.error_code == "interrupted" and not message.is_older:  # type: ignore[attr-defined]
            # Nobody holds the session any more that was to send it. What a live session is unsure
            # of may still be on its way, whatever the record says.
            return _update(row, **NEVER_LEFT, error_code="", error_message="")
    return 0


def _record_accepted(results: Sequence[Sent]) -> int:
    ids = {r.message.pk: r.outcome.provider_message_id[:64] for r in results}  # type: ignore[union-attr]
    recorded = claiming.finish(BroadcastMessage, ids, {r.message.token for r in results})
    messages = [r.message for r in results]
    new = {m.lead_id: m.device_id for m in messages if m.lead_id and not m.lead_device_id}
    claiming.keep_with(BroadcastMessage, new)
    first_contacts = {
        m.lead_id: m.device_id
        for m in messages
        if m.lead_id and m.priority in BroadcastMessage.FIRST_CONTACTS
    }
    if first_contacts:
        acquaintance.met(first_contacts)
    return recorded


def _record_refused(results: Sequence[Sent]) -> int:
    """`results` share one outcome."""
    outcome = results[0].outcome
    assert isinstance(outcome, Refused)
    failed = {"status": "failed", "finished_at": Now()} | _error(outcome)
    if outcome.retry_after is None:
        if outcome.code == SkipReason.NOT_ON_WHATSAPP:
            return _record_nobody(results)
        return _update(_mine(results), **failed)
    spent = [r for r in results if _attempt(r) >= MAX_ATTEMPTS]
    again = [r for r in results if _attempt(r) < MAX_ATTEMPTS]
    recorded = _update(_mine(spent), **failed) if spent else 0
    if again:
        devices = Device.objects.in_bulk({r.message.device_id for r in again})
        due = (
            When(pk=r.message.pk, then=Now() + max(_backoff(r, devices), outcome.retry_after))
            for r in again
        )
        # In a lane that goes first: its deadline is by the place that it had.
        lanes = (When(priority=lane, then=to.value) for lane, to in acquaintance.AGAIN.items())
        values = RELEASED | _error(outcome)
        values |= {
            "scheduled_at": Case(*due),
            "priority": Case(*lanes, default=F("priority"), output_field=BigIntegerField()),
        }
        recorded += _update(_mine(again), **values)
    return recorded


def _record_nobody(results: Sequence[Sent]) -> int:
    """Of numbers that are not on WhatsApp: left out like those of whom that was known before."""
    leads = [r.message.lead_id for r in results if r.message.lead_id]
    _update(
        Lead.objects.filter(pk__in=sorted(leads)), not_on_whatsapp_at=Now(), on_whatsapp_at=None
    )
    return _update(
        _mine(results),
        status="skipped",
        skip_reason=SkipReason.NOT_ON_WHATSAPP,
        finished_at=Now(),
        error_code="",
        error_message="",
    )


def _attempt(result: Sent) -> int:
    """Which attempt this was: the message was read when it was claimed, before it counted."""
    return result.message.attempts + 1


def _backoff(result: Sent, devices: Mapping[int, Device]) -> timedelta:
    seconds = BACKOFF_SECONDS[_attempt(result) - 1]
    return timedelta(seconds=seconds / devices[result.message.device_id].speed)


def _record_unknown(results: Sequence[Sent]) -> int:
    outcome = results[0].outcome
    assert isinstance(outcome, Unknown)
    values = {"status": "unknown", "finished_at": Now()} | _error(outcome)
    if outcome.provider_message_id:  # by which a receipt will find it
        values["provider_message_id"] = outcome.provider_message_id[:64]
    return _update(_mine(results), **values)


def _record_blocked(results: Sequence[Sent]) -> int:
    outcome = results[0].outcome
    assert isinstance(outcome, DeviceBlocked)
    # Of a device that changed hands since then its new session speaks.
    ours = _mine(results).filter(device=OuterRef("pk"), lease_epoch=OuterRef("lease_epoch"))
    devices = sorted({r.message.device_id for r in results})
    blocked = Device.objects.filter(Exists(ours), pk__in=devices)
    until = Now() + outcome.for_ if outcome.for_ else outcome.until
    if outcome.state == "first_contacts":
        survive_conflicts(blocked.block_first_contacts)(until)
        return _wait_as_first_contacts(results)
    survive_conflicts(blocked.change_status)(
        Device.Status(outcome.state), reason=outcome.message, until=until
    )
    return _update(_mine(results), **NEVER_LEFT)


def _wait_as_first_contacts(results: Sequence[Sent]) -> int:
    """Whomever WhatsApp takes for strangers to their devices wait in the lanes of those, until
    these may write to such again. What tries a very device has found out."""
    outcome = results[0].outcome
    assert isinstance(outcome, DeviceBlocked)
    by_lane: dict[int, list[Sent]] = defaultdict(list)
    for result in results:
        by_lane[result.message.priority].append(result)
    recorded = 0
    for lane, messages in by_lane.items():
        values = NEVER_LEFT | {"priority": acquaintance.FIRST_CONTACT.get(lane, lane)}
        if lane == BroadcastMessage.Priority.TEST:
            values = {"status": "failed", "finished_at": Now()} | _error(outcome)
        recorded += _update(_mine(messages), **values)
    return recorded


def _mine(results: Sequence[Sent]) -> QuerySet[BroadcastMessage]:
    """These messages, as far as they still carry the claim under which they were sent."""
    return BroadcastMessage.objects.filter(
        pk__in=sorted(r.message.pk for r in results),
        processing_worker_id__in={r.message.token for r in results},
        status__in=["queued", "unknown"],
    )


def _grouped(results: Iterable[Sent]) -> Iterable[list[Sent]]:
    groups: dict[Outcome, list[Sent]] = defaultdict(list)
    for result in results:
        groups[result.outcome].append(result)
    return groups.values()


def _sent_values() -> dict[str, Any]:
    return {
        "status": "sent",
        "sent_at": Now(),
        "finished_at": Now(),
        "error_code": "",
        "error_message": "",
    }


def _error(outcome: Refused | DeviceBlocked | Unknown) -> dict[str, Any]:
    return {"error_code": outcome.code[:40], "error_message": outcome.message[:255]}


@survive_conflicts
def _update(rows: QuerySet[Any], **values: Any) -> int:
    return rows.update(**values)
