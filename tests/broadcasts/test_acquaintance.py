"""Whom a device has talked with, and the lanes and the cap of those it has not."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from broadcasts import acquaintance, inbound
from broadcasts.claimed import Claimed
from broadcasts.models import BroadcastMessage
from broadcasts.outcomes import Sent, record, record_receipts
from devices.transports.base import Accepted, Inbound, Receipt
from leads.models import Lead
from tests.factories import BroadcastMessageFactory, DeviceFactory, LeadFactory

pytestmark = pytest.mark.django_db

Priority = BroadcastMessage.Priority


def claimed(device_id: int, *, nobody_new: bool = False) -> list[Claimed]:
    return BroadcastMessage.objects.claim(
        worker_id="worker", device_ids=[device_id], nobody_new=[device_id] if nobody_new else []
    )


def test_who_was_sent_something_or_has_replied_is_known_to_that_device_alone() -> None:
    device, other = DeviceFactory(), DeviceFactory()
    written_to, replied, stranger = LeadFactory(), LeadFactory(device=device), LeadFactory()
    BroadcastMessageFactory(lead=written_to, device=device, status="sent", sent_at=timezone.now())
    BroadcastMessageFactory(lead=stranger, device=device, status="unknown")
    Lead.objects.filter(pk=replied.pk).update(replied_to=device)

    everybody = [written_to.pk, replied.pk, stranger.pk]
    assert acquaintance.known(everybody) == {
        (written_to.pk, device.pk),
        (replied.pk, device.pk),
    }
    assert (written_to.pk, other.pk) not in acquaintance.known(everybody)
    written_to.device = device
    written_to.save()
    assert set(Lead.objects.filter(acquaintance.has_talked())) == {written_to, replied}


def test_a_device_that_may_write_to_nobody_new_steps_over_first_contacts() -> None:
    device = DeviceFactory(online=True)
    BroadcastMessageFactory.create_batch(3, device=device, priority=Priority.SEQUENCE_FIRST)
    known = BroadcastMessageFactory(device=device, priority=Priority.CAMPAIGN)
    BroadcastMessageFactory(device=device, priority=Priority.CAMPAIGN_FIRST)

    assert [message.pk for message in claimed(device.pk, nobody_new=True)] == [known.pk]
    assert claimed(device.pk, nobody_new=True) == []
    assert claimed(device.pk)[0].priority == Priority.SEQUENCE_FIRST


def test_other_devices_of_the_same_claim_begin_first_contacts_all_the_same() -> None:
    capped, free = DeviceFactory.create_batch(2, online=True)
    BroadcastMessageFactory(device=capped, priority=Priority.CAMPAIGN_FIRST)
    message = BroadcastMessageFactory(device=free, priority=Priority.CAMPAIGN_FIRST)

    [got] = BroadcastMessage.objects.claim(
        worker_id="worker", device_ids=[capped.pk, free.pk], nobody_new=[capped.pk]
    )
    assert got.pk == message.pk


def test_a_sent_first_contact_takes_what_else_waits_for_that_person_out_of_its_lane() -> None:
    device = DeviceFactory(online=True)
    lead = LeadFactory()
    BroadcastMessageFactory(lead=lead, device=device, priority=Priority.CAMPAIGN_FIRST)
    later = timezone.now() + timedelta(hours=1)
    same = BroadcastMessageFactory(
        lead=lead, device=device, priority=Priority.SEQUENCE_FIRST, scheduled_at=later
    )
    from_another = BroadcastMessageFactory(lead=lead, priority=Priority.CAMPAIGN_FIRST)
    to_another = BroadcastMessageFactory(
        device=device, priority=Priority.CAMPAIGN_FIRST, scheduled_at=later
    )
    BroadcastMessage.objects.filter(pk=same.pk).update(status="paused")
    [message] = claimed(device.pk)
    BroadcastMessage.objects.filter(pk=message.pk).update(status="queued")

    record([Sent(message, Accepted("ID1"))])

    for each in (same, from_another, to_another):
        each.refresh_from_db()
    assert same.priority == Priority.SEQUENCE
    assert (from_another.priority, to_another.priority) == (Priority.CAMPAIGN_FIRST,) * 2


def test_whoever_writes_to_a_device_stays_with_it_and_is_nobody_new_to_it() -> None:
    message = BroadcastMessageFactory(priority=Priority.CAMPAIGN_FIRST)

    inbound._note_reply(
        message.device_id, Inbound(message.recipient_phone, "Hello!", timezone.now())
    )

    message.refresh_from_db()
    assert message.priority == Priority.CAMPAIGN
    assert message.lead.device == message.lead.replied_to == message.device
    assert (message.lead_id, message.device_id) in acquaintance.known([message.lead_id])


def test_a_stranger_who_writes_is_no_lead_and_changes_nothing() -> None:
    message = BroadcastMessageFactory(priority=Priority.CAMPAIGN_FIRST)

    inbound._note_reply(message.device_id, Inbound("60199999999", "Hello!", timezone.now()))

    message.refresh_from_db()
    assert message.priority == Priority.CAMPAIGN_FIRST


def test_whoever_is_given_to_another_device_is_new_to_that_one() -> None:
    """An operator moves the leads of a banned device: to strangers they must not all go at once."""
    banned, other = DeviceFactory(), DeviceFactory()
    lead = LeadFactory(device=other, replied_to=banned)

    assert acquaintance.known([lead.pk]) == {(lead.pk, banned.pk)}
    assert not Lead.objects.filter(acquaintance.has_talked()).exists()


@pytest.mark.django_db(transaction=True)
def test_a_reply_to_a_device_that_is_deleted_this_moment_still_opts_out() -> None:
    lead = LeadFactory()
    gone = DeviceFactory()
    pk = gone.pk
    gone.delete()

    inbound._note_reply(pk, Inbound(lead.phone, "STOP", timezone.now()))

    lead.refresh_from_db()
    assert lead.opted_out_at
    assert lead.device is None


def test_a_receipt_that_settles_a_first_contact_makes_acquaintance() -> None:
    device = DeviceFactory(online=True)
    lead = LeadFactory()
    lost = BroadcastMessageFactory(
        lead=lead, device=device, priority=Priority.CAMPAIGN_FIRST, status="unknown",
        provider_message_id="ID1",
    )  # fmt: skip
    waiting = BroadcastMessageFactory(lead=lead, device=device, priority=Priority.SEQUENCE_FIRST)

    record_receipts([(device.pk, Receipt("ID1", "delivered", timezone.now()))])

    lost.refresh_from_db()
    waiting.refresh_from_db()
    assert (lost.status, waiting.priority) == ("sent", Priority.SEQUENCE)


def test_whoever_says_that_a_first_contact_arrived_makes_acquaintance() -> None:
    device, other = DeviceFactory.create_batch(2, online=True)
    lead = LeadFactory()
    lost = BroadcastMessageFactory(
        lead=lead, device=device, priority=Priority.CAMPAIGN_FIRST, status="unknown"
    )
    waiting = BroadcastMessageFactory(lead=lead, device=device, priority=Priority.SEQUENCE_FIRST)
    held = BroadcastMessageFactory(
        lead=lead, device=device, priority=Priority.CAMPAIGN_FIRST, status="paused"
    )
    elsewhere = BroadcastMessageFactory(lead=lead, device=other, priority=Priority.CAMPAIGN_FIRST)
    stranger = BroadcastMessageFactory(device=device, priority=Priority.CAMPAIGN_FIRST)

    assert BroadcastMessage.objects.filter(pk=lost.pk).settle_as_sent() == 1

    lanes = dict(BroadcastMessage.objects.values_list("pk", "priority"))
    assert (lanes[waiting.pk], lanes[held.pk]) == (Priority.SEQUENCE, Priority.CAMPAIGN)
    assert lanes[elsewhere.pk] == lanes[stranger.pk] == Priority.CAMPAIGN_FIRST


def test_a_lead_that_turns_out_to_have_met_two_devices_has_met_both() -> None:
    lead = LeadFactory()
    waiting = []
    for device in DeviceFactory.create_batch(2, online=True):
        first = {"lead": lead, "device": device, "priority": Priority.CAMPAIGN_FIRST}
        BroadcastMessageFactory(**first, status="unknown")
        waiting.append(BroadcastMessageFactory(**first).pk)

    assert BroadcastMessage.objects.settle_as_sent() == 2

    lanes = BroadcastMessage.objects.filter(pk__in=waiting).values_list("priority", flat=True)
    assert set(lanes) == {Priority.CAMPAIGN}


def test_whoever_says_that_a_first_contact_did_not_arrive_makes_no_acquaintance() -> None:
    device = DeviceFactory(online=True)
    lead = LeadFactory()
    BroadcastMessageFactory(
        lead=lead, device=device, priority=Priority.CAMPAIGN_FIRST, status="unknown"
    )
    waiting = BroadcastMessageFactory(lead=lead, device=device, priority=Priority.SEQUENCE_FIRST)

    assert BroadcastMessage.objects.filter(status="unknown").settle_as_not_arrived() == 1

    waiting.refresh_from_db()
    assert waiting.priority == Priority.SEQUENCE_FIRST


def test_what_starts_over_is_no_first_contact_once_the_two_have_talked() -> None:
    device = DeviceFactory(online=True)
    lead = LeadFactory(replied_to=device)
    expired = BroadcastMessageFactory(
        lead=lead, device=device, priority=Priority.CAMPAIGN_FIRST, status="expired"
    )

    assert BroadcastMessage.objects.filter(pk=expired.pk).reschedule_expired() == 1

    expired.refresh_from_db()
    assert (expired.status, expired.priority) == ("pending", Priority.CAMPAIGN)


def test_acquaintance_is_told_alike_of_leads_side_by_side_and_far_apart() -> None:
    device = DeviceFactory()
    leads = LeadFactory.create_batch(20, replied_to=device)
    near, far = [lead.pk for lead in leads], [leads[0].pk, leads[-1].pk]

    assert acquaintance.known(near) == {(pk, device.pk) for pk in near}
    assert acquaintance.known(far) == {(pk, device.pk) for pk in far}
    assert acquaintance.known([]) == set()
