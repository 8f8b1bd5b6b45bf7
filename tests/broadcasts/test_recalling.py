"""Whom a broadcaster asks about messages whose outcome got lost, and how often."""

from __future__ import annotations

import time
from datetime import timedelta
from unittest.mock import Mock

import pytest
from django.utils import timezone

from broadcasts import leases, pacing, recalling
from broadcasts.lease import Lease
from broadcasts.leases import Leases
from broadcasts.models import BroadcastMessage
from broadcasts.outcomes import unknown_of
from devices.models import Device
from devices.transports.base import Accepted
from tests.factories import BroadcastMessageFactory, DeviceFactory

pytestmark = pytest.mark.django_db


def lost(device: Device, count: int, *, ago: timedelta) -> list[BroadcastMessage]:
    return BroadcastMessageFactory.create_batch(
        count, device=device, status="unknown", finished_at=timezone.now() - ago
    )


def holder(*devices: Device) -> Leases:
    held = Leases("worker", capacity=9, report=lambda *_: None)
    for device in devices:
        pace, session = pacing.Pace.of(device), Mock(recall=Mock(return_value=None))
        held.held[device.pk] = Lease(device, 1, session, pace, pacing.Slot(), connected=True)
    return held


def test_a_transport_that_cannot_tell_keeps_no_other_from_being_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leases, "LOOK_AROUND_SECONDS", 0.0)
    monkeypatch.setattr(recalling, "ASKED_AT_ONCE", 2)
    silent, knowing = DeviceFactory(online=True), DeviceFactory(online=True)
    older = lost(knowing, 1, ago=timedelta(hours=5))
    lost(silent, 6, ago=timedelta(hours=1))
    older += lost(knowing, 1, ago=timedelta(hours=6))
    held = holder(silent, knowing)
    held.held[knowing.pk].session.recall.return_value = Accepted("3EB0")  # type: ignore[attr-defined]

    for _ in range(4):
        held.keep()

    statuses = BroadcastMessage.objects.filter(pk__in=[message.pk for message in older])
    assert set(statuses.values_list("status", flat=True)) == {"sent"}
    asked = held.held[silent.pk].session.recall.call_count  # type: ignore[attr-defined]
    assert asked == 6, "asked again before the others' turn"


def test_asking_a_slow_transport_costs_no_lease_and_everybody_s_turn_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Meanwhile nothing renews the leases: 200 that take 0.1 s each last longer than they do."""
    device = DeviceFactory(online=True)
    messages = lost(device, 200, ago=timedelta(hours=1))
    asked: list[str] = []
    looks: list[int] = []

    def now() -> float:
        return 1000 + 3 * len(looks) + len(asked) / 10

    monkeypatch.setattr(time, "monotonic", now)
    monkeypatch.setattr(leases, "clock", now)
    held = holder(device)
    held.held[device.pk].session.recall.side_effect = asked.append  # type: ignore[attr-defined]

    while len(looks) < 25:
        looks.append(1)
        held.keep()
        assert held.are_safe()

    assert {message.key for message in messages} == set(asked)


def test_asked_about_is_what_one_s_own_devices_lost_lately() -> None:
    mine, other = DeviceFactory(online=True), DeviceFactory(online=True, worker_id="other")
    messages = lost(mine, 2, ago=timedelta(hours=1))
    lost(mine, 1, ago=timedelta(days=2))
    lost(other, 1, ago=timedelta(hours=1))
    BroadcastMessageFactory(device=mine, status="sent", finished_at=timezone.now())

    keys = unknown_of("worker", newer_than=timedelta(days=1))

    assert keys == [message.pk for message in messages]
