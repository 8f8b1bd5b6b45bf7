"""What takes its time between the hand-over of a message and the moment it leaves."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from datetime import timedelta

import pytest
from django.conf import LazySettings

from broadcasts import leases
from devices.models import Device
from devices.transports.base import Answer, NotSent, Outcome, OutgoingMessage
from devices.transports.simulator import SimulatorSession
from tests.broadcasts.test_leases import (
    copies,
    fast,
    started,
    status_of,
    take_away_and_give_back,
    turn_until,
)
from tests.factories import BroadcastMessageFactory, DeviceFactory, claimed_of

pytestmark = pytest.mark.django_db(transaction=True)

__all__ = ["fast"]  # a fixture


def test_a_session_that_prepares_something_may_ask_again_whether_its_lease_is_fresh(
    settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, broadcaster = DeviceFactory(), started()
    turn_until(broadcaster, lambda: Device.objects.get().status == "online")
    lease, said = broadcaster._leases.held[device.pk], []
    moment = leases.clock() + settings.LEASE_SECONDS * 0.7

    def send(session: SimulatorSession, message: OutgoingMessage) -> NotSent:
        said.append(message.may_leave())
        monkeypatch.setattr(leases, "clock", lambda: moment)  # an upload took its time
        said.append(message.may_leave())
        return NotSent()

    monkeypatch.setattr(SimulatorSession, "send", send)
    broadcaster._send(lease, claimed_of(BroadcastMessageFactory(device=device)), began_at=0.0)

    assert said == [True, False]
    broadcaster._finish()


def test_a_send_that_is_never_answered_does_not_keep_the_device(
    settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.STUCK_AFTER = timedelta(seconds=1)
    send, forgotten = SimulatorSession.send, list[str]()

    def forget(session: SimulatorSession, message: OutgoingMessage) -> Future[Outcome]:
        if forgotten:
            return send(session, message)
        forgotten.append(message.key)
        return Future()

    monkeypatch.setattr(SimulatorSession, "send", forget)
    device = DeviceFactory()
    first, second = BroadcastMessageFactory.create_batch(2, device=device)
    broadcaster = started()

    turn_until(broadcaster, lambda: status_of(second) == "sent")

    assert forgotten == [first.key]
    # The session that took over knows that it never left.
    turn_until(broadcaster, lambda: status_of(first) == "sent")
    assert (copies(first), copies(second)) == (1, 1)
    broadcaster._finish()


@pytest.mark.parametrize("is_lost", [False, True], ids=["given up", "lost"])
def test_sends_that_hang_do_not_use_up_the_threads(
    is_lost: bool, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their sessions end, but nobody can end their threads, of which a broadcaster has no more than
    it may hold devices."""
    settings.STUCK_AFTER = timedelta(minutes=1) if is_lost else timedelta(seconds=1)
    send, hanging, go_on = SimulatorSession.send, list[str](), threading.Event()

    def hang_once(session: SimulatorSession, message: OutgoingMessage) -> Answer:
        if not hanging:
            hanging.append(message.key)
            go_on.wait(60)
        return send(session, message)

    monkeypatch.setattr(SimulatorSession, "send", hang_once)
    device = DeviceFactory()
    first, second = BroadcastMessageFactory.create_batch(2, device=device)
    broadcaster = started(capacity=1)
    turn_until(broadcaster, lambda: hanging)
    if is_lost:
        take_away_and_give_back(broadcaster, device)

    turn_until(broadcaster, lambda: status_of(first) == status_of(second) == "sent")

    go_on.set()  # its session is closed
    broadcaster._finish()
    assert hanging == [first.key]
    assert (copies(first), copies(second)) == (1, 1)
