"""Whom a device has talked with, and the lanes and the cap of those it has not."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from broadcasts import acquaintance, inbound
from broadcasts.models import BroadcastMessage
from broadcasts.outcomes import Sent, record
from devices.transports.base import Accepted
from leads.models import Lead
from tests.factories import BroadcastMessageFactory, DeviceFactory, LeadFactory

pytestmark = pytest.mark.django_db

Priority = BroadcastMessage.Priority


def claimed(device_id: int, *, nobody_new: bool = False) -> list[BroadcastMessage]:
    return BroadcastMessage.objects.claim(
        worker_id="worker", device_ids=[device_id], nobody_new=[device_id] if nobody_new else []
    )


def test_who_was_sent_something_or_has_replied_is_known_to_that_device_alone() -> None:
    device, other = DeviceFactory(), DeviceFactory()
    written_to, replied, stranger = LeadFactory(), LeadFactory(device=device), LeadFactory()
    BroadcastMessageFactory(lead=written_to, device=device, status="sent", sent_at=timezone.now())
    BroadcastMessageFactory(lead=stranger, device=device, status="unknown")
    Lead.objects.filter(pk=replied.pk).update(last_replied_at=timezone.now())

    everybody = [written_to.pk, replied.pk, stranger.pk]
    assert acquaintance.known(pk__in=everybody) == {
        (written_to.pk, device.pk),
        (replied.pk, device.pk),
    }
    assert (written_to.pk, other.pk) not in acquaintance.known(pk__in=everybody)
    written_to.device = device
    written_to.save()
    assert set(Lead.objects.filter(acquaintance.has_talked())) == {written_to, replied}


def test_a_device_that_may_write_to_nobody_new_steps_over_first_contacts() -> None:
    device = DeviceFactory(online=True)
    BroadcastMessageFactory.create_batch(3, device=device, priority=Priority.SEQUENCE_FIRST)
    known = BroadcastMessageFactory(device=device, priority=Priority.CAMPAIGN)
    BroadcastMessageFactory(device=device, priority=Priority.CAMPAIGN_FIRST)

    assert claimed(device.pk, nobody_new=True) == [known]
    assert claimed(device.pk, nobody_new=True) == []
    assert claimed(device.pk)[0].priority == Priority.SEQUENCE_FIRST


def test_other_devices_of_the_same_claim_begin_first_contacts_all_the_same() -> None:
    capped, free = DeviceFactory.create_batch(2, online=True)
    BroadcastMessageFactory(device=capped, priority=Priority.CAMPAIGN_FIRST)
    message = BroadcastMessageFactory(device=free, priority=Priority.CAMPAIGN_FIRST)

    assert BroadcastMessage.objects.claim(
        worker_id="worker", device_ids=[capped.pk, free.pk], nobody_new=[capped.pk]
    ) == [message]


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

    inbound._note_reply(message.device_id, message.recipient_phone, "Hello!")

    message.refresh_from_db()
    assert message.priority == Priority.CAMPAIGN
    assert message.lead.device == message.device
    assert (message.lead_id, message.device_id) in acquaintance.known(pk=message.lead_id)


def test_a_stranger_who_writes_is_no_lead_and_changes_nothing() -> None:
    message = BroadcastMessageFactory(priority=Priority.CAMPAIGN_FIRST)

    inbound._note_reply(message.device_id, "60199999999", "Hello!")

    message.refresh_from_db()
    assert message.priority == Priority.CAMPAIGN_FIRST
