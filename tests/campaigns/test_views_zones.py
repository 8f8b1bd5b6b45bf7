"""Whose clock a page shows: lists the reader's, a campaign's own pages its own, and say so."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from campaigns.models import Campaign
from tests.factories import CampaignFactory

pytestmark = pytest.mark.django_db

AT = datetime(2030, 11, 28, 8, 0, tzinfo=UTC)
SAID = "Times on this page are those of Europe/Berlin"


@pytest.fixture(autouse=True)
def _reads_in_kuala_lumpur(settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Kuala_Lumpur"


def of_zone(zone: str) -> Campaign:
    campaign: Campaign = CampaignFactory(status="scheduled", scheduled_at=AT, timezone=zone)
    return campaign


def test_the_list_shows_all_times_by_the_readers_clock(viewer_client: Client) -> None:
    of_zone("Europe/Berlin")
    page = viewer_client.get(reverse("campaigns:list")).content.decode()
    assert "28 Nov, 16:00" in page
    assert "28 Nov, 09:00" not in page


@pytest.mark.parametrize("name", ["detail", "recipients"])
def test_a_campaigns_own_pages_name_their_zone_where_it_is_not_the_readers(
    viewer_client: Client, name: str
) -> None:
    berlin = reverse(f"campaigns:{name}", args=[of_zone("Europe/Berlin").pk])
    ours = reverse(f"campaigns:{name}", args=[of_zone("Asia/Kuala_Lumpur").pk])
    assert SAID in viewer_client.get(berlin).content.decode()
    assert "Times on this page" not in viewer_client.get(ours).content.decode()
