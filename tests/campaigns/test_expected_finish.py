"""When a campaign that is being sent will be done: as the forecast said, or as it stands now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from broadcasts.models import BroadcastMessage, Worker
from broadcasts.timeline import outlooks
from campaigns.audience import Audience
from campaigns.forecast import forecast
from campaigns.models import Campaign
from campaigns.progress import progress_of
from devices.models import Device
from leads.models import Niche
from tests.factories import (
    BroadcastMessageFactory,
    CampaignFactory,
    DeviceFactory,
    LeadFactory,
    SequenceFactory,
)

pytestmark = pytest.mark.django_db

START = datetime(2026, 11, 23, 8, tzinfo=UTC)
GAP = timedelta(minutes=10)
TEST, FIRST = BroadcastMessage.Priority.TEST, BroadcastMessage.Priority.CAMPAIGN_FIRST


@pytest.fixture
def device() -> Device:
    return DeviceFactory(
        min_delay_seconds=GAP.seconds, max_delay_seconds=GAP.seconds, timezone="UTC"
    )


def messages(count: int, campaign: Campaign | None, device: Device, **values: Any) -> None:
    BroadcastMessageFactory.create_batch(count, campaign=campaign, device=device, **values)


def end(campaign: Campaign) -> datetime | None:
    outlook = outlooks(Device.objects.usable(), START).get(campaign.pk)
    return outlook and outlook.ends_at


def test_what_a_paused_sequence_has_in_the_queue_is_not_waited_for(device: Device) -> None:
    campaign = CampaignFactory(sending=True)
    messages(1, campaign, device)
    alone = end(campaign)
    drip = BroadcastMessage.Priority.SEQUENCE
    messages(3, None, device, sequence=SequenceFactory(status="paused"), priority=drip)

    assert end(campaign) == alone


def finish(campaign: Campaign) -> datetime | None:
    [progress] = progress_of(Campaign.objects.filter(pk=campaign.pk))
    return progress.finish_at


@pytest.mark.parametrize(
    "rules",
    [
        {"first_contact_limit": 3},
        {"daily_limit": 4},
        {"hourly_limit": 2},
        {"warmup_started_on": START.date(), "usage_day": START.date(), "usage_day_count": 18},
        {"sends_from": START.time(), "sends_until": (START + 3 * GAP).time()},
    ],
    ids=str,
)
def test_a_queued_campaign_ends_when_the_forecast_said(
    device: Device, rules: dict[str, object]
) -> None:
    Device.objects.update(**rules)
    LeadFactory.create_batch(9, device=device)
    LeadFactory.create_batch(3, device=device, replied_to=device)
    promised = forecast(Audience(), START).finish_at
    campaign = CampaignFactory(status="scheduled", scheduled_at=timezone.now())

    Campaign.objects.process()

    assert end(campaign) == promised
    assert promised
    assert promised > START + 11 * GAP, "the rule has to tell"


def test_what_goes_before_is_waited_for_and_what_comes_behind_is_not(device: Device) -> None:
    earlier, campaign, later = (
        CampaignFactory(sending=True, scheduled_at=START + timedelta(hours=n)) for n in range(3)
    )
    for each in (later, campaign, earlier):
        messages(2, each, device, scheduled_at=each.scheduled_at)
    messages(1, None, device, priority=TEST)

    assert [end(each) for each in (earlier, campaign, later)] == [
        START + n * GAP for n in (2, 4, 6)
    ]


def test_first_contacts_stand_aside_for_those_it_has_talked_with(device: Device) -> None:
    campaign, other = CampaignFactory.create_batch(2, sending=True)
    messages(1, campaign, device, priority=FIRST)
    messages(3, other, device)

    assert (end(campaign), end(other)) == (START + 3 * GAP, START + 2 * GAP)


def test_what_is_held_by_a_pause_is_not_waited_for(device: Device) -> None:
    paused, campaign = CampaignFactory(sending=True, status="paused"), CampaignFactory(sending=True)
    messages(2, paused, device, status="paused")
    messages(2, paused, device)  # not moved yet: the claim steps over them
    messages(2, campaign, device)

    assert (end(campaign), end(paused)) == (START + GAP, None)


def test_nobody_can_say_when_a_device_that_is_off_sends(device: Device) -> None:
    campaign = CampaignFactory(sending=True)
    messages(1, campaign, device)
    Device.objects.update(enabled=False)

    Campaign.objects.process()

    assert finish(campaign) is None


@pytest.mark.parametrize(
    "rules",
    [{"enabled": False}, {"status": "restricted"}, {"status": "banned"}],
    ids=str,
)
def test_nor_can_they_where_only_a_part_waits_for_such_a_device(
    device: Device, rules: dict[str, object]
) -> None:
    campaign, other = CampaignFactory.create_batch(2, sending=True)
    messages(1, campaign, DeviceFactory(**rules))
    messages(1, campaign, device)
    messages(1, other, device)

    assert (end(campaign), end(other)) == (None, START + GAP)


def test_nor_where_a_message_has_lost_its_device(device: Device) -> None:
    campaign = CampaignFactory(sending=True)
    messages(1, campaign, device)
    BroadcastMessageFactory(campaign=campaign, device=None)

    assert end(campaign) is None


def test_what_whatsapp_has_blocked_for_a_time_goes_on_after_it(device: Device) -> None:
    campaign, until = CampaignFactory(sending=True), START + timedelta(days=2)
    messages(3, campaign, device)
    Device.objects.update(status="restricted", restricted_until=until)
    LeadFactory(device=device, niches=["NEW"])

    assert end(campaign) == until + 2 * GAP
    promised = forecast(Audience(niches=list(Niche.objects.all())), START)
    assert promised.finish_at == until + 3 * GAP
    assert "until WhatsApp lets 1 device send again" in promised.brake


def test_the_scheduler_says_it_anew_in_each_pass(device: Device) -> None:
    campaign = CampaignFactory(sending=True)
    messages(3, campaign, device)
    Worker.objects.register("worker")

    for waits in (3, 2):
        assert Campaign.objects.process()["foreseen"] == 1
        expected = finish(campaign)
        assert expected
        late = expected - timezone.now() - (waits - 1) * GAP
        assert abs(late) < timedelta(minutes=1)
        BroadcastMessage.objects.filter(pk=campaign.messages.last().pk).update(
            status="sent", sent_at=timezone.now(), finished_at=timezone.now()
        )


def test_no_end_is_expected_while_no_broadcaster_runs(device: Device) -> None:
    campaign = CampaignFactory(sending=True)
    messages(3, campaign, device)
    worker = Worker.objects.register("worker")
    Campaign.objects.process()
    assert finish(campaign)

    worker.delete()
    Campaign.objects.process()
    assert finish(campaign) is None


def test_a_pause_makes_nonsense_of_what_was_expected(device: Device) -> None:
    campaign = CampaignFactory(sending=True)
    messages(2, campaign, device)
    Worker.objects.register("worker")
    Campaign.objects.process()

    assert campaign.pause()
    assert finish(campaign) is None
    assert campaign.resume()
    assert finish(campaign) is None, "not known before the scheduler has looked"
    Campaign.objects.process()
    assert finish(campaign)


def test_a_moment_that_is_past_is_not_expected_any_more(device: Device) -> None:
    campaign = CampaignFactory(sending=True, expected_finish_at=timezone.now() - GAP)
    messages(1, campaign, device)

    assert finish(campaign) is None


def test_pages_show_it(viewer_client: Client, device: Device) -> None:
    at = timezone.now() + timedelta(days=9)
    campaign = CampaignFactory(sending=True, expected_finish_at=at)
    messages(1, campaign, device)
    local = timezone.localtime(at, campaign.zone)

    page = viewer_client.get(reverse("campaigns:detail", args=[campaign.pk])).content.decode()
    page = page.replace("\xa0", " ")
    assert f"<b>{local:%H:%M}</b><span>expected finish" in page
    assert "1 week, 1 day left" in page
    assert f"{local:%-d %b, %H:%M}" in viewer_client.get(reverse("overview")).content.decode()


@pytest.mark.parametrize(
    ("since", "words"),
    [
        ({"started_at": 3}, "begun 3 seconds ago, nothing was sent yet"),
        ({"started_at": 600}, "nothing was sent in the last minutes"),
        (
            {"started_at": 900, "paused_at": 600, "resumed_at": 150},
            "nothing was sent in the last 2 minutes",
        ),
        # Paused and resumed while it was only scheduled.
        (
            {"started_at": 5, "paused_at": 900, "resumed_at": 800},
            "nothing was sent in the last 5 seconds",
        ),
        # Resumed before it began to wait for a device to be queued for.
        (
            {"started_at": 120, "paused_at": 900, "resumed_at": 20},
            "nothing was sent in the last 20 seconds",
        ),
        # Not by anybody, but by waiting for a device to be queued for.
        ({"started_at": 120, "resumed_at": 5}, "begun 2 minutes ago, nothing was sent yet"),
    ],
)
def test_that_nothing_was_sent_is_said_of_the_time_that_there_was(
    viewer_client: Client, device: Device, since: dict[str, int], words: str
) -> None:
    now = timezone.now()
    values = {name: now - timedelta(seconds=seconds) for name, seconds in since.items()}
    campaign = CampaignFactory(sending=True, **values)
    messages(1, campaign, device)

    page = viewer_client.get(reverse("campaigns:detail", args=[campaign.pk])).content.decode()
    assert words in page.replace("\xa0", " ")
