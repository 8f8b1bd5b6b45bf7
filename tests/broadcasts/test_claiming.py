from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from broadcasts import claiming, pacing
from broadcasts.claimed import Claimed
from broadcasts.models import BroadcastMessage
from campaigns.models import Campaign
from devices.models import Device
from sequences.models import Sequence
from tests.factories import (
    BroadcastMessageFactory,
    CampaignFactory,
    DeviceFactory,
    SequenceFactory,
    SequenceStepFactory,
)

pytestmark = pytest.mark.django_db


def claim(*devices: Device, worker_id: str = "worker") -> list[Claimed]:
    return BroadcastMessage.objects.claim(
        worker_id=worker_id, device_ids=[device.pk for device in devices]
    )


def hand_over(messages: list[Claimed], worker_id: str = "worker") -> list[Claimed]:
    now = timezone.now()
    slots = {
        m.device_id: pacing.after_send(pacing.Pace(), pacing.Slot(), now, gap_seconds=9)
        for m in messages
    }
    return BroadcastMessage.objects.hand_over(messages, slots, at=now, worker_id=worker_id)


def test_a_claimed_message_names_its_worker_and_its_claim() -> None:
    message = BroadcastMessageFactory()

    (claimed,) = claim(message.device)

    message.refresh_from_db()
    assert claimed.pk == message.pk
    assert message.status == "processing"
    assert message.processing_worker_id == claimed.token
    assert claimed.token.startswith("worker/")
    assert message.processing_started_at is not None
    assert message.lease_epoch == message.device.lease_epoch


def test_two_claims_never_share_a_token() -> None:
    device = DeviceFactory(online=True)
    BroadcastMessageFactory.create_batch(2, device=device)

    tokens = {claim(device)[0].token for _ in range(2)}

    assert len(tokens) == 2


def test_one_claim_serves_every_device_with_the_head_of_each() -> None:
    devices = [DeviceFactory(online=True) for _ in range(3)]
    for device in devices:
        BroadcastMessageFactory.create_batch(2, device=device)

    claimed = claim(*devices)

    assert sorted(m.device_id for m in claimed) == sorted(d.pk for d in devices)


def test_what_is_claimed_is_not_claimed_again() -> None:
    message = BroadcastMessageFactory()
    claim(message.device)

    assert claim(message.device) == []


def test_lanes_go_before_age() -> None:
    device = DeviceFactory(online=True)
    old = timezone.now() - timedelta(hours=1)
    campaign = BroadcastMessageFactory(device=device, scheduled_at=old, priority=20)
    drip = BroadcastMessageFactory(device=device, campaign=None, priority=10)
    test = BroadcastMessageFactory(device=device, campaign=None, priority=0)

    assert [claim(device)[0].pk for _ in range(3)] == [test.pk, drip.pk, campaign.pk]


def test_within_a_lane_the_oldest_goes_first() -> None:
    device = DeviceFactory(online=True)
    second = BroadcastMessageFactory(device=device)
    first = BroadcastMessageFactory(
        device=device, scheduled_at=second.scheduled_at - timedelta(seconds=1)
    )

    assert [claim(device)[0].pk for _ in range(2)] == [first.pk, second.pk]


@pytest.mark.parametrize("status", ["draft", "scheduled", "paused", "cancelled"])
def test_a_campaign_that_is_not_sending_is_not_claimed(status: str) -> None:
    message = BroadcastMessageFactory(campaign=CampaignFactory(status=status))

    assert claim(message.device) == []


def test_a_pause_takes_effect_before_the_rows_have_moved() -> None:
    """The campaign alone is changed: its rows still wait in the hot part of the queue."""
    message = BroadcastMessageFactory()
    Campaign.objects.filter(pk=message.campaign.pk).update(status="paused")

    assert claim(message.device) == []
    message.refresh_from_db()
    assert message.status == "pending"


def test_a_pause_between_looking_and_taking_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    message = BroadcastMessageFactory()
    heads = claiming._heads

    def paused_after_looking(*args: object) -> list[int]:
        found = heads(*args)  # type: ignore[arg-type]
        Campaign.objects.update(status="paused")
        return found

    monkeypatch.setattr(claiming, "_heads", paused_after_looking)

    assert claim(message.device) == []


def test_a_paused_campaign_does_not_hold_up_the_next() -> None:
    paused = BroadcastMessageFactory(campaign=CampaignFactory(status="paused"))
    other = BroadcastMessageFactory(device=paused.device)

    assert [claimed.pk for claimed in claim(paused.device)] == [other.pk]


def test_a_paused_sequence_is_not_claimed() -> None:
    step = SequenceStepFactory(sequence=SequenceFactory(status=Sequence.Status.PAUSED))
    message = BroadcastMessageFactory(campaign=None, sequence=step.sequence, sequence_step=step)

    assert claim(message.device) == []


