"""What waited for a device that was deleted: it never comes back, and nobody is missed for it."""

from __future__ import annotations

import pytest
from django.utils import timezone

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


def deleted(**attributes: object) -> Device:
    return DeviceFactory(deleted_at=timezone.now(), enabled=False, **attributes)


def limited_to(*devices: Device) -> Campaign:
    campaign = CampaignFactory(sending=True, from_all_devices=False)
    campaign.devices.set(devices)
    return campaign


def expired_on(device: Device, campaign: Campaign | None, **attributes: object) -> BroadcastMessage:
    return BroadcastMessageFactory(device=device, campaign=campaign, status="expired", **attributes)


def sent_again(message: BroadcastMessage) -> BroadcastMessage:
    assert BroadcastMessage.objects.reschedule_expired() == 1
    assert BroadcastMessage.objects.expire() == 0, "it expires again at once"
    message.refresh_from_db()
    assert message.status == "pending"
    return message


def test_where_none_of_the_chosen_exists_any_more_it_leaves_from_any_that_may_send() -> None:
    gone = deleted()
    DeviceFactory(enabled=False)
    other = DeviceFactory()

    assert sent_again(expired_on(gone, limited_to(gone))).device == other


def test_then_whoever_has_a_device_gets_it_from_that() -> None:
    gone = deleted()
    DeviceFactory.create_batch(2)
    message = expired_on(gone, limited_to(gone))
    assert message.lead
    message.lead.device = own = DeviceFactory()
    message.lead.save()

    assert sent_again(message).device == own


def test_as_long_as_one_of_the_chosen_exists_it_goes_to_no_other() -> None:
    """Switched off, it may be switched on; the others were not chosen."""
    gone, off = deleted(), DeviceFactory(enabled=False)
    DeviceFactory()

    assert sent_again(expired_on(gone, limited_to(gone, off))).device == off


def test_a_device_that_is_only_switched_off_keeps_what_was_limited_to_it() -> None:
    off = DeviceFactory(enabled=False)
    DeviceFactory()

    assert sent_again(expired_on(off, limited_to(off))).device == off


def test_where_no_device_may_send_it_waits_for_one_that_exists() -> None:
    gone, off = deleted(), DeviceFactory(enabled=False)

    assert sent_again(expired_on(gone, limited_to(gone))).device == off
    assert sent_again(expired_on(gone, CampaignFactory(sending=True))).device == off


def test_a_failed_message_that_is_tried_again_leaves_from_another_too() -> None:
    gone, other = deleted(), DeviceFactory()
    message = BroadcastMessageFactory(device=gone, campaign=limited_to(gone), status="failed")

    assert BroadcastMessage.objects.retry_failed() == 1
    message.refresh_from_db()
    assert message.device == other


def test_what_a_sequence_has_written_leaves_from_another_too() -> None:
    gone, other = deleted(), DeviceFactory()
    sequence: Sequence = SequenceFactory(from_all_devices=False)
    sequence.devices.add(gone)
    message = expired_on(
        gone,
        None,
        sequence=sequence,
        sequence_step=SequenceStepFactory(sequence=sequence),
        priority=BroadcastMessage.Priority.SEQUENCE,
    )

    assert sent_again(message).device == other
