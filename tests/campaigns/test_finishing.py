"""A campaign ends with its last message, whenever the scheduler writes that down."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from broadcasts.models import BroadcastMessage
from campaigns.models import Campaign
from campaigns.progress import progress_of
from config.overview import SHOWN, running_now
from tests.factories import BroadcastMessageFactory, CampaignFactory

pytestmark = pytest.mark.django_db

HTMX = {"HX-Request": "true"}


def sending(*statuses: str) -> Campaign:
    campaign = CampaignFactory(sending=True, audience_size=len(statuses))
    for status in statuses:
        BroadcastMessageFactory(campaign=campaign, status=status)
    return campaign


def page(client: Client, name: str, campaign: Campaign, **query: str) -> str:
    answer = client.get(reverse(f"campaigns:{name}", args=[campaign.pk]), query, headers=HTMX)
    return answer.content.decode()


@pytest.mark.parametrize("ended", ["sent", "failed", "unknown", "expired", "skipped", "cancelled"])
def test_a_campaign_is_finished_with_its_last_message(ended: str) -> None:
    (progress,) = progress_of([sending("sent", ended)])
    assert progress.status == "finished"
    assert not progress.is_running


@pytest.mark.parametrize("open_", ["pending", "processing", "queued", "paused"])
def test_it_is_sending_as_long_as_a_message_is_open(open_: str) -> None:
    (progress,) = progress_of([sending("sent", open_)])
    assert (progress.status, progress.is_running) == ("sending", True)


@pytest.mark.parametrize("status", ["draft", "scheduled", "queuing", "paused", "cancelled"])
def test_only_a_campaign_that_sends_can_be_done_before_it_is_written_down(status: str) -> None:
    (progress,) = progress_of([CampaignFactory(status=status)])
    assert progress.status == status


def test_its_page_says_finished_at_once_and_no_longer_offers_to_stop_it(
    operator_client: Client,
) -> None:
    campaign = sending("sent", "sent")
    for name in ("detail", "progress"):
        text = page(operator_client, name, campaign, was="sending/sending")
        assert "nothing of it is left to send." in text
        assert "all are dealt with" in text
        assert "not known yet" not in text
        for action in ("pause", "cancel"):
            assert reverse(f"campaigns:{action}", args=[campaign.pk]) not in text


def test_until_that_is_written_down_it_ended_when_its_last_message_did(
    viewer_client: Client,
) -> None:
    campaign = CampaignFactory(sending=True, timezone="UTC")
    for status, minute in (("sent", 7), ("failed", 12), ("skipped", 1)):
        at = datetime(2026, 11, 2, 9, minute, tzinfo=UTC)
        BroadcastMessageFactory(campaign=campaign, status=status, finished_at=at)
    assert "<b>09:12</b><span>ended" in page(viewer_client, "progress", campaign)


def test_what_can_be_done_is_shown_anew_when_the_last_message_ended_and_then_left_alone(
    operator_client: Client,
) -> None:
    campaign = sending("sent", "sent")
    actions = 'id="campaign-actions" hx-swap-oob="true"'
    assert actions in page(operator_client, "progress", campaign, was="sending/sending")
    assert actions not in page(operator_client, "progress", campaign, was="finished/sending")


def test_its_page_asks_on_until_the_end_is_written_down(viewer_client: Client) -> None:
    campaign = sending("sent")
    url = reverse("campaigns:progress", args=[campaign.pk])
    assert viewer_client.get(url).status_code == 200

    assert Campaign.objects.finish() == 1

    answer = viewer_client.get(url, headers=HTMX)
    assert answer.status_code == 286
    assert "all are dealt with" not in answer.content.decode()


def test_looking_at_it_writes_nothing(viewer_client: Client) -> None:
    campaign = sending("sent")
    for name in ("detail", "progress", "activity", "row"):
        page(viewer_client, name, campaign)
    campaign.refresh_from_db()
    assert (campaign.status, campaign.finished_at) == ("sending", None)


def test_who_presses_pause_or_cancel_a_moment_too_late_changes_nothing(
    operator_client: Client,
) -> None:
    campaign = sending("sent")
    for action in ("pause", "cancel"):
        operator_client.post(reverse(f"campaigns:{action}", args=[campaign.pk]))
        campaign.refresh_from_db()
        assert campaign.status == "sending"


def test_a_finished_campaign_of_which_something_is_tried_again_is_sending(
    viewer_client: Client,
) -> None:
    campaign = sending("sent", "pending")
    Campaign.objects.update(status="finished", finished_at=timezone.now())
    text = page(viewer_client, "progress", campaign)
    assert "messages of it are on their way again." in text
    assert "hx-get" in text


def finished(*statuses: str) -> Campaign:
    campaign = sending(*statuses)
    Campaign.objects.filter(pk=campaign.pk).update(status="finished", finished_at=timezone.now())
    campaign.refresh_from_db()
    return campaign


def polled(text: str) -> str:
    """Returns what the page tells when it asks again: the states that it shows."""
    return re.findall(r"\?was=([^&]*)&amp;step", text)[0]


@pytest.mark.parametrize(
    ("ended", "verb"), [("failed", "retry"), ("expired", "reschedule"), ("unknown", "send_again")]
)
def test_what_is_tried_again_of_a_finished_campaign_can_be_stopped_at_once(
    operator_client: Client, ended: str, verb: str
) -> None:
    campaign = finished("sent", ended)

    if verb == "send_again":
        message = campaign.messages.get(status=ended)
        operator_client.post(reverse("messages:send_again", args=[message.pk]))
    else:
        operator_client.post(reverse(f"campaigns:{verb}", args=[campaign.pk]))

    text = page(operator_client, "detail", campaign)
    assert polled(text) == "sending/sending"
    for action in ("pause", "cancel"):
        assert reverse(f"campaigns:{action}", args=[campaign.pk]) in text


@pytest.mark.parametrize(("action", "status"), [("pause", "paused"), ("cancel", "cancelled")])
def test_what_goes_on_before_it_is_written_down_can_be_stopped(
    operator_client: Client, action: str, status: str
) -> None:
    campaign = finished("sent", "pending")
    address = reverse(f"campaigns:{action}", args=[campaign.pk])
    assert address in page(operator_client, "detail", campaign)
    assert address in page(operator_client, "progress", campaign, was="finished/finished")

    operator_client.post(address)

    campaign.refresh_from_db()
    assert campaign.status == status
    assert campaign.messages.counts()[status] == 1


def test_buttons_are_shown_anew_when_the_scheduler_has_written_the_state_down(
    operator_client: Client,
) -> None:
    campaign = finished("sent", "pending")
    was = polled(page(operator_client, "detail", campaign))
    assert "<dialog" not in page(operator_client, "progress", campaign, was=was)

    assert Campaign.objects.reopen() == 1

    assert "<dialog" in page(operator_client, "progress", campaign, was=was)


@pytest.mark.parametrize("stored", Campaign.Status.values)
@pytest.mark.parametrize("message", BroadcastMessage.Status.values)
def test_the_database_says_as_python_does_where_a_campaign_stands(
    stored: str, message: str
) -> None:
    campaign = CampaignFactory(status=stored)
    BroadcastMessageFactory(campaign=campaign, status=message)
    [progress] = progress_of([campaign])

    found = [s for s in Campaign.Status.values if Campaign.objects.standing(s).exists()]

    assert found == [progress.status]


def test_the_list_is_narrowed_to_the_state_that_it_shows(viewer_client: Client) -> None:
    done, again = sending("sent"), finished("sent", "pending")
    for status, campaign in (("finished", done), ("sending", again)):
        answer = viewer_client.get(reverse("campaigns:list"), {"status": status})
        assert [row.campaign for row in answer.context["rows"]] == [campaign]


def test_campaigns_that_are_just_done_hide_none_that_is_sending() -> None:
    under_way = sending("sent", "pending")
    for _ in range(SHOWN):
        sending("sent")
    assert [progress.campaign for progress in running_now()] == [under_way]


def test_the_list_and_the_overview_go_by_the_messages_too(viewer_client: Client) -> None:
    done, under_way = sending("sent"), sending("sent", "pending")
    assert "finished" in page(viewer_client, "row", done)
    assert "sending" in page(viewer_client, "row", under_way)
    assert [progress.campaign for progress in running_now()] == [under_way]
