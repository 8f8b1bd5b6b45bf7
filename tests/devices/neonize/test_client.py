"""Who calls into the library when, and that it is told when a client has ended."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from devices.transports.neonize.client import Client


def test_that_a_client_has_ended_is_told_also_where_it_cannot_be_stopped() -> None:
    client, ended = Client("one.db", "1", Mock()), Mock()
    client._client = Mock(stop=Mock(side_effect=OSError("no memory")))

    with pytest.raises(OSError, match="no memory"):
        client._run(ended)

    ended.assert_called_once_with("")
