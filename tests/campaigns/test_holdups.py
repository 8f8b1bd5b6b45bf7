"""What the pages of campaigns say when caps or sending hours hold their devices."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from broadcasts.models import BroadcastMessage, Worker
from broadcasts.pacing import Holdup
from campaigns import views
from campaigns.models import Campaign
from campaigns.progress import progress_by_device, progress_of
from devices.models import Device
from tests.factories import BroadcastMessageFactory, CampaignFactory, DeviceFactory

pytestmark = pytest.mark.django_db

FIRST = BroadcastMessage.Priority.CAMPAIGN_FIRST
CAP = "1 of 2 devices waits: daily cap reached, goes on tomorrow at 00:00."


@pytest.fixture
def campaign() -> Campaign:
    """Three messages wait on a device that may send, and on one that has sent its 60 of today."""
    campaign: Campaign = CampaignFactory(sending=True)
    BroadcastMessageFactory(campaign=campaign)
    BroadcastMessageFactory.create_batch(2, campaign=campaign, device=capped(daily_limit=60))
    return campaign


def capped(**values: Any) -> Device:
    """An online device that has sent 60 messages today, 20 of them to new people."""
    counts = {"usage_day": timezone.localdate(), "usage_day_count": 60, "usage_first_count": 20}
    device: Device = DeviceFactory(online=True, **{**counts, **values})
    return device


def page(client: Client, name: str, *args: int, **asked: Any) -> str:
    return client.get(reverse(name, args=args), **asked).content.decode()


def holdups(campaign: Campaign) -> list[Holdup | None]:
    """As its page sees it, and, after the scheduler's pass, as the lists do."""
    Campaign.objects.process()
    campaign.refresh_from_db()
    [of_list] = progress_of([campaign])
    return [progress_by_device(campaign).holdup, of_list.holdup]


def test_its_page_says_at_once_how_many_devices_a_cap_holds(
    viewer_client: Client, campaign: Campaign
) -> None:
    text = page(viewer_client, "campaigns:detail", campaign.pk)

    assert CAP in text
    assert "daily cap reached, goes on tomorrow at 00:00<" in text, "and at which it is"
    htmx = page(viewer_client, "campaigns:progress", campaign.pk, headers={"HX-Request": "true"})
    assert CAP in htmx


@pytest.mark.parametrize("name", ["campaigns:list", "campaigns:row", "overview"])
def test_lists_say_it_as_the_scheduler_saw_it(
    viewer_client: Client, campaign: Campaign, name: str
) -> None:
    Campaign.objects.process()
    args = [campaign.pk] if name == "campaigns:row" else []

    assert CAP in page(viewer_client, name, *args)


@pytest.mark.parametrize(
    ("rules", "brake"),
    [
        ({"daily_limit": 60}, "messages a day"),
        ({"first_contact_limit": 20}, ""),
        ({"warmup_started_on": timezone.localdate(), "daily_limit": 1000}, "warm-up"),
        ({"daily_limit": 60, "lease_expires_at": None}, ""),
        ({"daily_limit": 60, "enabled": False}, ""),
        ({"daily_limit": 61}, ""),
    ],
    ids=str,
)
def test_page_and_scheduler_agree_on_what_is_held(rules: dict[str, Any], brake: str) -> None:
    campaign = CampaignFactory(sending=True)
    BroadcastMessageFactory(campaign=campaign, device=capped(**rules))
    BroadcastMessageFactory(campaign=campaign)

    live, stored = holdups(campaign)

    assert live == stored
    assert (live.brake if live else "") == brake


def test_new_people_hold_a_device_on_which_nobody_else_waits() -> None:
    campaign, device = CampaignFactory(sending=True), capped(first_contact_limit=20)
    BroadcastMessageFactory(campaign=campaign, device=device, priority=FIRST)

    live, stored = holdups(campaign)
    assert live == stored
    assert live
    assert (live.devices, live.held, live.brake) == (1, 1, "new people a day")
    BroadcastMessageFactory(campaign=campaign, device=device)
    assert holdups(campaign) == [None, None], "there is somebody whom it knows"


def test_of_several_things_none_is_named_and_the_first_to_go_on_is_said(
    viewer_client: Client, campaign: Campaign
) -> None:
    now = timezone.localtime()
    opens, closes = now + timedelta(minutes=30), now + timedelta(minutes=90)
    closed = DeviceFactory(online=True, sends_from=opens.time(), sends_until=closes.time())
    BroadcastMessageFactory(campaign=campaign, device=closed)

    text = page(viewer_client, "campaigns:detail", campaign.pk)

    assert re.search(
        r"2 of 3 devices wait: caps or sending hours, the first goes on (at|tomorrow at) ", text
    )
    assert "outside of sending hours, goes on" in text


