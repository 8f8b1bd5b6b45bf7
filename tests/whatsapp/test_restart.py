"""A host's one process, killed with all its devices in mid-campaign, and started again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from django.db.models import Q

from broadcasts.models import Worker
from campaigns.models import Campaign
from devices.models import Device
from tests.factories import BroadcastMessageFactory, CampaignFactory, DeviceFactory, LeadFactory
from tests.processes import wait_until
from tests.whatsapp.conftest import NewPhone
from tests.whatsapp.double import Double
from tests.whatsapp.paired import Original
from tests.whatsapp.test_broadcaster import running

pytestmark = pytest.mark.django_db(transaction=True)

DEVICES, EACH = 50, 3


def test_fifty_devices_of_a_killed_process_come_back_and_nobody_is_written_to_twice(
    whatsapp: Double, original: Original, new_phone: NewPhone, tmp_path: Path
) -> None:
    accounts = [new_phone().number for _ in range(DEVICES)]
    devices = [
        DeviceFactory(
            transport="neonize", session=f"paired-{number}", phone=number,
            min_delay_seconds=1, max_delay_seconds=3,
        )
        for number in accounts
    ]  # fmt: skip
    for device in devices:
        original.copy(whatsapp.phone(device.phone), tmp_path / f"{device.session}.db")
    campaign: Campaign = CampaignFactory(sending=True, audience_size=DEVICES * EACH)
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
        wait_until(lambda: all_are_settled(campaign), seconds=90)
        process.terminate()
        assert process.wait(timeout=60) == 0

    assert sum(whatsapp.logins(number) for number in accounts) == 2 * DEVICES
    # Nobody has it twice. Who has it not at all is one of the few that were being handed over:
    # those are shown as unknown, and left to a receipt or a person.
    wrong = {}
    for message in campaign.messages.all():
        copies = [
            received.copies for received in whatsapp.phone(message.recipient_phone).received()
        ]
        if copies != [1] and (message.status, copies) != ("unknown", []):
            wrong[message.recipient_phone] = message.status, copies
    assert wrong == {}
    assert 0 < campaign.counts()["unknown"] <= DEVICES


def all_are_settled(campaign: Campaign) -> bool:
    """Whether each is sent, or unknown with the id that a receipt would name."""
    is_known = Q(status="sent") | Q(status="unknown", provider_message_id__isnull=False)
    return not campaign.messages.exclude(is_known).exists()
