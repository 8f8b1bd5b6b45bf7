from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest

from devices.models import Device
from devices.transports.base import (
    Accepted,
    Connected,
    Disconnected,
    Event,
    NotSent,
    OutgoingMessage,
    Receipt,
    Refused,
    Unknown,
)
from tests.faults.witness import NO_ANSWER, WitnessSession, WitnessTransport

REMEMBERS, FORGETS = Device(pk=2), Device(pk=5)
REMEMBERS_LATER = Device(pk=6)
MESSAGE = OutgoingMessage("message-1", "60123456789", "campaign-1 Hi")

Open = Callable[[Device], tuple[WitnessSession, "queue.Queue[Event]"]]


@pytest.fixture
def witness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WitnessTransport:
    monkeypatch.setenv("WITNESS", str(tmp_path))
    return WitnessTransport()


@pytest.fixture
def open_one(witness: WitnessTransport) -> Open:
    def open_one(device: Device) -> tuple[WitnessSession, queue.Queue[Event]]:
        told: queue.Queue[Event] = queue.Queue()
        session = witness.open(device, told.put)
        assert told.get(timeout=20) == Connected()
        return session, told

    return open_one


def test_a_send_is_seen_when_it_begins_and_when_it_left(
    witness: WitnessTransport, open_one: Open
) -> None:
    session, _ = open_one(REMEMBERS)

    outcome = session.send(MESSAGE)

    assert isinstance(outcome, Accepted)
    lines = [line for line in witness.log.lines() if line["what"] != "clock"]
    assert [line["what"] for line in lines] == ["open", "entry", "send"]
    assert lines[1]["entered_at"] == lines[2]["entered_at"] < lines[2]["at"]
    assert session.recall(MESSAGE.key) == outcome


def test_an_older_session_says_by_itself_that_it_was_replaced(open_one: Open) -> None:
    older, told = open_one(REMEMBERS)
    newer, newer_told = open_one(REMEMBERS)

    assert told.get(timeout=20) == Disconnected("replaced")
    assert older.send(MESSAGE) == NotSent()
    assert newer.recall(MESSAGE.key) == NotSent()
    assert newer_told.empty()


def test_an_account_without_a_memory_lets_both_send_and_tells_nobody(open_one: Open) -> None:
    older, told = open_one(FORGETS)
    newer, _ = open_one(FORGETS)

    older.look()
    assert isinstance(older.send(MESSAGE), Accepted)
    assert newer.recall(MESSAGE.key) is None
    assert told.empty()


def test_nothing_is_reported_once_it_is_closed(open_one: Open) -> None:
    older, told = open_one(REMEMBERS)
    older.close()
    open_one(REMEMBERS)

    older.look()

    assert told.empty()


def test_a_future_is_settled_by_another_thread_with_what_became_of_the_send(
    witness: WitnessTransport, open_one: Open
) -> None:
    session, _ = open_one(REMEMBERS_LATER)

    answer = session.send(MESSAGE)

    assert isinstance(answer, Future)
    assert witness.log.sent(MESSAGE.key) is None  # only begun
    outcome = answer.result(timeout=20)
    assert isinstance(outcome, Accepted)
    assert session.recall(MESSAGE.key) == outcome


def test_some_numbers_are_refused_once_for_each_text_and_some_always(
    witness: WitnessTransport, open_one: Open
) -> None:
    session, _ = open_one(REMEMBERS)
    once, never = "60123456748", "60123456777"

    def send(key: str, phone: str, body: str) -> type:
        return type(session.send(OutgoingMessage(key, phone, body)))

    assert send("message-1", once, "campaign-1 Hi") is Refused
    assert send("message-1-1", once, "campaign-1 Hi") is Accepted
    assert send("message-2", once, "campaign-2 Hi") is Refused
    assert send("message-3", never, "campaign-1 Hi") is Refused
    assert send("message-3-1", never, "campaign-1 Hi") is Refused
    refusals = [line["key"] for line in witness.log.lines() if line["what"] == "refusal"]
    assert refusals == ["message-1", "message-2", "message-3", "message-3-1"]


def test_what_was_sent_is_delivered_a_moment_later(
    witness: WitnessTransport, open_one: Open
) -> None:
    session, told = open_one(FORGETS)

    outcome = session.send(MESSAGE)

    receipt = told.get(timeout=20)
    assert isinstance(outcome, Accepted)
    assert isinstance(receipt, Receipt)
    assert (receipt.provider_message_id, receipt.kind) == (outcome.provider_message_id, "delivered")
    lines = [line for line in witness.log.lines() if line["what"] == "receipt"]
    assert lines[0]["key"] == MESSAGE.key


def test_of_some_numbers_it_does_not_tell_though_it_sent(
    witness: WitnessTransport, open_one: Open
) -> None:
    unsure = OutgoingMessage("message-9", "60123456736", "campaign-1 Hi")
    with_id, told = open_one(REMEMBERS)
    without, _ = open_one(FORGETS)

    outcome = with_id.send(unsure)

    assert isinstance(outcome, Unknown)
    assert outcome.provider_message_id == witness.log.sent(unsure.key)
    receipt = told.get(timeout=20)
    assert isinstance(receipt, Receipt)
    assert receipt.provider_message_id == outcome.provider_message_id
    assert without.send(unsure) == Unknown(NO_ANSWER, "The witness does not say.")
