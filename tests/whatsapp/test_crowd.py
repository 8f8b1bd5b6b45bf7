"""Many linked devices in one process, which is more than the sum of them: they share a library."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from broadcasts.models import BroadcastMessage
from devices.models import Device
from tests.factories import BroadcastMessageFactory, DeviceFactory
from tests.processes import wait_until
from tests.whatsapp import paired
from tests.whatsapp.conftest import NewPhone
from tests.whatsapp.double import Double, PhoneOf
from tests.whatsapp.test_broadcaster import running

pytestmark = pytest.mark.django_db(transaction=True)

DEVICES = 50


@pytest.fixture
def devices(whatsapp: Double, tmp_path: Path) -> list[Device]:
    made: list[Device] = [
        DeviceFactory(
            transport="neonize", session=f"linked-{number}", min_delay_seconds=1,
            max_delay_seconds=1,
        )
        for number in range(DEVICES)
    ]  # fmt: skip
    files = [
        (f"6012{number:07}", tmp_path / f"{device.session}.db")
        for number, device in enumerate(made)
    ]
    paired.link(whatsapp, files)
    return made


def test_fifty_devices_restart_at_once_and_nobody_gets_it_twice(
    whatsapp: Double, devices: list[Device], new_phone: NewPhone, tmp_path: Path
) -> None:
    def write() -> list[PhoneOf]:
        """Has each device write to somebody."""
        phones = [new_phone() for _ in devices]
        for device, phone in zip(devices, phones, strict=True):
            BroadcastMessageFactory(device=device, recipient_phone=phone.number)
        return phones

    sent = BroadcastMessage.objects.filter(status="sent")
    phones = write()
    with running(whatsapp, tmp_path) as process:
        wait_until(lambda: sent.count() >= DEVICES // 2)
        os.killpg(process.pid, signal.SIGKILL)

    phones += write()
    with running(whatsapp, tmp_path) as process:
        wait_until(lambda: sent.count() == len(phones), seconds=90)
        assert Device.objects.filter(status="online").count() == DEVICES
        process.terminate()
        assert process.wait(timeout=60) == 0

    assert [[m.copies for m in phone.received()] for phone in phones] == [[1]] * len(phones)
    assert not Device.objects.filter(status="online").exists()