def test_with_one_device_it_is_said_of_that(viewer_client: Client) -> None:
    campaign = CampaignFactory(sending=True)
    BroadcastMessageFactory(campaign=campaign, device=capped(daily_limit=60))
    said = "Its device waits: daily cap reached, goes on tomorrow at 00:00."
    assert said in page(viewer_client, "campaigns:detail", campaign.pk)


def test_a_device_that_has_nothing_left_to_send_is_not_waited_for() -> None:
    campaign = CampaignFactory(sending=True)
    BroadcastMessageFactory(campaign=campaign, device=capped(daily_limit=60), status="sent")
    BroadcastMessageFactory(campaign=campaign)
    assert holdups(campaign) == [None, None]


def test_what_is_being_sent_or_has_no_device_does_not_count_as_waiting(campaign: Campaign) -> None:
    BroadcastMessageFactory(campaign=campaign, device=None)
    busy = capped(daily_limit=60)
    BroadcastMessageFactory(
        campaign=campaign, device=busy, status="queued", lease_epoch=1,
        processing_started_at=timezone.now(),
    )  # fmt: skip

    live, stored = holdups(campaign)

    assert live == stored
    assert live
    assert (live.devices, live.held) == (2, 1)


def test_a_paused_campaign_waits_for_nothing_but_its_operator(
    viewer_client: Client, campaign: Campaign
) -> None:
    Campaign.objects.process()
    campaign.pause()
    assert CAP not in page(viewer_client, "campaigns:list")
    assert CAP not in page(viewer_client, "campaigns:detail", campaign.pk)
    campaign.resume()
    assert CAP not in page(viewer_client, "campaigns:list"), "not before somebody has looked"


def test_what_is_over_is_not_said_any_more(viewer_client: Client, campaign: Campaign) -> None:
    Campaign.objects.process()
    Campaign.objects.update(goes_on_at=timezone.now() - timedelta(seconds=1))
    assert "devices wait" not in page(viewer_client, "campaigns:list")


def test_what_has_not_changed_is_not_written_again(campaign: Campaign) -> None:
    Device.objects.filter(daily_limit=None).update(next_send_at=timezone.now() + timedelta(hours=1))
    Worker.objects.register("worker")
    Campaign.objects.foresee()

    def updates() -> int:
        with CaptureQueriesContext(connection) as asked:
            assert Campaign.objects.foresee() == 1
        return sum(query["sql"].startswith("UPDATE") for query in asked)

    assert updates() == 0
    Device.objects.filter(daily_limit=60).update(daily_limit=None)
    assert updates() == 1
    campaign.refresh_from_db()
    assert (campaign.waiting_devices, campaign.held_devices, campaign.goes_on_at) == (2, 0, None)


# One moment


def test_the_head_and_its_devices_come_of_one_statement(
    viewer_client: Client, campaign: Campaign
) -> None:
    campaign.messages.filter(device__daily_limit=60).update(status="sent", sent_at=timezone.now())
    url = reverse("campaigns:progress", args=[campaign.pk])

    with CaptureQueriesContext(connection) as asked:
        text = viewer_client.get(url, headers={"HX-Request": "true"}).content.decode()

    counting = [q["sql"] for q in asked if "device_id" in q["sql"] and "COUNT" in q["sql"]]
    assert len(counting) == 1
    assert "<b>2</b><span>sent" in text
    rows = re.findall(r'(?m)^<td class="num">(\d+)</td><td class="num">(\d+)</td>', text)
    assert rows == [("1", "0"), ("2", "2")]
    assert '<tbody id="device-rows" hx-swap-oob="true">' in text
    assert 'id="device-rows"' not in page(viewer_client, "campaigns:activity", campaign.pk)


def test_the_larger_a_campaign_the_less_often_its_page_asks(
    viewer_client: Client, campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "every 2s" in page(viewer_client, "campaigns:progress", campaign.pk)
    monkeypatch.setattr(views, "ROWS_A_SECOND", 0.5)
    assert "every 6s" in page(viewer_client, "campaigns:progress", campaign.pk)
    monkeypatch.setattr(views, "ROWS_A_SECOND", 0.01)
    assert "every 30s" in page(viewer_client, "campaigns:progress", campaign.pk)
