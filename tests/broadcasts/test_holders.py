"""What the pages say of a device that nobody holds."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from broadcasts.models import Worker
from devices.models import Device
from tests.factories import BroadcastMessageFactory, DeviceFactory

pytestmark = pytest.mark.django_db


def page(client: Client, device: Device) -> str:
    texts = [
        client.get(reverse("devices:detail", args=[device.pk])).content.decode(),
        client.get(reverse("devices:list")).content.decode(),
    ]
    return "\n".join(texts)


def test_the_pages_say_that_no_broadcaster_has_the_file(operator_client: Client) -> None:
    device = DeviceFactory(transport="neonize", session="lost")
    missing = "No broadcaster has its session file"
    assert missing not in page(operator_client, device), "none runs, and that is what is wrong"

    Worker.objects.register("worker", capacity=10)
    assert page(operator_client, device).count(missing) == 2

    Worker.objects.update(devices=10)
    assert missing not in page(operator_client, device), "it may be held when one has room"
    Worker.objects.update(devices=0)
    Device.objects.update(enabled=False)
    assert missing not in page(operator_client, device)


def test_a_device_that_is_not_paired_says_so_and_is_given_nothing(operator_client: Client) -> None:
    device = DeviceFactory(transport="neonize")
    message = BroadcastMessageFactory(device=device)
    Worker.objects.register("worker", capacity=10)

    assert page(operator_client, device).lower().count("not paired") >= 3
    assert not Device.objects.usable().exists()
    texts = operator_client.get(reverse("messages:detail", args=[message.pk])).content.decode()
    assert "is not paired with a phone" in texts

    Device.objects.filter(pk=device.pk).pair("1-abc")
    assert "not paired" not in page(operator_client, device).lower()
    assert Device.objects.usable().exists()
