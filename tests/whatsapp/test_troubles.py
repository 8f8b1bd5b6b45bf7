"""What each trouble looks like to a real client.

It is the ground that the transport stands on: what neonize reports, word by word, and what not.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.processes import wait_until
from tests.whatsapp.client import Client, ClientError
from tests.whatsapp.conftest import NewClient, NewPhone
from tests.whatsapp.double import Double, PhoneOf


@pytest.mark.parametrize("code", [463, 479, 429])
def test_a_refused_send_says_the_code_and_arrives_nowhere(
    whatsapp: Double, sender: Client, phone: PhoneOf, code: int
) -> None:
    whatsapp.answer_sends_with(code)

    with pytest.raises(ClientError, match=f"server returned error {code}"):
        sender.call("send_text", to=phone.number, text="Hi")

    assert phone.received() == []
    assert [send.outcome for send in whatsapp.sends(phone.number)] == [str(code)]


def test_a_send_waits_for_its_ack(whatsapp: Double, sender: Client, phone: PhoneOf) -> None:
    whatsapp.withhold_acks()

    call = sender.begin("send_text", to=phone.number, text="Hi")
    wait_until(lambda: phone.texts() == ["Hi"])
    assert not sender.is_done(call)

    whatsapp.release_acks()
    assert sender.result(call) == phone.received()[0].id


def test_a_message_cut_off_after_it_arrived_comes_twice_and_is_shown_once(
    whatsapp: Double, sender: Client, phone: PhoneOf
) -> None:
    seen = sender.mark()
    whatsapp.cut_next_send("after it arrived")

    sent = sender.call("send_text", to=phone.number, text="Hi")

    sender.wait_for("Connected", after=seen)
    assert [(m.id, m.text, m.copies) for m in phone.received()] == [(sent, "Hi", 2)]
    assert [send.id for send in whatsapp.sends(phone.number)] == [sent, sent]


def test_a_message_cut_off_before_it_arrived_comes_once(
    whatsapp: Double, sender: Client, phone: PhoneOf
) -> None:
    seen = sender.mark()
    whatsapp.cut_next_send("before it arrives")

    sent = sender.call("send_text", to=phone.number, text="Hi")

    sender.wait_for("Connected", after=seen)
    assert [(m.id, m.copies) for m in phone.received()] == [(sent, 1)]
    assert [send.outcome for send in whatsapp.sends(phone.number)] == ["lost", "accepted"]


def test_a_client_that_is_cut_off_comes_again_by_itself(
    whatsapp: Double, sender: Client, sender_phone: PhoneOf, phone: PhoneOf
) -> None:
    logins, seen = whatsapp.logins(sender_phone.number), sender.mark()

    whatsapp.cut(sender_phone.number)

    sender.wait_for("Disconnected", after=seen)
    sender.wait_for("Connected", after=seen)
    assert whatsapp.logins(sender_phone.number) == logins + 1
    sender.call("send_text", to=phone.number, text="Still here")
    assert phone.texts() == ["Still here"]


def go_away(whatsapp: Double, number: str) -> None:
    whatsapp.go_away()


def be_unwell(whatsapp: Double, number: str) -> None:
    """Is there, and lets nobody in: the client tries in vain at least once."""
    logins = whatsapp.logins(number)
    whatsapp.refuse_logins(503, number)
    whatsapp.cut(number)
    wait_until(lambda: whatsapp.logins(number) > logins)


@pytest.mark.parametrize(
    ("trouble", "end"), [(go_away, Double.come_back), (be_unwell, Double.behave)]
)
def test_a_client_comes_back_by_itself_once_whatsapp_is_well_again(
    whatsapp: Double, sender: Client, sender_phone: PhoneOf,
    trouble: Callable[[Double, str], None], end: Callable[[Double], None],
) -> None:  # fmt: skip
    seen = sender.mark()
    trouble(whatsapp, sender_phone.number)
    sender.wait_for("Disconnected", after=seen)
    assert whatsapp.online(sender_phone.number) == 0

    end(whatsapp)

    sender.wait_for("Connected", after=seen)


def test_a_send_says_whether_it_may_have_left_when_whatsapp_goes_away(
    whatsapp: Double, sender: Client, phone: PhoneOf
) -> None:
    seen = sender.mark()
    whatsapp.withhold_acks()
    call = sender.begin("send_text", to=phone.number, text="Hi")
    wait_until(lambda: phone.texts() == ["Hi"])

    whatsapp.go_away()

    with pytest.raises(ClientError, match="disconnected before message send returned response"):
        sender.result(call)
    with pytest.raises(ClientError, match=r"failed to send message node: websocket not connected$"):
        sender.call("send_text", to=phone.number, text="Are you there?")
    whatsapp.come_back()
    sender.wait_for("Connected", after=seen)
    assert phone.texts() == ["Hi"]


def test_a_file_that_cannot_be_uploaded_is_not_sent(
    whatsapp: Double, sender: Client, phone: PhoneOf
) -> None:
    whatsapp.refuse_media(503)

    with pytest.raises(ClientError, match="503"):
        sender.call("send_document", to=phone.number, content=b"%PDF-1.4 it", name="a.pdf")

    assert whatsapp.sends(phone.number) == []


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [("is_on_whatsapp", {"numbers": ["60199999999"]}), ("upload", {"content": b"x"})],
)
def test_a_stopped_client_is_asked_in_vain_and_ends_nothing(
    start_client: NewClient, phone: PhoneOf, verb: str, arguments: dict[str, Any]
) -> None:
    """A look-up or an upload may come a moment too late; a nil in Go would end the process."""
    client = start_client().link(phone)
    client.call("stop")
    client.end()

    with pytest.raises(ClientError, match=r"client is nil$"):
        client.call(verb, **arguments)


def test_without_a_connection_no_file_is_uploaded(
    whatsapp: Double, start_client: NewClient, phone: PhoneOf
) -> None:
    client = start_client().link(phone)
    whatsapp.go_away()

    with pytest.raises(ClientError, match=r"^UploadError: failed to refresh media connections"):
        client.call("upload", content=b"x")


def test_a_client_unlinked_on_the_phone_is_logged_out(
    whatsapp: Double, start_client: NewClient, phone: PhoneOf
) -> None:
    client = start_client().link(phone)

    whatsapp.log_out(phone.number)

    assert client.wait_for("LoggedOut") == {"OnConnect": False, "Reason": "LOGGED_OUT"}
    wait_until(lambda: whatsapp.online(phone.number) == 0)


@pytest.mark.parametrize(
    ("reason", "name"), [(401, "LOGGED_OUT"), (403, "MAIN_DEVICE_GONE"), (406, "UNKNOWN_LOGOUT")]
)
def test_a_client_refused_for_good_is_logged_out(
    whatsapp: Double, start_client: NewClient, phone: PhoneOf, reason: int, name: str
) -> None:
    client = start_client().link(phone)

    whatsapp.refuse_logins(reason, phone.number)
    whatsapp.cut(phone.number)

    assert client.wait_for("LoggedOut") == {"OnConnect": True, "Reason": name}


def test_a_client_banned_for_a_while_is_told_for_how_long(
    whatsapp: Double, start_client: NewClient, phone: PhoneOf
) -> None:
    client = start_client().link(phone)

    whatsapp.ban(phone.number, code=101, seconds=3600)
    whatsapp.cut(phone.number)

    ban = client.wait_for("TemporaryBan")
    assert ban == {"Code": "SEND_TO_TOO_MANY_PEOPLE", "Expire": "3600"}


def test_a_client_that_is_too_old_is_told_so(
    whatsapp: Double, start_client: NewClient, phone: PhoneOf
) -> None:
    client = start_client().link(phone)

    whatsapp.refuse_logins(405)
    whatsapp.cut(phone.number)

    client.wait_for("ClientOutdated")


@pytest.mark.parametrize(("reason", "name"), [(400, "GENERIC"), (409, "BAD_USER_AGENT")])
def test_a_client_refused_for_another_reason_is_told_which(
    whatsapp: Double, start_client: NewClient, phone: PhoneOf, reason: int, name: str
) -> None:
    client = start_client().link(phone)

    whatsapp.refuse_logins(reason, phone.number)
    whatsapp.cut(phone.number)

    assert client.wait_for("ConnectFailure")["Reason"] == name
    assert not client.has_ended()


@pytest.mark.parametrize(
    ("reason", "more", "field"),
    [
        (418, {}, "ConnectFailure.Reason"),
        (402, {"code": 199, "expire": 3600}, "TemporaryBan.Code"),
    ],
)
def test_a_refusal_that_neonize_has_no_name_for_ends_the_client(
    whatsapp: Double, start_client: NewClient, phone: PhoneOf,
    reason: int, more: dict[str, int], field: str,
) -> None:  # fmt: skip
    client = start_client().link(phone)

    whatsapp.refuse_logins(reason, phone.number, **more)
    whatsapp.cut(phone.number)

    with pytest.raises(ClientError, match=f"required field neonize.{field} not set"):
        client.end()


def test_a_receipt_that_neonize_has_no_name_for_leaves_a_client_that_sends_and_hears_nothing(
    whatsapp: Double, start_client: NewClient, new_phone: NewPhone
) -> None:
    owner, friend = new_phone(), new_phone()
    client = start_client().link(owner)
    sent = client.call("send_text", to=friend.number, text="Hi")
    client.wait_for_receipt(sent, "DELIVERED")

    friend.confirm(sent, "view")

    with pytest.raises(ClientError, match=r"required field neonize.Receipt.Type not set"):
        client.end()
    seen = client.mark()
    client.call("send_text", to=friend.number, text="Are you there?")
    assert friend.texts() == ["Hi", "Are you there?"]
    assert client.names()[seen:] == []


def test_the_same_client_connected_elsewhere_replaces_this_one(
    whatsapp: Double, start_client: NewClient, phone: PhoneOf, tmp_path: Path
) -> None:
    client = start_client("one.db").link(phone)
    shutil.copy(tmp_path / "one.db", tmp_path / "two.db")

    other = start_client("two.db")
    other.connect()

    other.wait_for("Connected")
    client.wait_for("StreamReplaced")
    assert whatsapp.online(phone.number) == 1
    assert whatsapp.logins(phone.number) == 2  # the first did not come again


def test_a_client_that_was_replaced_does_not_come_again(
    whatsapp: Double, start_client: NewClient, phone: PhoneOf
) -> None:
    client = start_client().link(phone)

    whatsapp.replace(phone.number)

    client.wait_for("StreamReplaced")
    wait_until(lambda: whatsapp.online(phone.number) == 0)
    assert not client.has_ended()
    with pytest.raises(ClientError, match="websocket"):
        client.call("send_text", to=phone.number, text="Hi")
