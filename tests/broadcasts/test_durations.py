from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from broadcasts.templatetags.durations import since, until
from tests.factories import BroadcastMessageFactory, CampaignFactory


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "under a second"),
        (0.9, "under a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (119.9, "119 seconds"),
        (120, "2\xa0minutes"),
        (3 * 3600, "3\xa0hours"),
        (-5, "under a second"),
    ],
)
def test_under_two_minutes_are_said_in_seconds(seconds: float, said: str) -> None:
    now = timezone.now()
    assert since(now, now + timedelta(seconds=seconds)) == said


def test_until_is_from_now_and_nothing_where_nobody_knows_when() -> None:
    assert until(timezone.now() + timedelta(seconds=30.5)) == "30 seconds"
    assert until(None) == since(None) == ""


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["list", "detail"])
def test_a_campaign_of_half_a_minute_did_not_take_0_minutes(
    viewer_client: Client, name: str
) -> None:
    now = timezone.now()
    campaign = CampaignFactory(
        sending=True, status="finished", started_at=now - timedelta(seconds=30), finished_at=now
    )
    BroadcastMessageFactory(campaign=campaign, status="sent", finished_at=now)
    args = [campaign.pk] if name == "detail" else []
    text = viewer_client.get(reverse(f"campaigns:{name}", args=args)).content.decode()
    assert "30 seconds" in text
    assert "0\xa0minutes" not in text
