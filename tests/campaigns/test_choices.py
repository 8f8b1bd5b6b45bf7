"""What people chose, and that it stays so: whom a campaign is for, from which devices, that it is
over, and that somebody wants no more of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection
from django.utils import timezone

from broadcasts.models import BroadcastMessage
from broadcasts.worker import Broadcaster
from campaigns import fanout
from campaigns.models import Campaign
from campaigns.progress import progress_of
from config import ledger
from devices.models import Device, SimulatedMessage
from leads.models import Lead, Niche
from sequences.models import Sequence
from tests.factories import (
    BroadcastMessageFactory,
    CampaignFactory,
    DeviceFactory,
    LeadFactory,
    NicheFactory,
    SequenceFactory,
)

pytestmark = pytest.mark.django_db


def scheduled(*, niche: Niche | None = None, device: Device | None = None) -> Campaign:
    campaign: Campaign = CampaignFactory()
    campaign.niches.set([niche] if niche else [])
    campaign.devices.set([device] if device else [])
    campaign.schedule(timezone.now() + timedelta(hours=1))
    return campaign


def let_it_begin() -> None:
    Campaign.objects.update(scheduled_at=timezone.now() - timedelta(seconds=1))
    Campaign.objects.process()


# Whom and from where


@pytest.mark.parametrize("members", [0, 1])
def test_a_campaign_whose_only_niche_is_deleted_goes_to_nobody(members: int) -> None:
    DeviceFactory()
    niche = NicheFactory()
    LeadFactory.create_batch(members, niches=[niche.name])
    LeadFactory.create_batch(3)
    campaign = scheduled(niche=niche)

    niche.delete()
    let_it_begin()

    assert campaign.messages.count() == 0
    campaign.refresh_from_db()
    assert campaign.audience_size == 0


def test_a_campaign_of_two_niches_keeps_to_the_one_that_is_left() -> None:
    DeviceFactory()
    kept, gone = NicheFactory(), NicheFactory()
    lead = LeadFactory(niches=[kept.name])
    LeadFactory.create_batch(3)
    campaign = scheduled(niche=kept)
    campaign.niches.add(gone)

    gone.delete()
    let_it_begin()

    assert campaign.messages.get().lead == lead


def test_a_campaign_whose_only_device_is_deleted_waits() -> None:
    chosen = DeviceFactory()
    DeviceFactory()
    LeadFactory()
    campaign = scheduled(device=chosen)

    chosen.delete()
    let_it_begin()

    assert campaign.messages.count() == 0
    campaign.refresh_from_db()
    assert campaign.status == "queuing"


def test_a_campaign_for_which_nothing_was_chosen_goes_to_all_from_all() -> None:
    DeviceFactory.create_batch(2)
    LeadFactory.create_batch(2)
    campaign = scheduled()

    NicheFactory().delete()
    let_it_begin()

    assert campaign.messages.order_by().values("device").distinct().count() == 2


# Queuing


def test_a_campaign_that_cannot_be_queued_does_not_hold_up_the_others() -> None:
    DeviceFactory()
    LeadFactory()
    campaigns = [CampaignFactory(message=text) for text in ("Hi", "{broken}", "Hi")]
    for campaign in campaigns:
        campaign.schedule()

    Campaign.objects.process()

    statuses = Campaign.objects.order_by("pk").values_list("status", flat=True)
    assert list(statuses) == ["sending", "queuing", "sending"]


def test_a_chunk_that_somebody_else_was_faster_with_is_undone() -> None:
    """Looked at and read by two schedulers alike; the other one commits first."""
    DeviceFactory()
    LeadFactory.create_batch(2)
    campaign = CampaignFactory()
    campaign.schedule()
    campaign.start()
    done: list[int] = []

    def look(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        if not done and "CREATE TEMPORARY" in sql:  # the chunk's leads have just been read
            done.append(Campaign.objects.filter(pk=campaign.pk).update(checkpoint_lead_id=10**9))
        return execute(sql, *arguments)

    with connection.execute_wrapper(look):
        assert fanout.fan_out(campaign) is False

    assert done == [1]
    assert campaign.messages.count() == 0
    campaign.refresh_from_db()
    assert (campaign.status, campaign.audience_size) == ("queuing", 0)


def test_a_row_that_is_lost_while_it_is_queued_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number changes hands between two chunks: its new owner's row is the old owner's."""
    monkeypatch.setattr(fanout, "CHUNK", 1)
    DeviceFactory()
    old, new = LeadFactory(), LeadFactory()
    number, campaign = old.phone, CampaignFactory()
    campaign.schedule()
    done: list[bool] = []

    def look(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        result = execute(sql, *arguments)
        plain = sql.replace('"', "").replace("`", "").strip()
        if not done and plain.startswith("INSERT INTO broadcast_messages"):
            done.append(True)
            Lead.objects.filter(pk=old.pk).update(phone="60199999999")
            Lead.objects.filter(pk=new.pk).update(phone=number)
        return result

    with connection.execute_wrapper(look):
        Campaign.objects.process()

    campaign.refresh_from_db()
    (progress,) = progress_of([campaign])
    assert (campaign.audience_size, campaign.messages.count()) == (2, 1)
    assert not progress.adds_up
    assert list(ledger.violations(campaign))


# What is over is over, and what waits for nobody


@pytest.mark.parametrize(
    ("status", "verb"),
    [
        ("failed", "retry_failed"),
        ("expired", "reschedule_expired"),
        ("unknown", "settle_as_not_sent"),
    ],
)
def test_of_a_cancelled_campaign_nothing_starts_over(status: str, verb: str) -> None:
    values: dict[str, object] = {
        "status": status,
        "error_code": "bad",
        "finished_at": timezone.now(),
    }
    ended = BroadcastMessageFactory(campaign=CampaignFactory(status="cancelled"), **values)
    other = BroadcastMessageFactory(**values)

    assert getattr(BroadcastMessage.objects.all(), verb)() == 1

    ended.refresh_from_db()
    other.refresh_from_db()
    assert (ended.status, ended.error_code, other.status) == (status, "bad", "pending")


@pytest.mark.parametrize("status", ["queuing", "sending", "finished"])
def test_what_a_broadcaster_would_claim_is_leaving(status: str) -> None:
    BroadcastMessageFactory(campaign=CampaignFactory(status=status))

    assert BroadcastMessage.objects.leaving().exists()


@pytest.mark.parametrize("status", ["scheduled", "paused", "cancelled"])
def test_what_waits_for_a_person_is_not_leaving(status: str) -> None:
    BroadcastMessageFactory(campaign=CampaignFactory(status=status))

    assert not BroadcastMessage.objects.leaving().exists()


def test_a_paused_sequence_and_what_is_too_late_are_not_leaving() -> None:
    paused = SequenceFactory(status=Sequence.Status.PAUSED)
    BroadcastMessageFactory(campaign=None, sequence=paused)
    BroadcastMessageFactory(expires_at=timezone.now() - timedelta(seconds=1))

    assert not BroadcastMessage.objects.leaving().exists()


def test_what_is_in_somebody_s_hands_is_leaving_whatever_became_of_its_campaign() -> None:
    BroadcastMessageFactory(status="queued", campaign=CampaignFactory(status="cancelled"))

    assert BroadcastMessage.objects.leaving().exists()


@pytest.mark.django_db(transaction=True)
def test_who_withdrew_consent_since_it_was_queued_receives_nothing(settings: LazySettings) -> None:
    settings.SIMULATOR_SPEED = 1000
    message = BroadcastMessageFactory(device=DeviceFactory())
    Lead.objects.update(consented_at=None)

    Broadcaster(drain=True).run()

    message.refresh_from_db()
    assert (message.status, message.skip_reason) == ("skipped", "no_consent")
    assert not SimulatedMessage.objects.exists()
