"""Who calls into the library when, and that it is told when a client has ended."""

from __future__ import annotations

import time
from unittest.mock import Mock

import pytest

from devices.transports.neonize.client import ENTER_SECONDS, Client, Gate


def test_whoever_is_alone_has_waited_for_who_was_let_in_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = Gate()
    gate.enter()
    entered_at = time.monotonic()
    with gate.alone():
        waited = time.monotonic() - entered_at
    assert waited >= ENTER_SECONDS * 0.9

    monkeypatch.setattr("devices.transports.neonize.client.ENTER_SECONDS", 3600)
    with Gate().alone():
        pass  # nobody was


def test_that_a_client_has_ended_is_told_also_where_it_cannot_be_stopped() -> None:
    client, ended = Client("one.db", "1", Mock()), Mock()
    client._client = Mock(stop=Mock(side_effect=OSError("no memory")))

    with pytest.raises(OSError, match="no memory"):
        client._run(ended)

    ended.assert_called_once_with("")
