from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.db.models import CharField, Value
from django.utils import timezone

from broadcasts.models import BroadcastMessage
from campaigns import fanout
from campaigns.models import Campaign
from devices.models import Device
from leads.models import Lead, Niche
from tests.factories import (
    BroadcastMessageFactory,
    CampaignFactory,
    DeviceFactory,
    LeadFactory,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def device(db: None) -> Device:
    return DeviceFactory()


def due_campaign(**attributes: object) -> Campaign:
    campaign = CampaignFactory(**attributes)
    assert campaign.schedule()
    return campaign


def process(campaign: Campaign) -> Campaign:
    Campaign.objects.process()
    campaign.refresh_from_db()
    return campaign


def phones(campaign: Campaign) -> list[str]:
    return sorted(campaign.messages.values_list("recipient_phone", flat=True))


@pytest.mark.parametrize("fraction", [".000", ".500"])
def test_it_is_queued_whatever_fraction_of_a_second_it_began_at(fraction: str) -> None:
    LeadFactory()
    campaign = CampaignFactory(status="queuing", scheduled_at=timezone.now())
    # As SQLite's own clock writes it.
    began_at = Value(f"2026-11-27 06:00:00{fraction}", output_field=CharField())
    Campaign.objects.update(started_at=began_at)
    campaign.refresh_from_db()

    assert fanout.fan_out(campaign)
    assert campaign.messages.count() == 1


def test_every_lead_of_the_audience_has_one_message_and_it_adds_up() -> None:
    leads = LeadFactory.create_batch(7)
    LeadFactory(opted_out=True)
    LeadFactory(without_consent=True)

    campaign = process(due_campaign())

    assert campaign.status == "sending"
    assert campaign.audience_size == 9
    counts = campaign.counts()
    assert (counts["pending"], counts["skipped"]) == (7, 2)
    assert sum(counts.values()) == campaign.audience_size
    assert set(phones(campaign)) >= {lead.phone for lead in leads}


def test_who_is_left_out_has_a_row_that_says_why() -> None:
    lead = LeadFactory(opted_out=True)

    message = process(due_campaign()).messages.get()

    assert (message.status, message.skip_reason) == ("skipped", "opted_out")
    assert (message.lead, message.body, message.device) == (lead, "", None)


def test_each_reads_the_message_made_out_to_them() -> None:
    LeadFactory(name="Siti Nurhaliza")
    LeadFactory(name="")

    campaign = process(due_campaign(message="Hi {name|there},\n\nopen: https://a.my/{phone}"))

    first, second = campaign.messages.order_by("pk")
    assert first.body.startswith("Hi Siti Nurhaliza,\n\nopen: https://a.my/+60")
    assert second.body.startswith("Hi there,")


def test_only_the_audience_gets_it() -> None:
    vitac = LeadFactory(niches=["VITAC"], status=Lead.Status.CUSTOMER)
    LeadFactory(niches=["VITAC"])
    LeadFactory(niches=["HOTVITAC"], status=Lead.Status.CUSTOMER)
    campaign = CampaignFactory(target_status="customer")
    campaign.niches.set(Niche.objects.filter(name="VITAC"))
    campaign.schedule()

    assert phones(process(campaign)) == [vitac.phone]


def test_it_is_sent_from_the_devices_chosen() -> None:
    chosen = DeviceFactory()
    LeadFactory.create_batch(4)
    campaign = CampaignFactory()
    campaign.devices.add(chosen)
    campaign.schedule()

    assert set(process(campaign).messages.values_list("device", flat=True)) == {chosen.pk}


def test_a_draft_or_a_campaign_of_tomorrow_is_left_alone() -> None:
    LeadFactory()
    draft, tomorrow = CampaignFactory(), CampaignFactory()
    tomorrow.schedule(timezone.now() + timedelta(days=1))

    assert process(draft).status == "draft"
    assert process(tomorrow).status == "scheduled"
    assert not BroadcastMessage.objects.exists()


def test_more_than_a_chunk_is_queued_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "CHUNK", 3)
    leads = LeadFactory.create_batch(10)

    assert phones(process(due_campaign())) == sorted(lead.phone for lead in leads)


def test_killed_between_chunks_it_goes_on_from_the_checkpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fanout, "CHUNK", 4)
    leads = LeadFactory.create_batch(10)
    campaign = due_campaign()
    after_the_second_chunk = interrupt(monkeypatch, after=2)
    with pytest.raises(KeyboardInterrupt):
        Campaign.objects.process()
    campaign.refresh_from_db()
    assert campaign.status == "queuing"
    assert campaign.messages.count() == 8

    after_the_second_chunk()
    process(campaign)

    assert campaign.status == "sending"
    assert phones(campaign) == sorted(lead.phone for lead in leads)


