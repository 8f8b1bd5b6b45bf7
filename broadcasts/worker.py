"""The broadcaster's loop: claim what is due, hand it over, send it, write down what came of it.

One thread talks to the database; sends run in threads of their own and put what came of them into
the inbox, as sessions do with what they report.
"""

from __future__ import annotations

import logging
import math
import os
import queue
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import timedelta
from functools import partial

from django.db import InterfaceError, OperationalError, connection
from django.db.models import Q

from broadcasts import outcomes, pacing, watchdog
from broadcasts.agenda import Agenda
from broadcasts.claimed import WAITS, Claimed
from broadcasts.errands import Errands
from broadcasts.footprint import Footprint
from broadcasts.inbound import Reports, Said
from broadcasts.lease import Departure, Lease, clock
from broadcasts.leases import LOOK_AROUND_SECONDS, Leases
from broadcasts.lookout import LONGEST_PAUSE_SECONDS, Lookout
from broadcasts.models import BroadcastMessage, Worker
from broadcasts.outcomes import Sent
from broadcasts.queryset import NEVER_LEFT, RELEASED
from broadcasts.senders import Senders
from broadcasts.shelf import FileGone, Shelf
from devices.models import Device
from devices.transports.base import Answer, Event, NotSent, Outcome, Refused, Unknown

logger = logging.getLogger(__name__)

# One turn serves all devices that are due, so a turn is worth waiting a little for.
TICK_SECONDS = 0.1
SHORTEST_TICK_SECONDS = 0.005  # simulated devices run faster than the clock
TICKS_A_PAUSE = 20  # a tick is short beside the pauses that it must not lengthen
BATCH = 500  # devices served in one turn
BUSY = 50  # after a turn that served so many the next begins at once
# A device that had nothing to send is not asked again, or once more where its pause ended just now,
# before something is due for it; and less and less often when that something is held.
IDLE_SECONDS = 0.5
STOP_SECONDS = 90  # longer than a transport waits for WhatsApp's answer
DATABASE_DOWN_SECONDS = 2.0


def is_orphan(supervisor: int | None) -> bool:
    """Whether the supervisor of this process has died: nobody passes SIGTERM on to it any more."""
    return supervisor is not None and supervisor != os.getppid()


