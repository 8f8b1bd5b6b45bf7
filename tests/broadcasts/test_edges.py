"""Where one thing ends while another is under way: nothing stays behind, nothing waits unseen."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models import ProtectedError
from django.utils import timezone

from broadcasts import outcomes
from broadcasts.claimed import Claimed
from broadcasts.models import BroadcastMessage
from broadcasts.outcomes import Sent
from broadcasts.pacing import Slot
from campaigns.models import Campaign
from config import ledger
from devices.models import Device
from devices.transports.base import Accepted, Outcome, Refused
from tests.factories import BroadcastMessageFactory

pytestmark = pytest.mark.django_db
LONG_AGO = timezone.now() - timedelta(hours=5)


def claim(message: BroadcastMessage) -> list[Claimed]:
    return BroadcastMessage.objects.claim(worker_id="worker", device_ids=[message.device.pk])


def hand_over(claimed: list[Claimed]) -> list[Claimed]:
    slots = {message.device_id: Slot() for message in claimed}
    return BroadcastMessage.objects.hand_over(claimed, slots, at=timezone.now(), worker_id="worker")


def status_after_a_pass(message: BroadcastMessage) -> str:
    """What the message is once the scheduler has been round."""
    Campaign.objects.process()
    BroadcastMessage.objects.expire()
    message.refresh_from_db()
    Campaign.objects.update(audience_size=1)
    assert ledger.violations(again_after_seconds=0) == []
    return message.status


def test_a_claim_given_back_to_a_cancelled_campaign_is_cancelled() -> None:
    message = BroadcastMessageFactory()
    claimed = claim(message)
    message.campaign.cancel()

    assert BroadcastMessage.objects.unstick(older_than=timedelta())["released"] == len(claimed) == 1

    assert status_after_a_pass(message) == "cancelled"
    assert claim(message) == []


@pytest.mark.parametrize(
    ("outcome", "becomes"),
    [
        (Accepted("3EB0"), "sent"),
        (Refused("media_host_down", "Down.", timedelta(0)), "cancelled"),
        (Refused("bad_media", "No."), "failed"),
    ],
)
def test_what_is_on_the_wire_when_its_campaign_is_cancelled_ends(
    outcome: Outcome, becomes: str
) -> None:
    message = BroadcastMessageFactory()
    [handed] = hand_over(claim(message))
    message.campaign.cancel()

    outcomes.record([Sent(handed, outcome)])

    assert status_after_a_pass(message) == becomes


@pytest.mark.parametrize(("with_hand_over", "becomes"), [(False, "cancelled"), (True, "unknown")])
def test_what_a_dead_broadcaster_had_of_a_cancelled_campaign_ends(
    with_hand_over: bool, becomes: str
) -> None:
    message = BroadcastMessageFactory()
    claimed = claim(message)
    if with_hand_over:
        hand_over(claimed)
    message.campaign.cancel()
    Device.objects.update(lease_expires_at=LONG_AGO)

    BroadcastMessage.objects.unstick()

    assert status_after_a_pass(message) == becomes


def test_a_device_with_messages_cannot_be_deleted() -> None:
    message = BroadcastMessageFactory()

    with pytest.raises(ProtectedError):
        message.device.delete()


@pytest.mark.parametrize("status", ["banned", "logged_out", "restricted", "offline"])
def test_what_waits_for_a_device_that_is_away_goes_on_when_it_is_back(status: str) -> None:
    message = BroadcastMessageFactory()
    Device.objects.update(status=status)
    assert claim(message) == []

    Device.objects.update(status="online")  # paired again, or the block is over

    assert [claimed.pk for claimed in claim(message)] == [message.pk]


def test_what_waits_for_a_device_that_stays_away_expires_where_it_is_seen() -> None:
    message = BroadcastMessageFactory(expires_at=LONG_AGO)
    Device.objects.update(status="banned")

    assert status_after_a_pass(message) == "expired"
    # Sent on its way again it waits for the same device, and no longer than a recovery window.
    BroadcastMessage.objects.reschedule_expired()
    message.refresh_from_db()
    assert timezone.now() < message.expires_at < timezone.now() + timedelta(days=1)


def test_a_finished_campaign_whose_failed_are_tried_again_is_sending_and_ends_again() -> None:
    message = BroadcastMessageFactory(
        status="failed", error_code="bad_media", finished_at=LONG_AGO, scheduled_at=LONG_AGO
    )
    Campaign.objects.update(status="finished", finished_at=LONG_AGO)

    BroadcastMessage.objects.retry_failed()

    assert status_after_a_pass(message) == "pending"
    assert Campaign.objects.get().status == "sending"
