from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone
from pytest_django.fixtures import DjangoAssertNumQueries

from broadcasts import reports
from broadcasts.models import BroadcastMessage, Worker
from broadcasts.shares import by_device
from tests.factories import (
    AttachmentFactory,
    BroadcastMessageFactory,
    CampaignFactory,
    DeviceFactory,
)

pytestmark = pytest.mark.django_db

KUALA_LUMPUR = ZoneInfo("Asia/Kuala_Lumpur")
NOON = datetime(2026, 11, 23, 12, tzinfo=KUALA_LUMPUR)


def ended(at: datetime, status: str = "sent", **values: Any) -> BroadcastMessage:
    return BroadcastMessageFactory(status=status, finished_at=at, **values)


def test_today_begins_at_midnight_of_the_current_time_zone() -> None:
    ended(datetime(2026, 11, 22, 23, 59, 59, tzinfo=KUALA_LUMPUR))
    ended(datetime(2026, 11, 23, 0, 0, tzinfo=KUALA_LUMPUR))
    ended(datetime(2026, 11, 23, 23, 59, 59, tzinfo=KUALA_LUMPUR), delivered_at=NOON)
    ended(datetime(2026, 11, 24, 0, 0, tzinfo=KUALA_LUMPUR))
    with timezone.override(KUALA_LUMPUR):
        today = reports.today(NOON)
    assert today.sent == 2
    assert today.delivered == 1


def test_the_same_message_is_of_another_day_in_another_zone() -> None:
    ended(datetime(2026, 11, 23, 1, tzinfo=KUALA_LUMPUR))
    with timezone.override(UTC):
        assert reports.today(NOON).sent == 0


def test_today_has_every_status_and_the_share_that_failed() -> None:
    campaign = CampaignFactory(sending=True)
    for status in ("sent", "sent", "sent", "failed", "expired"):
        ended(NOON, status, campaign=campaign)
    with timezone.override(KUALA_LUMPUR):
        today = reports.today(NOON)
    assert set(today.counts) == set(BroadcastMessage.Status.values)
    assert today.counts["expired"] == 1
    assert today.failed_percent == 25.0


def test_nothing_sent_is_no_division_by_zero() -> None:
    assert reports.today().failed_percent == 0.0


def test_days_are_cut_where_a_half_hour_zone_cuts_them() -> None:
    india = ZoneInfo("Asia/Kolkata")
    ended(datetime(2026, 11, 22, 23, 45, tzinfo=india))
    ended(datetime(2026, 11, 23, 0, 15, tzinfo=india), "failed")
    with timezone.override(india):
        days = reports.days(14, datetime(2026, 11, 23, 12, tzinfo=india))
    assert len(days) == 14
    assert [(day.sent, day.failed) for day in days[-2:]] == [(1, 0), (0, 1)]
    assert str(days[-1].day) == "2026-11-23"


def test_a_day_of_25_hours_is_counted_whole() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    ended(datetime(2026, 10, 25, 23, 30, tzinfo=berlin))
    with timezone.override(berlin):
        [day] = reports.days(1, datetime(2026, 10, 25, 12, tzinfo=berlin))
    assert day.ends_at.astimezone(UTC) - day.starts_at.astimezone(UTC) == timedelta(hours=25)
    assert day.sent == 1


def test_the_queue_tells_what_is_due_from_what_comes_later() -> None:
    with timezone.override(KUALA_LUMPUR):
        BroadcastMessageFactory(scheduled_at=NOON - timedelta(minutes=5))
        BroadcastMessageFactory(scheduled_at=NOON + timedelta(hours=1))
        BroadcastMessageFactory(scheduled_at=NOON + timedelta(days=2))
        for status in ("processing", "queued", "paused", "unknown"):
            BroadcastMessageFactory(status=status)
        queue = reports.queue(NOON)
    assert (queue.due, queue.leaving_today, queue.waiting_longer, queue.waiting) == (1, 2, 1, 3)
    assert queue.oldest_due_at == NOON - timedelta(minutes=5)
    assert (queue.being_sent, queue.paused, queue.unknown) == (2, 1, 1)


