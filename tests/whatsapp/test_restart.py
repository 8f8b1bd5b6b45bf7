"""A host's one process, killed with all its devices in mid-campaign, and started again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from broadcasts.models import BroadcastMessage, Worker
from devices.models import Device
from tests.factories import BroadcastMessageFactory, CampaignFactory, DeviceFactory, LeadFactory
from tests.processes import wait_until
from tests.whatsapp.conftest import NewPhone
from tests.whatsapp.double import Double
from tests.whatsapp.paired import Original
from tests.whatsapp.test_broadcaster import running

pytestmark = pytest.mark.django_db(transaction=True)

DEVICES, EACH = 50, 4


def test_fifty_devices_of_a_killed_process_come_back_and_nobody_is_written_to_twice(
    whatsapp: Double, original: Original, new_phone: NewPhone, tmp_path: Path
) -> None:
    accounts = [new_phone().number for _ in range(DEVICES)]
    devices = [
        DeviceFactory(
            transport="neonize", session=f"paired-{number}", phone=number,
            min_delay_seconds=2, max_delay_seconds=4,
        )
        for number in accounts
    ]  # fmt: skip
    for device in devices:
        original.copy(whatsapp.phone(device.phone), tmp_path / f"{device.session}.db")
    campaign = CampaignFactory(sending=True, audience_size=DEVICES * EACH)
    phones = [new_phone() for _ in range(DEVICES * EACH)]
    for number, phone in enumerate(phones):
        lead = LeadFactory(phone=phone.number)
        BroadcastMessageFactory(campaign=campaign, device=devices[number % DEVICES], lead=lead)
    one_process = ["--workers=1", f"--devices-per-worker={DEVICES}"]

    with running(whatsapp, tmp_path, *one_process) as process:
        wait_until(lambda: Device.objects.online().count() == DEVICES, seconds=90)
        wait_until(lambda: campaign.counts()["sent"] >= DEVICES)
        assert Worker.objects.alive().count() == 1
        # Some are on the wire: WhatsApp has them, and we do not know.
        whatsapp.withhold_acks()
        before = len(whatsapp.sends())
        wait_until(lambda: len(whatsapp.sends()) >= before + 10)
        os.killpg(process.pid, signal.SIGKILL)
    whatsapp.release_acks()
    assert campaign.counts()["pending"], "all was over before the kill"

    with running(whatsapp, tmp_path, *one_process) as process:
        wait_until(lambda: Device.objects.online().count() == DEVICES, seconds=90)
        wait_until(lambda: set(statuses()) <= {"sent", "unknown"}, seconds=90)
        process.terminate()
        assert process.wait(timeout=60) == 0

    assert sum(whatsapp.logins(number) for number in accounts) == 2 * DEVICES
    came = {phone.number: [message.copies for message in phone.received()] for phone in phones}
    assert all(copies == [1] for copies in came.values())
    # Of the few that were on the wire, those whose receipts died with the process are shown.
    unknown = BroadcastMessage.objects.filter(status="unknown")
    assert all(message.provider_message_id for message in unknown)
    assert campaign.counts()["sent"] + len(unknown) == DEVICES * EACH


def statuses() -> set[str]:
    return set(BroadcastMessage.objects.values_list("status", flat=True).distinct())
