"""What the pages say of a campaign whose audience is not all listed: never that what is listed so
far is all."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from campaigns.models import Campaign
from tests.factories import BroadcastMessageFactory, CampaignFactory, DeviceFactory

pytestmark = pytest.mark.django_db


def half_listed(**changes: Any) -> Campaign:
    """Of 40 leads 18 were looked through: 3 of them are in the audience."""
    campaign: Campaign = CampaignFactory(
        sending=True, fanned_out_at=None, audience_size=3, paused_at=timezone.now(),
        audience_max_lead_id=40, checkpoint_lead_id=18, **changes,
    )  # fmt: skip
    over = campaign.status == "cancelled"
    BroadcastMessageFactory.create_batch(
        3, campaign=campaign, device=DeviceFactory(online=True),
        status="cancelled" if over else "pending", finished_at=timezone.now() if over else None,
    )  # fmt: skip
    if over:
        Campaign.objects.update(finished_at=timezone.now())
    return campaign


def page(client: Client, name: str, campaign: Campaign, **query: str) -> str:
    response = client.get(reverse(f"campaigns:{name}", args=[campaign.pk]), query)
    return " ".join(response.content.decode().split())


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("queuing", "being written: 3 so far, with about 45% of the leads looked through"),
        ("paused", "its list is not complete: about 45% of the leads are looked through, Resume"),
        ("cancelled", "being listed as cancelled: 3 so far, with about 45% of the leads looked"),
    ],
)
def test_its_page_says_how_far_its_list_is(viewer_client: Client, status: str, said: str) -> None:
    campaign = half_listed(status=status)
    for name in ("detail", "progress"):
        text = page(viewer_client, name, campaign)
        assert "of 3 so far" in text
        assert "3 listed so far" in text
        assert "accounted for" not in text
    assert said in page(viewer_client, "detail", campaign)

    Campaign.objects.update(fanned_out_at=timezone.now(), status="sending")
    text = page(viewer_client, "detail", campaign)
    assert "<small>of 3" in text
    assert "so far" not in text


@pytest.mark.parametrize("status", ["queuing", "paused", "cancelled"])
def test_the_list_of_campaigns_does_not_take_it_for_all(viewer_client: Client, status: str) -> None:
    campaign = half_listed(status=status)
    said = '0 / 3<br><span class="small muted">so far</span>'
    assert said in page(viewer_client, "row", campaign)

    Campaign.objects.update(fanned_out_at=timezone.now())
    assert "so far" not in page(viewer_client, "row", campaign)


def test_the_pages_look_again_until_a_cancelled_campaign_is_listed(viewer_client: Client) -> None:
    campaign = half_listed(status="cancelled")
    for name in ("row", "progress", "activity"):
        url = reverse(f"campaigns:{name}", args=[campaign.pk])
        Campaign.objects.update(fanned_out_at=None)
        before = viewer_client.get(url)
        assert (before.status_code, b"hx-get" in before.content) == (200, True)
        Campaign.objects.update(fanned_out_at=timezone.now())
        assert viewer_client.get(url).status_code == 286


def test_the_pages_look_again_until_all_that_waited_is_cancelled(viewer_client: Client) -> None:
    """Of very many messages the scheduler moves the rest."""
    campaign = half_listed(status="cancelled")
    Campaign.objects.update(fanned_out_at=timezone.now())
    for status, code in (("pending", 200), ("cancelled", 286)):
        campaign.messages.update(status=status)
        for name in ("row", "progress"):
            url = reverse(f"campaigns:{name}", args=[campaign.pk])
            assert viewer_client.get(url).status_code == code


def test_when_a_cancelled_campaign_ended_is_said_before_it_is_listed(viewer_client: Client) -> None:
    text = page(viewer_client, "detail", half_listed(status="cancelled"))
    assert "ended" in text
    assert "expected finish" not in text


@pytest.mark.parametrize("began", [False, True])
def test_of_one_that_was_cancelled_before_anybody_was_listed_it_says_so(
    viewer_client: Client, began: bool
) -> None:
    now = timezone.now()
    campaign = CampaignFactory(
        status="cancelled", scheduled_at=now, started_at=now if began else None, finished_at=now
    )
    assert "nobody had been queued" in page(viewer_client, "detail", campaign)
    assert "nobody had been queued" not in page(
        viewer_client, "detail", half_listed(status="cancelled")
    )


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("pause", "queuing", "The rest of its audience is listed then."),
        ("resume", "paused", "The rest of its audience is listed now."),
        ("cancel", "queuing", "The rest of its audience is listed as cancelled."),
        ("cancel", "paused", "The rest of its audience is listed as cancelled."),
    ],
)
def test_what_becomes_of_the_others_is_said_before(
    operator_client: Client, name: str, status: str, said: str
) -> None:
    campaign = half_listed(status=status)
    assert said in page(operator_client, name, campaign)

    Campaign.objects.update(fanned_out_at=timezone.now())
    assert "rest of its audience" not in page(operator_client, name, campaign)


def test_the_recipients_say_that_they_are_not_all(viewer_client: Client) -> None:
    campaign = half_listed(status="cancelled")
    assert "3 so far." in page(viewer_client, "recipients", campaign)


def test_how_far_a_list_is_costs_no_statement(viewer_client: Client) -> None:
    campaign = half_listed(status="queuing")
    counted = []
    for at in (None, timezone.now()):
        Campaign.objects.update(fanned_out_at=at)
        with CaptureQueriesContext(connection) as statements:
            page(viewer_client, "progress", campaign)
        counted.append(len(statements))
    assert counted[0] == counted[1]
