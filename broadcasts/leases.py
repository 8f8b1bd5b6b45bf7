"""Which devices a broadcaster holds: taking, keeping, sharing and giving back."""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from django.conf import settings
from django.utils.translation import gettext as _

from broadcasts import closing, pacing
from broadcasts.calls import Call, Calls
from broadcasts.checking import Checks
from broadcasts.lease import Lease, clock
from broadcasts.models import BroadcastMessage, Worker
from broadcasts.outcomes import Sent
from broadcasts.recalling import Recalling
from broadcasts.retrying import survive_conflicts
from broadcasts.sharing import Kind, Reach
from devices.models import Device
from devices.queryset import FIRST_CONTACTS_BLOCKED
from devices.transports import transport
from devices.transports.base import DeviceBlocked, Event

logger = logging.getLogger(__name__)

# The holder stops well before its lease ends when it cannot renew it.
SAFE_SHARE_OF_LEASE = 0.6
LOOK_AROUND_SECONDS = 3.0
REFRESH_SECONDS = 15.0
LATE_SECONDS = 0.04  # from hand-over to send: less is not worth a statement
AVOID_SECONDS = 60.0  # a device whose session could not be opened
OUTDATED_SECONDS = 3600.0  # a transport whose library WhatsApp no longer talks to


def _is_fresh(since: float) -> bool:
    """Whether leases that were asked for then, by clock(), still hold for long enough."""
    safe_seconds: float = settings.LEASE_SECONDS * SAFE_SHARE_OF_LEASE
    return clock() < since + safe_seconds


