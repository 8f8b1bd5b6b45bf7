"""Our transport with the real client: what it sends, says and remembers, and what it never does."""

from __future__ import annotations

import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from devices.transports.base import Accepted, DeviceBlocked, NotSent, Refused, Unknown
from tests.processes import wait_until
from tests.whatsapp.client import Client, ClientError
from tests.whatsapp.conftest import NewPhone
from tests.whatsapp.double import Double, PhoneOf
from tests.whatsapp.session import DEVICE, Process, Sessions

Start = Callable[..., Process]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where session files are."""
    (tmp_path / "sessions").mkdir()
    return tmp_path / "sessions"


@pytest.fixture
def account(whatsapp: Double, folder: Path, new_phone: NewPhone) -> PhoneOf:
    """The phone of an account that is linked; its session file is the device's."""
    phone = new_phone()
    with Client.start(folder / f"{DEVICE}.db", whatsapp.environment) as client:
        client.link(phone)
        client.call("stop")
        client.end()
    wait_until(lambda: whatsapp.online(phone.number) == 0)
    return phone


@pytest.fixture
def start(whatsapp: Double, folder: Path) -> Iterator[Start]:
    """Starts processes like a broadcaster's; ends them all."""
    with ExitStack() as stack:

        def start(files: Path = folder) -> Process:
            environment = whatsapp.environment | {
                "SESSION_DIR": str(files),
                "DJANGO_SETTINGS_MODULE": "config.settings",
            }
            return stack.enter_context(Process.start(files / f"{DEVICE}.db", environment))

        yield start


@pytest.fixture
def session(account: PhoneOf, start: Start) -> Sessions:
    """An open session of the account, connected."""
    return connected(start())


def connected(process: Process, name: str = "one") -> Sessions:
    opened = process.open(name=name)
    opened.hears("Connected")
    return opened


def test_a_message_arrives_as_it_was_written_and_its_receipts_come_back(
    whatsapp: Double, session: Sessions, phone: PhoneOf
) -> None:
    text = "*Hi* _Aminah_, ~RM 10~ RM 8 @60123456789\n\n- open till 6\n```code``` ✓ 你好\t."

    sent = session.send(phone.number, text)

    assert isinstance(sent, Accepted)
    assert [(m.id, m.text, m.copies) for m in phone.received()] == [
        (sent.provider_message_id, text, 1)
    ]
    assert "bot" not in whatsapp.sends(phone.number)[0].tags
    session.hears("Receipt", provider_message_id=sent.provider_message_id, kind="delivered")
    phone.read(sent.provider_message_id)
    read = session.hears("Receipt", provider_message_id=sent.provider_message_id, kind="read")
    assert abs(datetime.now(UTC) - read["at"]) < timedelta(minutes=1)


def test_a_reply_is_heard_with_the_number_it_came_from(
    session: Sessions, account: PhoneOf, phone: PhoneOf
) -> None:
    phone.write(account.number, "STOP")

    heard = session.hears("Inbound", phone=phone.number, body="STOP")

    assert abs(datetime.now(UTC) - heard["at"]) < timedelta(minutes=1)


def test_a_receipt_may_come_before_the_answer(
    whatsapp: Double, session: Sessions, phone: PhoneOf
) -> None:
    whatsapp.withhold_acks()
    call = session.begin_send(phone.number)

    delivered = session.hears("Receipt", kind="delivered")
    assert not session.process.is_done(call)
    whatsapp.release_acks()

    assert session.process.result(call) == Accepted(delivered["provider_message_id"])


@pytest.mark.parametrize(("code", "state"), [("463", "first_contacts"), ("429", "restricted")])
def test_a_device_that_may_not_send_is_blocked_and_nothing_arrives(
    whatsapp: Double, session: Sessions, phone: PhoneOf, code: str, state: str
) -> None:
    whatsapp.answer_sends_with(int(code))

    outcome = session.send(phone.number)

    assert isinstance(outcome, DeviceBlocked)
    assert (outcome.code, outcome.state) == (code, state)
    assert session.recall() == NotSent()  # what was refused is known not to have arrived
    whatsapp.answer_sends_with(None)
    assert isinstance(session.send(phone.number), Accepted)
    assert [m.copies for m in phone.received()] == [1]


def test_who_is_not_on_whatsapp_is_refused_for_good(session: Sessions) -> None:
    outcome = session.send("60199999998")

    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.retry_after) == ("not_on_whatsapp", None)


