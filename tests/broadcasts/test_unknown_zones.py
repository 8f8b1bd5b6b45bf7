"""A device in a time zone that this host does not know: its tzdata is older than who chose it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import DatabaseError
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from broadcasts.allocation import Allocation
from broadcasts.models import BroadcastMessage, Worker
from broadcasts.restarts import Restarts
from campaigns.models import Campaign
from devices.models import Device
from tests.factories import BroadcastMessageFactory, CampaignFactory, DeviceFactory, LeadFactory

pytestmark = pytest.mark.django_db

SAYS = "Sales 01 is in the time zone Mars/Olympus_Mons, which this host does not know."


@pytest.fixture
def message() -> BroadcastMessage:
    device = DeviceFactory(name="Sales 01", online=True, timezone="Mars/Olympus_Mons")
    return BroadcastMessageFactory(device=device)


@pytest.mark.parametrize("name", ["messages:list", "messages:detail", "campaigns:recipients"])
def test_pages_say_why_nobody_knows_when_its_messages_leave(
    viewer_client: Client, message: BroadcastMessage, name: str
) -> None:
    args = {"messages:detail": [message.pk], "campaigns:recipients": [message.campaign.pk]}

    page = viewer_client.get(reverse(name, args=args.get(name))).content.decode()

    assert f"{SAYS}<" in page.replace("\n", "").replace(" <", "<")


@pytest.mark.parametrize("name", ["devices:list", "devices:detail"])
def test_the_pages_of_the_device_say_so_too(
    viewer_client: Client, message: BroadcastMessage, name: str
) -> None:
    args = [message.device.pk] if name == "devices:detail" else []

    page = viewer_client.get(reverse(name, args=args)).content.decode()

    assert f"{SAYS}</p>" in page


def test_the_scheduler_says_of_the_others_when_they_finish(message: BroadcastMessage) -> None:
    other = BroadcastMessageFactory().campaign
    Worker.objects.register("worker")

    assert Campaign.objects.process()["foreseen"] == 1

    message.campaign.refresh_from_db()
    other.refresh_from_db()
    assert message.campaign.expected_finish_at is None
    assert other.expected_finish_at


def test_new_messages_go_to_devices_that_can_be_reckoned_with(message: BroadcastMessage) -> None:
    known, lead = DeviceFactory(), LeadFactory(device=message.device)
    campaign = CampaignFactory(status="scheduled", scheduled_at=timezone.now())

    Campaign.objects.process()

    assert campaign.messages.get(lead=lead).device == known
    lane = BroadcastMessage.Priority.CAMPAIGN
    assert not Allocation([message.device], starts_at=timezone.now(), priority=lane)


def test_a_message_of_it_that_starts_over_gets_the_usual_time(message: BroadcastMessage) -> None:
    rows = BroadcastMessage.objects.filter(pk=message.pk)
    rows.update(expires_at=timezone.now() - timedelta(days=1))

    rows.update(**Restarts().of(rows))

    message.refresh_from_db()
    assert message.expires_at > timezone.now()


def test_a_finish_that_cannot_be_worked_out_holds_nothing_up(
    message: BroadcastMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise DatabaseError

    monkeypatch.setattr("campaigns.queryset.outlooks", fails)
    campaign = CampaignFactory(status="scheduled", scheduled_at=timezone.now())
    LeadFactory()
    Device.objects.update(timezone="UTC")

    assert Campaign.objects.process()["started"] == 1
    assert campaign.messages.exists()
