"""What the question says of work that is limited to the device."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from campaigns.models import UNWRITTEN as WRITTEN_BY_ITSELF
from devices.cards import UNWRITTEN, bound_to
from devices.models import Device
from tests.factories import CampaignFactory, DeviceFactory, SequenceFactory

pytestmark = pytest.mark.django_db


def sequence(name: str, *devices: Device) -> None:
    SequenceFactory(name=name, from_all_devices=not devices).devices.set(devices)


def campaign(title: str, *devices: Device, **attributes: object) -> None:
    attributes = {"status": "scheduled", **attributes}
    CampaignFactory(title=title, from_all_devices=not devices, **attributes).devices.set(devices)


def test_the_question_names_what_will_have_no_device(admin_client: Client) -> None:
    device = DeviceFactory(name="Temp")
    sequence("Welcome", device)
    campaign("Friday's offer", device)

    text = admin_client.get(reverse("devices:delete", args=[device.pk])).content.decode()

    assert "1 sequence has no other device:" in text
    assert "“Welcome”." in text
    assert "1 campaign that is still to be written has no other device:" in text
    assert "“Friday&#x27;s offer”." in text


def test_of_very_many_the_first_are_named_and_the_others_counted(admin_client: Client) -> None:
    device = DeviceFactory()
    for n in range(7):
        sequence(f"Drip {n}", device)

    text = admin_client.get(reverse("devices:delete", args=[device.pk])).content.decode()

    assert "7 sequences have no other device:" in text
    assert "“Drip 4” and 2 more." in text
    assert "Drip 5" not in text


def test_what_goes_on_without_it_is_not_named(admin_client: Client) -> None:
    device, other = DeviceFactory(), DeviceFactory()
    sequence("From all")
    sequence("From both", device, other)
    sequence("From the other", other)
    campaign("From both", device, other)
    campaign("From all")
    campaign("Written", device, status="sending", fanned_out_at=timezone.now())
    campaign("Written and paused", device, status="paused", fanned_out_at=timezone.now())
    campaign("A draft is looked at before it is sent", device, status="draft")

    assert bound_to(device).sequences == bound_to(device).campaigns == []
    text = admin_client.get(reverse("devices:delete", args=[device.pk])).content.decode()
    assert "no other device" not in text


@pytest.mark.parametrize("status", ["scheduled", "queuing", "paused"])
def test_a_device_that_was_deleted_is_no_other(status: str) -> None:
    gone = DeviceFactory(deleted_at=timezone.now(), enabled=False)
    device = DeviceFactory()
    sequence("Welcome", gone, device)
    campaign("Offer", gone, device, status=status)

    bound = bound_to(device)
    assert (bound.sequences, bound.campaigns) == (["Welcome"], ["Offer"])


def test_the_devices_know_which_campaigns_are_still_to_be_written() -> None:
    assert set(UNWRITTEN) == {*WRITTEN_BY_ITSELF, "paused"}
