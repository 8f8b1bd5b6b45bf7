from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest
from django.utils import timezone

from campaigns.audience import Audience
from campaigns.forecast import forecast
from devices.models import Device
from leads.models import Lead, Niche, SkipReason
from tests.factories import (
    BroadcastMessageFactory,
    CampaignFactory,
    DeviceFactory,
    LeadFactory,
    SequenceStepFactory,
)

pytestmark = pytest.mark.django_db
START = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)


def niches(*names: str) -> list[Niche]:
    return list(Niche.ensure(names).values())


def test_a_niche_is_matched_exactly_never_by_substring() -> None:
    LeadFactory(niches=["HOTVITAC"])
    vitac = LeadFactory(niches=["VITAC"])

    assert list(Audience(niches=niches("VITAC")).leads) == [vitac]


def test_a_lead_in_two_of_the_niches_is_counted_once() -> None:
    LeadFactory(niches=["VITAC", "EXSTART"])

    assert Audience(niches=niches("VITAC", "EXSTART")).summary().total == 1


def test_no_niche_and_no_status_means_everybody() -> None:
    LeadFactory(niches=["VITAC"])
    LeadFactory(status=Lead.Status.CUSTOMER)

    assert Audience().summary().total == 2


def test_status_narrows_it() -> None:
    LeadFactory()
    customer = LeadFactory(status=Lead.Status.CUSTOMER)

    assert list(Audience(status="customer").leads) == [customer]


def test_the_summary_says_who_does_not_get_it_and_why() -> None:
    LeadFactory.create_batch(3)
    LeadFactory(opted_out=True)
    LeadFactory.create_batch(2, without_consent=True)
    LeadFactory(not_on_whatsapp_at=timezone.now())
    LeadFactory(opted_out=True, without_consent=True)  # one reason each, so that it adds up

    summary = Audience().summary()

    assert (summary.total, summary.will_receive) == (8, 3)
    assert summary.skipped == {
        SkipReason.OPTED_OUT: 2,
        SkipReason.NO_CONSENT: 2,
        SkipReason.NOT_ON_WHATSAPP: 1,
    }


def test_samples_are_people_who_will_receive_it() -> None:
    LeadFactory(opted_out=True)
    first, second = LeadFactory.create_batch(2)

    assert Audience().sample() == first
    assert Audience().sample(1) == second
    assert Audience().sample(2) is None
    assert Audience().sample(-1) is None


@pytest.mark.parametrize(
    ("leads", "devices", "says"),
    [
        ({}, {}, "No lead matches"),
        ({"opted_out": True}, {}, "is left out"),
        ({"opted_out": False}, {"enabled": False}, "No device may send"),
        ({"opted_out": False}, {"status": Device.Status.BANNED}, "No device may send"),
    ],
)
def test_blockers_say_what_stands_in_the_way(
    leads: dict[str, bool], devices: dict[str, object], says: str
) -> None:
    if leads:
        LeadFactory(**leads)
    DeviceFactory(**devices)

    (blocker,) = Audience().blockers()

    assert says in blocker


@pytest.mark.parametrize(
    ("chosen", "says"), [(1, "The device chosen may not send"), (2, "None of the devices chosen")]
)
def test_where_only_the_devices_chosen_are_off_that_is_said(chosen: int, says: str) -> None:
    LeadFactory()
    DeviceFactory()

    (blocker,) = Audience(devices=DeviceFactory.create_batch(chosen, enabled=False)).blockers()

    assert says in blocker


def test_nothing_stands_in_the_way_of_a_lead_and_a_device() -> None:
    LeadFactory()
    DeviceFactory(status=Device.Status.OFFLINE)  # offline now is not off for good

    assert Audience().blockers() == []


def test_the_forecast_plays_each_device_s_pace_through() -> None:
    DeviceFactory.create_batch(2, min_delay_seconds=10, max_delay_seconds=30)
    LeadFactory.create_batch(10)

    plan = forecast(Audience(), START)

    assert plan.first_at == START
    assert plan.finish_at == START + timedelta(seconds=4 * 20)
    assert plan.half_at == START + timedelta(seconds=2 * 20)
    assert [share.count for share in plan.per_device] == [5, 5]


def test_a_lead_s_own_device_writes_to_it() -> None:
    own, _ = DeviceFactory.create_batch(2)
    LeadFactory.create_batch(4, device=own)

    plan = forecast(Audience(), START)

    assert [(share.device, share.count) for share in plan.per_device] == [(own, 4)]


