"""The simulator beyond the contract: its one writer, its people, its sessions in other worlds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from django.db import OperationalError, transaction

from devices.models import Device, SimulatedMessage, SimulatedSession
from devices.transports import recorder as recording
from devices.transports.base import (
    Connected,
    Event,
    Inbound,
    NotSent,
    OutgoingMessage,
    Receipt,
)
from devices.transports.recorder import Arrival, Opening, Recorder, Reply
from devices.transports.simulator import SimulatorSession, SimulatorTransport, World
from tests.answers import outcome_of
from tests.factories import DeviceFactory

pytestmark = pytest.mark.django_db(transaction=True)


class Instant(SimulatorTransport):
    """A world of one's own, as docs/transports.md shows it."""

    world = World(
        latency_seconds=(0, 0), not_on_whatsapp=0, media_host_down=0, delivered=1, read=1,
        replies=1, opts_out=0, receipt_seconds=(0, 0),
    )  # fmt: skip


class Told:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self._changed = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait_for(self, kind: type) -> bool:
        with self._changed:
            return self._changed.wait_for(
                lambda: any(isinstance(event, kind) for event in self.events), timeout=20
            )


def arrival(device_id: int, token: str, *, key: str = "message-1") -> Arrival:
    message = SimulatedMessage(device_id=device_id, phone="60123456789", key=key, body="Hi")
    return Arrival(device_id, token, message)


def answers(*entries: Any) -> list[bool]:
    """Writes these in one transaction, and returns what each was told."""
    Recorder()._write(entries)
    return [entry.answer.result(timeout=0) for entry in entries]


@pytest.fixture
def session() -> Iterator[SimulatorSession]:
    told = Told()
    session = Instant().open(DeviceFactory(), told)
    assert told.wait_for(Connected)
    yield session
    session.close()


def test_a_person_receives_reads_and_answers() -> None:
    told = Told()
    device = DeviceFactory()
    session = Instant().open(device, told)
    assert told.wait_for(Connected)

    outcome_of(session.send(OutgoingMessage("message-1", "60123456789", "Hi")))

    assert told.wait_for(Inbound)
    session.close()
    assert [event.kind for event in told.events if isinstance(event, Receipt)] == [
        "delivered",
        "read",
    ]
    assert SimulatedMessage.objects.filter(device=device, from_device=False).count() == 1


def test_the_newest_session_wins_even_in_one_transaction() -> None:
    device, other = DeviceFactory.create_batch(2)

    told = answers(
        Opening(device.pk, "older"),
        arrival(other.pk, "nobody"),
        Opening(device.pk, "newer"),
        arrival(device.pk, "older"),
        arrival(device.pk, "newer", key="message-2"),
    )

    assert told == [True, False, True, False, True]
    assert SimulatedSession.objects.get().token == "newer"
    assert list(SimulatedMessage.objects.values_list("key", flat=True)) == ["message-2"]


def test_one_impossible_entry_does_not_spoil_the_others() -> None:
    device = DeviceFactory()
    entries = [
        Opening(device.pk, "mine"),
        Opening(987654321, "of a device that was deleted"),
        arrival(device.pk, "mine"),
    ]

    Recorder()._write(entries)

    assert entries[1].answer.exception(timeout=0) is not None
    assert entries[2].answer.result(timeout=0) is True


def test_what_is_said_while_the_writer_is_busy_is_written_together(
    session: SimulatorSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    commit = recording._commit
    first, go_on = threading.Event(), threading.Event()

    def slow(entries: Any) -> set[int]:
        batches.append(len(entries))
        first.set()
        go_on.wait(20)
        return commit(entries)

    monkeypatch.setattr(recording, "_commit", slow)
    writer = Recorder()
    told: list[Future[bool]] = [writer.write(arrival(session.device_id, session.token, key="0"))]
    assert first.wait(20)
    told += [
        writer.write(arrival(session.device_id, session.token, key=str(n))) for n in range(1, 50)
    ]
    go_on.set()

    assert all(answer.result(20) for answer in told)
    assert batches == [1, 49]


def test_an_error_of_the_database_reaches_every_sender_and_the_next_is_served(
    session: SimulatorSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit held, its answer got lost: nobody may say that nothing was sent."""
    commit = recording._commit

    def lost(entries: Any) -> set[int]:
        commit(entries)
        raise OperationalError(2013, "Lost connection to server during query")

    monkeypatch.setattr(recording, "_commit", lost)
    with pytest.raises(OperationalError):
        outcome_of(session.send(OutgoingMessage("message-1", "60123456789", "Hi")))
    monkeypatch.setattr(recording, "_commit", commit)

    assert session.recall("message-1") is not None
    outcome_of(session.send(OutgoingMessage("message-2", "60123456789", "Hi")))
    assert SimulatedMessage.objects.filter(from_device=True).count() == 2


def test_a_replaced_connection_can_send_no_more(session: SimulatorSession) -> None:
    """What lets the transport say for certain that a message never left."""
    newer = Instant().open(Device.objects.get(pk=session.device_id), lambda event: None)
    outcome = outcome_of(session.send(OutgoingMessage("message-1", "60123456789", "Hi")))
    newer.close()

    assert outcome == NotSent()
    assert not SimulatedMessage.objects.exists()


def test_a_reply_is_no_business_of_the_fence() -> None:
    device = DeviceFactory()
    written = SimulatedMessage(device_id=device.pk, phone="60123456789", body="Ok")

    assert answers(Reply(device.pk, written)) == [True]


@pytest.mark.mysql  # SQLite has one write lock for all: the transaction below would hold it
def test_a_session_is_not_replaced_between_the_look_and_the_record(
    session: SimulatorSession,
) -> None:
    with transaction.atomic():
        SimulatedSession.objects.filter(pk=session.device_id).update(token="newer")
        waiting = recording.recorder.write(arrival(session.device_id, session.token))
        with pytest.raises(TimeoutError):
            waiting.result(0.3)

    assert waiting.result(20) is False