class Leases:
    """The devices of one broadcaster, kept fresh and shared fairly with the others."""

    def __init__(
        self, worker_id: str, *, capacity: int, report: Callable[[int, int, Event], None]
    ) -> None:
        self.worker_id = worker_id
        self.capacity = capacity
        self.report = report
        self.held: dict[int, Lease] = {}
        self.unanswered = 0  # sends whose session ended before; each may keep its thread for ever
        self._calls = Calls(worker_id)
        self._checks = Checks()
        self._renewed_at = -math.inf
        self._looked_at = -math.inf
        self._refreshed_at = -math.inf
        self._shared_with = 0  # the capacity of all broadcasters, at the last count
        self._recalling = Recalling(worker_id)
        self.shortest_gap_seconds = 0.0  # of the devices held
        self._clock_offset = 0.0
        self._avoid_until: dict[int, float] = {}
        self._outdated_until: dict[str, float] = {}  # by transport

    @property
    def epochs(self) -> dict[int, int]:
        return {pk: lease.epoch for pk, lease in self.held.items()}

    def are_safe(self) -> bool:
        """Whether the leases are fresh enough to send. Measured by this host's own clock, which
        counts on while the process is stopped."""
        return _is_fresh(self._renewed_at)

    def may_send(self, lease: Lease) -> bool:
        """Whether this device is ours to send from, asked from any thread."""
        return self.are_safe() and self.held.get(lease.device_id) is lease

    def now(self) -> datetime:
        """The database's time, as last heard."""
        return datetime.fromtimestamp(clock() + self._clock_offset, tz=UTC)

    @survive_conflicts
    def change_status(
        self,
        epochs: Mapping[int, int],
        status: Device.Status,
        *,
        reason: str = "",
        until: datetime | None = None,
    ) -> int:
        """Records what WhatsApp says of the devices {id: epoch} of these leases; returns for how
        many that is news.

        Only as long as they are ours: who stalled must not silence what another holds by now.
        """
        ours = Device.objects.held_by(epochs, self.worker_id)
        return ours.change_status(status, reason=reason, until=until)

    def put_off(self, results: Sequence[Sent]) -> None:
        """Puts off what comes next where these left late: the pause was counted from the hand-over,
        but is one between sends.

        Stored for the next holder, and before it is recorded that they were sent: what ends as
        interrupted begins its pause anew. Only where that makes a difference, which it does not
        where the pause is over by now, as with none at all.
        """
        now = self.now()
        late = {
            lease.device_id: next_at
            for lease, sent in self._sending(results)
            if sent.late_seconds > LATE_SECONDS
            and (next_at := lease.next_send_at(sent))
            and next_at > now
        }
        if late:
            # Also of one that is another's by now: it has sent at that time all the same.
            survive_conflicts(Device.objects.put_off)(late)

    def end_sends(self, results: Sequence[Sent]) -> list[Lease]:
        """Frees the devices that these were sent from; returns their leases."""
        ended = self._sending(results)
        for lease, sent in ended:
            lease.slot = lease.slot._replace(next_send_at=lease.next_send_at(sent))
            lease.in_flight = None
            if isinstance(sent.outcome, DeviceBlocked) and sent.outcome.state == "first_contacts":
                self._write_to_nobody_new(lease, sent.outcome.ends_at(self.now()))
        return [lease for lease, _ in ended]

    def _sending(self, results: Iterable[Sent]) -> list[tuple[Lease, Sent]]:
        """A late answer from an earlier lease leaves what the present one is sending alone."""
        held = ((self.held.get(sent.message.device_id), sent) for sent in results)
        return [(lease, sent) for lease, sent in held if lease and lease.in_flight is sent.message]

    def block_first_contacts(self, lease: Lease, until: datetime | None) -> None:
        """Records that WhatsApp lets this device write only to people it has talked with."""
        ours = Device.objects.held_by({lease.device_id: lease.epoch}, self.worker_id)
        survive_conflicts(ours.block_first_contacts)(until)
        self._write_to_nobody_new(lease, until)

    def _write_to_nobody_new(self, lease: Lease, until: datetime | None) -> None:
        """From now on, and not only from when the device is read again."""
        until = until or self.now() + FIRST_CONTACTS_BLOCKED
        # Of the device too, so that whoever lifts it at once has changed something.
        lease.device.first_contacts_blocked_until = until
        lease.pace = replace(lease.pace, first_contacts_blocked_until=until)

    def give_up(
        self, lease: Lease, reason: str, *, until: datetime | None = None, library: bool = False
    ) -> None:
        """Ends a session that is of no use any more, once what is on the wire has its answer.

        The device is left alone until then, by everybody; where it is the fault of the transport's
        library, this process opens none of that transport's for a while.
        """
        lease.connected, lease.is_given_up = False, True
        pk = lease.device_id
        recorded = self.change_status(
            {pk: lease.epoch}, Device.Status.OFFLINE, reason=reason, until=until
        )
        if until and not recorded:  # what WhatsApp has blocked goes on saying so
            seconds = (until - self.now()).total_seconds()
            self._avoid_until[pk] = time.monotonic() + seconds
        if library:
            self._outdated_until[lease.device.transport] = time.monotonic() + OUTDATED_SECONDS
        if lease.in_flight is None:
            self.give_back([pk])

    def keep(self) -> list[Lease]:
        """Renews what is held, gives up what is another's share, takes what is free.

        Returns the devices whose rules an operator has changed.
        """
        self.renew_in_time()
        now = time.monotonic()
        if now < self._looked_at + LOOK_AROUND_SECONDS:
            return []
        self._looked_at = now
        changed = self._refresh() if now >= self._refreshed_at + REFRESH_SECONDS else []
        calling = self._calls.heard()
        self._let_send_again(call.pk for call in calling if call.over and call.usable)
        self._recalling.ask(self.held)
        self._give_up_silent()
        gone = {call.pk for call in calling if not call.usable}
        gone |= {pk for pk, lease in self.held.items() if lease.is_given_up}
        # What is on the wire is finished first; the next look gives these back.
        self.give_back([pk for pk in self._idle() if pk in gone])
        self._share([call for call in calling if call.usable and call.free])
        gaps = (lease.pace.min_delay_seconds / lease.pace.speed for lease in self.held.values())
        self.shortest_gap_seconds = min(gaps, default=0.0)
        return changed

    def renew_in_time(self) -> None:
        """Renews what is held when a heartbeat is due."""
        if self._is_renewal_due():
            self._renew()

    def _is_renewal_due(self) -> bool:
        due: bool = clock() >= self._renewed_at + settings.HEARTBEAT_SECONDS
        return due

    def _renew(self) -> None:
        asked_at = clock()
        # First of all, so that one that dies is not counted among those who share any more when
        # its leases have run out.
        database_time = Worker.objects.beat(
            self.worker_id, devices=len(self.held), capacity=self.capacity
        )
        # Rather behind the database than ahead of it: a device that is asked for too early gets
        # nothing, and waits on.
        self._clock_offset = database_time.timestamp() - clock()
        kept = survive_conflicts(Device.objects.renew_leases)(self.epochs, self.worker_id)
        lost = set(self.held) - kept
        for pk in lost:
            logger.warning("Worker %s lost device %s", self.worker_id, self.held[pk].device)
        self._close(lost)
        # Only now: a sender thread that woke up late finds a lost one either old or gone.
        self._renewed_at = asked_at

    def _refresh(self) -> list[Lease]:
        """Reads again what operators change; returns the leases of those devices.

        Only what has changed becomes a model again: thousands would take longer than their pauses.
        """
        self._refreshed_at = time.monotonic()
        mine = Device.objects.filter(worker_id=self.worker_id).order_by()
        found = {row[0]: row[1:] for row in mine.values_list("pk", *Device.SETTINGS)}
        changed = [
            pk for pk in found if pk in self.held and found[pk] != self.held[pk].device.settings
        ]
        for pk, device in Device.objects.in_bulk(changed).items():
            lease = self.held.get(pk)
            if lease is None:
                continue  # lost while another was given back
            if device.has_same_session(lease.device) and (pace := pacing.Pace.if_known(device)):
                lease.device, lease.pace = device, pace
                continue
            # The session is the other transport's, or an earlier pairing's. It sends nothing more,
            # also if it connects anew, and ends once what is on the wire has its answer; whoever
            # opens it next finds out.
            lease.connected, lease.is_given_up = False, True
            if lease.in_flight is None:
                self.give_back([pk])
        return [self.held[pk] for pk in changed if pk in self.held]

    def _let_send_again(self, over: Iterable[int]) -> None:
        """What was blocked until now."""
        if over := [pk for pk in over if self._connected(pk)]:
            self.change_status({pk: self.held[pk].epoch for pk in over}, Device.Status.ONLINE)

    def _give_up_silent(self) -> None:
        """Ends sessions that owe an answer for so long that anybody may call the message unknown.
        Whoever opens the device next goes on; a late answer is about that message alone."""
        since = clock() - settings.STUCK_AFTER.total_seconds()
        silent = [lease for lease in self.held.values() if lease.is_silent_since(since)]
        for lease in silent:
            logger.error("Device %s: no answer from its transport", lease.device)
            self.unanswered += 1
            lease.in_flight = None
            self.give_up(lease, _("It did not say what became of a message."))

    def _connected(self, pk: int) -> bool:
        return pk in self.held and self.held[pk].connected

    def _idle(self) -> list[int]:
        return [pk for pk, lease in self.held.items() if lease.in_flight is None]

    def _share(self, free: Sequence[Call]) -> None:
        together = max(Worker.objects.alive().capacity(), self.capacity)
        is_news = together != self._shared_with or self._refreshed_at >= self._looked_at
        if not free and not is_news:
            return  # the devices are counted once in a while
        self._shared_with = together
        try:
            reach = Reach.now()
        except OSError as error:  # what is held stays
            logger.error("Worker %s cannot look for sessions: %s", self.worker_id, error)
            return
        self.give_back([pk for pk in self._idle() if not reach.has(self.held[pk].device)])
        shares = reach.shares(self.capacity)
        for kind, share in shares.items():
            held = self._held_of(kind, reach)
            surplus = max(len(held) - share, 0)
            self.give_back([pk for pk in self._idle() if pk in held][:surplus])
        takeable = self._takeable(free, reach)
        if not takeable:
            return
        busy = BroadcastMessage.objects.devices_with_work([*takeable, *self.held])
        for kind, share in shares.items():
            waiting = [pk for pk, of_kind in takeable.items() if of_kind == kind]
            held = self._held_of(kind, reach)
            room = share - len(held)
            if room <= 0:
                # More devices than broadcasters may hold: who has nothing to send makes way.
                waiting = [pk for pk in waiting if pk in busy]
                bored = [pk for pk in self._idle() if pk in held and pk not in busy]
                self.give_back(bored[: len(waiting)])
                room = min(len(bored), len(waiting))
            self._take(sorted(waiting, key=lambda pk: pk not in busy)[:room])

    def _held_of(self, kind: Kind, reach: Reach) -> set[int]:
        return {pk for pk, lease in self.held.items() if reach.kind(lease.device) == kind}

    def _takeable(self, free: Iterable[Call], reach: Reach) -> dict[int, Kind]:
        """Of the devices without a holder those that can be opened here, in random order:
        broadcasters that start together do not race for the same ones. Never one that is held here,
        even if its lease looks run out (the database's clock may have been set): it would get a
        second session beside the first."""
        now = time.monotonic()
        takeable = [
            (device.pk, reach.kind(device))
            for device in free
            if device.pk not in self.held
            and self._avoid_until.get(device.pk, 0) <= now
            and self._outdated_until.get(device.transport, 0) <= now
            and reach.has(device)
        ]
        random.shuffle(takeable)
        return dict(takeable)

    def _take(self, ids: list[int]) -> None:
        asked_at = clock()
        taken = survive_conflicts(Device.objects.take_leases)(ids, self.worker_id) if ids else {}
        if not taken:
            return
        # What the former holder had not let go of: back to pending, or unknown.
        freed = BroadcastMessage.objects.filter(device_id__in=sorted(taken)).unstick()
        logger.info("Worker %s took %d devices, freed %s", self.worker_id, len(taken), freed)
        for device in Device.objects.filter(pk__in=sorted(taken)):
            if not _is_fresh(asked_at):
                # This process was stopped. Opened now, a session would throw out that of whoever
                # may have the device since; what is not held runs out, or is given back here.
                self._release({pk: epoch for pk, epoch in taken.items() if pk not in self.held})
                return
            self._open(device, taken[device.pk])

    def _open(self, device: Device, epoch: int) -> None:
        try:
            pace = pacing.Pace.of(device)
            session = transport(device.transport).open(device, self._reporter(device.pk, epoch))
        except Exception as error:  # one account's trouble must not end the others' sessions
            logger.exception("Device %s: the session could not be opened", device)
            self.change_status({device.pk: epoch}, Device.Status.OFFLINE, reason=str(error))
            self._release({device.pk: epoch})
            self._avoid_until[device.pk] = time.monotonic() + AVOID_SECONDS
            return
        lease = Lease(
            device=device,
            epoch=epoch,
            session=session,
            pace=pace,
            slot=pacing.Slot.of(device),
        )
        self.held[device.pk] = lease
        self._checks.add(lease)

    def _reporter(self, pk: int, epoch: int) -> Callable[[Event], None]:
        return lambda event: self.report(pk, epoch, event)

    def give_back(self, ids: list[int]) -> None:
        """Closes these sessions, then lets others have the devices."""
        closed: dict[int, int] = {}
        try:
            for start in range(0, len(ids), closing.AT_ONCE):
                mine = [pk for pk in ids[start : start + closing.AT_ONCE] if pk in self.held]
                closed |= {pk: self.held[pk].epoch for pk in mine}
                left = self._pauses_left(mine)
                self._close(mine)
                self._store_pauses(left)
                # This may take a second or more: those that are still held must not run out.
                if self._is_renewal_due():
                    self._release(closed)
                    closed = {}
                    self._renew()
            self._release(closed)
        finally:  # where the database is away, the leases run out by themselves
            self._close(set(ids) & set(self.held))

    def _pauses_left(self, ids: Iterable[int]) -> dict[int, datetime]:
        now, slots = self.now(), {pk: self.held[pk].slot for pk in ids}
        return {pk: at for pk, slot in slots.items() if (at := slot.next_send_at) and at > now}

    def _store_pauses(self, left: Mapping[int, datetime]) -> None:
        """For the next holder, to the fraction of a second."""
        if left:
            survive_conflicts(Device.objects.put_off)(left)

    def _release(self, epochs: Mapping[int, int]) -> None:
        if epochs:
            survive_conflicts(Device.objects.release_leases)(epochs, self.worker_id)

    def _close(self, ids: Collection[int]) -> None:
        for pk in ids:
            self._checks.drop(pk)
            self.unanswered += self.held[pk].in_flight is not None
        closing.close({pk: self.held.pop(pk).session for pk in ids})