@pytest.mark.parametrize(
    ("rules", "known", "new", "leave"),
    [
        ({}, 10, 10, 20),
        ({"daily_limit": 7, "usage_day_count": 3}, 10, 0, 4),
        ({"daily_limit": 7, "usage_day_count": 7}, 10, 0, 0),
        ({"first_contact_limit": 5, "usage_first_count": 3, "usage_day_count": 3}, 10, 10, 12),
        ({"hourly_limit": 1}, 20, 0, 12),
        ({"sends_from": time(8), "sends_until": time(12, 30)}, 200, 0, 180),
        ({"sends_from": time(8), "sends_until": time(11)}, 10, 0, 0),
        ({"min_delay_seconds": 3600, "max_delay_seconds": 3600}, 20, 0, 12),
        ({"enabled": False}, 10, 0, 0),
        ({"status": "banned"}, 10, 0, 0),
        ({"status": "restricted", "restricted_until": NOON + timedelta(hours=11)}, 800, 0, 360),
        ({"timezone": "Mars/Olympus_Mons"}, 10, 0, 0),
    ],
    ids=str,
)
def test_what_caps_hours_and_pauses_hold_over_night_is_not_todays(
    rules: dict[str, Any], known: int, new: int, leave: int
) -> None:
    device = DeviceFactory(
        **{"usage_day": NOON.date(), "min_delay_seconds": 10, "max_delay_seconds": 10, **rules}
    )
    campaign = CampaignFactory(sending=True)
    waits = {"device": device, "campaign": campaign, "scheduled_at": NOON}
    first = BroadcastMessage.Priority.CAMPAIGN_FIRST
    BroadcastMessageFactory.create_batch(known, **waits)
    BroadcastMessageFactory.create_batch(new, **waits, priority=first)
    BroadcastMessageFactory(campaign=campaign, device=None, scheduled_at=NOON)

    with timezone.override(KUALA_LUMPUR):
        queue = reports.queue(NOON)

    assert (queue.leaving_today, queue.waiting) == (leave, known + new + 1)


def test_an_empty_queue_has_no_oldest_message() -> None:
    assert reports.queue().oldest_due_at is None


