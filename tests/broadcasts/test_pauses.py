"""Pauses and sending hours where a broadcaster stalls between deciding and sending."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, timedelta

import pytest
from django.conf import LazySettings
from django.utils import timezone

from broadcasts import leases, lookout
from broadcasts.lease import Lease
from broadcasts.models import BroadcastMessage, Worker
from broadcasts.worker import Broadcaster
from devices.models import Device
from devices.transports import transport
from devices.transports.simulator import World
from tests.broadcasts.test_fences import just_before
from tests.factories import BroadcastMessageFactory, DeviceFactory

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def fast(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.SIMULATOR_SPEED = 1000
    world = World(not_on_whatsapp=0, media_host_down=0, delivered=0)
    monkeypatch.setattr(transport("simulator"), "world", world)
    monkeypatch.setattr(leases, "LOOK_AROUND_SECONDS", 0.0)


def turn_until(broadcaster: Broadcaster, condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        broadcaster.turn()
        broadcaster._wait()


def holding(device: Device) -> tuple[Broadcaster, Lease]:
    """A broadcaster with one sender that holds this device, and its lease."""
    broadcaster = Broadcaster(capacity=1)
    Worker.objects.register(broadcaster.id)
    held = broadcaster._leases.held
    turn_until(broadcaster, lambda: device.pk in held and held[device.pk].connected)
    return broadcaster, held[device.pk]


def status_of(message: BroadcastMessage) -> str:
    return BroadcastMessage.objects.get(pk=message.pk).status


def test_closing_time_that_passed_since_a_device_was_put_down_holds() -> None:
    device = DeviceFactory()
    broadcaster, lease = holding(device)
    message = BroadcastMessageFactory(device=device)
    broadcaster._agenda.put(device.pk, 0)  # it was due long ago, when nobody could send
    now = timezone.now()
    lease.pace = replace(
        lease.pace,
        sends_from=(now - timedelta(hours=2)).time(),
        sends_until=(now - timedelta(hours=1)).time(),
        zone=UTC,
    )

    broadcaster.turn()

    assert status_of(message) == "pending"
    assert broadcaster._agenda.next_at() > leases.clock() + 3600, "it comes up again too soon"
    broadcaster._finish()


@pytest.mark.parametrize("lost", [False, True], ids=["held", "lost"])
def test_a_message_that_leaves_late_puts_off_the_next(lost: bool) -> None:
    """Its sender gets no turn on the processor for half the pause. The pause is one between
    sends, also for whoever holds the device next."""
    device = DeviceFactory(min_delay_seconds=600, max_delay_seconds=600)  # of a thousandth
    broadcaster, lease = holding(device)
    message, go_on = BroadcastMessageFactory(device=device), threading.Event()
    broadcaster._senders.submit(go_on.wait, 20)
    turn_until(broadcaster, lambda: status_of(message) == "queued")
    handed_over = Device.objects.get().next_send_at
    assert handed_over is not None
    turn_until(broadcaster, lambda: timezone.now() > handed_over - timedelta(seconds=0.3))

    left_at, seen = timezone.now(), list[Device]()
    go_on.set()
    answer = broadcaster._inbox.get(timeout=20)
    broadcaster._sort_in(answer)
    if lost:
        Device.objects.update(worker_id="other", lease_epoch=2)
    with just_before("UPDATE broadcast_messages", lambda: seen.append(Device.objects.get())):
        broadcaster._collect()

    assert status_of(message) == "sent"
    assert lease.slot.next_send_at is not None
    # Not to the millisecond: the database's time is known as well as an answer takes.
    assert lease.slot.next_send_at >= left_at + timedelta(seconds=0.55)
    stored = Device.objects.get().next_send_at
    assert stored == lease.slot.next_send_at
    assert seen[0].next_send_at == stored, "who dies between the two leaves too short a pause"
    broadcaster._finish()


def test_a_device_whose_pause_is_not_quite_over_by_the_database_is_asked_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lookout, "LONGEST_PAUSE_SECONDS", 300.0)
    monkeypatch.setattr(lookout, "LOOK_SECONDS_A_DEVICE", 300.0)
    over_at = timezone.now() + timedelta(seconds=3)
    device = DeviceFactory(next_send_at=over_at)
    message = BroadcastMessageFactory(device=device)
    broadcaster, lease = holding(device)
    broadcaster._lookout.first_due(1)  # and not again in the next 300 s
    lease.slot = lease.slot._replace(next_send_at=over_at - timedelta(seconds=0.4))
    broadcaster._put_down(lease)

    turn_until(broadcaster, lambda: status_of(message) == "sent")

    message.refresh_from_db()
    assert message.sent_at > over_at
    broadcaster._finish()
