"""Devices that change hands in mid-send, devices that outnumber what may be held, and the ends of
a broadcaster: in this process, with the real simulator at a thousand times its pace."""

from __future__ import annotations

import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import OperationalError, connection
from django.db.models import F
from django.utils import timezone

from broadcasts import leases, supervisor, worker
from broadcasts.models import BroadcastMessage, Worker
from broadcasts.supervisor import Supervisor
from broadcasts.worker import Broadcaster
from devices.models import Device, SimulatedMessage
from devices.transports import transport
from devices.transports.base import Blocked, Outcome, OutgoingMessage
from devices.transports.simulator import SimulatorSession, World
from tests.answers import outcome_of
from tests.factories import BroadcastMessageFactory, DeviceFactory

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def fast(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody is reached, and a broadcaster renews and looks around at every turn."""
    settings.SIMULATOR_SPEED = 1000
    settings.HEARTBEAT_SECONDS = 0
    world = World(not_on_whatsapp=0, media_host_down=0, delivered=0)
    monkeypatch.setattr(transport("simulator"), "world", world)
    monkeypatch.setattr(leases, "LOOK_AROUND_SECONDS", 0.0)
    monkeypatch.setattr(worker, "LOOK_AROUND_SECONDS", 0.2)
    monkeypatch.setattr(worker, "DATABASE_DOWN_SECONDS", 0.01)


class Wire:
    """Holds every message up on its way until the test lets it through."""

    def __init__(self) -> None:
        self.begun: dict[str, threading.Event] = defaultdict(threading.Event)
        self.open: dict[str, threading.Event] = defaultdict(threading.Event)
        self.over: dict[str, threading.Event] = defaultdict(threading.Event)

    def carry(self, session: SimulatorSession, message: OutgoingMessage) -> Outcome:
        self.begun[message.key].set()
        self.open[message.key].wait(20)
        try:
            return outcome_of(send(session, message))
        finally:
            self.over[message.key].set()


send = SimulatorSession.send


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    wire = Wire()
    monkeypatch.setattr(SimulatorSession, "send", lambda *sent: wire.carry(*sent))
    return wire


def started(**options: Any) -> Broadcaster:
    broadcaster = Broadcaster(**options)
    Worker.objects.register(broadcaster.id)
    return broadcaster


def turn(broadcaster: Broadcaster, *, times: int = 1) -> None:
    for _ in range(times):
        broadcaster._survive(broadcaster.turn)
        broadcaster._wait()


def turn_until(broadcaster: Broadcaster, condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        turn(broadcaster)


def ends_by_itself(broadcaster: Broadcaster) -> bool:
    """Runs it; whether it ended before anybody had to stop it."""
    patience = threading.Timer(20, broadcaster.stop)
    patience.start()
    broadcaster.run()
    in_time = patience.is_alive()
    patience.cancel()
    return in_time


def copies(message: BroadcastMessage) -> int:
    return SimulatedMessage.objects.filter(key=message.key).count()


def status_of(message: BroadcastMessage) -> str:
    return BroadcastMessage.objects.get(pk=message.pk).status


def hand_to_another(device: Device) -> None:
    Device.objects.filter(pk=device.pk).update(
        worker_id="other",
        lease_epoch=F("lease_epoch") + 1,
        lease_expires_at=timezone.now() + timedelta(minutes=1),
    )


def take_away_and_give_back(broadcaster: Broadcaster, device: Device) -> None:
    hand_to_another(device)
    turn_until(broadcaster, lambda: device.pk not in broadcaster._leases.held)
    Device.objects.filter(pk=device.pk).update(worker_id="", lease_expires_at=None)
    turn_until(broadcaster, lambda: device.pk in broadcaster._leases.held)


def away(*_: object) -> object:
    raise OperationalError(2002, "Can't connect to server")


def interrupt(broadcaster: Broadcaster) -> None:
    """The database is away for one turn."""

    with connection.execute_wrapper(away):
        broadcaster._survive(broadcaster.turn)


# Changing hands


def test_a_late_answer_of_an_earlier_lease_does_not_free_what_is_being_sent_now(wire: Wire) -> None:
    device = DeviceFactory()
    earlier, now, next_ = BroadcastMessageFactory.create_batch(3, device=device)
    broadcaster = started()
    turn_until(broadcaster, wire.begun[earlier.key].is_set)
    take_away_and_give_back(broadcaster, device)
    BroadcastMessage.objects.filter(pk=earlier.pk).update(
        status="cancelled", finished_at=timezone.now()
    )
    turn_until(broadcaster, wire.begun[now.key].is_set)

    wire.open[earlier.key].set()
    turn_until(broadcaster, wire.over[earlier.key].is_set)
    turn(broadcaster, times=10)
    assert not wire.begun[next_.key].is_set(), "sent beside the one that is on the wire"
    interrupt(broadcaster)
    turn(broadcaster, times=5)
    assert status_of(now) == "queued", "released while it is on the wire"

    wire.open[now.key].set()
    turn_until(broadcaster, lambda: status_of(now) == "sent")
    wire.open[next_.key].set()
    turn_until(broadcaster, lambda: status_of(next_) == "sent")
    broadcaster._finish()
    assert [copies(message) for message in (earlier, now, next_)] == [0, 1, 1]


def test_a_broadcaster_never_takes_its_own_device_a_second_time(
    wire: Wire, settings: LazySettings
) -> None:
    """The database's clock is set forward: the lease looks run out to who asks for free ones."""
    device = DeviceFactory()
    message, next_ = BroadcastMessageFactory.create_batch(2, device=device)
    broadcaster = started()
    turn_until(broadcaster, wire.begun[message.key].is_set)
    lease = broadcaster._leases.held[device.pk]
    settings.HEARTBEAT_SECONDS = 3600
    DeviceFactory()  # so that there is room for one more
    Device.objects.filter(pk=device.pk).update(lease_expires_at=timezone.now() - timedelta(1))

    turn(broadcaster, times=3)

    assert broadcaster._leases.held[device.pk] is lease
    assert Device.objects.get(pk=device.pk).lease_epoch == lease.epoch
    assert status_of(message) == "queued"
    for event in (wire.open[message.key], wire.open[next_.key]):
        event.set()
    broadcaster._finish()


@pytest.mark.parametrize("fate", ["gone", "gone and held anew", "run out"])
def test_a_sender_thread_whose_lease_is_gone_sends_nothing(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, settings: LazySettings, fate: str
) -> None:
    """It got no turn on the processor between the hand-over and the send."""
    device = DeviceFactory()
    message = BroadcastMessageFactory(device=device)
    wire.open[message.key].set()
    broadcaster, go_on = started(capacity=1), threading.Event()
    broadcaster._senders.submit(go_on.wait, 20)
    turn_until(broadcaster, lambda: status_of(message) == "queued")

    if fate == "gone":
        hand_to_another(device)
        turn_until(broadcaster, lambda: not broadcaster._leases.held)
    elif fate == "gone and held anew":
        take_away_and_give_back(broadcaster, device)
    else:
        moment = leases.clock() + settings.LEASE_SECONDS * 0.7
        monkeypatch.setattr(leases, "clock", lambda: moment)
    go_on.set()
    through = threading.Event()
    broadcaster._senders.submit(through.set)  # one thread: what was to be sent is done with
    assert through.wait(20)

    assert not wire.begun[message.key].is_set()
    broadcaster._collect()
    assert BroadcastMessage.objects.get().attempts == 0, "it counts as the message's trouble"
    broadcaster._finish()


def test_a_broadcaster_that_wakes_up_late_claims_nothing(
    monkeypatch: pytest.MonkeyPatch, settings: LazySettings
) -> None:
    broadcaster, device = started(), DeviceFactory()
    turn_until(broadcaster, lambda: Device.objects.get().status == "online")
    message = BroadcastMessageFactory(device=device)
    broadcaster._agenda.put(device.pk, 0)
    moment = leases.clock() + settings.LEASE_SECONDS * 0.7
    monkeypatch.setattr(leases, "clock", lambda: moment)

    broadcaster._send_due()

    assert status_of(message) == "pending"
    broadcaster._finish()


def test_a_restriction_ends_by_itself_while_the_connection_lives() -> None:
    device, broadcaster = DeviceFactory(), started()
    turn_until(broadcaster, lambda: Device.objects.get().status == "online")
    until = timezone.now() + timedelta(seconds=0.5)
    epoch = broadcaster._leases.held[device.pk].epoch
    broadcaster._reported(device.pk, epoch, Blocked("restricted", "429", until))
    turn_until(broadcaster, lambda: Device.objects.get().status == "restricted")
    message = BroadcastMessageFactory(device=device)

    turn_until(broadcaster, lambda: status_of(message) == "sent")

    assert timezone.now() >= until
    broadcaster._finish()


# More than may be held, and the end


def test_devices_that_outnumber_what_may_be_held_are_all_served() -> None:
    messages = [BroadcastMessageFactory(device=DeviceFactory()) for _ in range(3)]

    broadcaster, held = started(capacity=1), set()

    def all_are_sent() -> bool:
        held.add(len(broadcaster._leases.held))
        return all(status_of(message) == "sent" for message in messages)

    turn_until(broadcaster, all_are_sent)
    broadcaster._finish()

    assert held == {0, 1}
    assert ends_by_itself(Broadcaster(capacity=1, drain=True))


def test_draining_ends_beside_what_nobody_may_send() -> None:
    paused, late, off, sent = [BroadcastMessageFactory(device=DeviceFactory()) for _ in range(4)]
    paused.campaign.pause()
    late.campaign.messages.update(expires_at=timezone.now() - timedelta(seconds=1))
    Device.objects.filter(pk=off.device_id).update(enabled=False)

    assert ends_by_itself(Broadcaster(drain=True))

    statuses = [status_of(message) for message in (paused, late, off, sent)]
    assert statuses == ["paused", "pending", "pending", "sent"]


def test_draining_survives_a_database_that_is_away_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message = BroadcastMessageFactory(device=DeviceFactory())
    manager, failures = type(BroadcastMessage.objects), iter([1])
    leaving = manager.leaving

    def once(self: object) -> object:
        return away() if next(failures, None) else leaving(self)  # type: ignore[arg-type]

    monkeypatch.setattr(manager, "leaving", once)

    assert ends_by_itself(Broadcaster(drain=True))

    assert status_of(message) == "sent"


def test_a_session_that_does_not_close_does_not_keep_the_broadcaster_from_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    messages = [BroadcastMessageFactory(device=DeviceFactory()) for _ in range(2)]
    close = SimulatorSession.close

    def fail(self: SimulatorSession) -> None:
        close(self)
        raise OSError("the socket is gone")

    monkeypatch.setattr(SimulatorSession, "close", fail)

    Broadcaster(drain=True).run()

    assert [status_of(message) for message in messages] == ["sent"] * 2
    assert not Device.objects.leased().exists()
    assert not Worker.objects.alive().exists()


def test_waiting_for_the_last_answer_takes_no_work(wire: Wire) -> None:
    """It renews at every look here, so that the looks can be counted."""
    message, broadcaster, looks = BroadcastMessageFactory(device=DeviceFactory()), started(), []
    turn_until(broadcaster, wire.begun[message.key].is_set)
    broadcaster.stop()
    answer = threading.Timer(1, wire.open[message.key].set)

    def count(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        if "heartbeat_at" in sql and "UPDATE" in sql:
            looks.append(time.monotonic())
        return execute(sql, *arguments)

    answer.start()
    with connection.execute_wrapper(count):
        broadcaster._finish()

    assert status_of(message) == "sent"
    assert len(looks) <= (looks[-1] - looks[0]) / worker.TICK_SECONDS + 2


def test_a_hand_over_whose_answer_was_lost_at_the_end_is_given_back() -> None:
    device, broadcaster = DeviceFactory(), started()
    turn_until(broadcaster, lambda: Device.objects.get().status == "online")
    message = BroadcastMessageFactory(
        device=device, status="queued", attempts=1, lease_epoch=1,
        processing_worker_id=f"{broadcaster.id}/1",
    )  # fmt: skip
    interrupt(broadcaster)

    broadcaster._finish()

    assert status_of(message) == "pending"


def test_the_supervisor_replaces_the_dead_and_not_those_who_ended_well(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of three processes the first to come dies, the others end well, its replacement too."""
    monkeypatch.setattr(supervisor, "RESTART_SECONDS", 0.0)
    code = (
        "import os, pathlib, sys; here = pathlib.Path(sys.argv[1])\n"
        "(here / str(os.getpid())).touch()\n"
        "try: (here / 'died').touch(exist_ok=False)\n"
        "except FileExistsError: sys.exit(0)\n"
        "sys.exit(1)"
    )
    supervised = Supervisor(3, ["--drain"])
    supervised.command = [sys.executable, "-c", code, str(tmp_path)]
    patience = threading.Timer(10, supervised.stop)
    patience.start()

    supervised.run()

    patience.cancel()
    assert len(list(tmp_path.iterdir())) == 3 + 1 + len(["died"])


def test_of_one_claim_what_is_still_on_the_wire_is_not_released(wire: Wire) -> None:
    """A claim serves many devices under one token: the first answer must not speak for the rest."""
    devices = DeviceFactory.create_batch(2)
    broadcaster = started()
    held = broadcaster._leases.held
    turn_until(broadcaster, lambda: [lease.connected for lease in held.values()] == [True, True])
    quick, slow = (BroadcastMessageFactory(device=device) for device in devices)
    for device in devices:
        broadcaster._agenda.put(device.pk, 0)  # both are asked in the next turn
    turn_until(
        broadcaster, lambda: wire.begun[quick.key].is_set() and wire.begun[slow.key].is_set()
    )
    tokens = BroadcastMessage.objects.values_list("processing_worker_id", flat=True)
    assert len(set(tokens)) == 1

    wire.open[quick.key].set()
    turn_until(broadcaster, lambda: status_of(quick) == "sent")
    broadcaster._was_interrupted = True  # as after a lost connection
    turn(broadcaster, times=3)

    assert status_of(slow) == "queued"
    wire.open[slow.key].set()
    turn_until(broadcaster, lambda: status_of(slow) == "sent")
    assert copies(slow) == 1
    broadcaster._finish()
