"""WhatsApp's reach-out restriction: an account may write only to people it has talked with."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from broadcasts import leases, pacing, worker
from broadcasts.inbound import Reports, Said
from broadcasts.leases import Leases
from broadcasts.models import BroadcastMessage
from broadcasts.pacing import Brake, Pace, Slot
from broadcasts.reports import fleet
from broadcasts.templatetags.reasons import reason
from broadcasts.timeline import outlooks
from campaigns.audience import Audience
from campaigns.forecast import Forecast, forecast
from devices.models import Device
from devices.queryset import FIRST_CONTACTS_BLOCKED
from devices.transports import simulator, transport
from devices.transports.base import Blocked, DeviceBlocked
from devices.transports.simulator import World
from leads.models import Niche
from tests.broadcasts.test_fences import lease_of
from tests.broadcasts.test_leases import started, turn, turn_until
from tests.broadcasts.test_outcomes import after, on_the_wire
from tests.factories import (
    BroadcastMessageFactory,
    CampaignFactory,
    DeviceFactory,
    LeadFactory,
)

pytestmark = pytest.mark.django_db

Priority = BroadcastMessage.Priority
STRANGER = DeviceBlocked("463", "Only to people it has talked with.", "first_contacts")
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


def blocked(**values: Any) -> Device:
    until = timezone.now() + timedelta(days=2)
    return DeviceFactory(name="Sales 01", online=True, first_contacts_blocked_until=until, **values)


# What becomes of the message and the device


@pytest.mark.parametrize("until", [None, NOON + timedelta(days=900)], ids=["no end", "an end"])
def test_the_message_waits_and_the_device_says_until_when(until: datetime | None) -> None:
    message = after(on_the_wire(priority=Priority.CAMPAIGN_FIRST), replace(STRANGER, until=until))

    assert (message.status, message.attempts, message.priority) == ("pending", 0, 21)
    device = Device.objects.get()
    assert device.status == "online"
    blocked_until = device.first_contacts_blocked_until
    assert blocked_until
    expected = until or timezone.now() + FIRST_CONTACTS_BLOCKED
    assert abs(blocked_until - expected) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("lane", "of_new_people"), [(8, 9), (10, 11), (18, 19), (19, 19), (20, 21), (21, 21)]
)
def test_whom_whatsapp_takes_for_a_stranger_waits_with_the_strangers(
    lane: int, of_new_people: int
) -> None:
    """In its own lane it would be claimed again, and refused again, for as long as this lasts."""
    message = after(on_the_wire(priority=lane), STRANGER)

    assert (message.status, message.priority) == ("pending", of_new_people)


def test_a_test_message_says_what_it_found_out() -> None:
    message = after(on_the_wire(priority=Priority.TEST), STRANGER)

    assert (message.status, message.error_code) == ("failed", "463")
    assert message.error_message == STRANGER.message


def test_a_session_may_say_so_by_itself() -> None:
    device = DeviceFactory(online=True)
    held = Leases("worker", capacity=1, report=lambda *_: None)
    held.held[device.pk] = lease = lease_of(device)
    held.renew_in_time()  # so that it knows what time it is
    reports = Reports(held)

    reports.add(Said(device.pk, lease.epoch, Blocked("first_contacts", "Few answered.")))
    list(reports.act())

    device.refresh_from_db()
    assert (device.state, device.first_contacts_are_blocked) == ("online", True)
    assert lease.connected
    assert not pacing.may_contact_first(lease.pace, lease.slot, timezone.now())


def test_a_block_for_so_long_is_counted_from_the_database_s_time() -> None:
    device = DeviceFactory(online=True)
    leases = Leases("worker", capacity=1, report=lambda *_: None)
    leases.held[device.pk] = lease = lease_of(device)
    leases.renew_in_time()
    leases._clock_offset += 600  # this host's clock is ten minutes behind the database's
    reports = Reports(leases)

    hour = timedelta(hours=1)
    reports.add(Said(device.pk, lease.epoch, Blocked("banned", "402", for_=hour)))
    list(reports.act())

    device.refresh_from_db()
    assert device.restricted_until
    assert abs(device.restricted_until - leases.now() - hour) < timedelta(minutes=1)


# What the broadcaster does


@pytest.mark.django_db(transaction=True)
def test_a_broadcaster_goes_on_with_people_it_knows_and_tries_nobody_new(
    settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SIMULATOR_SPEED, settings.HEARTBEAT_SECONDS = 1000, 0
    for module in (leases, worker):
        monkeypatch.setattr(module, "LOOK_AROUND_SECONDS", 0.0)
    monkeypatch.setattr(simulator, "BLOCKED_SECONDS", 3_600_000)  # an hour, at this speed
    world = World(not_on_whatsapp=0, media_host_down=0, delivered=0, strangers=0.5)
    monkeypatch.setattr(transport("simulator"), "world", world)
    leads = LeadFactory.create_batch(40)
    natures = [(world.nature("stranger", lead.phone) < 0.5, lead) for lead in leads]
    strangers = [lead for is_stranger, lead in natures if is_stranger][:4]
    friends = [lead for is_stranger, lead in natures if not is_stranger][:4]
    device = DeviceFactory()
    first = {"device": device, "priority": Priority.SEQUENCE_FIRST}
    new = [BroadcastMessageFactory(lead=lead, **first) for lead in strangers]
    known = [BroadcastMessageFactory(lead=lead, device=device) for lead in friends]
    broadcaster = started()

    def statuses(messages: list[BroadcastMessage]) -> set[str]:
        found = BroadcastMessage.objects.filter(pk__in=[message.pk for message in messages])
        return set(found.values_list("status", flat=True))

    turn_until(broadcaster, lambda: statuses(known) == {"sent"})
    turn(broadcaster, times=5)

    device.refresh_from_db()
    assert statuses(new) == {"pending"}
    assert (device.usage_first_count, device.usage_day_count) == (1, 5), "one of them was tried"
    assert (device.state, device.first_contacts_are_blocked) == ("online", True)

    monkeypatch.setattr(leases, "REFRESH_SECONDS", 0.0)
    session: Any = broadcaster._leases.held[device.pk].session
    session.world = replace(world, strangers=0)
    assert Device.objects.work_again() == 1
    turn_until(broadcaster, lambda: statuses(new) == {"sent"})
    broadcaster._finish()


def test_the_end_of_the_block_lets_first_contacts_leave_again() -> None:
    until = NOON + timedelta(hours=3)
    pace = Pace(first_contacts_blocked_until=until)

    assert not pacing.may_contact_first(pace, Slot(), until - timedelta(seconds=1))
    assert pacing.may_contact_first(pace, Slot(), until)


# What is said beforehand


@pytest.mark.parametrize(
    ("rules", "brake", "until"),
    [
        ({}, Brake.FIRST_CONTACTS_BLOCK, NOON + timedelta(hours=3)),
        (
            {"first_contact_limit": 1},  # used up
            Brake.FIRST_CONTACTS_BLOCK, datetime(2026, 11, 27, tzinfo=UTC),
        ),
        (
            {"first_contacts_blocked_until": NOON, "first_contact_limit": 1},  # it is over
            Brake.NEW_PEOPLE_A_DAY, datetime(2026, 11, 27, tzinfo=UTC),
        ),
        ({"first_contacts_blocked_until": NOON}, None, None),
    ],
)  # fmt: skip
def test_what_holds_a_first_contact_and_until_when(
    rules: dict[str, Any], brake: Brake | None, until: datetime | None
) -> None:
    pace = Pace(**{"first_contacts_blocked_until": NOON + timedelta(hours=3), **rules})
    slot = Slot(usage_day=NOON.date(), usage_day_count=1, usage_first_count=1)

    hold = pacing.waits_for(pace, slot, NOON, first_contact=True)

    assert (hold and hold.brake, hold and hold.until) == (brake, until)
    assert pacing.waits_for(pace, slot, NOON) is None


def test_a_campaign_s_end_counts_the_block_in() -> None:
    device, campaign = blocked(timezone="UTC"), CampaignFactory(sending=True)
    until = device.first_contacts_blocked_until
    BroadcastMessageFactory(device=device, campaign=campaign, priority=Priority.CAMPAIGN_FIRST)
    other = CampaignFactory(sending=True)
    BroadcastMessageFactory(device=device, campaign=other)

    now = timezone.now()
    ends = {pk: each.ends_at for pk, each in outlooks(Device.objects.all(), now).items()}

    assert ends[campaign.pk] == until
    assert ends[other.pk] < now + timedelta(minutes=1)


def test_the_forecast_waits_for_it_with_new_people_only() -> None:
    device = blocked(timezone="UTC")
    known = LeadFactory(device=device, niches=["OLD"])
    BroadcastMessageFactory(lead=known, device=device, status="sent", sent_at=timezone.now())
    LeadFactory(device=device, niches=["NEW"])
    now = timezone.now()

    def plan(niche: str) -> Forecast:
        return forecast(Audience(niches=[Niche.objects.get(name=niche)]), now)

    assert plan("OLD").finish_at < now + timedelta(minutes=1)
    new = plan("NEW")
    assert new.finish_at == device.first_contacts_blocked_until
    assert "until WhatsApp lets 1 device write to new people again" in new.brake


def test_leads_without_a_device_go_to_one_that_may_write_to_them() -> None:
    blocked(timezone="UTC")
    free = DeviceFactory(timezone="UTC")
    LeadFactory.create_batch(3)

    plan = forecast(Audience(), timezone.now())

    assert [share.device for share in plan.per_device] == [free]


# What the operator sees


def test_the_pages_say_it_and_take_the_operator_s_word_that_it_is_over(
    operator_client: Client,
) -> None:
    device = blocked()
    message = BroadcastMessageFactory(device=device, priority=Priority.CAMPAIGN_FIRST)

    for name, args in (("devices:list", []), ("devices:detail", [device.pk])):
        page = operator_client.get(reverse(name, args=args)).content.decode()
        assert "WhatsApp lets Sales 01 write only to people it has talked with." in page
        assert "nobody new" in page
    assert "write only to people it has talked with" in reason(message)
    assert "nobody new until" in operator_client.get(reverse("overview")).content.decode()
    assert [each.pk for each in fleet().troubled] == [device.pk]
    assert fleet().idle == 0

    operator_client.post(reverse("devices:works_again", args=[device.pk]))

    device.refresh_from_db()
    assert (device.status, device.first_contacts_blocked_until) == ("online", None)
    assert reason(BroadcastMessage.objects.get(pk=message.pk)) == ""
