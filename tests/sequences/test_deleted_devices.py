"""Sequences of which no device may send: their people wait, and that is said."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from devices.models import Device
from sequences.models import Sequence
from tests.factories import (
    DeviceFactory,
    SequenceContactFactory,
    SequenceFactory,
    SequenceStepFactory,
)

pytestmark = pytest.mark.django_db

TAG = "no device may send"


def deleted() -> Device:
    return DeviceFactory(name="Temp (deleted 2026-11-27)", deleted_at=timezone.now(), enabled=False)


def limited_to(*devices: Device, **attributes: Any) -> Sequence:
    sequence: Sequence = SequenceFactory(from_all_devices=not devices, **attributes)
    sequence.devices.set(devices)
    due_at = timezone.now() - timedelta(minutes=5)
    step = SequenceStepFactory(sequence=sequence)
    SequenceContactFactory(sequence=sequence, next_step=step, next_due_at=due_at)
    return sequence


def detail(client: Client, sequence: Sequence) -> str:
    return client.get(reverse("sequences:detail", args=[sequence.pk])).content.decode()


def test_its_page_says_that_its_only_device_was_deleted_and_what_helps(
    viewer_client: Client,
) -> None:
    DeviceFactory()
    text = detail(viewer_client, limited_to(deleted()))

    assert "Every device that was chosen for it was deleted: nobody gets a next step." in text
    assert "Choose another under Edit" in text


def test_its_page_names_the_devices_that_are_only_switched_off(viewer_client: Client) -> None:
    DeviceFactory()
    text = detail(viewer_client, limited_to(deleted(), DeviceFactory(name="B", enabled=False)))

    assert "None of the devices that were chosen for it may send" in text
    assert "B is switched off." in text
    assert "let one of them send again" in text


def test_where_all_may_send_it_and_none_does_that_is_said(viewer_client: Client) -> None:
    sequence = limited_to()
    assert "There is no device yet: nobody gets a next step." in detail(viewer_client, sequence)
    DeviceFactory(status="banned")
    assert "No device may send: all of them are off" in detail(viewer_client, sequence)


@pytest.mark.parametrize("where", ["overview", "sequences:list"])
def test_the_list_and_the_overview_say_so_of_those_alone_that_lack_a_device(
    viewer_client: Client, where: str
) -> None:
    gone, other = deleted(), DeviceFactory()
    limited_to(gone, other)
    limited_to()
    limited_to(gone, status="paused")
    assert TAG not in viewer_client.get(reverse(where)).content.decode()

    limited_to(gone)
    assert viewer_client.get(reverse(where)).content.decode().count(TAG) == 1


def test_with_another_device_it_goes_on_with_what_was_due(viewer_client: Client) -> None:
    sequence = limited_to(deleted())
    Sequence.objects.process()
    assert not sequence.messages.exists()

    sequence.devices.add(other := DeviceFactory())
    assert "may send" not in detail(viewer_client, sequence)
    Sequence.objects.process()
    assert sequence.messages.get().device == other


def test_what_lacks_a_device_is_by_the_same_rule_as_what_it_is_given() -> None:
    chosen = {
        "a deleted one": [deleted()],
        "one that is off": [DeviceFactory(enabled=False)],
        "one that may send": [DeviceFactory(), DeviceFactory(enabled=False)],
        "none": [],
    }
    sequences = {name: limited_to(*devices) for name, devices in chosen.items()}
    for is_any_on in (True, False):
        Device.objects.filter(deleted_at=None).update(enabled=is_any_on)
        lacking = set(Sequence.objects.lacking_devices())
        for name, sequence in sequences.items():
            assert (sequence in lacking) is (not sequence.usable_devices()), name
