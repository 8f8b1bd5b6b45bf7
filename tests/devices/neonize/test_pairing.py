"""What the client says while it is being linked, and what is told of it. Which of these really
come when, tests/whatsapp/test_pairing.py says as far as a double of WhatsApp can make them come."""

from __future__ import annotations

import threading

import pytest

from devices.pairing import Pairing
from devices.transports.neonize import pairing
from devices.transports.neonize.pairing import verdict, why_no_code

Reason = Pairing.Reason


@pytest.mark.parametrize(
    ("name", "fields", "reason"),
    [
        ("Login", {"status": "success"}, ""),
        ("Login", {"status": "timeout"}, Reason.TIMED_OUT),
        ("Login", {"status": "passkey-request"}, Reason.PASSKEY),
        ("Login", {"status": "err-client-outdated"}, Reason.OUTDATED),
        ("Login", {"status": "err-unexpected-state"}, Reason.REFUSED),
        ("Login", {"status": "error"}, Reason.REFUSED),
        ("ClientOutdated", {}, Reason.OUTDATED),
        ("PairStatus", {"Status": "SUCCESS", "ID": {"User": "60123456789"}}, ""),
        ("PairStatus", {"Status": "ERROR", "Error": "some words"}, Reason.REFUSED),
        ("LoggedOut", {"Reason": "LOGGED_OUT"}, Reason.REFUSED),
        ("TemporaryBan", {}, Reason.REFUSED),
        ("ConnectFailure", {"Reason": "GENERIC"}, Reason.REFUSED),
        ("Ended", {"error": "lookup web.whatsapp.com: no such host"}, Reason.UNREACHABLE),
        ("Ended", {"error": "dial tcp 1.2.3.4:443: connect: refused"}, Reason.UNREACHABLE),
        ("Ended", {"error": ""}, Reason.REFUSED),
        ("Disconnected", {}, ""),
        ("Message", {}, ""),
    ],
)
def test_what_the_client_says_has_a_meaning_for_the_pairing(
    name: str, fields: dict[str, object], reason: str
) -> None:
    assert verdict(name, fields) == reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("info query returned status 429: rate-overlimit", Reason.TOO_OFTEN),
        ("websocket not connected", Reason.UNREACHABLE),
        ("client is nil", Reason.UNREACHABLE),
        ("phone number too short", Reason.BAD_NUMBER),
        ("info query returned status 400: bad-request", Reason.BAD_NUMBER),
    ],
)
def test_why_there_is_no_code(error: str, reason: str) -> None:
    assert why_no_code(error) == reason


def test_it_says_that_it_lives_while_it_is_inside_one_call_of_the_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pairing, "BEAT_SECONDS", 0.01)
    beats = threading.Semaphore(0)
    linking = pairing.Linking("7-abc", 7, lambda: beats.release() is None)

    with linking.at_it():
        assert beats.acquire(timeout=20)
        assert beats.acquire(timeout=20)

    assert "beat" not in [thread.name for thread in threading.enumerate()]
