"""Several numbers of one person, found out about while messages to them wait or leave: one of the
numbers gets the message, and never none."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest
from django.utils import timezone

from broadcasts.claimed import WAITS
from broadcasts.models import BroadcastMessage
from broadcasts.templatetags.reasons import turn
from broadcasts.worker import Broadcaster
from devices.models import Device
from devices.transports.base import NotSent, Outcome, OutgoingMessage
from devices.transports.simulator import SimulatorSession
from leads.models import Lead
from tests.broadcasts.test_leases import copies, fast, started, status_of, turn_until
from tests.factories import (
    BroadcastMessageFactory,
    CampaignFactory,
    DeviceFactory,
    LeadFactory,
    SequenceStepFactory,
)

pytestmark = pytest.mark.django_db(transaction=True)

__all__ = ["fast"]  # a fixture

NAME = "551187654321"


def both(one: Device, two: Device) -> tuple[BroadcastMessage, BroadcastMessage]:
    """What a campaign says to the person, and to the number that WhatsApp knows the person by."""
    campaign, make = CampaignFactory(sending=True), BroadcastMessageFactory
    person, twin = LeadFactory(phone="5511987654321"), LeadFactory(phone=NAME)
    return (
        make(lead=person, campaign=campaign, device=one),
        make(lead=twin, campaign=campaign, device=two),
    )


def find_out() -> None:
    """WhatsApp says that the two numbers are one."""
    Lead.objects.note_presence({"5511987654321": NAME})


def waits(message: BroadcastMessage) -> bool:
    message.refresh_from_db()
    return message.status == "pending" and message.scheduled_at > timezone.now()


def let_go_on(message: BroadcastMessage) -> None:
    """As if it had waited for so long."""
    BroadcastMessage.objects.filter(pk=message.pk).update(scheduled_at=timezone.now())


@pytest.mark.parametrize("written_to", ["sent", "queued", "unknown"])
@pytest.mark.parametrize("owner", ["campaign", "step"])
def test_what_a_person_got_under_another_number_does_not_come_again(
    written_to: str, owner: str
) -> None:
    device = DeviceFactory(online=True)
    step = SequenceStepFactory(sequence__status="active")
    of_step = {"campaign": None, "sequence": step.sequence, "sequence_step": step}
    message, other = both(device, device)
    if owner == "step":
        BroadcastMessage.objects.update(**of_step)
    BroadcastMessage.objects.filter(pk=other.pk).update(status=written_to)
    find_out()

    (claimed,) = BroadcastMessage.objects.claim(worker_id="worker", device_ids=[device.pk])

    # What is not over yet may come back unsent: until then the other number's waits.
    refusal = "duplicate" if written_to == "sent" else WAITS
    assert (claimed.pk, claimed.refusal) == (message.pk, refusal)


def test_its_page_says_that_it_waits_for_the_other_number() -> None:
    device = DeviceFactory(online=True)
    message, other = both(device, device)
    BroadcastMessage.objects.filter(pk=other.pk).update(status="unknown")
    assert "another number" not in turn(BroadcastMessage.objects.get(pk=message.pk))

    find_out()
    assert "another number" in turn(BroadcastMessage.objects.get(pk=message.pk))

    BroadcastMessage.objects.filter(pk=other.pk).update(status="failed")
    assert "another number" not in turn(BroadcastMessage.objects.get(pk=message.pk))


def test_of_two_that_wait_together_one_leaves() -> None:
    devices = DeviceFactory.create_batch(2, online=True)
    message, other = both(*devices)
    find_out()

    claimed = BroadcastMessage.objects.claim(
        worker_id="worker", device_ids=[device.pk for device in devices]
    )

    assert {c.pk: c.refusal for c in claimed} == {message.pk: "", other.pk: "duplicate"}


def test_another_campaign_reaches_the_person_once() -> None:
    device = DeviceFactory(online=True)
    message, other = both(device, device)
    BroadcastMessage.objects.filter(pk=other.pk).update(status="sent", campaign=CampaignFactory())
    find_out()

    (claimed,) = BroadcastMessage.objects.claim(worker_id="worker", device_ids=[device.pk])

    assert (claimed.pk, claimed.refusal) == (message.pk, "")


def test_while_one_number_is_written_to_the_other_s_message_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is on the wire may come back, and then nobody would have got it."""
    send, on_the_wire = SimulatorSession.send, Future[Outcome]()
    answers = [on_the_wire]

    def hold_up(session: SimulatorSession, message: OutgoingMessage) -> Any:
        return answers.pop() if answers else send(session, message)

    monkeypatch.setattr(SimulatorSession, "send", hold_up)
    message, other = both(*DeviceFactory.create_batch(2))
    BroadcastMessage.objects.filter(pk=message.pk).update(status="paused")
    broadcaster = started()
    turn_until(broadcaster, lambda: not answers)

    find_out()
    BroadcastMessage.objects.filter(pk=message.pk).unhold()
    turn_until(broadcaster, lambda: waits(message))
    on_the_wire.set_result(NotSent())
    broadcaster._finish()
    let_go_on(message)
    Broadcaster(drain=True).run()

    assert copies(message) + copies(other) == 1
    assert {status_of(message), status_of(other)} == {"sent", "skipped"}


def test_a_number_that_is_just_being_left_out_does_not_leave_out_the_other() -> None:
    """By another broadcaster, which has not written that down yet."""
    theirs = DeviceFactory(online=True, worker_id="other")
    message, other = both(DeviceFactory(), theirs)
    find_out()
    claimed = BroadcastMessage.objects.claim(worker_id="other", device_ids=[theirs.pk])
    broadcaster = started()

    turn_until(broadcaster, lambda: waits(message))
    assert BroadcastMessage.objects.skip(claimed, claimed[0].refusal) == 1
    broadcaster._finish()
    let_go_on(message)
    Broadcaster(drain=True).run()

    assert (status_of(message), status_of(other)) == ("sent", "skipped")
    assert (copies(message), copies(other)) == (1, 0)
