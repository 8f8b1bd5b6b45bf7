"""By when what a person sends on its way again has to leave."""

from __future__ import annotations

from datetime import UTC, timedelta

import pytest
from django.conf import LazySettings
from django.utils import timezone

from broadcasts import queryset
from broadcasts.models import BroadcastMessage
from campaigns.models import Campaign
from devices.models import Device
from leads.models import Lead
from tests.factories import BroadcastMessageFactory, CampaignFactory, DeviceFactory

pytestmark = pytest.mark.django_db

PAUSE = timedelta(minutes=30)
WINDOW = timedelta(hours=3)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch, settings: LazySettings) -> None:
    monkeypatch.setattr(queryset, "CHUNK", 4)
    settings.RECOVERY_WINDOW = WINDOW
    settings.SIMULATOR_SPEED = 1


def slow_device(**attributes: object) -> Device:
    seconds = PAUSE.seconds
    return DeviceFactory(min_delay_seconds=seconds, max_delay_seconds=seconds, **attributes)


def where_it_is_morning() -> str:
    """A zone in which the day is not over before these few messages are."""
    return f"Etc/GMT{timezone.now().hour - 8:+d}" if timezone.now().hour < 20 else "Etc/GMT-10"


def messages(count: int, device: Device | None, **attributes: object) -> list[BroadcastMessage]:
    campaign = CampaignFactory(sending=True)
    return BroadcastMessageFactory.create_batch(
        count, device=device, campaign=campaign, **attributes
    )


def allowances(device: Device) -> list[timedelta]:
    """How long the waiting messages of this device have, the first to expire first."""
    rows = BroadcastMessage.objects.filter(device=device, status="pending", restarts=1)
    return sorted(message.expires_at - timezone.now() for message in rows if message.expires_at)


def test_as_many_as_take_longer_than_the_window_do_not_expire_again() -> None:
    device, other = slow_device(), slow_device()
    messages(12, device, status="expired")
    messages(1, other, status="expired")

    assert BroadcastMessage.objects.reschedule_expired() == 13

    have = allowances(device)
    for n, allowance in enumerate(have):
        assert allowance >= n * PAUSE + WINDOW - timedelta(minutes=1), f"number {n} expires again"
    assert have[-1] < 2 * 12 * PAUSE + WINDOW, "it may be late by surprise"
    assert allowances(other)[0] < WINDOW + timedelta(minutes=1)


def test_what_waits_on_the_device_already_goes_first() -> None:
    device = slow_device()
    messages(6, device, status="pending")
    messages(1, device, status="failed")

    assert BroadcastMessage.objects.retry_failed() == 1

    assert allowances(device)[0] >= 6 * PAUSE + WINDOW - timedelta(minutes=1)


def test_what_starts_over_just_before_closing_time_is_tomorrow_s() -> None:
    now = timezone.now().astimezone(UTC)
    device = slow_device(
        sends_from=(now - timedelta(hours=8)).time(),
        sends_until=(now + timedelta(minutes=10)).time(),
        timezone="UTC",
    )
    messages(2, device, status="expired")

    assert BroadcastMessage.objects.reschedule_expired() == 2

    assert allowances(device)[-1] > timedelta(hours=15)


@pytest.mark.parametrize(
    "trouble", [{"enabled": False}, {"status": "banned"}, {"status": "logged_out"}], ids=str
)
def test_what_starts_over_leaves_a_device_that_sends_nothing(trouble: dict[str, object]) -> None:
    gone, other = DeviceFactory(**trouble), DeviceFactory()
    (message,) = messages(1, gone, status="failed")

    assert BroadcastMessage.objects.retry_failed() == 1

    message.refresh_from_db()
    assert (message.status, message.device) == ("pending", other)
    assert message.priority == message.Priority.CAMPAIGN_FIRST, "they have not talked yet"
    assert message.history.get().device == gone, "the history says from where it failed"


def test_who_has_a_device_of_their_own_that_sends_is_written_to_by_it() -> None:
    gone, _idle, own = DeviceFactory(enabled=False), DeviceFactory(), DeviceFactory()
    (message,) = messages(1, gone, status="expired")
    messages(3, own, status="pending")
    Lead.objects.filter(pk=message.lead_id).update(device=own, replied_to=own)

    BroadcastMessage.objects.reschedule_expired()

    message.refresh_from_db()
    assert (message.device, message.priority) == (own, message.Priority.CAMPAIGN)


@pytest.mark.parametrize(
    ("lane", "anew"),
    [("CAMPAIGN_AGAIN_FIRST", "CAMPAIGN_FIRST"), ("SEQUENCE_AGAIN", "SEQUENCE_FIRST")],
)
def test_what_the_machine_had_tried_again_begins_anew_when_a_person_does(
    lane: str, anew: str
) -> None:
    priority = BroadcastMessage.Priority
    (message,) = messages(1, DeviceFactory(online=True), status="failed", priority=priority[lane])

    assert BroadcastMessage.objects.filter(pk=message.pk).retry_failed() == 1

    message.refresh_from_db()
    assert message.priority == priority[anew]  # they have not talked


def test_what_starts_over_keeps_to_the_devices_that_were_chosen_for_it() -> None:
    gone, chosen, _other = DeviceFactory(enabled=False), DeviceFactory(), DeviceFactory()
    made = messages(3, gone, status="failed")
    made[0].campaign.devices.set([gone, chosen])
    Campaign.objects.update(from_all_devices=False)  # as when it was scheduled

    BroadcastMessage.objects.retry_failed()

    assert {m.device for m in BroadcastMessage.objects.all()} == {chosen}


def test_what_starts_over_waits_where_none_that_was_chosen_sends() -> None:
    gone, _other = DeviceFactory(enabled=False), DeviceFactory()
    (message,) = messages(1, gone, status="failed")
    message.campaign.devices.set([gone])
    Campaign.objects.update(from_all_devices=False)

    BroadcastMessage.objects.retry_failed()

    message.refresh_from_db()
    assert (message.status, message.device) == ("pending", gone)


def test_a_test_message_tries_the_device_that_it_was_for() -> None:
    gone, _other = DeviceFactory(enabled=False), DeviceFactory()
    (message,) = messages(1, gone, status="failed", priority=BroadcastMessage.Priority.TEST)

    BroadcastMessage.objects.retry_failed()

    message.refresh_from_db()
    assert message.device == gone


def test_what_has_no_device_has_the_window() -> None:
    messages(1, None, status="unknown")

    assert BroadcastMessage.objects.settle_as_not_sent() == 1

    expires_at = BroadcastMessage.objects.get().expires_at
    assert expires_at is not None
    assert abs(expires_at - timezone.now() - WINDOW) < timedelta(minutes=1)


def test_only_first_contacts_are_given_the_days_that_their_cap_takes() -> None:
    device = slow_device(first_contact_limit=1, timezone=where_it_is_morning())
    new = messages(3, device, status="failed")
    (known,) = messages(1, device, status="failed")
    Lead.objects.filter(pk=known.lead_id).update(replied_to=device)

    BroadcastMessage.objects.retry_failed()

    by_key = dict(BroadcastMessage.objects.values_list("pk", "expires_at"))
    first, second, third = (by_key[message.pk] for message in new)
    assert third - second >= timedelta(days=1)
    assert second - first >= timedelta(hours=20)
    assert by_key[known.pk] < second
