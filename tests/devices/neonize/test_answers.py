"""What each error text of neonize means for a message. Runs without neonize: the texts are its."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from devices.transports.base import DeviceBlocked, NotSent, Outcome, Refused, Unknown
from devices.transports.neonize.answers import ANSWERS, outcome_of

SOON, LATER = timedelta(seconds=30), timedelta(minutes=30)

# Each text, and what follows: the kind, its code, and when to go on.
ROWS: list[tuple[str, type[Outcome], str, object]] = [
    ("server returned error 463", DeviceBlocked, "463", None),
    ("server returned error 429", DeviceBlocked, "429", LATER),
    ("server returned error 479", Refused, "479", None),
    ("server returned error 403", Refused, "403", None),
    ("no LID found for 60123456789@s.whatsapp.net from server", Refused, "not_on_whatsapp", None),
    ("info query returned status 429: rate-overlimit", DeviceBlocked, "429", LATER),
    (
        "failed to get device list: failed to send usync query: info query returned status 429: "
        "rate-overlimit",
        DeviceBlocked, "429", LATER,
    ),
    ("failed to get user info for 60123456789: x", Refused, "not_looked_up", SOON),
    ("failed to get device list: info query timed out", Refused, "not_looked_up", SOON),
    ("failed to send usync query: info query timed out", Refused, "not_looked_up", SOON),
    ("failed to refresh media connections: 503", Refused, "media_host_down", SOON),
    ("upload failed with status code 503", Refused, "media_host_down", SOON),
    ("client is nil", NotSent, "", None),
    ("the store doesn't contain a device JID", NotSent, "", None),
    ("failed to send message node: websocket not connected", NotSent, "", None),
    (
        "failed to get user info for 60123456789@s.whatsapp.net to fill LID cache: failed to send "
        "usync query: websocket not connected",
        NotSent, "", None,
    ),
    ("websocket not connected", NotSent, "", None),
    ("timed out waiting for message send response", Unknown, "timed_out", None),
    (
        "websocket disconnected before message send returned response", Unknown, "disconnected",
        None,
    ),
    (
        "websocket disconnected before message send (retry) returned response", Unknown,
        "disconnected", None,
    ),
    ("context canceled", Unknown, "closed", None),
]  # fmt: skip


def nothing() -> list[str]:
    return []


@pytest.mark.parametrize(("text", "kind", "code", "then"), ROWS, ids=[row[0] for row in ROWS])
def test_each_text_has_its_outcome_and_a_sentence(
    text: str, kind: type[Outcome], code: str, then: object
) -> None:
    outcome = outcome_of(text, nothing)

    assert type(outcome) is kind
    assert getattr(outcome, "code", "") == code
    sentence = getattr(outcome, "message", "A sentence.")
    assert sentence[0].isupper()
    assert sentence[-1] in ".?"
    assert len(sentence) <= 255


def test_every_row_of_the_table_is_tried() -> None:
    tried = {next(a.text for a in ANSWERS if re.match(a.text, row[0])) for row in ROWS}
    assert tried == {answer.text for answer in ANSWERS}


@pytest.mark.parametrize(
    ("text", "kind", "code", "then"),
    [row for row in ROWS if row[1] in (DeviceBlocked, Refused)],
)
def test_what_is_refused_says_when_to_go_on(
    text: str, kind: type[Outcome], code: str, then: object
) -> None:
    outcome = outcome_of(text, nothing)

    said = outcome.for_ if isinstance(outcome, DeviceBlocked) else outcome.retry_after
    assert said == then


@pytest.mark.parametrize(
    "text",
    ["", "server returned error 500", "server returned error 4630", "failed to encrypt", "EOF"],
)
def test_what_is_not_in_the_table_may_have_left(text: str) -> None:
    assert isinstance(outcome_of(text, nothing), Unknown)


def test_what_may_have_left_has_the_newest_id_that_the_file_knows() -> None:
    for text in ("EOF", "timed out waiting for message send response", "context canceled"):
        outcome = outcome_of(text, lambda: ["3EB0OLD", "3EB0NEW"])
        assert isinstance(outcome, Unknown)
        assert outcome.provider_message_id == "3EB0NEW"


def test_a_line_that_did_not_come_back_may_have_carried_the_message_before_it_broke() -> None:
    outcome = outcome_of("websocket not connected", lambda: ["3EB0"])

    assert outcome == Unknown(
        "disconnected", "The connection broke while the message was being sent.", "3EB0"
    )


@pytest.mark.parametrize("code", [403, 429, 463, 479])
def test_a_refusal_after_the_line_broke_may_be_of_a_second_copy(code: int) -> None:
    outcome = outcome_of(f"server returned error {code}", lambda: ["3EB0"], broke=True)

    assert outcome == Unknown(
        "disconnected", "The connection broke while the message was being sent.", "3EB0"
    )


def test_what_was_asked_before_the_message_was_made_says_the_same_after_a_break() -> None:
    outcome = outcome_of("no LID found for 1@s.whatsapp.net from server", nothing, broke=True)

    assert isinstance(outcome, Refused)


def test_a_file_that_cannot_be_read_proves_nothing() -> None:
    assert isinstance(outcome_of("websocket not connected", lambda: None), Unknown)
    assert isinstance(outcome_of("context canceled", lambda: None), Unknown)
    assert isinstance(outcome_of("client is nil", lambda: None), NotSent)


def test_nobody_s_number_is_in_what_an_operator_reads() -> None:
    outcome = outcome_of("cannot write to 60123456789:3@lid", nothing)

    assert isinstance(outcome, Unknown)
    assert "60123456789" not in outcome.message