def test_what_already_waits_on_a_device_is_counted_in() -> None:
    device = DeviceFactory(min_delay_seconds=10, max_delay_seconds=10)
    BroadcastMessageFactory.create_batch(3, device=device)
    LeadFactory(niches=["NEW"])

    plan = forecast(Audience(niches=niches("NEW")), START)

    assert plan.first_at == START + timedelta(seconds=30)


def test_what_waits_now_has_left_by_a_later_start_and_what_has_not_is_waited_for() -> None:
    now = timezone.now()
    device = DeviceFactory(min_delay_seconds=600, max_delay_seconds=600, timezone="UTC")
    BroadcastMessageFactory.create_batch(6, device=device)
    LeadFactory(niches=["NEW"])
    audience, later = Audience(niches=niches("NEW")), now + timedelta(days=3)

    plan = forecast(audience, later)
    assert (plan.first_at, plan.brake) == (later, "")

    plan = forecast(audience, now + timedelta(minutes=15))
    assert plan.first_at
    assert timedelta(0) <= plan.first_at - (now + timedelta(hours=1)) < timedelta(minutes=1)
    assert "what waits on 1 device already" in plan.brake


def test_the_forecast_does_not_wait_for_what_is_paused() -> None:
    device, start = DeviceFactory(), timezone.now() + timedelta(seconds=1)
    campaign = CampaignFactory(sending=True, status="paused")
    step = SequenceStepFactory(sequence__status="paused")
    BroadcastMessageFactory.create_batch(3, device=device, campaign=campaign, status="paused")
    BroadcastMessageFactory(device=device, campaign=campaign)  # not moved yet
    BroadcastMessageFactory(
        device=device, campaign=None, sequence=step.sequence, sequence_step=step
    )
    LeadFactory(niches=["NEW"])

    assert forecast(Audience(niches=niches("NEW")), start).first_at == start


def test_leads_go_to_the_device_that_is_free_first() -> None:
    busy, free = DeviceFactory.create_batch(2, min_delay_seconds=10, max_delay_seconds=10)
    BroadcastMessageFactory.create_batch(100, device=busy)
    LeadFactory.create_batch(5, niches=["NEW"])

    plan = forecast(Audience(niches=niches("NEW")), START)

    assert [share.device for share in plan.per_device] == [free]


def test_nobody_to_send_to_or_from_is_no_forecast() -> None:
    assert forecast(Audience(), START).finish_at is None
    LeadFactory()
    assert forecast(Audience(), START).finish_at is None


def test_a_large_audience_is_placed_several_at_a_time_and_still_counts_every_cap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    DeviceFactory(daily_limit=12, timezone="UTC")
    capped = DeviceFactory(first_contact_limit=3, timezone="UTC")
    LeadFactory.create_batch(20, device=capped)
    LeadFactory.create_batch(20)
    one_by_one = forecast(Audience(), START)
    monkeypatch.setattr("campaigns.forecast.PLACED_ALONE", 10)

    plan = forecast(Audience(), START)

    assert plan.first_at == one_by_one.first_at
    assert plan.finish_at == one_by_one.finish_at
    assert [share.count for share in plan.per_device] == [20, 20]


