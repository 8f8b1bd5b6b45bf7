"""What the library sends once more by itself, after the line broke in the middle of a send."""

from __future__ import annotations

import pytest

from devices.transports.base import Unknown
from tests.processes import wait_until
from tests.whatsapp.double import Double, PhoneOf
from tests.whatsapp.session import Sessions
from tests.whatsapp.test_transport import account, folder, session, start

__all__ = ["account", "folder", "session", "start"]  # fixtures


@pytest.mark.parametrize("code", [429, 463])
def test_a_refusal_of_what_the_library_sends_again_after_a_break_says_nothing_of_the_first(
    whatsapp: Double, session: Sessions, phone: PhoneOf, code: int
) -> None:
    seen = session.process.mark()
    whatsapp.withhold_acks()
    call = session.begin_send(phone.number)
    wait_until(phone.received)
    whatsapp.go_away()
    whatsapp.answer_sends_with(code)
    session.hears("Disconnected", after=seen)
    whatsapp.come_back()

    outcome = session.process.result(call)

    (received,) = phone.received()
    assert [send.outcome for send in whatsapp.sends(phone.number)] == ["accepted", str(code)]
    assert isinstance(outcome, Unknown)
    assert (outcome.code, outcome.provider_message_id) == ("disconnected", received.id)
    session.hears("Connected", after=seen)
    assert session.recall() == Unknown("interrupted", "", received.id)
