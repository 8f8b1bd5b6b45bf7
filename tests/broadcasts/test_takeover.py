"""What a broadcaster finds of the one that held its devices before."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from broadcasts.models import BroadcastMessage
from broadcasts.takeover import take_over
from devices.models import Device
from tests.factories import BroadcastMessageFactory, DeviceFactory

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


def left_behind(status: str, **device: object) -> Device:
    """A device whose former holder ended with a message in this state."""
    taken = DeviceFactory(
        min_delay_seconds=60, max_delay_seconds=90, worker_id="worker", lease_epoch=2, **device
    )
    BroadcastMessageFactory(
        device=taken, status=status, processing_worker_id="former/1", lease_epoch=1,
        processing_started_at=timezone.now(),
    )  # fmt: skip
    return taken


def test_the_pause_behind_what_was_handed_over_begins_anew() -> None:
    """It may have left late, and nobody could say so: a part of its pause would be missing."""
    device, now = left_behind("queued", next_send_at=timezone.now()), timezone.now()

    assert take_over([device.pk], now) == {"released": 0, "unknown": 1}

    device.refresh_from_db()
    assert device.next_send_at is not None
    assert now + MINUTE <= device.next_send_at <= now + 1.5 * MINUTE


def test_a_campaign_s_longer_pause_counts() -> None:
    device, now = left_behind("queued"), timezone.now()
    BroadcastMessage.objects.update(min_delay_seconds=300, max_delay_seconds=300)

    take_over([device.pk], now)

    assert Device.objects.get().next_send_at == now + 5 * MINUTE


def test_a_pause_that_is_longer_yet_stays() -> None:
    later = timezone.now() + timedelta(hours=1)
    device = left_behind("queued", next_send_at=later)

    take_over([device.pk], timezone.now())

    assert Device.objects.get().next_send_at == later


def test_what_was_only_claimed_puts_nothing_off() -> None:
    device = left_behind("processing")

    assert take_over([device.pk], timezone.now()) == {"released": 1, "unknown": 0}

    assert Device.objects.get().next_send_at is None


def test_a_device_in_a_zone_that_is_not_known_here_is_freed_all_the_same() -> None:
    device = left_behind("queued")
    Device.objects.update(timezone="Mars/Olympus_Mons")

    assert take_over([device.pk], timezone.now())["unknown"] == 1