def test_counts_of_several_campaigns_are_one_query(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    first, second, empty = CampaignFactory.create_batch(3, sending=True)
    BroadcastMessageFactory.create_batch(2, campaign=first)
    ended(NOON, "failed", campaign=second)
    with django_assert_num_queries(1):
        counts = reports.counts_by_campaign([first.pk, second.pk, empty.pk])
    assert counts[first.pk]["pending"] == 2
    assert counts[second.pk]["failed"] == 1
    assert set(counts[empty.pk].values()) == {0}


def test_a_rate_is_of_the_last_minutes_only() -> None:
    campaign = CampaignFactory(sending=True)
    now = timezone.now()
    for seconds in (60, 120, 180, 240, 290):
        ended(now - timedelta(seconds=seconds), campaign=campaign)
    ended(now - timedelta(minutes=30), campaign=campaign)
    ended(now - timedelta(seconds=60), "failed", campaign=campaign)
    rates = reports.rates_by_campaign({campaign.pk: now - timedelta(hours=1)}, now)
    assert rates == {campaign.pk: 1.0}


def test_a_campaign_that_began_two_minutes_ago_is_not_slow() -> None:
    campaign = CampaignFactory(sending=True)
    now = timezone.now()
    for seconds in (10, 50, 70, 110):
        ended(now - timedelta(seconds=seconds), campaign=campaign)
    rates = reports.rates_by_campaign({campaign.pk: now - timedelta(minutes=2)}, now)
    assert rates == {campaign.pk: 2.0}


def test_a_device_that_sent_nothing_yet_is_in_the_table_with_its_plan() -> None:
    campaign = CampaignFactory(sending=True)
    busy, idle = DeviceFactory(name="A"), DeviceFactory(name="B")
    ended(NOON, campaign=campaign, device=busy, delivered_at=NOON, read_at=NOON)
    ended(NOON + timedelta(minutes=1), "failed", campaign=campaign, device=busy)
    BroadcastMessageFactory(campaign=campaign, device=idle)
    BroadcastMessageFactory(campaign=campaign, device=None, status="skipped")
    first, second, nobody = by_device(campaign.pk)
    assert (first.device, first.planned, first.sent, first.failed) == (busy, 2, 1, 1)
    assert (first.delivered, first.read, first.last_at) == (1, 1, NOON)
    assert (second.device, second.planned, second.remaining) == (idle, 1, 1)
    assert (nobody.device, nobody.planned, nobody.skipped) == (None, 0, 1)


def test_minutes_without_a_message_are_there_with_nothing_in_them() -> None:
    campaign = CampaignFactory(sending=True)
    ended(NOON - timedelta(minutes=2, seconds=30), campaign=campaign)
    ended(NOON, "failed", campaign=campaign)
    ended(NOON)  # of another campaign
    minutes = reports.minutes(campaign.pk, NOON, count=5)
    assert [(m.sent, m.failed) for m in minutes] == [(0, 0), (1, 0), (0, 0), (0, 0), (0, 1)]


def test_health_sees_who_is_alive_and_what_is_stuck() -> None:
    now = timezone.now()
    for name, heartbeat_at in (("alive", now), ("dead", now - timedelta(minutes=10))):
        Worker.objects.create(
            id=name, hostname="host", pid=1, started_at=now, heartbeat_at=heartbeat_at
        )
    BroadcastMessageFactory(status="processing", processing_worker_id="gone", lease_epoch=99)
    health = reports.health()
    assert (health.broadcasters, health.stuck, health.repeated_today) == (1, 1, 0)
    assert health.scheduler.ended_at is None


def test_the_same_text_to_the_same_person_shows_from_whatever_campaign() -> None:
    first = ended(timezone.now(), body="The shop is open.")
    ended(timezone.now(), body="The shop is open.")  # somebody else
    ended(timezone.now(), body="The shop is shut.", lead=first.lead)
    assert reports.health().repeated_today == 0
    ended(timezone.now(), body="The shop is open.", lead=first.lead)
    assert reports.health().repeated_today == 1


def test_without_a_text_the_same_file_to_the_same_person_is_the_same() -> None:
    first = ended(timezone.now(), body="", attachment=AttachmentFactory())
    ended(timezone.now(), body="", attachment=AttachmentFactory(), lead=first.lead)
    assert reports.health().repeated_today == 0
    again = ended(timezone.now(), body="", attachment=first.attachment, lead=first.lead)
    assert reports.health().repeated_today == 1
    assert list(reports.repeated(timezone.localdate())) == [again]


def test_the_fleet_names_what_needs_somebody() -> None:
    DeviceFactory(online=True)
    lost = DeviceFactory(status="logged_out")
    DeviceFactory(status="banned", enabled=False)  # switched off: no news to anybody
    DeviceFactory()
    fleet = reports.fleet()
    assert (fleet.total, fleet.online, fleet.troubled, fleet.idle) == (4, 1, [lost], 2)


def test_reasons_for_leaving_out_are_counted_the_most_frequent_first() -> None:
    campaign = CampaignFactory(sending=True)
    for reason in ("no_consent", "opted_out", "opted_out"):
        BroadcastMessageFactory(campaign=campaign, status="skipped", skip_reason=reason)
    assert list(reports.skipped_by_reason(campaign.pk).items()) == [
        ("opted_out", 2),
        ("no_consent", 1),
    ]
