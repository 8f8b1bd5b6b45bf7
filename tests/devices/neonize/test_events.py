"""What each event of neonize means for a device. Runs without neonize: the fields are its."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from devices.transports.base import (
    Blocked,
    Connected,
    Disconnected,
    Inbound,
    Outdated,
    Receipt,
    Replaced,
)
from devices.transports.neonize.events import THEN, Then, end_of, events_of

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
AT = datetime(2026, 11, 26, 11, 59, tzinfo=UTC)
STAMP = str(int(AT.timestamp()))
ALI = "60123456789"
HIDDEN = {"User": "123456789012345", "Server": "lid"}
PN = {"User": ALI, "Server": "s.whatsapp.net"}


def events(name: str, fields: dict[str, Any] | None = None) -> list[Any]:
    return events_of(name, fields or {}, known)


def known(lid: str) -> str:
    return ALI if lid == HIDDEN["User"] else ""


@pytest.mark.parametrize(
    ("name", "fields", "kind", "state", "then"),
    [
        ("Connected", {}, Connected, None, Then.GO_ON),
        ("Disconnected", {"status": True}, Disconnected, None, Then.GO_ON),
        ("StreamReplaced", {}, Replaced, None, Then.END),
        ("ConnectFailure", {"Reason": "GENERIC"}, Disconnected, None, Then.AGAIN),
        ("ConnectFailure", {"Reason": "BAD_USER_AGENT"}, Disconnected, None, Then.AGAIN),
        ("LoggedOut", {"Reason": "LOGGED_OUT"}, Blocked, "logged_out", Then.END),
        ("LoggedOut", {"Reason": "MAIN_DEVICE_GONE"}, Blocked, "logged_out", Then.END),
        ("LoggedOut", {"Reason": "UNKNOWN_LOGOUT"}, Blocked, "banned", Then.END),
        ("QR", {}, Blocked, "logged_out", Then.END),
        ("TemporaryBan", {"Code": "BROADCAST_LIST", "Expire": "60"}, Blocked, "banned", Then.END),
        ("ClientOutdated", {}, Outdated, None, Then.END),
        ("Receipt", {"Type": "RETRY", "MessageIDs": ["1"]}, None, None, Then.GO_ON),
        ("KeepAliveTimeout", {}, None, None, Then.GO_ON),
    ],
)  # fmt: skip
def test_each_event_has_its_meaning(
    name: str, fields: dict[str, Any], kind: type | None, state: str | None, then: Then
) -> None:
    said = events(name, fields)

    assert [type(event) for event in said] == ([kind] if kind else [])
    assert [getattr(event, "state", None) for event in said] == ([state] if kind else [])
    reasons = [event.reason for event in said if hasattr(event, "reason")]
    assert all(reason.endswith(".") and len(reason) <= 255 for reason in reasons)
    assert THEN.get(name, Then.GO_ON) is then


@pytest.mark.parametrize(
    ("error", "kind", "then"),
    [
        ("", None, Then.AGAIN),
        ("proto: required field neonize.TemporaryBan.Code not set", Blocked, Then.END),
        ("proto: required field neonize.ConnectFailure.Reason not set", Disconnected, Then.AGAIN),
        ("proto: required field neonize.Receipt.Type not set", Disconnected, Then.AGAIN),
        ("dial tcp: lookup web.whatsapp.com: no such host", Disconnected, Then.AGAIN),
    ],
)
def test_each_end_has_its_meaning(error: str, kind: type | None, then: Then) -> None:
    said, next_ = end_of(error)

    assert ([type(event) for event in said], next_) == ([kind] if kind else [], then)
    assert all(event.reason.endswith(".") for event in said)  # type: ignore[union-attr]


def test_a_ban_says_why_and_until_when() -> None:
    (ban,) = events("TemporaryBan", {"Code": "SEND_TO_TOO_MANY_PEOPLE", "Expire": "3600"})

    assert (ban.for_, ban.until) == (timedelta(hours=1), None)
    assert "people who do not have this number" in ban.reason


@pytest.mark.parametrize("fields", [{}, {"Expire": "0"}])
def test_a_ban_that_names_no_end_has_none(fields: dict[str, Any]) -> None:
    (ban,) = events("TemporaryBan", {"Code": "BLOCKED_BY_USERS", **fields})

    assert (ban.for_, ban.until) == (None, None)


@pytest.mark.parametrize(
    ("type_", "kind"),
    [("DELIVERED", "delivered"), ("INACTIVE", "delivered"), ("READ", "read"), ("PLAYED", "read")],
)
@pytest.mark.parametrize("stamp", [STAMP, STAMP + "000"], ids=["seconds", "milliseconds"])
def test_a_receipt_is_one_for_each_message(type_: str, kind: Any, stamp: str) -> None:
    fields = {"Type": type_, "MessageIDs": ["3EB01", "3EB02"], "Timestamp": stamp}

    assert events("Receipt", fields) == [Receipt("3EB01", kind, AT), Receipt("3EB02", kind, AT)]


@pytest.mark.parametrize("type_", ["SENDER", "RETRY", "READ_SELF", "PLAYED_SELF", "SERVER_ERROR"])
def test_other_receipts_say_nothing_about_the_recipient(type_: str) -> None:
    assert events("Receipt", {"Type": type_, "MessageIDs": ["1"], "Timestamp": STAMP}) == []


def message(source: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    source = {"Chat": source.get("Sender"), "IsFromMe": False, "IsGroup": False} | source
    return {"Info": {"MessageSource": source, "Timestamp": STAMP}, "Message": content}


@pytest.mark.parametrize(
    ("content", "body"),
    [
        ({"conversation": "STOP"}, "STOP"),
        ({"conversation": "Hi", "messageContextInfo": {}}, "Hi"),
        ({"extendedTextMessage": {"text": "STOP"}}, "STOP"),
        ({"imageMessage": {"caption": "this one"}}, "this one"),
        ({"imageMessage": {"url": "x"}}, ""),
        ({"buttonsResponseMessage": {"selectedDisplayText": "Yes"}}, "Yes"),
        ({"ephemeralMessage": {"message": {"extendedTextMessage": {"text": "STOP"}}}}, "STOP"),
        ({"protocolMessage": {"editedMessage": {"conversation": "STOP"}}}, "STOP"),
    ],
)
def test_what_a_person_writes_comes_in(content: dict[str, Any], body: str) -> None:
    assert events("Message", message({"Sender": PN}, content)) == [Inbound(ALI, body, AT)]


@pytest.mark.parametrize(
    "source",
    [{"Sender": PN}, {"Sender": HIDDEN, "SenderAlt": PN}, {"Sender": HIDDEN}],
    ids=["by number", "by both", "by another name that the session file knows"],
)
def test_a_person_is_known_by_number(source: dict[str, Any]) -> None:
    (heard,) = events("Message", message(source, {"conversation": "Hi"}))

    assert heard.phone == ALI


@pytest.mark.parametrize(
    ("source", "content"),
    [
        ({"Sender": PN, "IsFromMe": True}, {"conversation": "mine"}),
        ({"Sender": PN, "IsGroup": True}, {"conversation": "to all"}),
        ({"Sender": PN, "Chat": {"User": "status", "Server": "broadcast"}}, {"conversation": "x"}),
        ({"Sender": {"User": "9", "Server": "lid"}}, {"conversation": "by nobody we know"}),
        ({"Sender": PN}, {"reactionMessage": {"text": "👍"}}),
        ({"Sender": PN}, {"protocolMessage": {"type": "REVOKE"}}),
        ({"Sender": PN}, {}),
    ],
)
def test_what_is_no_reply_stays_out(source: dict[str, Any], content: dict[str, Any]) -> None:
    assert events("Message", message(source, content)) == []
