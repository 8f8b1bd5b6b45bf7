"""Transports that are mistaken about their contract: it costs one message, and no other device."""

from __future__ import annotations

from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from broadcasts.leases import Leases
from broadcasts.models import BroadcastMessage
from broadcasts.outcomes import Sent, record_receipts, write_down
from campaigns.models import Campaign
from devices.models import Device
from devices.transports.base import (
    Accepted,
    Blocked,
    DeviceBlocked,
    Inbound,
    OutgoingMessage,
    Receipt,
)
from devices.transports.simulator import SimulatorSession
from tests.broadcasts.test_fences import act_on, lease_of
from tests.broadcasts.test_leases import (
    copies,
    fast,
    interrupt,
    started,
    status_of,
    turn,
    turn_until,
)
from tests.broadcasts.test_outcomes import on_the_wire, row_of
from tests.factories import BroadcastMessageFactory, CampaignFactory, DeviceFactory, LeadFactory

pytestmark = pytest.mark.django_db(transaction=True)

__all__ = ["fast"]  # a fixture


TEXTS = {DeviceBlocked: {"code": "463", "message": ""}, Blocked: {"reason": ""}}


class BetterAccepted(Accepted):
    """A transport's own, with more to say."""


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What is to be answered instead of sending, {message key: answer}."""
    answers, send = dict[str, Any](), SimulatorSession.send

    def answer(session: SimulatorSession, message: OutgoingMessage) -> Any:
        return answers[message.key] if message.key in answers else send(session, message)

    monkeypatch.setattr(SimulatorSession, "send", answer)
    return answers


def promised(answer: object) -> Future[object]:
    future: Future[object] = Future()
    future.set_result(answer)
    return future


@pytest.mark.parametrize("answer", [None, "3EB0", BetterAccepted("3EB0")], ids=repr)
@pytest.mark.parametrize("is_promised", [False, True], ids=["at once", "promised"])
def test_an_answer_that_is_no_outcome_is_unknown_and_not_sent_again(
    answer: object, is_promised: bool, answering: dict[str, Any]
) -> None:
    """Nor after trouble with the database, behind which what never left goes on its way again."""
    message, broadcaster = BroadcastMessageFactory(device=DeviceFactory()), started()
    answering[message.key] = promised(answer) if is_promised else answer
    turn_until(broadcaster, lambda: status_of(message) != "pending" and not broadcaster._on_wire)

    interrupt(broadcaster)
    turn(broadcaster, times=3)

    row = BroadcastMessage.objects.get()
    assert (row.status, row.error_code, row.attempts) == ("unknown", "no_outcome", 1)
    broadcaster._finish()


@pytest.mark.parametrize("mistaken_id", [None, 12])
def test_an_outcome_that_cannot_be_written_ends_no_broadcaster(
    mistaken_id: Any, answering: dict[str, Any]
) -> None:
    message, other = (BroadcastMessageFactory(device=DeviceFactory()) for _ in range(2))
    answering[message.key] = Accepted(mistaken_id)
    broadcaster = started()

    turn_until(broadcaster, lambda: status_of(message) == "unknown")

    turn_until(broadcaster, lambda: status_of(other) == "sent")
    assert copies(other) == 1
    broadcaster._finish()


def test_an_outcome_that_cannot_be_written_costs_no_other_its_own() -> None:
    """They are written together."""
    good, bad, also_good = (on_the_wire() for _ in range(3))
    mistaken: Any = 12

    write_down(
        [
            Sent(good, Accepted("3EB0")),
            Sent(bad, Accepted(mistaken)),
            Sent(also_good, Accepted("1")),
        ],
        on_wire=(),
    )

    assert [row_of(message).status for message in (good, bad, also_good)] == [
        "sent", "unknown", "sent",
    ]  # fmt: skip
    assert row_of(bad).error_code == "transport_error"


def test_a_receipt_that_names_no_zone_counts_in_utc() -> None:
    now = timezone.now()
    message = BroadcastMessageFactory(status="sent", sent_at=now, provider_message_id="3EB0")

    record_receipts([(message.device_id, Receipt("3EB0", "read", timezone.make_naive(now, UTC)))])

    assert BroadcastMessage.objects.get().read_at == now


@pytest.mark.parametrize("mistaken", [{"provider_message_id": 12}, {"at": None}], ids=str)
def test_a_receipt_that_cannot_be_written_costs_no_other(mistaken: dict[str, Any]) -> None:
    now = timezone.now()
    device = DeviceFactory(online=True)
    message, other = (
        BroadcastMessageFactory(device=device, status="sent", sent_at=now, provider_message_id=name)
        for name in ("3EB0", "3EB1")
    )
    good: dict[str, Any] = {"provider_message_id": "3EB0", "kind": "read", "at": now}

    act_on(Receipt(**good | mistaken), Receipt("3EB1", "read", now), of=lease_of(device))

    message.refresh_from_db()
    other.refresh_from_db()
    assert (message.read_at, other.read_at) == (None, now)


@pytest.mark.parametrize("block", [DeviceBlocked, Blocked])
def test_a_block_whose_end_names_no_zone_ends_by_utc(block: Any) -> None:
    """The pace of the device is reckoned by it, in the thread that serves all devices."""
    until = timezone.make_naive(timezone.now(), UTC)
    said = block(state="first_contacts", until=until, **TEXTS[block])

    assert said.ends_at(timezone.now()) == until.replace(tzinfo=UTC)


@pytest.mark.parametrize("block", [DeviceBlocked, Blocked])
@pytest.mark.parametrize("mistaken", [{"for_": 5}, {"until": 1893456000}], ids=str)
def test_a_block_whose_end_is_none_is_refused_where_it_is_said(
    block: Any, mistaken: dict[str, Any]
) -> None:
    with pytest.raises((TypeError, AttributeError)):
        block(state="first_contacts", **TEXTS[block] | mistaken)


@pytest.mark.parametrize("state", ["restricted", "first_contacts"])
@pytest.mark.parametrize(
    "end",
    [{"until": datetime.max.replace(tzinfo=UTC)}, {"for_": timedelta.max}, {"for_": timedelta.min}],
    ids=str,
)
def test_a_block_for_ever_keeps_nothing_from_being_queued(state: Any, end: Any) -> None:
    device = DeviceFactory(online=True, timezone="Asia/Kuala_Lumpur")
    sent = Sent(on_the_wire(device=device), DeviceBlocked("463", "", state, **end))
    leases = Leases("worker", capacity=1, report=lambda *_: None)
    leases.held[device.pk] = lease = lease_of(device)
    lease.hand_over(sent.message, lease.slot)

    write_down([sent], on_wire=set())
    leases.end_sends([sent])
    campaign = CampaignFactory()
    campaign.schedule()
    Campaign.objects.process()

    campaign.refresh_from_db()
    assert (row_of(sent.message).status, campaign.status) == ("pending", "sending")


def test_a_promise_that_is_broken_is_unknown(answering: dict[str, Any]) -> None:
    """As by an executor that ends with its session."""
    message, broken = BroadcastMessageFactory(device=DeviceFactory()), Future[object]()
    assert broken.cancel()
    answering[message.key] = broken
    broadcaster = started()

    turn_until(broadcaster, lambda: status_of(message) == "unknown")

    assert not broadcaster._on_wire
    broadcaster._finish()


def test_a_report_that_cannot_be_written_costs_no_other() -> None:
    lead, now = LeadFactory(), timezone.now()
    lease, mistaken = lease_of(DeviceFactory(online=True)), dict[str, Any](body=None)

    act_on(Inbound(lead.phone, at=now, **mistaken), Inbound(lead.phone, "STOP", now), of=lease)

    lead.refresh_from_db()
    assert lead.opted_out_at
    assert Device.objects.get().status == "online"
