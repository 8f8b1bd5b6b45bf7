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

from broadcasts.models import BroadcastMessage, Worker
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
    return DeviceFactory(
        transport="neonize", session="paired", min_delay_seconds=1, max_delay_seconds=1
    )


@pytest.fixture
def account(whatsapp: Double, device: Device, tmp_path: Path, new_phone: NewPhone) -> PhoneOf:
    """The phone that the device is linked to."""
    return pair(whatsapp, new_phone(), tmp_path / f"{device.session}.db")


def pair(whatsapp: Double, phone: PhoneOf, file: Path) -> PhoneOf:
    with Client.start(file, whatsapp.environment) as client:
        client.link(phone)
        client.call("stop")
        client.end()
    return phone


@contextmanager
def running(whatsapp: Double, folder: Path, *arguments: str, **settings: str) -> Iterator[Process]:
    """A broadcaster as an operator starts it: nobody tells it what neonize needs."""
    environment = whatsapp.environment | {"SESSION_DIR": str(folder)} | settings
    del environment["NEONIZE_BOT_TAG"]
    with broadcaster(*arguments, **environment) as process:
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
        assert Device.objects.online().filter(pk=device.pk).exists()
        process.terminate()
        assert process.wait(timeout=60) == 0

    assert message.delivered_at
    assert len(whatsapp.sends(phone.number)) == 1
    assert [m.copies for m in phone.received()] == [1]


def test_a_device_that_may_write_to_nobody_new_goes_on_with_people_it_knows(
    whatsapp: Double, device: Device, account: PhoneOf, phone: PhoneOf, new_phone: NewPhone,
    tmp_path: Path,
) -> None:  # fmt: skip
    lane, friend = BroadcastMessage.Priority.SEQUENCE_FIRST, new_phone()
    message = BroadcastMessageFactory(device=device, recipient_phone=phone.number, priority=lane)
    whatsapp.answer_sends_with(463)

    with running(whatsapp, tmp_path):
        blocked = Device.objects.filter(pk=device.pk, first_contacts_blocked_until__isnull=False)
        wait_until(blocked.exists)
        wait_until(lambda: status(message) == "pending")
        whatsapp.answer_sends_with(None)
        known = BroadcastMessageFactory(device=device, recipient_phone=friend.number)
        wait_until(lambda: status(known) == "sent")
        assert blocked.get().status == "online"
        assert [m.text for m in friend.received()] == [known.body]
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


def test_a_process_that_the_library_ends_costs_a_lease_and_no_second_message(
    whatsapp: Double, device: Device, account: PhoneOf, phone: PhoneOf, tmp_path: Path
) -> None:
    """As "fatal error: concurrent map read and map write" does. Another takes the device."""
    message = BroadcastMessageFactory(device=device, recipient_phone=phone.number)
    whatsapp.withhold_acks()
    phone.switch_off()
    with running(whatsapp, tmp_path, "--workers=2") as process:
        wait_until(lambda: whatsapp.sends(phone.number))
        device.refresh_from_db()
        os.kill(Worker.objects.get(pk=device.worker_id).pid, signal.SIGABRT)

        wait_until(lambda: status(message) == "unknown" and message.provider_message_id)
        phone.switch_on()
        wait_until(lambda: status(message) == "sent")
        whatsapp.release_acks()
        later = BroadcastMessageFactory(device=device, recipient_phone=phone.number)
        wait_until(lambda: status(later) == "sent")
        process.terminate()
        assert process.wait(timeout=60) == 0

    assert [m.copies for m in phone.received()] == [1, 1]


def test_a_process_that_holds_too_much_begins_anew_and_goes_on(
    whatsapp: Double, device: Device, account: PhoneOf, phone: PhoneOf, tmp_path: Path
) -> None:
    lead = LeadFactory(phone=phone.number)
    limits = {"RECYCLE_FILES": "1", "RECYCLE_AFTER_MINUTES": "0.1"}

    with running(whatsapp, tmp_path, **limits) as process:
        for number in range(1, 4):
            wait_until(lambda number=number: Worker.objects.count() >= number)  # type: ignore[misc]
            message = BroadcastMessageFactory(
                device=device, lead=lead, recipient_phone=phone.number
            )
            wait_until(lambda message=message: status(message) == "sent")  # type: ignore[misc]
        said = [*Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        assert len(said) <= 1, "whom it asked about session files ended with what it was"

    assert {worker.pid for worker in Worker.objects.all()} == {process.pid}
    assert [m.copies for m in phone.received()] == [1, 1, 1]
    assert not BroadcastMessage.objects.filter(status="unknown").exists()


def test_only_the_host_that_has_the_file_opens_the_device_and_the_other_says_nothing(
    whatsapp: Double, device: Device, account: PhoneOf, phone: PhoneOf, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    message = BroadcastMessageFactory(device=device, recipient_phone=phone.number)
    (tmp_path / "another").mkdir()

    with running(whatsapp, tmp_path / "another") as other:
        wait_until(Worker.objects.alive().exists)
        with running(whatsapp, tmp_path):
            wait_until(lambda: status(message) == "sent")
        other.terminate()
        assert other.wait(timeout=60) == 0

    assert [m.copies for m in phone.received()] == [1]
    device.refresh_from_db()
    assert device.lease_epoch == 1
    assert "Traceback" not in capsys.readouterr().out  # where the processes' own words end up


def test_a_device_that_was_paired_anew_sends_nothing_again_that_the_old_session_may_have_sent(
    whatsapp: Double, device: Device, account: PhoneOf, phone: PhoneOf, tmp_path: Path
) -> None:
    """The new file has no token of it, and for the same session that would mean: it never left."""
    message = BroadcastMessageFactory(device=device, recipient_phone=phone.number)
    whatsapp.withhold_acks()
    with running(whatsapp, tmp_path) as process:
        wait_until(lambda: whatsapp.sends(phone.number))
        os.killpg(process.pid, signal.SIGKILL)
    whatsapp.release_acks()
    pair(whatsapp, account, tmp_path / "again.db")
    assert Device.objects.filter(pk=device.pk).pair("again") == 1

    with running(whatsapp, tmp_path):
        later = BroadcastMessageFactory(device=device, recipient_phone=phone.number)
        wait_until(lambda: status(later) == "sent")
        assert status(message) == "unknown"

    assert [m.copies for m in phone.received()] == [1, 1]