def test_a_chunk_committed_by_another_scheduler_is_not_queued_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two schedulers read the same checkpoint: the slower finds it moved and undoes its chunk."""
    monkeypatch.setattr(fanout, "CHUNK", 2)
    leads = LeadFactory.create_batch(4)
    campaign = due_campaign()
    campaign.start()
    slower = Campaign.objects.get(pk=campaign.pk)
    fanout._freeze_audience(slower)
    interrupt(monkeypatch, after=1)
    with pytest.raises(KeyboardInterrupt):
        fanout.fan_out(Campaign.objects.get(pk=campaign.pk))

    assert not fanout._commit_chunk(slower, [], leads[-1].pk)

    campaign.refresh_from_db()
    assert campaign.status == "queuing"
    assert campaign.checkpoint_lead_id == leads[1].pk


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("code", [1213, 2013], ids=["deadlock", "lost connection"])
def test_a_page_that_met_trouble_goes_on_behind_the_chunks_that_it_committed(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """A connection that is lost takes away what was staged on it."""
    monkeypatch.setattr(fanout, "CHUNK", 2)
    leads = LeadFactory.create_batch(7)
    campaign = due_campaign()
    enqueue, inserts = fanout.enqueue_staged, 0

    def meet_trouble(*arguments: Any, **named: Any) -> None:
        nonlocal inserts
        inserts += 1
        if inserts == 2:
            if code == 2013:
                connection.close()  # that of whoever writes
            raise OperationalError(code, "trouble")
        enqueue(*arguments, **named)

    monkeypatch.setattr(fanout, "enqueue_staged", meet_trouble)
    process(campaign)

    assert inserts == 1 + 1 + 3
    assert (campaign.status, campaign.audience_size) == ("sending", 7)
    assert phones(campaign) == sorted(lead.phone for lead in leads)


def test_leads_that_come_in_while_it_is_queued_are_not_part_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fanout, "CHUNK", 2)
    LeadFactory.create_batch(4)
    campaign = due_campaign()
    go_on = interrupt(monkeypatch, after=1)
    with pytest.raises(KeyboardInterrupt):
        Campaign.objects.process()
    late = LeadFactory()

    go_on()
    process(campaign)

    assert campaign.audience_size == 4
    assert late.phone not in phones(campaign)


def test_paused_while_it_is_queued_it_stops_and_goes_on_where_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fanout, "CHUNK", 2)
    LeadFactory.create_batch(6)
    campaign = due_campaign()
    interrupt(monkeypatch, after=1, by=lambda: campaign.pause())

    Campaign.objects.process()
    campaign.refresh_from_db()
    assert (campaign.status, campaign.messages.count()) == ("paused", 2)
    assert campaign.counts()["paused"] == 2

    assert campaign.resume()
    assert campaign.status == "queuing"
    process(campaign)
    assert (campaign.status, campaign.counts()["pending"]) == ("sending", 6)


def test_without_a_device_it_waits_instead_of_leaving_everybody_out(device: Device) -> None:
    LeadFactory()
    Device.objects.update(enabled=False)

    campaign = process(due_campaign())
    assert (campaign.status, campaign.messages.count()) == ("queuing", 0)

    Device.objects.update(enabled=True)
    assert process(campaign).counts()["pending"] == 1


def test_an_audience_of_nobody_is_finished_at_once() -> None:
    campaign = process(due_campaign())

    assert (campaign.status, campaign.audience_size) == ("finished", 0)


def test_messages_expire_by_when_they_were_expected_not_by_when_they_were_queued(
    device: Device,
) -> None:
    """A campaign of hours does not expire because it takes hours."""
    Device.objects.update(min_delay_seconds=3600, max_delay_seconds=3600)
    LeadFactory.create_batch(6)

    campaign = process(due_campaign())

    last = campaign.messages.latest("expires_at")
    assert last.expires_at - campaign.scheduled_at >= timedelta(hours=5 + 3, minutes=-1)


def test_after_an_outage_what_is_too_late_is_expired_and_shown() -> None:
    LeadFactory()
    campaign = due_campaign()
    Campaign.objects.update(scheduled_at=timezone.now() - timedelta(hours=4))

    process(campaign)
    BroadcastMessage.objects.expire()

    assert campaign.counts()["expired"] == 1


def interrupt(
    monkeypatch: pytest.MonkeyPatch, *, after: int, by: Callable[[], object] | None = None
) -> Callable[[], None]:
    """Interrupts the fan-out after so many chunks: by Ctrl-C, or by something that happens then.

    Returns what takes the interruption away again.
    """
    commit = fanout._commit_chunk
    chunks = 0

    def counting(*args: object) -> bool:
        nonlocal chunks
        committed = commit(*args)  # type: ignore[arg-type]
        chunks += 1
        if chunks == after:
            if by is None:
                raise KeyboardInterrupt
            by()
        return committed

    monkeypatch.setattr(fanout, "_commit_chunk", counting)
    return lambda: monkeypatch.setattr(fanout, "_commit_chunk", commit)


def test_whoever_the_device_has_talked_with_goes_before_first_contacts(device: Device) -> None:
    LeadFactory.create_batch(2)
    written_to = LeadFactory(device=device)
    BroadcastMessageFactory(
        lead=written_to,
        device=device,
        status="sent",
        sent_at=timezone.now(),
        finished_at=timezone.now(),
    )
    off = DeviceFactory(enabled=False)
    asleep = LeadFactory(device=off, replied_to=off)

    campaign = process(due_campaign())

    lanes = dict(campaign.messages.values_list("lead_id", "priority"))
    assert lanes.pop(written_to.pk) == BroadcastMessage.Priority.CAMPAIGN
    # Another device writes to that one now, and is new to them.
    assert lanes[asleep.pk] == BroadcastMessage.Priority.CAMPAIGN_FIRST
    assert set(lanes.values()) == {BroadcastMessage.Priority.CAMPAIGN_FIRST}


@pytest.mark.parametrize("message", ["Hi {name|there}", "Hi {first_name} of {niche}"])
def test_the_lane_does_not_depend_on_who_fills_in_the_text(message: str, device: Device) -> None:
    LeadFactory(device=device, replied_to=device, niches=["VITAC"])

    campaign = process(due_campaign(message=message))

    assert campaign.messages.get().priority == BroadcastMessage.Priority.CAMPAIGN