def test_the_library_tells_nobody_whose_number_it_was(session: Sessions, phone: PhoneOf) -> None:
    session.send(phone.number)
    session.send("60199999998", key="message-2")

    printed = session.process.log.read_text()
    assert "a send failed: Refused not_on_whatsapp" in printed  # our own words get there
    assert "60199999998" not in printed
    assert phone.number not in printed


def test_a_session_that_is_unlinked_on_the_phone_says_so_and_later_ones_too(
    whatsapp: Double, session: Sessions, account: PhoneOf, phone: PhoneOf
) -> None:
    whatsapp.log_out(account.number)

    session.hears("Blocked", state="logged_out")
    assert session.send(phone.number) == NotSent()
    session.close()
    session.process.open(name="later").hears("Blocked", state="logged_out")


def test_a_ban_is_told_with_its_end(whatsapp: Double, session: Sessions, account: PhoneOf) -> None:
    whatsapp.ban(account.number, code=101, seconds=3600)
    whatsapp.cut(account.number)

    ban = session.hears("Blocked", state="banned")

    assert ban["for_"] == timedelta(hours=1)
    assert "people who do not have this number" in ban["reason"]


def test_a_library_that_is_too_old_is_told(
    whatsapp: Double, session: Sessions, account: PhoneOf
) -> None:
    whatsapp.refuse_logins(405, account.number)
    whatsapp.cut(account.number)

    session.hears("Outdated")


def test_a_message_cut_off_in_mid_send_is_shown_once(
    whatsapp: Double, session: Sessions, phone: PhoneOf
) -> None:
    whatsapp.cut_next_send("after it arrived")

    sent = session.send(phone.number)

    assert isinstance(sent, Accepted)
    assert [(m.id, m.text) for m in phone.received()] == [(sent.provider_message_id, "Hi")]


def test_a_connection_that_breaks_is_told_and_comes_back_by_itself(
    whatsapp: Double, session: Sessions, account: PhoneOf, phone: PhoneOf
) -> None:
    seen = session.process.mark()
    whatsapp.cut(account.number)

    session.hears("Disconnected", after=seen)
    session.hears("Connected", after=seen)

    assert isinstance(session.send(phone.number), Accepted)


def test_a_send_that_whatsapp_never_answered_is_unknown_with_its_id(
    whatsapp: Double, session: Sessions, phone: PhoneOf
) -> None:
    whatsapp.withhold_acks()
    call = session.begin_send(phone.number)
    wait_until(lambda: phone.received())

    session.close()

    (received,) = phone.received()
    outcome = session.process.result(call)
    assert isinstance(outcome, Unknown)
    assert outcome.provider_message_id == received.id


def test_a_send_that_takes_too_long_is_given_up_and_holds_up_no_other(
    whatsapp: Double, session: Sessions, phone: PhoneOf
) -> None:
    session.process.call("give_up_after", seconds=2)
    seen = session.process.mark()
    whatsapp.withhold_acks()

    outcome = session.send(phone.number)

    assert isinstance(outcome, Unknown)
    (received,) = phone.received()
    assert (outcome.code, outcome.provider_message_id) == ("timed_out", received.id)
    session.hears("Disconnected", after=seen)
    session.hears("Connected", after=seen)
    whatsapp.release_acks()
    assert isinstance(session.send(phone.number, "Next", "message-2"), Accepted)
    assert session.recall() == Unknown("interrupted", "", received.id)


def test_after_a_crash_the_file_says_under_which_id_a_message_may_have_left(
    whatsapp: Double, session: Sessions, phone: PhoneOf, start: Start
) -> None:
    whatsapp.withhold_acks()
    phone.switch_off()
    session.begin_send(phone.number)
    wait_until(lambda: whatsapp.sends(phone.number))
    session.process.process.kill()
    session.process.process.wait()

    later = connected(start())

    (send,) = whatsapp.sends(phone.number)
    memory = later.recall()
    assert isinstance(memory, Unknown)
    assert memory.provider_message_id == send.id
    assert later.recall("message-2") == NotSent()
    phone.switch_on()
    later.hears("Receipt", provider_message_id=send.id, kind="delivered")
    assert [m.copies for m in phone.received()] == [1]


