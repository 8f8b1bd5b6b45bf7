"""The pause behind a message of which nobody can say when it left, or only late."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta

import pytest
from django.conf import LazySettings
from django.utils import timezone

from broadcasts import leases, outcomes
from broadcasts.leases import Leases
from broadcasts.models import BroadcastMessage, Worker
from broadcasts.outcomes import Sent
from devices.models import Device
from devices.transports import transport
from devices.transports.base import Accepted, Outcome, OutgoingMessage
from devices.transports.simulator import SimulatorSession, World
from tests.answers import outcome_of
from tests.broadcasts.test_pauses import holding, turn_until
from tests.factories import BroadcastMessageFactory, DeviceFactory, claimed_of

pytestmark = pytest.mark.django_db(transaction=True)

MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)


def left_behind(status: str, **device: object) -> Device:
    """A device whose holder has died with a message in this state."""
    long_ago = timezone.now() - MINUTE
    of_a_minute = {"min_delay_seconds": 60, "max_delay_seconds": 90}
    its = DeviceFactory(
        worker_id="dead", lease_epoch=1, lease_expires_at=long_ago, **of_a_minute | device
    )
    BroadcastMessageFactory(
        device=its, status=status, processing_worker_id="dead/1", lease_epoch=1,
        processing_started_at=long_ago,
    )  # fmt: skip
    return its


def next_send_at(device: Device) -> datetime:
    at = Device.objects.get(pk=device.pk).next_send_at
    assert at is not None
    return at


def of(worker_id: str) -> Leases:
    Worker.objects.register(worker_id, capacity=5)
    return Leases(worker_id, capacity=5, report=lambda *_: None)


def test_whoever_takes_a_device_over_begins_the_pause_anew_behind_what_was_handed_over() -> None:
    """It may have left late, and nobody could say so: a part of its pause would be missing."""
    before = timezone.now()
    device, heir = left_behind("queued", next_send_at=before + SECOND), of("heir")

    heir.keep()

    assert BroadcastMessage.objects.get().status == "unknown"
    assert heir.held[device.pk].slot.next_send_at == next_send_at(device) >= before + MINUTE
    heir.give_back([device.pk])


def test_so_does_the_scheduler_when_it_is_first() -> None:
    before, device = timezone.now(), left_behind("queued")

    assert BroadcastMessage.objects.unstick() == {"released": 0, "unknown": 1}

    assert before + MINUTE <= next_send_at(device) <= timezone.now() + 1.5 * MINUTE


def test_a_campaign_s_longer_pause_counts() -> None:
    before, device = timezone.now(), left_behind("queued")
    BroadcastMessage.objects.update(min_delay_seconds=300, max_delay_seconds=300)

    BroadcastMessage.objects.unstick()

    assert next_send_at(device) >= before + 5 * MINUTE


def test_what_was_only_claimed_puts_nothing_off() -> None:
    left_behind("processing")

    assert BroadcastMessage.objects.unstick() == {"released": 1, "unknown": 0}

    assert Device.objects.get().next_send_at is None


def test_a_zone_that_is_not_known_here_changes_nothing_about_pauses() -> None:
    before, device = timezone.now(), left_behind("queued")
    Device.objects.update(timezone="Mars/Olympus_Mons")

    assert BroadcastMessage.objects.unstick()["unknown"] == 1

    assert next_send_at(device) >= before + MINUTE


def test_a_pause_is_put_off_but_never_shortened() -> None:
    later = timezone.now() + MINUTE
    device, new = DeviceFactory(next_send_at=later), DeviceFactory(next_send_at=None)

    until = {device.pk: later - SECOND, new.pk: later + SECOND}
    assert Device.objects.put_off(until) == 2

    assert (next_send_at(device), next_send_at(new)) == (later, later + SECOND)


def test_who_sent_late_says_so_although_the_device_is_another_s_by_now() -> None:
    """Its outcome is written down as well, so the heir finds nothing that was interrupted."""
    now = timezone.now()
    device = DeviceFactory(min_delay_seconds=60, max_delay_seconds=60)
    former = of("former")
    former.keep()
    lease = former.held[device.pk]
    message = BroadcastMessageFactory(
        device=device, status="queued", processing_worker_id="former/1", lease_epoch=lease.epoch
    )
    lease.in_flight = claimed_of(message)
    lease.slot = lease.slot._replace(next_send_at=now + MINUTE)
    Device.objects.update(next_send_at=now + MINUTE, lease_expires_at=now - SECOND)
    assert Device.objects.take_leases([device.pk], "heir")

    sent = [Sent(lease.in_flight, Accepted("3EB0"), late_seconds=15.0)]
    former.put_off(sent)
    outcomes.record(sent)

    assert next_send_at(device) == now + MINUTE + 15 * SECOND
    former.give_back([device.pk])


def test_who_gives_a_device_back_leaves_all_of_the_pause_to_the_next() -> None:
    """Also what was too little to be worth a statement while it had the device itself."""
    device, holder = DeviceFactory(), of("holder")
    until = timezone.now() + MINUTE
    Device.objects.update(next_send_at=until)
    holder.keep()
    slot = holder.held[device.pk].slot
    holder.held[device.pk].slot = slot._replace(next_send_at=until + leases.LATE_SECONDS * SECOND)

    holder.give_back([device.pk])

    assert next_send_at(device) == until + leases.LATE_SECONDS * SECOND


def test_the_pause_counts_from_when_a_session_asked_last_whether_the_message_may_leave(
    settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It uploaded a file before."""
    settings.SIMULATOR_SPEED = 1000
    world = World(not_on_whatsapp=0, media_host_down=0, delivered=0)
    monkeypatch.setattr(transport("simulator"), "world", world)
    monkeypatch.setattr(leases, "LOOK_AROUND_SECONDS", 0.0)
    send, left_at, upload = SimulatorSession.send, list[float](), threading.Event()

    def upload_and_send(session: SimulatorSession, message: OutgoingMessage) -> Outcome:
        if not left_at:
            upload.wait(0.9)
        assert message.may_leave()
        left_at.append(time.monotonic())
        return outcome_of(send(session, message))

    monkeypatch.setattr(SimulatorSession, "send", upload_and_send)
    device = DeviceFactory(min_delay_seconds=1000, max_delay_seconds=1000)  # of a thousandth
    broadcaster, _lease = holding(device)
    BroadcastMessageFactory.create_batch(2, device=device)

    turn_until(broadcaster, lambda: len(left_at) == 2)

    assert left_at[1] - left_at[0] >= 0.95
    broadcaster._finish()
