"""Hundreds of linked accounts in seconds: one is linked, the others are copies of it, renamed.

To link one takes a second of a processor, most of it for 812 keys. So all of these have the same
keys, each under a number and in a file of its own; the double gives each account such a client.
Real WhatsApp would throw them out, and a copy of a real session file is what docs/whatsapp.md
forbids. A client cannot tell: it has keys, and a server that knows them.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from tests.whatsapp.client import Client
from tests.whatsapp.double import Double


def link(whatsapp: Double, files: Sequence[tuple[str, Path]]) -> None:
    """Makes a session file of a linked client for each of these numbers."""
    (number, first), *others = files
    with Client.start(first, whatsapp.environment) as client:
        client.link(whatsapp.register(*[number for number, _ in files]))
        client.call("stop")
        client.end()
    first.chmod(0o600)
    for other, path in others:
        shutil.copy(first, path)
        _rename(path, other, whatsapp.lid(other))
    whatsapp.give_clients_of(number, [other for other, _ in others])


def _rename(path: Path, number: str, lid: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")  # nobody cuts the power
        connection.execute("PRAGMA foreign_keys = ON")  # the other tables follow
        connection.execute(
            "UPDATE whatsmeow_device SET jid = ? || substr(jid, instr(jid, ':')),"
            " lid = ? || substr(lid, instr(lid, ':'))",
            [number, lid],
        )
        # The phone is another, with another identity, which the client learns when it writes.
        connection.execute("DELETE FROM whatsmeow_identity_keys")
        connection.execute("UPDATE whatsmeow_lid_map SET lid = ?, pn = ?", [lid, number])