def test_nothing_is_not_sent_for_sure_while_an_older_session_lives(
    whatsapp: Double, session: Sessions, phone: PhoneOf, start: Start
) -> None:
    """A process that stalls may wake up, and connect again."""
    older = session.process.process
    older.send_signal(signal.SIGSTOP)
    try:
        newer = connected(start())
        assert newer.recall() is None
    finally:
        older.kill()
    older.wait()

    assert newer.recall() == NotSent()


def test_the_newer_of_two_sessions_replaces_the_older_which_stays_away(
    whatsapp: Double, session: Sessions, account: PhoneOf, phone: PhoneOf, start: Start
) -> None:
    logins = whatsapp.logins(account.number)

    newer = connected(start())

    session.hears("Replaced")
    assert session.send(phone.number) == NotSent()
    wait_until(lambda: newer.recall() == NotSent())
    assert isinstance(newer.send(phone.number), Accepted)
    assert whatsapp.logins(account.number) == logins + 1
    assert session.process.names()[-1] == "Replaced"
    assert [m.copies for m in phone.received()] == [1]


def test_a_send_while_it_is_replaced_is_refused_or_remembered(
    whatsapp: Double, account: PhoneOf, phone: PhoneOf, start: Start
) -> None:
    """Whatever the order is in which the two meet: a NotSent is the last word."""
    older, memories = connected(start(), "0"), []
    for number in range(1, 9):
        key = f"message-{number}"
        newer = start().open(name=str(number))
        call = older.begin_send(phone.number, key, key)
        newer.hears("Connected")
        memory = newer.recall(key)
        outcome = older.process.result(call)
        if memory == NotSent():
            assert outcome == NotSent()
            assert key not in phone.texts()
        if key in phone.texts():
            assert isinstance(outcome, Accepted | Unknown)
            ids = [m.id for m in phone.received()]
            assert memory is None or memory.provider_message_id in ids
        memories.append(memory)
        older.close()
        older = newer
    assert any(isinstance(memory, Unknown) for memory in memories), "nothing was tried here"
    assert all(m.copies == 1 for m in phone.received())


def test_a_receipt_that_the_library_has_no_name_for_costs_a_moment_and_nothing_else(
    whatsapp: Double, session: Sessions, phone: PhoneOf
) -> None:
    sent = session.send(phone.number)
    session.hears("Receipt", kind="delivered")
    seen = session.process.mark()

    phone.confirm(sent.provider_message_id, "view")

    session.hears("Connected", after=seen)
    phone.read(sent.provider_message_id)
    session.hears("Receipt", after=seen, kind="read")


def test_whatsapp_out_of_reach_is_told_and_tried_again(
    whatsapp: Double, account: PhoneOf, start: Start
) -> None:
    whatsapp.go_away()
    session = start().open()
    session.hears("Disconnected")

    whatsapp.come_back()

    session.hears("Connected")


def test_nothing_is_reported_and_nobody_is_online_once_it_is_closed(
    whatsapp: Double, session: Sessions, account: PhoneOf, phone: PhoneOf
) -> None:
    session.close()
    seen = session.process.mark()

    wait_until(lambda: whatsapp.online(account.number) == 0)
    phone.write(account.number, "STOP")

    session.process.open(name="next").hears("Inbound", body="STOP")
    assert {event.fields["session"] for event in session.process.events[seen:]} == {"next"}
    session.close()


def test_close_waits_for_a_report_and_may_come_from_one(
    whatsapp: Double, account: PhoneOf, start: Start
) -> None:
    process = start()

    assert process.call("close_in_a_report", device=DEVICE)
    assert process.call("close_during_a_report", device=DEVICE)

    wait_until(lambda: whatsapp.online(account.number) == 0)


def test_a_session_closed_at_once_never_stays_online(
    whatsapp: Double, account: PhoneOf, start: Start
) -> None:
    process = start()
    for number in range(5):
        process.open(name=str(number)).close()

    last = connected(process, "last")

    assert whatsapp.online(account.number) == 1
    last.close()
    wait_until(lambda: whatsapp.online(account.number) == 0)


def test_a_session_file_is_for_nobody_else_and_its_absence_is_told(
    session: Sessions, folder: Path
) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.glob("1.*")}
    assert modes["1.db"] == modes["1.lock"] == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    with pytest.raises(ClientError, match="This host has no session of this device"):
        session.process.open(device=2, name="two")
