"""Who is on WhatsApp, asked of it through our transport before a message is sent."""

from __future__ import annotations

from devices.transports.base import Accepted, Refused
from tests.whatsapp.conftest import NewPhone
from tests.whatsapp.double import Double, PhoneOf
from tests.whatsapp.session import Sessions
from tests.whatsapp.test_transport import account, folder, session, start

__all__ = ["account", "folder", "session", "start"]  # fixtures


def test_it_says_before_a_send_who_is_on_whatsapp_and_by_which_number(
    whatsapp: Double, session: Sessions, phone: PhoneOf, new_phone: NewPhone
) -> None:
    brazilian, written, nobody = new_phone(), "5511987654321", "60199999999"
    whatsapp.ask("add_alias", number=brazilian.number, alias=written)

    answers = session.process.call("check", name="one", phones=[phone.number, written, nobody])

    assert answers == {phone.number: phone.number, written: brazilian.number, nobody: ""}
    assert isinstance(session.send(written), Refused)  # so it matters which one is written to
    assert isinstance(session.send(answers[written], key="message-2"), Accepted)


def test_it_says_nothing_of_numbers_without_a_connection(
    whatsapp: Double, session: Sessions, account: PhoneOf
) -> None:
    seen = session.process.mark()
    whatsapp.go_away()
    session.hears("Disconnected", after=seen)
    assert session.process.call("check", name="one", phones=["60199999999"]) == {}
