"""The whole way: from the queue through a real broadcaster and the real client onto a phone."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from broadcasts.models import BroadcastMessage
from devices.models import Device
from leads.models import Lead
from tests.factories import (
    PNG,
    AttachmentFactory,
    BroadcastMessageFactory,
    CampaignFactory,
    DeviceFactory,
    LeadFactory,
)
from tests.processes import Process, broadcaster, wait_until
from tests.whatsapp.client import Client
from tests.whatsapp.conftest import NewPhone
from tests.whatsapp.double import Double, PhoneOf

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def device() -> Device:
    return DeviceFactory(transport="neonize", min_delay_seconds=1, max_delay_seconds=1)


@pytest.fixture
def account(whatsapp: Double, device: Device, tmp_path: Path, new_phone: NewPhone) -> PhoneOf:
    """The phone that the device is linked to."""
    phone = new_phone()
    with Client.start(tmp_path / f"{device.pk}.db", whatsapp.environment) as client:
        client.link(phone)
        client.call("stop")
        client.end()
    return phone


@contextmanager
def running(whatsapp: Double, folder: Path) -> Iterator[Process]:
    """A broadcaster as an operator starts it: nobody tells it what neonize needs."""
    environment = whatsapp.environment | {"SESSION_DIR": str(folder)}
    del environment["NEONIZE_BOT_TAG"]
    with broadcaster(**environment) as process:
        yield process


def status(message: BroadcastMessage) -> str:
    message.refresh_from_db()
    return str(message.status)


def test_a_message_is_sent_delivered_read_and_answered(
    whatsapp: Double, device: Device, account: PhoneOf, phone: PhoneOf, tmp_path: Path
) -> None:
    lead = LeadFactory(phone=phone.number)
    message = BroadcastMessageFactory(device=device, lead=lead, recipient_phone=phone.number)

    with running(whatsapp, tmp_path) as process:
        wait_until(lambda: status(message) == "sent" and message.delivered_at)
        (received,) = phone.received()
        assert (received.id, received.text) == (message.provider_message_id, message.body)
        assert "bot" not in whatsapp.sends(phone.number)[0].tags
        phone.read(received.id)
        wait_until(lambda: status(message) and message.read_at)
        phone.write(account.number, "STOP")
        wait_until(lambda: Lead.objects.filter(pk=lead.pk, opted_out_at__isnull=False).exists())
        process.terminate()
        assert process.wait(timeout=60) == 0

    wait_until(lambda: whatsapp.online(account.number) == 0)


def test_a_message_whose_broadcaster_was_killed_is_settled_by_its_receipt_and_sent_once(
    whatsapp: Double, device: Device, account: PhoneOf, phone: PhoneOf, tmp_path: Path
) -> None:
    message = BroadcastMessageFactory(device=device, recipient_phone=phone.number)
    whatsapp.withhold_acks()
    phone.switch_off()
    with running(whatsapp, tmp_path) as process:
        wait_until(lambda: whatsapp.sends(phone.number))
        os.killpg(process.pid, signal.SIGKILL)

    with running(whatsapp, tmp_path) as process:
        wait_until(lambda: status(message) == "unknown" and message.provider_message_id)
        phone.switch_on()
        wait_until(lambda: status(message) == "sent")
        process.terminate()
        assert process.wait(timeout=60) == 0

    assert message.delivered_at
    assert len(whatsapp.sends(phone.number)) == 1
    assert [m.copies for m in phone.received()] == [1]


def test_a_device_that_whatsapp_restricts_is_shown_and_its_message_waits(
    whatsapp: Double, device: Device, account: PhoneOf, phone: PhoneOf, tmp_path: Path
) -> None:
    message = BroadcastMessageFactory(device=device, recipient_phone=phone.number)
    whatsapp.answer_sends_with(463)

    with running(whatsapp, tmp_path):
        wait_until(lambda: Device.objects.filter(pk=device.pk, status="restricted").exists())
        wait_until(lambda: status(message) == "pending")
        whatsapp.log_out(account.number)
        wait_until(lambda: Device.objects.filter(pk=device.pk, status="logged_out").exists())

    assert len(whatsapp.sends(phone.number)) == 1
    assert phone.received() == []


def test_a_picture_goes_to_all_who_are_on_whatsapp_and_is_uploaded_once(
    whatsapp: Double, device: Device, account: PhoneOf, new_phone: NewPhone, tmp_path: Path
) -> None:
    picture, phones = AttachmentFactory(), [new_phone(), new_phone()]
    campaign = CampaignFactory(sending=True, attachment=picture)
    for number in [phones[0].number, "60199999999", phones[1].number]:
        BroadcastMessageFactory(
            campaign=campaign, attachment=picture, device=device, lead=LeadFactory(phone=number),
            priority=BroadcastMessage.Priority.CAMPAIGN_FIRST,
        )  # fmt: skip
    # Its pause is not over: time to ask who is there.
    Device.objects.update(next_send_at=timezone.now() + timedelta(seconds=10))
    before = whatsapp.uploads()

    with running(whatsapp, tmp_path) as process:
        wait_until(lambda: campaign.counts()["sent"] == 2 and campaign.counts()["skipped"] == 1)
        process.terminate()
        assert process.wait(timeout=60) == 0

    assert [phone.received()[0].media for phone in phones] == [PNG] * 2
    assert whatsapp.uploads() == before + 1
    left_out = campaign.messages.get(status="skipped")
    assert (left_out.recipient_phone, left_out.skip_reason) == ("60199999999", "not_on_whatsapp")
    assert (left_out.attempts, whatsapp.sends("60199999999")) == (0, [])
    assert Lead.objects.filter(on_whatsapp_at__isnull=False).count() == 2
