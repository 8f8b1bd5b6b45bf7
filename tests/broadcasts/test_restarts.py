"""By when what a person sends on its way again has to leave."""

from __future__ import annotations

from datetime import UTC, timedelta

import pytest
from django.conf import LazySettings
from django.utils import timezone

from broadcasts import queryset
from broadcasts.models import BroadcastMessage
from devices.models import Device
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


def test_what_has_no_device_has_the_window() -> None:
    messages(1, None, status="unknown")

    assert BroadcastMessage.objects.settle_as_not_sent() == 1

    expires_at = BroadcastMessage.objects.get().expires_at
    assert expires_at is not None
    assert abs(expires_at - timezone.now() - WINDOW) < timedelta(minutes=1)
