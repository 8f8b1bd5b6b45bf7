"""What the pages say of messages that wait for a device's caps and hours."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.template.loader import get_template
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from broadcasts.models import BroadcastMessage
from broadcasts.pacing import Brake
from broadcasts.templatetags.holds import caps, held, held_to_new_people, waits
from campaigns.models import Campaign
from devices.models import Device
from sequences.models import Sequence
from tests.factories import (
    BroadcastMessageFactory,
    CampaignFactory,
    DeviceFactory,
    LeadFactory,
    SequenceStepFactory,
)

pytestmark = pytest.mark.django_db

FIRST = BroadcastMessage.Priority.CAMPAIGN_FIRST
NEW_PEOPLE = "has written to its 20 new people of today."
TOMORROW = "Sales 01 goes on tomorrow at 00:00."


def device_with(**values: Any) -> Device:
    """An online device that has sent 60 messages today, 20 of them to new people."""
    counts = {"usage_day_count": 60, "usage_first_count": 20, "usage_hour_count": 30}
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    when = {"usage_day": timezone.localdate(), "usage_hour_at": hour}
    return DeviceFactory(name="Sales 01", online=True, **{**counts, **when, **values})


def page(client: Client, name: str, *args: int, **query: Any) -> str:
    return client.get(reverse(name, args=args), query).content.decode()


def test_a_first_contact_says_that_it_waits_for_the_cap_on_new_people() -> None:
    message = BroadcastMessageFactory(device=device_with(first_contact_limit=20), priority=FIRST)

    assert waits(message) == f"Sales 01 {NEW_PEOPLE} {TOMORROW}"


def test_a_cap_on_new_people_as_high_as_the_cap_on_messages_is_not_taken_for_it() -> None:
    device = device_with(
        daily_limit=20, first_contact_limit=20, usage_day_count=20, usage_first_count=0
    )

    for hold in (held(device), held_to_new_people(device)):
        assert hold
        assert hold.why == "Sales 01 has sent its 20 messages of today."


def test_a_message_to_somebody_known_does_not_wait_for_new_people() -> None:
    message = BroadcastMessageFactory(device=device_with(first_contact_limit=20))

    assert waits(message) == ""


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"daily_limit": 60}, "Sales 01 has sent its 60 messages of today."),
        ({"hourly_limit": 30}, "Sales 01 has sent its 30 messages of this hour."),
        ({"daily_limit": 1, "usage_day_count": 1}, "Sales 01 has sent its 1 message of today."),
    ],
    ids=str,
)
def test_a_used_up_cap_is_named_with_its_number(values: dict[str, Any], why: str) -> None:
    _holds(device_with(**values), why)


def test_warming_up_is_named_as_what_the_days_cap_comes_from() -> None:
    device = device_with(warmup_started_on=timezone.localdate(), daily_limit=1000)
    _holds(device, "Sales 01 is warming up and has sent its 20 messages of today.")


def _holds(device: Device, why: str) -> None:
    hold = held(device)
    assert hold is not None
    assert hold.why == why
    assert waits(BroadcastMessageFactory(device=device)) == str(hold)


@pytest.mark.parametrize(
    ("zone", "said"),
    [
        ("Asia/Kuala_Lumpur", "Sales 01 sends from {} to {}."),
        ("Asia/Jakarta", "Sales 01 sends from {} to {} (Asia/Jakarta)."),
    ],
)
def test_outside_the_sending_hours_a_message_says_when_they_are(zone: str, said: str) -> None:
    local = timezone.localtime(timezone=Device(timezone=zone).zone)
    opens, closes = local + timedelta(hours=2), local + timedelta(hours=4)
    device = device_with(sends_from=opens.time(), sends_until=closes.time(), timezone=zone)

    assert said.format(f"{opens:%H:%M}", f"{closes:%H:%M}") in waits(
        BroadcastMessageFactory(device=device)
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"enabled": False}, "Sales 01 is switched off."),
        ({"status": "banned"}, "Sales 01 is banned."),
        ({"lease_expires_at": None}, "Sales 01 is offline."),
    ],
    ids=str,
)
def test_a_device_that_is_away_is_the_reason_before_any_cap(
    values: dict[str, Any], said: str
) -> None:
    device = device_with(daily_limit=60, **values)

    assert waits(BroadcastMessageFactory(device=device)) == said


@pytest.mark.parametrize(
    ("status", "said"),
    [("paused", "Its campaign is paused."), ("cancelled", "Its campaign was cancelled.")],
)
def test_a_campaign_that_is_held_is_the_reason_before_its_messages_have_moved(
    status: str, said: str
) -> None:
    campaign = CampaignFactory(status=status)
    message = BroadcastMessageFactory(campaign=campaign, device=device_with(daily_limit=60))

    assert waits(message) == said


def test_a_paused_sequence_is_the_reason_for_what_it_has_queued() -> None:
    step = SequenceStepFactory(sequence__status="paused")
    message = BroadcastMessageFactory(
        campaign=None, sequence=step.sequence, sequence_step=step, device=device_with()
    )

    assert waits(message) == "Its sequence is paused."


def test_only_what_is_pending_waits() -> None:
    device = device_with(daily_limit=60)
    for status in BroadcastMessage.Status.values:
        said = waits(BroadcastMessageFactory(device=device, status=status))
        assert bool(said) == (status == "pending")


def test_without_a_device_a_message_says_so_and_without_time_that_it_is_over() -> None:
    past = timezone.now() - timedelta(seconds=1)
    nowhere = BroadcastMessageFactory(device=None)
    late = BroadcastMessageFactory(device=device_with(daily_limit=60), expires_at=past)
    paused = BroadcastMessageFactory(campaign=CampaignFactory(status="paused"), expires_at=past)

    assert waits(nowhere) == "It has no device that could send it."
    assert waits(late) == "It could not start in time."
    # Resumed, it gets the time of the pause back.
    assert waits(paused) == "Its campaign is paused."


@pytest.mark.parametrize("status", Campaign.Status.values)
def test_claim_forecast_and_page_agree_on_which_campaigns_send(status: str) -> None:
    message = BroadcastMessageFactory(campaign=CampaignFactory(status=status))
    messages = BroadcastMessage.objects.all()

    said_to_wait = bool(waits(message))

    assert messages.leaving().exists() != said_to_wait
    claimed = messages.claim(worker_id="worker", device_ids=[message.device_id])
    assert bool(claimed) != said_to_wait


@pytest.mark.parametrize("status", Sequence.Status.values)
def test_claim_and_page_agree_on_which_sequences_send(status: str) -> None:
    step = SequenceStepFactory(sequence__status=status)
    message = BroadcastMessageFactory(campaign=None, sequence=step.sequence, sequence_step=step)
    messages = BroadcastMessage.objects.all()

    said_to_wait = bool(waits(message))

    assert messages.leaving().exists() != said_to_wait
    claimed = messages.claim(worker_id="worker", device_ids=[message.device_id])
    assert bool(claimed) != said_to_wait


def test_what_is_due_when_the_hold_is_over_is_not_held() -> None:
    later = timezone.now() + timedelta(days=1)
    message = BroadcastMessageFactory(device=device_with(daily_limit=60), scheduled_at=later)

    assert waits(message) == ""


def test_who_waits_for_longer_than_there_is_time_reads_that_it_expires_before_that() -> None:
    """A cap that was lowered after it was queued."""
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    message = BroadcastMessageFactory(
        device=device_with(daily_limit=60),
        expires_at=midnight + timedelta(days=1) - timedelta(seconds=20),
    )

    assert waits(message) == (
        "Sales 01 has sent its 60 messages of today. Sales 01 goes on tomorrow at 00:00, "
        "but this message expires before that, at 23:59."
    )


def test_who_has_time_until_the_hold_is_over_reads_nothing_of_a_deadline() -> None:
    message = BroadcastMessageFactory(
        device=device_with(daily_limit=60), expires_at=timezone.now() + timedelta(days=2)
    )

    assert waits(message).endswith(TOMORROW)


def test_message_list_and_recipients_say_what_is_waited_for(viewer_client: Client) -> None:
    device = device_with(first_contact_limit=20)
    message = BroadcastMessageFactory(device=device, priority=FIRST)

    for name, *args in (
        ("messages:list",),
        ("messages:detail", message.pk),
        ("campaigns:recipients", message.campaign.pk),
    ):
        assert f"Sales 01 {NEW_PEOPLE} {TOMORROW}" in page(viewer_client, name, *args)


def test_a_longer_list_of_waiting_messages_asks_nothing_more(viewer_client: Client) -> None:
    device, campaign = device_with(daily_limit=60), CampaignFactory(sending=True)

    def statements() -> int:
        with CaptureQueriesContext(connection) as asked:
            page(viewer_client, "messages:list")
            page(viewer_client, "campaigns:recipients", campaign.pk)
        return len(asked)

    BroadcastMessageFactory(device=device, campaign=campaign)
    before = statements()
    for lead in LeadFactory.create_batch(5):
        BroadcastMessageFactory(device=device, campaign=campaign, lead=lead)
    assert statements() == before


@pytest.mark.parametrize("name", ["devices:list", "devices:detail"])
def test_a_device_says_until_when_it_is_held_instead_of_as_soon_as(
    viewer_client: Client, name: str
) -> None:
    device = device_with(daily_limit=60)
    args = [device.pk] if name == "devices:detail" else []

    text = page(viewer_client, name, *args)

    assert "tomorrow at 00:00" in text
    assert "Sales 01 has sent its 60 messages of today." in text
    assert "as soon as something is due" not in text


@pytest.mark.parametrize("name", ["devices:list", "devices:detail"])
def test_a_device_that_may_write_to_nobody_new_says_so_beside_its_next_slot(
    viewer_client: Client, name: str
) -> None:
    device = device_with(first_contact_limit=20)
    args = [device.pk] if name == "devices:detail" else []

    text = page(viewer_client, name, *args)

    assert "as soon as something for people it knows is due" in text
    assert "as soon as something is due" not in text
    assert f"Sales 01 {NEW_PEOPLE} It writes to new people again tomorrow at 00:00." in text


def test_a_device_that_is_away_has_no_next_slot_and_names_no_hold(viewer_client: Client) -> None:
    device = device_with(daily_limit=60, enabled=False)

    text = page(viewer_client, "devices:detail", device.pk)

    assert "has sent its 60 messages of today" not in text


def test_pages_tell_caps_apart_by_their_names_and_not_by_their_words() -> None:
    source = get_template("devices/_today.html").template.source
    compared = re.findall(r'use\.of(\S*) == "([^"]+)"', source)
    assert {name for _, name in compared} == {"NEW_PEOPLE_A_DAY", "MESSAGES_AN_HOUR"}
    assert {attribute for attribute, _ in compared} == {".name"}
    assert {name for _, name in compared} <= set(Brake.__members__)


def test_what_holds_everything_is_not_said_again_of_new_people() -> None:
    device = device_with(daily_limit=60, first_contact_limit=20)
    assert held(device) == held_to_new_people(device)


@pytest.mark.parametrize("name", ["devices:list", "devices:detail"])
def test_every_cap_that_there_is_is_shown_with_its_count(viewer_client: Client, name: str) -> None:
    device = device_with(daily_limit=1000, first_contact_limit=20, hourly_limit=40)
    args = [device.pk] if name == "devices:detail" else []

    text = page(viewer_client, name, *args)

    for words in (
        "<b>60</b> of 1,000 today",
        "<b>20</b> of 20 new people today",
        "<b>30</b> of 40 this hour",
    ):
        assert words in text
    assert text.count("<meter") == 3


@pytest.mark.parametrize(
    ("values", "said"),
    [({}, "<b>60</b> sent today, no cap"), ({"first_contact_limit": 30}, "<b>60</b> sent today<")],
    ids=str,
)
def test_without_a_cap_on_the_day_what_was_sent_is_shown_all_the_same(
    viewer_client: Client, values: dict[str, Any], said: str
) -> None:
    device_with(**values)
    assert said in page(viewer_client, "devices:list")


def test_yesterdays_counts_are_not_shown_as_todays() -> None:
    yesterday = timezone.localdate() - timedelta(days=1)
    device = device_with(usage_day=yesterday, daily_limit=100, first_contact_limit=20)
    assert [use.used for use in caps(device)] == [0, 0]
    assert held_to_new_people(device) is None
