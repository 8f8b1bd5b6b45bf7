"""A campaign ends with its last message, whenever the scheduler writes that down."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from campaigns.models import Campaign
from campaigns.progress import progress_of
from config.overview import running_now
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
        text = page(operator_client, name, campaign, was="sending")
        assert "nothing of it is left to send." in text
        assert "all are dealt with" in text
        assert "not known yet" not in text
        for action in ("pause", "cancel"):
            assert reverse(f"campaigns:{action}", args=[campaign.pk]) not in text
    assert page(operator_client, "progress", campaign, was="finished").count("<dialog") == 0


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


def test_the_list_and_the_overview_go_by_the_messages_too(viewer_client: Client) -> None:
    done, under_way = sending("sent"), sending("sent", "pending")
    assert "finished" in page(viewer_client, "row", done)
    assert "sending" in page(viewer_client, "row", under_way)
    assert [progress.campaign for progress in running_now()] == [under_way]
