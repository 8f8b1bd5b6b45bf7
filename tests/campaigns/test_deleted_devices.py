"""Campaigns of which a device was deleted: what the operator is told, and the way out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from campaigns.fanout import fan_out
from campaigns.models import Campaign
from devices.models import Device
from tests.factories import (
    BroadcastMessageFactory,
    CampaignFactory,
    DeviceFactory,
    LeadFactory,
)

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


# Before anything of it is written


def begun(*devices: Device) -> Campaign:
    """A campaign for two leads that is limited to these, and that the scheduler has begun."""
    LeadFactory.create_batch(2)
    campaign: Campaign = CampaignFactory()
    campaign.devices.set(devices)
    assert campaign.schedule()
    Campaign.objects.process()
    campaign.refresh_from_db()
    assert campaign.status == "queuing"
    return campaign


def test_its_page_says_why_nothing_of_it_is_written_and_what_helps(
    operator_client: Client,
) -> None:
    DeviceFactory()
    text = page(operator_client, "detail", begun(deleted()))

    assert "Every device that was chosen for it was deleted." in text
    assert "waits for a device that may send: 0 of its messages are written." in text
    assert "“Back to draft” lets you choose another" in text
    assert "being written: 0 so far" not in text


def test_a_device_that_is_only_switched_off_is_named(operator_client: Client) -> None:
    off = DeviceFactory(name="Sales 1", enabled=False)
    text = page(operator_client, "detail", begun(off))

    assert "None of the devices that were chosen for it may send." in text
    assert "Sales 1 is switched off." in text
    assert "it goes on by itself" in text


def test_it_is_said_before_it_begins(operator_client: Client) -> None:
    gone, other = deleted(), DeviceFactory()
    soon = timezone.now() + timedelta(hours=1)
    lost, fine = CampaignFactory(), CampaignFactory()
    lost.devices.add(gone)
    fine.devices.add(gone, other)
    for campaign in (lost, fine):
        campaign.schedule(soon)

    assert "Its messages will not be written" in page(operator_client, "detail", lost)
    assert "not be written" not in page(operator_client, "detail", fine)
    overview = operator_client.get(reverse("overview")).content.decode()
    assert overview.count("no device may send") == 1


@pytest.mark.parametrize("where", ["overview", "campaigns:list"])
def test_the_list_and_the_overview_say_that_no_device_of_it_may_send(
    operator_client: Client, where: str
) -> None:
    campaign = begun(deleted())
    assert "no device may send" in operator_client.get(reverse(where)).content.decode()

    campaign.devices.add(DeviceFactory())
    assert "no device may" not in operator_client.get(reverse(where)).content.decode()


def test_back_to_draft_it_is_sent_from_the_device_that_is_chosen_then(
    operator_client: Client,
) -> None:
    campaign = begun(deleted())

    operator_client.post(reverse("campaigns:unschedule", args=[campaign.pk]))
    campaign.refresh_from_db()
    assert (campaign.status, campaign.started_at) == ("draft", None)

    other = DeviceFactory()
    campaign.devices.set([other])
    late = LeadFactory()
    assert campaign.schedule()
    Campaign.objects.process()
    campaign.refresh_from_db()
    assert (campaign.status, campaign.audience_size) == ("sending", 3)
    assert set(campaign.messages.values_list("device", flat=True)) == {other.pk}
    assert campaign.messages.filter(lead=late).exists()


def test_once_something_of_it_is_written_it_does_not_become_a_draft_again(
    operator_client: Client,
) -> None:
    device = DeviceFactory()
    campaign = begun_and_read(device)
    assert fan_out(campaign)
    Campaign.objects.update(status="queuing", fanned_out_at=None)  # as if it had not come further

    assert "Back to draft" not in page(operator_client, "detail", campaign)
    assert not campaign.unschedule()
    assert campaign.status == "queuing"


def begun_and_read(device: Device) -> Campaign:
    """As a scheduler has read it that is about to write its messages."""
    campaign = begun(deleted())
    campaign.devices.set([device])
    return Campaign.objects.get(pk=campaign.pk)


@pytest.mark.parametrize("is_sent_again", [False, True])
def test_a_pass_that_read_it_before_it_became_a_draft_writes_nothing(is_sent_again: bool) -> None:
    """Also where it was changed and begun anew meanwhile: the pass has the former text."""
    slow = begun_and_read(DeviceFactory())
    campaign = Campaign.objects.get(pk=slow.pk)
    assert campaign.unschedule()
    Campaign.objects.update(message="Corrected.")
    if is_sent_again:
        campaign.refresh_from_db()
        assert campaign.schedule()
        assert campaign.start()

    assert not fan_out(slow)

    campaign.refresh_from_db()
    assert campaign.messages.count() == 0
    assert campaign.status == ("queuing" if is_sent_again else "draft")
    assert campaign.audience_max_lead_id is None, "who comes in until then would be missed"


@pytest.mark.parametrize("is_sent_again", [False, True])
def test_a_chunk_that_was_read_before_it_became_a_draft_is_not_written(is_sent_again: bool) -> None:
    slow = begun_and_read(DeviceFactory())
    campaign = Campaign.objects.get(pk=slow.pk)

    def take_back(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        if campaign.status == "queuing" and "CREATE TEMPORARY" in sql:  # its leads were just read
            assert campaign.unschedule()
            if is_sent_again:
                assert campaign.schedule()
                assert campaign.start()
                campaign.status = "begun anew"  # so that this is done once
        return execute(sql, *arguments)

    with connection.execute_wrapper(take_back):
        assert not fan_out(slow)

    assert campaign.messages.count() == 0
    campaign.refresh_from_db()
    assert campaign.status == ("queuing" if is_sent_again else "draft")


def test_paused_and_resumed_while_a_pass_begins_it_is_still_written() -> None:
    """The pass froze nobody: it would find that all of nobody have their message."""
    slow = begun_and_read(DeviceFactory())
    campaign = Campaign.objects.get(pk=slow.pk)
    done: list[bool] = []

    def cross(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        if "MAX(" in sql and not done:
            done.append(campaign.pause())
        result = execute(sql, *arguments)
        if sql.startswith("UPDATE") and "audience_max_lead_id" in sql:
            done.append(campaign.resume())
        return result

    with connection.execute_wrapper(cross):
        assert not fan_out(slow)
    assert done == [True, True]

    Campaign.objects.process()
    campaign.refresh_from_db()
    assert (campaign.status, campaign.messages.count()) == ("sending", 2)


# While it is being sent


def test_of_what_waits_on_a_deleted_device_its_page_says_what_becomes_of_it(
    operator_client: Client,
) -> None:
    gone = deleted()
    campaign = limited_to(gone, expected_finish_at=timezone.now() + timedelta(minutes=5))
    message = BroadcastMessageFactory(campaign=campaign, device=gone)

    text = page(operator_client, "detail", campaign)

    assert f"{gone} never sends again." in text
    assert "Within a minute its 1 message is listed as expired" in text
    for untrue in ("until it is back", "switched off", " left"):
        assert untrue not in text
    of_message = operator_client.get(reverse("messages:detail", args=[message.pk]))
    assert "Within a minute it is listed as expired" in of_message.content.decode()
    assert "first in the line" not in of_message.content.decode()


def test_while_a_device_is_away_that_nobody_can_tell_of_no_end_is_told(
    operator_client: Client,
) -> None:
    finish = {"expected_finish_at": timezone.now() + timedelta(minutes=5)}
    device = DeviceFactory(online=True)
    campaign = limited_to(device, **finish)
    BroadcastMessageFactory(campaign=campaign, device=device)
    assert " left" in page(operator_client, "detail", campaign)

    Device.objects.update(enabled=False)
    assert " left" not in page(operator_client, "detail", campaign)


@pytest.mark.parametrize("status", ["failed", "expired", "unknown"])
def test_what_needs_somebody_is_listed_by_its_own_state(
    operator_client: Client, status: str
) -> None:
    campaign = limited_to()
    BroadcastMessageFactory(campaign=campaign, status=status)

    text = page(operator_client, "detail", campaign)

    assert f"all {status}" in text
    for other in {"failed", "expired", "unknown"} - {status}:
        assert f"all {other}" not in text


@pytest.mark.parametrize(
    ("name", "question"),
    [("retry", "Retry what failed of “Offer”?"), ("reschedule", "Send what expired of “Offer”?")],
)
def test_the_question_is_a_sentence(operator_client: Client, name: str, question: str) -> None:
    campaign = limited_to(title="Offer")
    BroadcastMessageFactory(campaign=campaign, status="failed")
    BroadcastMessageFactory(campaign=campaign, status="expired")

    assert question in page(operator_client, name, campaign)


def test_where_there_is_no_device_at_all_the_campaign_does_not_speak_of_all_of_them(
    viewer_client: Client,
) -> None:
    campaign = CampaignFactory(status="scheduled", scheduled_at=timezone.now())
    assert "There is no device yet." in page(viewer_client, "detail", campaign)
    DeviceFactory(enabled=False)
    assert "No device may send: all of them are off" in page(viewer_client, "detail", campaign)
