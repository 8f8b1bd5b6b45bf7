"""What people and the network do to a simulated device, each in a world that makes it certain.

Together these are all the outcomes and events of devices/transports/base.py that the simulator
gives; the contract's own suite has Accepted, Connected and the recall."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from django.utils import timezone

from devices.models import Device, SimulatedMessage
from devices.transports.base import (
    Accepted,
    Connected,
    DeviceBlocked,
    Disconnected,
    Inbound,
    Outcome,
    OutgoingMessage,
    Receipt,
    Refused,
    Unknown,
)
from devices.transports.simulator import SimulatorTransport, World
from tests.answers import outcome_of
from tests.devices.test_simulator import Told
from tests.factories import DeviceFactory

pytestmark = pytest.mark.django_db(transaction=True)

PHONE = "60123456789"
MESSAGE = OutgoingMessage("message-1", PHONE, "Hi Aminah, the shop is open.")
# Nothing happens in it by itself.
QUIET = World(
    latency_seconds=(0, 0), not_on_whatsapp=0, media_host_down=0, delivered=0, read=0, replies=0,
    opts_out=0, receipt_seconds=(0, 0),
)  # fmt: skip


@contextmanager
def sent_in(world: World) -> Iterator[tuple[Outcome, Told]]:
    """Sends MESSAGE in this world; what is reported meanwhile and later is told."""
    told = Told()
    with ExitStack() as end:
        session = SimulatorTransport(world).open(DeviceFactory(), told)
        end.callback(session.close)
        assert told.wait_for(Connected)
        yield outcome_of(session.send(MESSAGE)), told


def arrived() -> int:
    return SimulatedMessage.objects.filter(from_device=True).count()


def test_receipts_name_the_message_that_was_accepted() -> None:
    with sent_in(replace(QUIET, delivered=1, read=1, replies=1)) as (outcome, told):
        assert isinstance(outcome, Accepted)
        assert told.wait_for(Inbound)  # comes after both receipts

        receipts = [event for event in told.events if isinstance(event, Receipt)]
        assert [receipt.kind for receipt in receipts] == ["delivered", "read"]
        assert {r.provider_message_id for r in receipts} == {outcome.provider_message_id}
        assert all(timezone.is_aware(receipt.at) for receipt in receipts)


def test_of_those_who_read_some_answer_and_few_opt_out() -> None:
    world = World()
    people = [f"6012{n:07}" for n in range(10_000)]
    readers = [phone for phone in people if world.nature("read", phone) < world.read]
    answer = [phone for phone in readers if world.nature("replies", phone) < world.replies]
    opt_out = [phone for phone in readers if world.nature("opts_out", phone) < world.opts_out]

    assert len(readers) == pytest.approx(6_000, rel=0.1)
    assert len(answer) == pytest.approx(480, rel=0.2)
    assert len(opt_out) == pytest.approx(60, rel=0.5)


def test_a_reply_comes_in_from_the_number_that_was_written_to() -> None:
    with sent_in(replace(QUIET, delivered=1, read=1, replies=1)) as (_, told):
        assert told.wait_for(Inbound)

        (reply,) = [event for event in told.events if isinstance(event, Inbound)]
        assert reply.phone == PHONE
        assert reply.body
        assert timezone.is_aware(reply.at)


def test_somebody_opts_out_with_a_word() -> None:
    with sent_in(replace(QUIET, delivered=1, read=1, opts_out=1)) as (_, told):
        assert told.wait_for(Inbound)

        (reply,) = [event for event in told.events if isinstance(event, Inbound)]
        assert reply.body == "STOP"


@pytest.mark.parametrize(
    ("world", "state"),
    [(replace(QUIET, blocked=1), "restricted"), (replace(QUIET, strangers=1), "first_contacts")],
    ids=["to nobody", "to nobody new"],
)
def test_a_restricted_account_says_so_and_until_when(world: World, state: str) -> None:
    with sent_in(world) as (outcome, _):
        assert isinstance(outcome, DeviceBlocked)
        assert outcome.state == state
        assert outcome.until
        assert outcome.until > timezone.now()
        assert arrived() == 0


def test_what_may_be_tried_later_was_refused_with_a_pause() -> None:
    with sent_in(replace(QUIET, media_host_down=1)) as (outcome, _):
        assert isinstance(outcome, Refused)
        assert outcome.retry_after == timedelta(0)
        assert arrived() == 0


def test_a_number_without_whatsapp_is_refused_for_good() -> None:
    with sent_in(replace(QUIET, not_on_whatsapp=1)) as (outcome, _):
        assert isinstance(outcome, Refused)
        assert outcome.retry_after is None
        assert arrived() == 0


def test_a_lost_answer_is_unknown_with_the_id_that_receipts_will_have() -> None:
    with sent_in(replace(QUIET, answer_lost=1)) as (outcome, _):
        assert isinstance(outcome, Unknown)
        assert arrived() == 1
        assert outcome.provider_message_id == SimulatedMessage.objects.get().provider_message_id


def test_a_session_that_cannot_connect_says_so_and_never_that_it_may_send() -> None:
    told = Told()
    of_a_device_that_was_deleted = Device(pk=987654321)
    session = SimulatorTransport(QUIET).open(of_a_device_that_was_deleted, told)

    assert told.wait_for(Disconnected)
    session.close()
    assert not any(isinstance(event, Connected) for event in told.events)
