from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from broadcasts.models import BroadcastMessage
from devices.models import Device
from tests.factories import BroadcastMessageFactory

pytestmark = pytest.mark.django_db


def minutes_ago() -> datetime:
    """Not of when this file was read: of a long suite, its tests come minutes later."""
    return timezone.now() - timedelta(minutes=2)


def held(status: str) -> BroadcastMessage:
    """A message that a broadcaster which lives has had for two minutes."""
    return BroadcastMessageFactory(
        status=status, processing_worker_id="worker/1", processing_started_at=minutes_ago(),
        lease_epoch=1, queued_at=minutes_ago(), attempts=1,
    )  # fmt: skip


def unstick(*arguments: str) -> str:
    return call_command("unstick_messages", *arguments)


def statuses() -> list[str]:
    return list(BroadcastMessage.objects.order_by("pk").values_list("status", flat=True))


def test_it_says_what_it_freed(capsys: pytest.CaptureFixture[str]) -> None:
    held("processing"), held("queued"), held("queued")
    Device.objects.update(lease_expires_at=minutes_ago())

    unstick()

    assert capsys.readouterr().out == "1 back to pending, 2 now unknown\n"
    assert statuses() == ["pending", "unknown", "unknown"]


def test_the_living_lose_nothing() -> None:
    held("processing"), held("queued")

    assert unstick() == "0 back to pending, 0 now unknown"
    assert statuses() == ["processing", "queued"]


@pytest.mark.parametrize(
    ("older_than", "freed"),
    [("90s", 1), ("1m", 1), ("3m", 0), ("2h", 0), ("1d", 0)],
)
def test_who_lives_but_hangs_may_be_given_up_sooner(older_than: str, freed: int) -> None:
    held("processing")

    assert unstick("--older-than", older_than) == f"{freed} back to pending, 0 now unknown"


@pytest.mark.parametrize("text", ["", "5", "five minutes", "5w", "-5m", "1.5h", "0s"])
def test_what_is_no_duration_is_refused_with_words(text: str) -> None:
    held("queued")

    with pytest.raises(CommandError, match="duration"):
        unstick(f"--older-than={text}")
    assert statuses() == ["queued"]


def test_a_dry_run_says_what_would_be_and_changes_nothing() -> None:
    held("processing")
    Device.objects.update(lease_expires_at=minutes_ago())
    BroadcastMessageFactory(status="expired", finished_at=minutes_ago())
    cancelled = BroadcastMessageFactory(status="expired", finished_at=minutes_ago())
    type(cancelled.campaign).objects.filter(pk=cancelled.campaign.pk).update(status="cancelled")

    said = unstick("--dry-run", "--reschedule-expired")

    assert said == "Would be: 1 back to pending, 0 now unknown, 1 expired rescheduled"
    assert statuses() == ["processing", "expired", "expired"]
    assert unstick("--reschedule-expired") == said.removeprefix("Would be: ")
    assert statuses() == ["pending", "pending", "expired"]


def test_a_dry_run_without_more_leaves_the_expired_out() -> None:
    BroadcastMessageFactory(status="expired", finished_at=minutes_ago())

    assert unstick("--dry-run") == "Would be: 0 back to pending, 0 now unknown"


def test_what_is_rescheduled_has_a_new_recovery_window() -> None:
    message = BroadcastMessageFactory(
        status="expired", expires_at=minutes_ago(), finished_at=minutes_ago()
    )

    unstick("--reschedule-expired")

    message.refresh_from_db()
    assert message.expires_at > timezone.now()
    assert message.history.get().decision == "rescheduled"
    assert call_command("expire_messages") == "expired 0"
