from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from campaigns.models import Campaign
from tests.factories import BroadcastMessageFactory, CampaignFactory, LeadFactory

pytestmark = pytest.mark.django_db


def url(name: str, campaign: Campaign) -> str:
    return reverse(f"campaigns:{name}", args=[campaign.pk])


def status_of(campaign: Campaign) -> str:
    return str(Campaign.objects.values_list("status", flat=True).get(pk=campaign.pk))


def test_asking_changes_nothing_and_states_the_effect(operator_client: Client) -> None:
    campaign = CampaignFactory(sending=True)
    BroadcastMessageFactory.create_batch(2, campaign=campaign)
    BroadcastMessageFactory.create_batch(3, campaign=campaign, status="queued")
    text = operator_client.get(url("cancel", campaign)).content.decode()
    assert "2 waiting messages are not sent" in text
    assert "3 being sent now will finish" in text
    assert status_of(campaign) == "sending"


def test_pausing_stops_it_and_resuming_goes_on(operator_client: Client) -> None:
    campaign = CampaignFactory(sending=True)
    message = BroadcastMessageFactory(campaign=campaign)
    operator_client.post(url("pause", campaign))
    message.refresh_from_db()
    assert (status_of(campaign), message.status) == ("paused", "paused")
    operator_client.post(url("resume", campaign))
    message.refresh_from_db()
    assert (status_of(campaign), message.status) == ("sending", "pending")


def test_cancelling_ends_what_has_not_begun_and_leaves_what_is_in_hand(
    operator_client: Client,
) -> None:
    campaign = CampaignFactory(sending=True)
    waiting = BroadcastMessageFactory(campaign=campaign)
    in_hand = BroadcastMessageFactory(campaign=campaign, status="queued")
    response = operator_client.post(url("cancel", campaign))
    assert response["Location"] == url("detail", campaign)
    waiting.refresh_from_db()
    in_hand.refresh_from_db()
    assert (waiting.status, in_hand.status) == ("cancelled", "queued")


def test_a_scheduled_campaign_can_be_taken_back_and_keeps_its_start(
    operator_client: Client,
) -> None:
    at = timezone.now() + timedelta(hours=1)
    campaign = CampaignFactory(status="scheduled", scheduled_at=at)
    operator_client.post(url("unschedule", campaign))
    assert status_of(campaign) == "draft"
    form = operator_client.get(url("edit", campaign))
    text = form.content.decode()
    assert at.astimezone(campaign.zone).strftime("%Y-%m-%dT%H:%M") in text
    assert form.context["form"]["when"].value() == "later"
    assert "The time it was to start at is past." not in text


def test_a_start_that_is_past_when_it_is_taken_back_is_said_to_be(operator_client: Client) -> None:
    at = timezone.now() - timedelta(hours=1)
    campaign = CampaignFactory(status="scheduled", scheduled_at=at)
    operator_client.post(url("unschedule", campaign))
    for page in ("edit", "review"):
        text = operator_client.get(url(page, campaign)).content.decode()
        assert "The time it was to start at is past." in text


@pytest.mark.parametrize("name", ["pause", "cancel", "resume", "unschedule"])
def test_the_second_click_is_told_that_there_was_nothing_to_do(
    operator_client: Client, name: str
) -> None:
    campaign = CampaignFactory(status="finished", finished_at=timezone.now())
    response = operator_client.post(url(name, campaign), follow=True)
    assert "Nothing to do" in response.content.decode()
    assert status_of(campaign) == "finished"
    assert not LogEntry.objects.exists()


def test_failed_messages_go_back_in_line(operator_client: Client) -> None:
    campaign = CampaignFactory(sending=True)
    failed = BroadcastMessageFactory(campaign=campaign, status="failed", error_message="x")
    of_another = BroadcastMessageFactory(status="failed")
    operator_client.post(url("retry", campaign))
    failed.refresh_from_db()
    of_another.refresh_from_db()
    assert (failed.status, failed.error_message) == ("pending", "")
    assert of_another.status == "failed"


@pytest.mark.parametrize(("name", "status"), [("retry", "failed"), ("reschedule", "expired")])
def test_who_will_not_get_it_any_more_is_said_before(
    operator_client: Client, name: str, status: str
) -> None:
    campaign = CampaignFactory(sending=True)
    for lead in (*LeadFactory.create_batch(3), *LeadFactory.create_batch(2, opted_out=True)):
        BroadcastMessageFactory(campaign=campaign, status=status, lead=lead)
    LeadFactory(opted_out=True)
    gone = BroadcastMessageFactory(campaign=campaign, status=status)
    gone.lead.delete()
    text = operator_client.get(url(name, campaign)).content.decode()
    assert re.search(r"\b3 (failed|expired) messages", text)
    assert "Left out by now, of all 6: opted out 2, lead was deleted 1." in text


def test_where_nobody_is_left_out_nothing_is_said_of_it(operator_client: Client) -> None:
    campaign = CampaignFactory(sending=True)
    BroadcastMessageFactory.create_batch(2, campaign=campaign, status="failed")
    text = operator_client.get(url("retry", campaign)).content.decode()
    assert "2 failed messages" in text
    assert "Left out" not in text


def test_nothing_of_a_cancelled_campaign_is_tried_again(operator_client: Client) -> None:
    campaign = CampaignFactory(status="cancelled", finished_at=timezone.now())
    failed = BroadcastMessageFactory(campaign=campaign, status="failed")
    operator_client.post(url("retry", campaign))
    failed.refresh_from_db()
    assert failed.status == "failed"


def test_expired_messages_are_sent_on_request(operator_client: Client) -> None:
    campaign = CampaignFactory(sending=True)
    expired = BroadcastMessageFactory(campaign=campaign, status="expired")
    operator_client.post(url("reschedule", campaign))
    expired.refresh_from_db()
    assert expired.status == "pending"


def test_who_did_it_is_written_down(operator_client: Client) -> None:
    campaign = CampaignFactory(sending=True)
    BroadcastMessageFactory(campaign=campaign)
    operator_client.post(url("pause", campaign))
    entry = LogEntry.objects.get()
    assert (entry.user.username, entry.object_id) == ("operator", str(campaign.pk))
    assert entry.get_change_message() == "Pause."


def test_the_history_names_an_action_as_its_button_does(operator_client: Client) -> None:
    campaign = CampaignFactory(sending=True)
    BroadcastMessageFactory(campaign=campaign, status="failed")
    operator_client.post(url("retry", campaign))
    assert LogEntry.objects.get().get_change_message() == "Retry failed."
