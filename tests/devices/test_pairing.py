"""The rules of pairing and logging out, as the database keeps them. The real thing, with a process
for each and a phone that scans, is in tests/whatsapp/test_pairing.py."""

from __future__ import annotations

from datetime import timedelta
from importlib import import_module
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from devices.models import Device
from devices.pairing import (
    NOTICE_VERSION,
    SILENT_SECONDS,
    TRIES,
    UNCLAIMED_SECONDS,
    Pairing,
    Unlinking,
)
from tests.factories import BroadcastMessageFactory, DeviceFactory

pytestmark = pytest.mark.django_db

PHONE = "60123456789"


@pytest.fixture
def siti(db: None) -> User:
    return User.objects.create_user("siti")


@pytest.fixture
def device(db: None) -> Device:
    return DeviceFactory(transport="neonize", phone=None)


def start(device: Device, by: User, **values: object) -> Pairing:
    pairing = Pairing.start(device, "qr", "", by)
    Pairing.objects.filter(pk=pairing.pk).update(**values)
    pairing.refresh_from_db()
    return pairing


def claimed(device: Device, by: User) -> Pairing:
    start(device, by)
    pairing = Pairing.objects.claim("worker")
    assert pairing
    return pairing


def long_ago(seconds: float) -> object:
    return timezone.now() - timedelta(seconds=seconds + 1)


def test_a_pairing_records_who_accepted_which_version_of_the_notice(
    device: Device, siti: User
) -> None:
    pairing = start(device, siti)
    siti.delete()
    pairing.refresh_from_db()
    assert (pairing.accepted_by, pairing.notice_version) == ("siti", NOTICE_VERSION)
    assert timezone.now() - pairing.created_at < timedelta(minutes=1)


def test_a_device_has_one_open_pairing_and_the_second_to_ask_gets_the_first(
    device: Device, siti: User
) -> None:
    first = start(device, siti)
    assert Pairing.start(device, "code", PHONE, User.objects.create_user("ali")) == first
    with pytest.raises(IntegrityError), transaction.atomic():
        Pairing.objects.create(device=device, method="qr", created_at=timezone.now())
    assert first.cancel()
    assert not first.cancel()
    assert Pairing.start(device, "qr", "", siti) != first


def test_a_request_is_claimed_once_and_each_gets_a_session_of_its_own(siti: User) -> None:
    devices = [DeviceFactory(transport="neonize") for _ in range(2)]
    for device in devices:
        start(device, siti)
    found = [Pairing.objects.claim("worker") for _ in range(3)]
    assert [each and each.device for each in found] == [*devices, None]
    assert len({each.session for each in found if each}) == 2
    assert found[0].session.startswith(f"{devices[0].pk}-")


def test_success_gives_the_device_its_session_and_number_and_ends_a_block(
    device: Device, siti: User
) -> None:
    Device.objects.filter(pk=device.pk).update(
        status="logged_out", status_reason="Unlinked.", lease_epoch=7
    )
    pairing = claimed(device, siti)
    assert pairing.show("2@abc", 60)
    assert pairing.has_linked(PHONE)
    assert pairing.succeed(PHONE)

    device.refresh_from_db()
    pairing.refresh_from_db()
    assert (device.session, device.phone, device.status) == (pairing.session, PHONE, "offline")
    assert device.session_epoch == 7  # of what was handed over before, it knows nothing
    assert (pairing.state, pairing.code, pairing.is_open) == ("done", "", None)
    assert not Unlinking.objects.exists()


def test_a_new_session_has_the_former_one_logged_out(device: Device, siti: User) -> None:
    for _time in range(2):
        claimed(device, siti).succeed(PHONE)
    first = Pairing.objects.earliest("pk").session
    assert [(each.session, each.state) for each in Unlinking.objects.all()] == [
        (first, "requested")
    ]
    device.refresh_from_db()
    assert device.session != first


@pytest.mark.parametrize(
    ("own", "of_another", "reason"),
    [
        ("60111111111", None, Pairing.Reason.OTHER_NUMBER),
        (None, PHONE, Pairing.Reason.OTHER_DEVICE),
    ],
)
def test_a_wrong_number_is_refused_and_its_session_thrown_away(
    siti: User, own: str | None, of_another: str | None, reason: str
) -> None:
    device = DeviceFactory(transport="neonize", phone=own, session="before")
    if of_another:
        DeviceFactory(transport="neonize", phone=of_another)
    pairing = claimed(device, siti)
    assert not pairing.succeed(PHONE)

    device.refresh_from_db()
    pairing.refresh_from_db()
    assert (device.session, device.phone) == ("before", own)
    assert (pairing.state, pairing.reason) == ("failed", reason)
    assert "logged out again" in pairing.why
    assert Unlinking.objects.get().session == pairing.session