def test_neither_what_is_not_due_nor_what_is_too_late_is_claimed() -> None:
    now = timezone.now()
    early = BroadcastMessageFactory(scheduled_at=now + timedelta(minutes=1))
    late = BroadcastMessageFactory(expires_at=now - timedelta(seconds=1))

    assert claim(early.device, late.device) == []


@pytest.mark.parametrize(
    "state",
    [
        {"worker_id": "another"},
        {"worker_id": ""},
        {"lease_expires_at": timezone.now() - timedelta(seconds=1)},
        {"enabled": False},
        {"status": Device.Status.OFFLINE},
        {"status": Device.Status.RESTRICTED},
        {"next_send_at": timezone.now() + timedelta(hours=1)},
    ],
    ids=lambda state: next(iter(state)),
)
def test_a_device_that_may_not_send_now_claims_nothing(state: dict[str, object]) -> None:
    message = BroadcastMessageFactory()
    Device.objects.filter(pk=message.device.pk).update(**state)

    assert claim(message.device) == []


def test_claiming_for_no_device_asks_for_nothing(django_assert_num_queries) -> None:  # type: ignore[no-untyped-def]
    with django_assert_num_queries(0):
        assert claim() == []


def test_handing_over_commits_queued_the_attempt_and_the_next_slot() -> None:
    message = BroadcastMessageFactory()

    (handed,) = hand_over(claim(message.device))

    message.refresh_from_db()
    assert handed.pk == message.pk
    assert (message.status, message.attempts) == ("queued", 1)
    assert message.queued_at is not None
    message.device.refresh_from_db()
    assert message.device.next_send_at > timezone.now()


def test_a_worker_that_lost_its_lease_hands_nothing_over() -> None:
    message = BroadcastMessageFactory()
    claimed = claim(message.device)
    Device.objects.filter(pk=message.device.pk).update(worker_id="another", lease_epoch=2)

    assert hand_over(claimed) == []
    message.refresh_from_db()
    assert message.status == "processing"


def test_on_a_lease_that_has_run_out_nothing_is_handed_over() -> None:
    """By the database's clock, before anybody else has taken the device."""
    message = BroadcastMessageFactory()
    claimed = claim(message.device)
    Device.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))

    assert hand_over(claimed) == []
    assert BroadcastMessage.objects.get().status == "processing"


def test_a_worker_that_lost_and_retook_its_lease_does_not_hand_over_the_old_claim() -> None:
    message = BroadcastMessageFactory()
    claimed = claim(message.device)
    Device.objects.filter(pk=message.device.pk).update(lease_epoch=3)

    assert hand_over(claimed) == []


def test_a_message_released_in_the_meantime_is_not_handed_over() -> None:
    message = BroadcastMessageFactory()
    claimed = claim(message.device)
    assert BroadcastMessage.objects.unstick(older_than=timedelta())["released"] == 1

    assert hand_over(claimed) == []
    message.refresh_from_db()
    assert (message.status, message.processing_worker_id) == ("pending", None)


def test_of_two_devices_the_lost_one_does_not_hold_up_the_other() -> None:
    kept, lost = BroadcastMessageFactory(), BroadcastMessageFactory()
    claimed = claim(kept.device, lost.device)
    Device.objects.filter(pk=lost.device.pk).update(worker_id="another")

    assert [handed.pk for handed in hand_over(claimed)] == [kept.pk]
    lost.device.refresh_from_db()
    assert lost.device.next_send_at is None


def test_the_claim_reads_its_heads_off_the_index() -> None:
    """A claim that sorts or scans is the original's 4 claims a second."""
    from django.db import connection

    message = BroadcastMessageFactory()
    sql = claiming._sql(BroadcastMessage, claiming.HEADS, ids=1)
    explain = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
    with connection.cursor() as cursor:
        cursor.execute(f"{explain} {sql}", [message.device.pk, "worker"])
        plan = " ".join(str(row) for row in cursor.fetchall())

    assert "idx_broadcast_optimize" in plan
    assert "TEMP B-TREE" not in plan
    assert "filesort" not in plan


def test_a_hand_over_that_is_repeated_counts_once() -> None:
    """The commit's answer was lost: the second try finds everything handed over already."""
    device = DeviceFactory(online=True, usage_hour_count=7)
    BroadcastMessageFactory(device=device, priority=BroadcastMessage.Priority.CAMPAIGN_FIRST)
    claimed = claim(device)

    assert hand_over(claimed) == claimed
    assert hand_over(claimed) == claimed

    device.refresh_from_db()
    assert device.usage_day == timezone.now().date()
    counts = device.usage_hour_count, device.usage_day_count, device.usage_first_count
    assert counts == (1, 1, 1)


def test_a_hand_over_goes_on_counting_within_the_hour_and_the_day() -> None:
    device = DeviceFactory(online=True)
    for lane in (20, 21, 20):
        BroadcastMessageFactory(device=device, priority=lane)
    for _ in range(3):
        hand_over(claim(device))
        Device.objects.update(next_send_at=None)

    device.refresh_from_db()
    assert (device.usage_hour_count, device.usage_day_count, device.usage_first_count) == (3, 3, 1)
