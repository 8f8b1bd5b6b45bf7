"""How sessions end that are given back together."""

from __future__ import annotations

import threading
from unittest.mock import Mock

import pytest

from broadcasts import closing


def test_sessions_are_closed_at_the_same_time_and_none_is_left_out() -> None:
    meeting = threading.Barrier(closing.AT_ONCE)
    slow = {pk: Mock(close=lambda: meeting.wait(20)) for pk in range(closing.AT_ONCE)}

    closing.close(slow)

    assert not meeting.broken


def test_a_session_that_cannot_be_closed_keeps_no_other_open() -> None:
    sessions = {pk: Mock() for pk in range(3)}
    sessions[0].close.side_effect = OSError("in use")

    closing.close(sessions)
    closing.close({0: sessions[0]})

    assert [session.close.call_count for session in sessions.values()] == [2, 1, 1]


def test_a_session_that_does_not_end_is_left_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "PATIENCE_SECONDS", 0.1)
    for_ever, other = threading.Event(), Mock()

    closing.close({1: Mock(close=for_ever.wait), 2: other})

    assert other.close.called
    for_ever.set()


def test_a_host_that_gives_no_more_threads_closes_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threading.Thread, "start", Mock(side_effect=RuntimeError))
    sessions = {pk: Mock() for pk in range(3)}

    closing.close(sessions)

    assert all(session.close.called for session in sessions.values())