def test_what_was_cancelled_cannot_succeed_and_says_so_to_its_process(
    device: Device, siti: User
) -> None:
    pairing = claimed(device, siti)
    assert pairing.is_wanted()
    assert Pairing.objects.get(pk=pairing.pk).cancel()
    assert not pairing.is_wanted()
    assert not pairing.show("2@abc", 60)
    assert not pairing.has_linked(PHONE)
    assert not pairing.succeed(PHONE)
    assert not Device.objects.get(pk=device.pk).session
    assert Unlinking.objects.get().session == pairing.session


def test_a_request_that_nobody_took_up_leaves_nothing_to_unlink(device: Device, siti: User) -> None:
    pairing = start(device, siti, created_at=long_ago(UNCLAIMED_SECONDS))
    assert Pairing.objects.close_abandoned() == 1
    pairing.refresh_from_db()
    assert "No broadcaster with WhatsApp support" in pairing.why
    assert not Unlinking.objects.exists()
    assert Pairing.objects.close_abandoned() == 0


def test_a_process_that_is_silent_has_ended_with_its_host(device: Device, siti: User) -> None:
    pairing = claimed(device, siti)
    assert Pairing.objects.close_abandoned() == 0
    Pairing.objects.update(seen_at=long_ago(SILENT_SECONDS))
    assert Pairing.objects.close_abandoned() == 1
    pairing.refresh_from_db()
    assert pairing.reason == Pairing.Reason.ENDED


def test_logging_out_keeps_the_device_and_asks_for_its_session_to_go(siti: User) -> None:
    device = DeviceFactory(transport="neonize", session="s1", status="restricted", online=False)
    stale = Device.objects.get(pk=device.pk)
    assert device.log_out(siti)
    assert not stale.log_out(siti)
    device.refresh_from_db()
    assert (device.session, device.state, device.phone) == ("", "unpaired", stale.phone)
    unlinking = Unlinking.objects.get()
    assert (unlinking.session, unlinking.requested_by, unlinking.device) == ("s1", siti, device)
    assert not Device.objects.usable().filter(pk=device.pk).exists()


def test_deleting_logs_a_session_out_that_a_pairing_has_just_given_it(
    device: Device, siti: User
) -> None:
    pairing = claimed(device, siti)
    seen_before = Device.objects.get(pk=device.pk)
    assert pairing.succeed(PHONE)

    assert seen_before.remove(siti)

    assert not Device.objects.get(pk=device.pk).session
    assert Unlinking.objects.get().session == pairing.session


def test_deleting_keeps_the_messages_and_frees_name_and_number(siti: User) -> None:
    device = DeviceFactory(name="Sales 01", transport="neonize", phone=PHONE, session="s1")
    message = BroadcastMessageFactory(device=device)
    pairing = start(device, siti)
    assert device.remove(siti)
    assert not device.remove(siti)

    message.refresh_from_db()
    assert str(message.device).startswith("Sales 01 (deleted 20")
    assert (message.status, message.device.enabled) == ("pending", False)
    assert not Device.objects.kept().exists()
    assert not Device.objects.usable().exists()
    pairing.refresh_from_db()
    assert pairing.state == "cancelled"
    assert Unlinking.objects.get().session == "s1"
    DeviceFactory(name="Sales 01", transport="neonize", phone=PHONE)


def test_a_number_that_a_simulated_device_was_once_given_is_free_to_be_paired(
    device: Device, siti: User
) -> None:
    simulated = DeviceFactory(phone=PHONE)
    migration = import_module("devices.migrations.0010_simulated_devices_have_no_number")
    migration.take_numbers_away(apps, SimpleNamespace(connection=connection))

    simulated.refresh_from_db()
    assert simulated.phone is None
    assert claimed(device, siti).succeed(PHONE)


def test_an_unlinking_is_claimed_once_and_tried_again_when_its_process_dies(siti: User) -> None:
    DeviceFactory(transport="neonize", session="s1").log_out(siti)
    unlinking = Unlinking.objects.get()
    for tries in range(1, TRIES + 1):
        assert Unlinking.objects.claim(unlinking.pk, "worker")
        assert not Unlinking.objects.claim(unlinking.pk, "another")
        assert unlinking.try_again() == (tries < TRIES)
    unlinking.refresh_from_db()
    assert unlinking.state == "failed"
    assert not Unlinking.objects.waiting().exists()


def test_an_unlinking_whose_host_died_is_taken_up_again(siti: User) -> None:
    DeviceFactory(transport="neonize", session="s1").log_out(siti)
    unlinking = Unlinking.objects.get()
    assert Unlinking.objects.claim(unlinking.pk, "worker")
    Unlinking.objects.update(seen_at=long_ago(SILENT_SECONDS))
    assert Unlinking.objects.claim(unlinking.pk, "another")
    assert unlinking.finish(told=True)
    assert not unlinking.is_wanted()
