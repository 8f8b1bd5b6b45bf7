"""By when a message has to have left: late is what its sender had the time for and did not send,
not what had to wait for the morning, for a person or for a device."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.utils import timezone

from broadcasts import pacing
from broadcasts.models import BroadcastMessage
from broadcasts.pacing import Pace, Slot, deadline
from campaigns import fanout
from campaigns.models import Campaign
from devices.models import Device
from sequences.models import Sequence
from tests.factories import (
    BroadcastMessageFactory,
    CampaignFactory,
    DeviceFactory,
    LeadFactory,
    SequenceFactory,
    SequenceStepFactory,
)

pytestmark = pytest.mark.django_db

DAYTIME = Pace(sends_from=time(8), sends_until=time(22))
NIGHT = Pace(sends_from=time(22), sends_until=time(6))
THREE_HOURS = timedelta(hours=3)


@pytest.fixture(autouse=True)
def real_pauses(settings: LazySettings) -> None:
    settings.SIMULATOR_SPEED = 1
    settings.RECOVERY_WINDOW = THREE_HOURS


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-03-{text}+00:00")


def hours_from_now(begin: timedelta, end: timedelta) -> dict[str, object]:
    """Sending hours around now, to the minute."""
    now = timezone.now().replace(second=0, microsecond=0)
    return {
        "timezone": "UTC",
        "sends_from": (now + begin).time(),
        "sends_until": (now + end).time(),
    }


def queued(**values: object) -> Campaign:
    campaign: Campaign = CampaignFactory(**values)
    campaign.schedule()
    Campaign.objects.process()
    return campaign


def let_pass(campaign: Campaign, time_passed: timedelta) -> None:
    """Everything that was written down so far was so much earlier."""
    fields = ("scheduled_at", "started_at", "paused_at", "resumed_at", "fanned_out_at")
    campaign.refresh_from_db()
    earlier = {
        field: value - time_passed for field in fields if (value := getattr(campaign, field))
    }
    Campaign.objects.filter(pk=campaign.pk).update(**earlier)
    for message in campaign.messages.exclude(expires_at=None):
        campaign.messages.filter(pk=message.pk).update(expires_at=message.expires_at - time_passed)


def expired(campaign: Campaign) -> int:
    Campaign.objects.process()
    BroadcastMessage.objects.expire()
    return campaign.counts()["expired"]


# The rule


@pytest.mark.parametrize(
    ("pace", "expected", "last"),
    [
        (Pace(), "02 12:00", "02 15:00"),
        (DAYTIME, "02 12:00", "02 15:00"),
        (DAYTIME, "02 19:00", "02 22:00"),
        (DAYTIME, "02 21:00", "03 10:00"),
        (DAYTIME, "02 21:59", "03 10:59"),
        (NIGHT, "02 23:00", "03 02:00"),
        (NIGHT, "03 05:00", "04 00:00"),
        (Pace(daily_limit=5), "02 12:00", "03 03:00"),
        (Pace(daily_limit=5, sends_from=time(8), sends_until=time(22)), "02 12:00", "03 11:00"),
        (Pace(warmup_started_on=date(2026, 3, 1)), "02 12:00", "03 03:00"),
    ],
    ids=[
        "always", "well before closing", "just before closing", "over closing time",
        "in the last minute", "over midnight", "from one night to the next", "a daily cap",
        "a daily cap and hours", "warming up",
    ],
)  # fmt: skip
def test_the_allowance_passes_only_while_the_device_may_send(
    pace: Pace, expected: str, last: str
) -> None:
    assert deadline(pace, at(expected), THREE_HOURS) == at(last)


def test_an_allowance_of_more_than_a_day_s_hours_goes_on_the_day_after() -> None:
    assert deadline(DAYTIME, at("02 12:00"), timedelta(hours=30)) == at("04 14:00")


# Campaigns


def test_what_slips_past_closing_time_is_tomorrow_s() -> None:
    hours = hours_from_now(-timedelta(hours=1), timedelta(minutes=10))
    device = DeviceFactory(min_delay_seconds=60, max_delay_seconds=60, **hours)
    LeadFactory.create_batch(8)

    last = queued().messages.latest("expires_at")

    opens = pacing.earliest(Pace.of(device), Slot(), timezone.now() + timedelta(minutes=11))
    assert opens > timezone.now() + timedelta(hours=20)
    assert last.expires_at > opens + timedelta(hours=2)


def test_what_a_retry_pushes_over_the_daily_cap_is_tomorrow_s() -> None:
    device = DeviceFactory(daily_limit=5, timezone="UTC")
    LeadFactory.create_batch(5)
    campaign, now = queued(), timezone.now()
    pace, slot = Pace.of(device), Slot()
    for _ in range(5):  # four of them, and an attempt that was refused
        slot = pacing.after_send(pace, slot, now, 10)

    tomorrow = pacing.earliest(pace, slot, now)

    assert tomorrow.date() > now.astimezone(UTC).date()
    assert all(message.expires_at > tomorrow for message in campaign.messages.all())


def test_the_later_a_message_is_expected_the_more_it_may_drift() -> None:
    DeviceFactory(min_delay_seconds=3600, max_delay_seconds=3600)
    LeadFactory.create_batch(11)

    campaign = queued()

    first, *_, last = campaign.messages.order_by("expires_at")
    campaign.refresh_from_db()
    assert first.expires_at - campaign.scheduled_at == THREE_HOURS
    # Expected ten hours in, half as much again for what adds up until then, and the window.
    assert last.expires_at - campaign.scheduled_at == timedelta(hours=18)


def test_what_waits_ahead_is_counted_at_its_own_pauses() -> None:
    DeviceFactory(min_delay_seconds=5, max_delay_seconds=15)
    LeadFactory.create_batch(5)
    queued(min_delay_seconds=3600, max_delay_seconds=3600)

    behind = queued()

    first = behind.messages.earliest("expires_at")
    assert first.expires_at > timezone.now() + timedelta(hours=4) + THREE_HOURS


def test_a_pause_before_it_began_does_not_count_against_it() -> None:
    DeviceFactory()
    LeadFactory()
    campaign = CampaignFactory()
    campaign.schedule(timezone.now() + timedelta(minutes=1))
    campaign.pause()
    let_pass(campaign, timedelta(hours=4))

    campaign.resume()

    assert expired(campaign) == 0
    assert campaign.counts()["pending"] == 1


def test_a_pause_while_it_is_queued_does_not_count_against_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fanout, "CHUNK", 1)
    DeviceFactory()
    LeadFactory.create_batch(3)
    campaign = CampaignFactory()
    campaign.schedule()
    commit = fanout._commit_chunk

    def then_pause(*chunk: Any) -> bool:
        return commit(*chunk) and campaign.pause()

    with monkeypatch.context() as patched:
        patched.setattr(fanout, "_commit_chunk", then_pause)
        Campaign.objects.process()
    assert sum(campaign.counts().values()) == 1
    let_pass(campaign, timedelta(hours=4))

    campaign.resume()

    assert expired(campaign) == 0
    assert campaign.counts()["pending"] == 3


def test_a_pause_while_it_is_sent_moves_what_is_left() -> None:
    DeviceFactory()
    LeadFactory.create_batch(2)
    campaign = queued()
    campaign.pause()
    let_pass(campaign, timedelta(hours=4))

    campaign.resume()

    assert expired(campaign) == 0
    assert campaign.counts()["pending"] == 2


def test_a_pause_over_closing_time_leaves_time_in_the_morning() -> None:
    device = DeviceFactory(**hours_from_now(-timedelta(hours=4), timedelta(minutes=30)))
    LeadFactory()
    campaign = queued()
    campaign.pause()
    Campaign.objects.update(paused_at=timezone.now() - timedelta(hours=1))

    campaign.resume()

    after_closing = timezone.now() + timedelta(minutes=61)
    opens = pacing.earliest(Pace.of(device), Slot(), after_closing)
    assert campaign.messages.get().expires_at > opens


def test_waiting_for_a_device_does_not_count_against_it() -> None:
    DeviceFactory(enabled=False)
    LeadFactory()
    campaign = queued()
    assert sum(campaign.counts().values()) == 0
    let_pass(campaign, timedelta(hours=4))
    Campaign.objects.process()
    Device.objects.update(enabled=True)

    assert expired(campaign) == 0
    assert campaign.counts()["pending"] == 1


def test_what_a_device_had_the_time_for_and_did_not_send_is_late() -> None:
    DeviceFactory()
    LeadFactory()
    campaign = queued()
    let_pass(campaign, timedelta(hours=4))

    assert expired(campaign) == 1


# Sequences


def test_the_pause_of_a_sequence_moves_what_waits() -> None:
    sequence = SequenceFactory()
    SequenceStepFactory(sequence=sequence)
    expires_at = timezone.now() + timedelta(minutes=1)
    message = BroadcastMessageFactory(campaign=None, sequence=sequence, expires_at=expires_at)
    sequence.pause()
    Sequence.objects.update(paused_at=timezone.now() - timedelta(hours=5))

    sequence.activate()

    message.refresh_from_db()
    assert message.status == "pending"
    # To the second: SQLite's clock knows milliseconds.
    assert message.expires_at - expires_at >= timedelta(hours=5, seconds=-1)
