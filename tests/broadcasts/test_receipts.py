"""Receipts by the thousand, as they come when a phone is back, and what else takes long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import Mock

import pytest
from django.conf import LazySettings
from django.db import OperationalError, connection
from django.utils import timezone

from broadcasts import claiming, closing, pacing
from broadcasts.inbound import Receipts, Reports, Said
from broadcasts.lease import Lease
from broadcasts.leases import Leases
from broadcasts.models import BroadcastMessage
from broadcasts.outcomes import record_receipts
from devices.models import Device
from devices.transports.base import Disconnected, Receipt
from tests.broadcasts.test_fences import just_before
from tests.factories import CampaignFactory, DeviceFactory, LeadFactory

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def always_due(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases are renewed at every look; a chunk is small."""
    settings.HEARTBEAT_SECONDS = 0
    monkeypatch.setattr("broadcasts.inbound.CASE_ROWS", 5)


def held(*devices: Device) -> Leases:
    leases = Leases("worker", capacity=len(devices), report=lambda *_: None)
    for device in devices:
        leases.held[device.pk] = Lease(
            device=device, epoch=1, session=Mock(), pace=pacing.Pace(), slot=pacing.Slot(),
            connected=True,
        )  # fmt: skip
    return leases


def sent(count: int) -> list[BroadcastMessage]:
    device, campaign, lead = DeviceFactory(), CampaignFactory(sending=True), LeadFactory()
    return BroadcastMessage.objects.bulk_create(
        BroadcastMessage(
            device=device, campaign=campaign, lead=lead, recipient_phone=str(n), status="sent",
            provider_message_id=f"3EB{n}", scheduled_at=timezone.now(),
        )
        for n in range(count)
    )  # fmt: skip


def waiting_for(messages: Sequence[BroadcastMessage], leases: Leases) -> Receipts:
    receipts = Receipts(leases)
    for message in messages:
        receipt = Receipt(message.provider_message_id or "", "read", timezone.now())
        receipts.add(message.device_id or 0, receipt)
    return receipts


def watched(into: list[str], act: Callable[[str], object] = bool) -> AbstractContextManager[None]:
    """Notes what each statement does to which table, and lets `act` see it first."""

    def look(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        plain = sql.replace('"', "").replace("`", "").strip()
        act(plain)
        into.append(" ".join(plain.split()[:2]))
        return execute(sql, *arguments)

    return connection.execute_wrapper(look)


def test_a_day_s_receipts_are_written_bit_by_bit_while_the_leases_are_kept() -> None:
    messages, statements = sent(20), list[str]()
    receipts = waiting_for(messages, held(DeviceFactory(online=True)))

    with watched(statements):
        receipts.record(at_once=True)

    assert BroadcastMessage.objects.filter(read_at__isnull=False).count() == 20
    assert statements.count("UPDATE broadcast_messages") == 4 * len(["delivered", "read"])
    assert statements.count("UPDATE devices") == 4


@pytest.mark.django_db(transaction=True)
def test_what_was_written_before_the_database_went_away_is_not_written_again() -> None:
    messages, statements = sent(20), list[str]()
    receipts = waiting_for(messages, held(DeviceFactory(online=True)))

    def go_away(sql: str) -> None:
        if statements.count("UPDATE broadcast_messages") == 6:
            raise OperationalError("the database is away")

    with watched(statements, go_away), pytest.raises(OperationalError):
        receipts.record(at_once=True)
    statements.clear()
    with watched(statements):
        receipts.record(at_once=True)

    assert statements.count("UPDATE broadcast_messages") == 2
    assert BroadcastMessage.objects.filter(read_at__isnull=False).count() == 20


def test_a_receipt_does_not_count_for_the_attempt_that_came_after_it() -> None:
    """Somebody has it sent again between the look for its id and the record."""
    (message,) = sent(1)
    row = BroadcastMessage.objects.filter(pk=message.pk)

    with just_before("UPDATE broadcast_messages", lambda: row.update(provider_message_id="3EBX")):
        record_receipts([(message.device_id or 0, Receipt("3EB0", "read", timezone.now()))])

    assert row.filter(delivered_at__isnull=True, read_at__isnull=True).exists()


def test_more_receipts_than_a_statement_takes_are_several_statements(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(claiming, "CASE_ROWS", 3)
    messages, statements = sent(7), list[str]()
    now = timezone.now()

    with watched(statements):
        record_receipts(
            [
                (m.device_id or 0, Receipt(m.provider_message_id or "", "read", now))
                for m in messages
            ]
        )

    assert statements.count("UPDATE broadcast_messages") == 3 * len(["delivered", "read"])


def test_nobody_received_a_message_before_it_was_sent() -> None:
    """The phone's clock is an hour behind the database's."""
    (message,) = sent(1)
    now = timezone.now()
    BroadcastMessage.objects.update(sent_at=now)

    early = Receipt("3EB0", "delivered", now - timedelta(hours=1))
    record_receipts([(message.device_id or 0, early)])

    assert BroadcastMessage.objects.get().delivered_at == now


def test_the_leases_are_kept_while_many_sessions_report_or_close(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(closing, "AT_ONCE", 1)
    devices = DeviceFactory.create_batch(3, online=True)
    leases, statements = held(*devices), list[str]()
    reports = Reports(leases)
    for device in devices:
        reports.add(Said(device.pk, 1, Disconnected("the network is gone")))

    with watched(statements):
        list(reports.act())
    assert statements.count("UPDATE broadcast_workers") >= 3

    statements.clear()
    with watched(statements):
        leases.give_back([device.pk for device in devices])
    assert statements.count("UPDATE broadcast_workers") >= 3
    assert not Device.objects.exclude(worker_id="").exists()


def test_sessions_are_closed_also_where_the_database_is_away() -> None:
    devices = DeviceFactory.create_batch(3, online=True)
    leases = held(*devices)
    sessions = [lease.session for lease in leases.held.values()]

    def go_away(sql: str) -> None:
        raise OperationalError("the database is away")

    with watched([], go_away), pytest.raises(OperationalError):
        leases.give_back([device.pk for device in devices])

    for session in sessions:
        session.close.assert_called_once()  # type: ignore[attr-defined]
    assert not leases.held


def test_a_receipt_of_a_year_that_nobody_can_show_counts_from_about_now() -> None:
    [message] = sent(1)
    far = datetime(9999, 12, 31, 23, 59, tzinfo=UTC)

    record_receipts([(message.device_id or 0, Receipt("3EB0", "read", far))])

    message.refresh_from_db()
    assert message.read_at is not None
    assert message.read_at < timezone.now() + timedelta(days=2)