@pytest.mark.parametrize(
    "rules", [{"daily_limit": 2}, {"warmup_started_on": START.date()}], ids=str
)
def test_of_a_large_audience_too_a_slow_device_gets_no_more_than_it_can_send_in_time(
    monkeypatch: pytest.MonkeyPatch, rules: dict[str, object]
) -> None:
    DeviceFactory(timezone="UTC", **rules)
    DeviceFactory(timezone="UTC")
    LeadFactory.create_batch(70)
    one_by_one = forecast(Audience(), START)
    monkeypatch.setattr("campaigns.forecast.PLACED_ALONE", 3)

    plan = forecast(Audience(), START)

    assert one_by_one.finish_at
    assert plan.finish_at
    assert plan.finish_at - one_by_one.finish_at < timedelta(minutes=10)
    assert plan.finish_at.date() == START.date()


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ({}, "the pauses that 1 device makes between messages."),
        ({"first_contact_limit": 4, "daily_limit": 9}, "cap on new people: 4 a day on 1 device."),
        ({"daily_limit": 3, "first_contact_limit": 9}, "cap on messages: 3 a day on 1 device."),
        ({"hourly_limit": 2}, "cap on messages: 2 an hour on 1 device."),
        ({"min_delay_seconds": 5000, "max_delay_seconds": 5000, "daily_limit": 9}, "the pauses"),
        ({"sends_from": time(1), "sends_until": time(2, 0, 10)}, "device: 01:00 to 02:00 (UTC)."),
        # What waits for the next day because of a cap waits for it through the night.
        ({"sends_from": time(1), "sends_until": time(3), "daily_limit": 5}, "messages: 5 a day"),
        ({"warmup_started_on": START.date(), "daily_limit": 30, "usage_day": START.date(),
          "usage_day_count": 15}, "warm-up of 1 device."),
    ],
    ids=str,
)  # fmt: skip
def test_the_forecast_says_what_most_of_the_time_goes_to(
    device: dict[str, object], says: str
) -> None:
    DeviceFactory(timezone="UTC", **device)
    LeadFactory.create_batch(10)

    assert says in forecast(Audience(), START).brake


def test_what_waits_already_may_be_what_most_of_the_time_goes_to() -> None:
    device = DeviceFactory(first_contact_limit=1, timezone="UTC")
    BroadcastMessageFactory.create_batch(4, device=device, priority=21)
    LeadFactory.create_batch(2, niches=["NEW"])

    assert "what waits on 1 device already" in forecast(Audience(niches=niches("NEW")), START).brake


def test_those_it_has_talked_with_do_not_wait_for_first_contacts_that_are_held() -> None:
    device = DeviceFactory(first_contact_limit=1, timezone="UTC")
    BroadcastMessageFactory.create_batch(4, device=device, priority=21)
    LeadFactory.create_batch(9, niches=["NEW"], device=device, replied_to=device)

    plan = forecast(Audience(niches=niches("NEW")), START)

    assert plan.finish_at
    assert plan.finish_at.date() == START.date()
    assert "the pauses that" in plan.brake


def test_the_reason_is_that_of_the_last_to_finish_and_of_those_held_alike() -> None:
    alike = DeviceFactory.create_batch(3, first_contact_limit=2, timezone="UTC")
    other = DeviceFactory(first_contact_limit=3, timezone="UTC")
    for device in (*alike, other):
        LeadFactory.create_batch(5, device=device)
    DeviceFactory()
    LeadFactory()

    assert "2 a day on 3 devices" in forecast(Audience(), START).brake


def test_the_same_hours_in_another_zone_are_not_the_same() -> None:
    hours = {"sends_from": time(8), "sends_until": time(8, 1)}
    here, there = (DeviceFactory(**hours, timezone=zone) for zone in ("Asia/Kuala_Lumpur", "UTC"))
    for device in (here, there):
        LeadFactory.create_batch(20, device=device)

    with timezone.override("Asia/Kuala_Lumpur"):
        assert "of 1 device: 08:00 to 08:01." in forecast(Audience(), START).brake
        Device.objects.update(timezone="Asia/Kuala_Lumpur")
        assert "of 2 devices: 08:00 to 08:01." in forecast(Audience(), START).brake


def test_who_leaves_at_once_waits_for_nothing() -> None:
    DeviceFactory()
    LeadFactory()

    assert forecast(Audience(), START).brake == ""


def test_the_forecast_counts_a_cap_on_first_contacts_in() -> None:
    device = DeviceFactory(first_contact_limit=3, timezone="UTC")
    LeadFactory.create_batch(4, device=device, replied_to=device)
    LeadFactory.create_batch(4)

    plan = forecast(Audience(), START)

    assert plan.finish_at
    assert plan.finish_at.date() == START.date() + timedelta(days=1)
    Device.objects.update(first_contact_limit=4)
    plan = forecast(Audience(), START)
    assert plan.finish_at
    assert plan.finish_at.date() == START.date()


def test_the_last_to_leave_decides_the_forecast_not_the_last_to_be_placed() -> None:
    capped, off = DeviceFactory(first_contact_limit=1, timezone="UTC"), DeviceFactory(enabled=False)
    LeadFactory.create_batch(5, device=off)
    LeadFactory(device=capped, replied_to=capped)

    plan = forecast(Audience(), START)

    assert plan.finish_at
    assert plan.finish_at.date() == START.date() + timedelta(days=4)