class Broadcaster:
    """One worker process: leases devices and sends for them until it is told to stop."""

    def __init__(
        self, *, capacity: int = 200, drain: bool = False, supervisor: int | None = None
    ) -> None:
        self.id = f"{socket.gethostname()[:30]}.{os.getpid()}.{secrets.token_hex(3)}"
        self.drain = drain
        self.supervisor = supervisor
        self.stopping = False
        # Waited for by the event: hundreds of senders that are answered at once would queue for
        # the lock of a queue.Queue, and a SimpleQueue's wait may not time out (Python 3.11).
        self._inbox: queue.SimpleQueue[Sent | Said] = queue.SimpleQueue()
        self._has_come_in = threading.Event()
        self._unrecorded: list[Sent] = []
        # What was given to a transport and has not been recorded yet, by message and claim (one
        # claim serves many devices), whatever became of the device's lease in the meantime.
        self._on_wire: set[tuple[int, str]] = set()
        self._leases = Leases(self.id, capacity=capacity, report=self._reported)
        self._reports = Reports(self._leases)
        self._agenda = Agenda()
        self._turned_at = -math.inf
        self._served = 0
        self._lookout = Lookout(clock)
        self._senders = Senders(capacity)
        self._errands = Errands(self.id)
        self._shelf = Shelf()
        self._drained_since = math.inf
        self._was_interrupted = False
        self._footprint = Footprint()
        self.is_worn_out = False  # and is to begin anew

    def stop(self) -> None:
        """Claims nothing more; what is on the wire is finished. Safe in a signal handler."""
        self.stopping = True

    def run(self) -> None:
        """Runs until stopped (or, draining, until nothing is left to send)."""
        while not (self.stopping or is_orphan(self.supervisor)) and not self._survive(
            lambda: Worker.objects.beat(self.id, devices=0, capacity=self._leases.capacity)
        ):
            pass
        logger.info("Worker %s started", self.id)
        try:
            while not (self.stopping or is_orphan(self.supervisor) or self.is_worn_out):
                watchdog.feed()
                self._survive(self.turn)
                self.is_worn_out = not self._errands.are_running and self._footprint.is_too_large()
                if self.drain:
                    self._survive(self._look_for_the_end)
                self._wait()
        finally:  # also where we are mistaken ourselves: what is on the wire need not be unknown
            self._finish()
            watchdog.stop()

    def turn(self) -> None:
        """One turn: record what came back, keep the leases, send what is due."""
        self._turned_at, self._served = clock(), 0
        self._senders.most = self._leases.capacity + self._leases.unanswered
        self._senders.grow()
        if self._was_interrupted:
            self._release_forgotten()
        self._collect()
        for lease in self._leases.keep():
            self._put_down(lease)  # its pace was changed
        self._look_for_work()
        self._send_due()
        self._errands.look_around()

    # Sending

    def _put_down(self, lease: Lease, *, not_before: float = 0.0) -> None:
        """Puts a device down for the moment at which its pace next lets it send."""
        if lease.connected and lease.in_flight is None:
            now = self._leases.now()
            wait = pacing.earliest(lease.pace, lease.slot, now) - now
            self._agenda.put(lease.device_id, max(clock() + wait.total_seconds(), not_before))

    def _look_for_work(self) -> None:
        """Puts devices down again that had nothing to send, for when something of theirs is due."""
        if not self._lookout.is_time():
            return
        idle = [
            lease
            for pk, lease in self._leases.held.items()
            if lease.connected and lease.in_flight is None and pk not in self._agenda
        ]
        if not idle:
            return
        first_due = self._lookout.first_due(len(self._leases.held))
        now = self._leases.now()
        for lease in idle:
            if at := first_due.get(lease.device_id):
                due_at = clock() + (at - now).total_seconds()
                self._put_down(lease, not_before=max(due_at, lease.look_again_at))

    def _send_due(self) -> None:
        if not self._leases.are_safe():
            return
        due, now = [], self._leases.now()
        for pk in self._agenda.due(clock(), limit=BATCH):
            lease = self._leases.held.get(pk)
            if not lease or not lease.connected or lease.in_flight:
                continue
            if pacing.earliest(lease.pace, lease.slot, now) > now:
                self._put_down(lease)  # closing time has passed since then, in a stall or an outage
            else:
                due.append(lease)
        if not due:
            return
        now = self._leases.now()
        claimed = BroadcastMessage.objects.claim(
            worker_id=self.id,
            device_ids=[lease.device_id for lease in due],
            nobody_new=[
                lease.device_id
                for lease in due
                if not pacing.may_contact_first(lease.pace, lease.slot, now)
            ],
            interrupted=self._note_interruption,
        )
        self._rest(due, served={message.device_id for message in claimed})
        if sendable := self._leave_out(claimed):
            self._shelf.know(sendable)
            self._hand_over(sendable)

    def _hand_over(self, messages: list[Claimed]) -> None:
        # The pause is one between sends: how late a message leaves is counted from here, so that it
        # does not matter whether the hand-over took its time or what came behind it.
        slots, now, began_at = {}, self._leases.now(), clock()
        for message in messages:
            lease = self._leases.held[message.device_id]
            gap = pacing.random_gap(
                lease.pace, message.min_delay_seconds, message.max_delay_seconds
            )
            slots[message.device_id] = pacing.after_send(
                lease.pace,
                lease.slot,
                now,
                gap,
                first_contact=message.priority in BroadcastMessage.FIRST_CONTACTS,
            )
        handed: list[Claimed] = []
        try:
            handed = BroadcastMessage.objects.hand_over(messages, slots, at=now, worker_id=self.id)
        finally:
            # Whatever was committed, and whatever others made of it if the answer took longer than
            # the lease: what is not handed to us has never left.
            lost = set(messages) - set(handed)
            self._unrecorded += [Sent(message, NotSent()) for message in lost]
        for message in handed:
            lease = self._leases.held[message.device_id]
            lease.hand_over(message, slots[message.device_id])
            self._agenda.drop([message.device_id])
            self._on_wire.add((message.pk, message.token))
            self._senders.submit(self._send, lease, message, began_at)
        self._served += len(handed)

    def _rest(self, due: Sequence[Lease], *, served: set[int]) -> None:
        """Lets devices be for a while that had nothing to send. The others are asked again, until
        something of theirs is on its way; and so are those whose pause ended just now, which by the
        database's clock it may not have."""
        just_now = self._leases.now() - timedelta(seconds=IDLE_SECONDS)
        for lease in due:
            ended_at = lease.slot.next_send_at
            if lease.device_id in served or (ended_at and ended_at > just_now):
                lease.idle_seconds = IDLE_SECONDS
                self._agenda.put(lease.device_id, clock() + IDLE_SECONDS)
            else:
                lease.look_again_at = clock() + lease.idle_seconds
                lease.idle_seconds = min(2 * lease.idle_seconds, LONGEST_PAUSE_SECONDS)

    def _leave_out(self, claimed: Sequence[Claimed]) -> list[Claimed]:
        """Skips those whose lead may not be messaged any more since the message was queued."""
        by_reason: dict[str, list[Claimed]] = {}
        for message in claimed:
            by_reason.setdefault(message.refusal, []).append(message)
        sendable = by_reason.pop("", [])
        BroadcastMessage.objects.put_back(by_reason.pop(WAITS, []))
        for reason, messages in by_reason.items():
            BroadcastMessage.objects.skip(messages, reason)
        return sendable

    def _note_interruption(self) -> None:
        self._was_interrupted = True

    def _release_forgotten(self) -> None:
        """After the database was away: what is claimed in our name but not on the wire never left.

        The claim or the hand-over was committed and its answer lost, so nobody sends these.
        """
        ours = Q(processing_worker_id__startswith=f"{self.id}/")
        here = BroadcastMessage.objects.filter(device_id__in=list(self._leases.held))
        forgotten = here.exclude(pk__in=[pk for pk, _ in self._on_wire])
        forgotten.move(["processing"], guard=ours, **RELEASED)
        forgotten.move(["queued"], guard=ours, **NEVER_LEFT)
        self._was_interrupted = False

    def _send(self, lease: Lease, message: Claimed, began_at: float) -> None:
        """Runs in a thread of its own."""
        # Between the hand-over and here the process may have been stopped for a while, and the
        # device may be another's by now.
        departure = Departure(partial(self._leases.may_send, lease), began_at)
        if not departure():
            self._put(Sent(message, NotSent()))
            return
        try:
            answer: Answer = lease.session.send(self._shelf.pack(message, departure))
        except FileGone as error:
            answer = Refused("file_gone", str(error))
        except Exception as error:  # whatever it was, it has not said that nothing left
            logger.exception("Message %s: the transport failed", message.pk)
            answer = Unknown("transport_error", str(error))
        if isinstance(answer, Future):
            answer.add_done_callback(partial(self._answered, message, departure))
        else:
            self._put(Sent(message, outcomes.understood(answer), departure.late_seconds))

    def _answered(self, message: Claimed, departure: Departure, answer: Future[Outcome]) -> None:
        """Runs in whichever thread has the answer."""
        try:
            outcome = outcomes.understood(answer.result())
        except BaseException as error:  # also a promise that was cancelled
            logger.exception("Message %s: the transport failed", message.pk)
            outcome = Unknown("transport_error", str(error))
        self._put(Sent(message, outcome, departure.late_seconds))

    # What comes back

    def _reported(self, device_id: int, epoch: int, event: Event) -> None:
        self._put(Said(device_id, epoch, event))

    def _put(self, item: Sent | Said) -> None:
        self._inbox.put(item)
        if not self._has_come_in.is_set():  # who finds it set waits for no lock
            self._has_come_in.set()

    def _wait(self) -> None:
        """Sleeps until the next turn is worth it: a tick, and on until something comes in or is
        due, at most TICK_SECONDS, or IDLE_SECONDS where nothing is on its way."""
        if self._served >= BUSY or self.stopping:
            return
        time.sleep(max(self._turned_at + self._tick_seconds() - clock(), 0))
        longest = TICK_SECONDS if self._on_wire else IDLE_SECONDS
        wake_at = min(self._agenda.next_at(), self._turned_at + longest)
        self._has_come_in.wait(max(wake_at - clock(), 0))

    def _tick_seconds(self) -> float:
        tick = self._leases.shortest_gap_seconds / TICKS_A_PAUSE
        return min(max(tick, SHORTEST_TICK_SECONDS), TICK_SECONDS)

    def _collect(self) -> None:
        self._has_come_in.clear()  # before the look: what comes in during it is not overlooked
        while not self._inbox.empty():
            self._sort_in(self._inbox.get())
        if self._unrecorded:
            self._leases.put_off(self._unrecorded)
            outcomes.write_down(self._unrecorded, on_wire=self._on_wire)
            ended = self._leases.end_sends(self._unrecorded)
            # Only now: when the database is away, the outcomes wait here for its return.
            for sent in self._unrecorded:
                self._on_wire.discard((sent.message.pk, sent.message.token))
            self._unrecorded = []
            for lease in ended:
                self._put_down(lease)
        for lease in self._reports.act():
            self._put_down(lease)
        self._reports.receipts.record()

    def _sort_in(self, item: Sent | Said) -> None:
        if isinstance(item, Sent):
            self._unrecorded.append(item)
        else:
            self._reports.add(item)

    # Ending

    def _look_for_the_end(self) -> None:
        """Stops when nothing was left to send for so long that the transports have been asked
        about what a crash left unknown, which may have to be sent after all."""
        if self._served:
            self._drained_since = math.inf
            return
        sending = Device.objects.usable().values("pk")
        if BroadcastMessage.objects.leaving().filter(device_id__in=sending).exists():
            self._drained_since = math.inf
        else:
            self._drained_since = min(self._drained_since, time.monotonic())
        if time.monotonic() - self._drained_since > 1.5 * LOOK_AROUND_SECONDS:
            self.stop()

    def _finish(self) -> None:
        """Waits for what is on the wire, gives the devices back.

        Nothing else is claimed then, but what the database took when its answer got lost. What
        takes longer than STOP_SECONDS, also to be written down where the database is away, is
        unknown to whoever takes the device next.
        """
        logger.info("Worker %s stops: finishing what is on the wire", self.id)
        self._survive(self._errands.stop)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline and (self._on_wire or self._unrecorded):
            self._senders.grow()  # what was handed over still leaves
            time.sleep(TICK_SECONDS)
            self._survive(self._collect)
            self._survive(self._leases.renew_in_time)
        if self._was_interrupted:
            self._survive(self._release_forgotten)
        self._survive(lambda: self._leases.give_back(list(self._leases.held)))
        # Sessions report until they are closed: a reply of STOP is said but once.
        self._survive(self._collect)
        self._survive(lambda: self._reports.receipts.record(at_once=True))
        self._survive(lambda: Worker.objects.retire(self.id))
        self._senders.stop()
        logger.info("Worker %s stopped", self.id)

    def _survive(self, step: Callable[[], object]) -> bool:
        """Runs a step; when the database is away, says so and lets the loop come round again."""
        try:
            step()
        except (OperationalError, InterfaceError) as error:
            logger.error("Worker %s: the database is away: %s", self.id, error)
            self._was_interrupted = True
            connection.close()
            time.sleep(DATABASE_DOWN_SECONDS)
            return False
        return True
