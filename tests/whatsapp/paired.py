"""Session files of accounts that are linked, in milliseconds each: for tests that need many.

One client is linked as every client is. The others are copies of its file under their own numbers,
and the double takes each for a client of its account. So they all have the same keys, which nobody
would ever see in WhatsApp and which makes no difference to what one of them sends: a phone knows
who wrote by the number. Real WhatsApp would throw them out, and a copy of a real session file is
what docs/whatsapp.md forbids. Only an answer to a copy finds no session: none is tried with them.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from tests.whatsapp.client import Client
from tests.whatsapp.double import Double, PhoneOf


def link(whatsapp: Double, files: Sequence[tuple[str, Path]]) -> None:
    """Makes a session file of a linked client for each of these numbers, which it registers."""
    (_, first), *others = files
    original = Original(whatsapp, whatsapp.register(*[number for number, _ in files]), first)
    first.chmod(0o600)
    for number, path in others:
        original.copy(whatsapp.phone(number), path)
        path.chmod(0o600)


class Original:
    """A client's file that was linked once, and was not opened since."""

    def __init__(self, whatsapp: Double, phone: PhoneOf, file: Path) -> None:
        self._whatsapp, self._phone, self._file = whatsapp, phone, file
        with Client.start(file, whatsapp.environment) as client:
            client.link(phone)
            client.call("stop")
            client.end()

    def copy(self, phone: PhoneOf, file: Path) -> PhoneOf:
        """Makes the file of a client that is linked to this phone."""
        names = self._whatsapp.copy_client(self._phone.number, phone.number)
        shutil.copyfile(self._file, file)
        with closing(sqlite3.connect(file)) as store, store:
            store.execute("PRAGMA synchronous = OFF")  # nobody cuts the power
            store.execute("PRAGMA foreign_keys = ON")  # what is the account's goes by its JID
            store.execute("UPDATE whatsmeow_device SET jid = ?, lid = ?", (names.jid, names.lid))
            store.execute("DELETE FROM whatsmeow_identity_keys")  # of the other's phone
            store.execute(
                "UPDATE whatsmeow_lid_map SET lid = ?, pn = ? WHERE pn = ?",
                (names.lid_user, phone.number, self._phone.number),
            )
        return phone
