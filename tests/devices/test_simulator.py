"""The simulator beyond the contract: its one writer, its people, its sessions in other worlds."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any
from unittest.mock import ANY, Mock

import pytest
from django.db import IntegrityError, OperationalError, transaction

from devices.models import Device, SimulatedMessage, SimulatedSession
from devices.transports import recorder as recording
from devices.transports import simulator
from devices.transports.base import (
    Connected,
    Disconnected,
    Event,
    Inbound,
    NotSent,
    OutgoingMessage,
    Receipt,
)
from devices.transports.recorder import Answer, Arrival, Entry, Opening, Recorder, Reply, Words
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


class Asked:
    """One who waits for what the recorder says."""

    def __init__(self) -> None:
        self._said: queue.SimpleQueue[Answer] = queue.SimpleQueue()

    def __call__(self, answer: Answer) -> None:
        self._said.put(answer)

    def answer(self, timeout: float = 20) -> Answer:
        """Raises queue.Empty where nothing was said by then."""
        return self._said.get(timeout=timeout)


def opening(device_id: int, token: str) -> Opening:
    return Opening(device_id, Asked(), token)


def arrival(device_id: int, token: str, *, key: str = "message-1") -> Arrival:
    words = Words(device_id, "60123456789", True, key, "SIM1", "Hi")
    return Arrival(device_id, Asked(), token, words)


def answer_to(entry: Entry, timeout: float = 20) -> Answer:
    assert isinstance(entry.tell, Asked)
    return entry.tell.answer(timeout)


def answers(*entries: Entry) -> list[Answer]:
    """Writes these in one transaction, and returns what each was told."""
    Recorder()._write(entries)
    return [answer_to(entry, 0) for entry in entries]


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


def test_a_session_that_could_not_be_opened_is_opened_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commit, told = recording._commit, Told()

    def lose_the_first(entries: Any) -> set[int]:
        monkeypatch.setattr(recording, "_commit", commit)
        raise OperationalError(2013, "Lost connection to server during query")

    monkeypatch.setattr(simulator, "CONNECT_AGAIN_SECONDS", 0.05)
    monkeypatch.setattr(recording, "_commit", lose_the_first)

    session = Instant().open(DeviceFactory(), told)

    assert told.wait_for(Connected)
    assert isinstance(told.events[0], Disconnected)
    session.close()


def test_a_reply_that_was_not_written_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    commit, told = recording._commit, Told()
    session = Instant().open(DeviceFactory(), told)
    assert told.wait_for(Connected)

    def lose_replies(entries: Any) -> set[int]:
        if any(isinstance(entry, Reply) for entry in entries):
            monkeypatch.setattr(recording, "_commit", commit)
            raise OperationalError(2013, "Lost connection to server during query")
        return commit(entries)

    at_once = Mock(write=lambda entry: Recorder()._write([entry]))
    monkeypatch.setattr(simulator, "recorder", at_once)
    monkeypatch.setattr(recording, "_commit", lose_replies)
    session._reply("60123456789", "lost")
    session._reply("60123456789", "heard")

    session.close()
    assert [event.body for event in told.events if isinstance(event, Inbound)] == ["heard"]


def test_a_simulator_that_fails_on_the_way_says_so(
    session: SimulatorSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SimulatorSession, "respond", Mock(side_effect=RuntimeError("no way")))

    with pytest.raises(RuntimeError, match="no way"):
        outcome_of(session.send(OutgoingMessage("message-1", "60123456789", "Hi")))


def test_a_text_arrives_as_it_was_written(session: SimulatorSession) -> None:
    body = "100 % %s %(key)s 'quoted' \"twice\" \\ `line`\nnext \0 🎉 நிறுத்து"

    outcome_of(session.send(OutgoingMessage("message-1", "60123456789", body)))

    assert SimulatedMessage.objects.get(from_device=True).body == body


def test_the_newest_session_wins_even_in_one_transaction() -> None:
    device, other = DeviceFactory.create_batch(2)

    told = answers(
        opening(device.pk, "older"),
        arrival(other.pk, "nobody"),
        opening(device.pk, "newer"),
        arrival(device.pk, "older"),
        arrival(device.pk, "newer", key="message-2"),
    )

    assert told == [True, False, True, False, True]
    assert SimulatedSession.objects.get().token == "newer"
    assert list(SimulatedMessage.objects.values_list("key", flat=True)) == ["message-2"]


def test_one_impossible_entry_does_not_spoil_the_others() -> None:
    device = DeviceFactory()

    told = answers(
        opening(device.pk, "mine"),
        opening(987654321, "of a device that was deleted"),
        arrival(device.pk, "mine"),
    )

    assert told == [True, ANY, True]
    assert isinstance(told[1], IntegrityError)


def test_one_who_fails_to_listen_does_not_keep_the_others_waiting() -> None:
    device = DeviceFactory()
    deaf = Opening(device.pk, Mock(side_effect=RuntimeError), "mine")
    after = arrival(device.pk, "mine")

    writer = Recorder()
    writer.write(deaf)
    writer.write(after)

    assert answer_to(after) is True


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
    entries = [arrival(session.device_id, session.token, key=str(n)) for n in range(50)]
    writer.write(entries[0])
    assert first.wait(20)
    for entry in entries[1:]:
        writer.write(entry)
    go_on.set()

    assert [answer_to(entry) for entry in entries] == [True] * 50
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
    words = Words(device.pk, "60123456789", False, "", "SIM1", "Ok")

    assert answers(Reply(device.pk, Asked(), words)) == [True]
    assert SimulatedMessage.objects.get().body == "Ok"


@pytest.mark.mysql  # SQLite has one write lock for all: the transaction below would hold it
def test_a_session_is_not_replaced_between_the_look_and_the_record(
    session: SimulatorSession,
) -> None:
    with transaction.atomic():
        SimulatedSession.objects.filter(pk=session.device_id).update(token="newer")
        waiting = arrival(session.device_id, session.token)
        recording.recorder.write(waiting)
        with pytest.raises(queue.Empty):
            answer_to(waiting, 0.3)

    assert answer_to(waiting) is False
