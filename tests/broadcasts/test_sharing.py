"""How broadcasters share the devices, and when they take those of one that died."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.conf import LazySettings

from broadcasts import leases
from broadcasts.leases import Leases
from broadcasts.models import Worker
from devices.models import Device
from tests.factories import DeviceFactory

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LOOK_AROUND_SECONDS", 0.0)


def shares(devices: int, capacities: list[int]) -> list[int]:
    """How many devices broadcasters of these capacities hold once they have settled."""
    DeviceFactory.create_batch(devices)
    sharing = [
        Leases(f"worker-{number}", capacity=capacity, report=lambda *_: None)
        for number, capacity in enumerate(capacities)
    ]
    for _ in range(3):
        for each in sharing:
            each.keep()
    held = [len(each.held) for each in sharing]
    for each in sharing:
        each.give_back(list(each.held))
    return held


@pytest.mark.parametrize(
    ("devices", "capacities", "expected"),
    [
        (6, [10, 10], [3, 3]),
        (6, [2, 10], [1, 5]),
        (12, [2, 10], [2, 10]),  # as many as they may hold: none is left to nobody
        (20, [2, 10], [2, 10]),
        (1, [2, 10], [1, 0]),
    ],
)
def test_devices_are_shared_by_what_each_may_hold(
    devices: int, capacities: list[int], expected: list[int]
) -> None:
    assert shares(devices, capacities) == expected


def test_who_dies_is_not_counted_any_more_when_its_leases_have_run_out(
    settings: LazySettings,
) -> None:
    """Otherwise the others would leave it its share of the devices for another while."""
    settings.HEARTBEAT_SECONDS = 0
    DeviceFactory()
    dying = Leases("worker", capacity=1, report=lambda *_: None)

    for _ in range(3):
        dying.keep()

    heartbeat_at = Worker.objects.get().heartbeat_at
    expires_at = Device.objects.get().lease_expires_at
    assert expires_at is not None
    assert heartbeat_at + timedelta(seconds=settings.LEASE_SECONDS) <= expires_at
    dying.give_back(list(dying.held))
