"""Campaigns of which a device was deleted: what the operator is told, and the way out."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from campaigns.models import Campaign
from devices.models import Device
from tests.factories import BroadcastMessageFactory, CampaignFactory, DeviceFactory

pytestmark = pytest.mark.django_db


def deleted(name: str = "Temp (deleted 2026-11-27)", **attributes: object) -> Device:
    return DeviceFactory(name=name, deleted_at=timezone.now(), enabled=False, **attributes)


def limited_to(*devices: Device, **attributes: object) -> Campaign:
    campaign = CampaignFactory(sending=True, from_all_devices=False, **attributes)
    campaign.devices.set(devices)
    return campaign


def page(client: Client, name: str, campaign: Campaign) -> str:
    return client.get(reverse(f"campaigns:{name}", args=[campaign.pk])).content.decode()


@pytest.mark.parametrize(("status", "name"), [("expired", "reschedule"), ("failed", "retry")])
def test_the_question_says_from_where_those_leave_whose_device_was_deleted(
    operator_client: Client, status: str, name: str
) -> None:
    gone, other = deleted(), DeviceFactory()
    of_one = limited_to(gone)
    BroadcastMessageFactory(campaign=of_one, device=gone, status=status)
    of_both = limited_to(gone, other)
    BroadcastMessageFactory(campaign=of_both, device=gone, status=status)
    of_other = limited_to(gone, other)
    BroadcastMessageFactory(campaign=of_other, device=other, status=status)

    assert "they leave from any that may send" in page(operator_client, name, of_one)
    assert "Those whose device was deleted leave from another." in page(
        operator_client, name, of_both
    )
    assert "was deleted" not in page(operator_client, name, of_other)
