"""Answers questions about session files: a process of its own, which store.py starts.

    python -I -S reader.py   a question is a line of JSON, and so is its answer

neonize brings a SQLite of its own. Two of them in one process do not see each other's locks, and
whenever one closes a file, the locks that the other has on it are gone ("How To Corrupt An SQLite
Database File", 2.2 and 2.2.1). From another process, reading is safe at any time.

It also tidies a file that no client has open.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from urllib.parse import quote

LOCKED_SECONDS = 0.5  # the client writes for milliseconds at a time

# The tables are whatsmeow's (store/sqlstore/upgrades), as of neonize 0.5.2.
QUESTIONS = {
    "account": "SELECT jid FROM whatsmeow_device",
    # The newest last. `key` is what a message carried as messageContextInfo.messageSecret.
    "ids": "SELECT message_id FROM whatsmeow_message_secrets WHERE key = ? ORDER BY rowid",
    "phone": "SELECT pn FROM whatsmeow_lid_map WHERE lid = ?",
}


# A token's row is of use for as long as its message may be asked about, a day. At a message a
# second this is more than that; to look through them all takes 10 ms.
KEPT = 100_000
PRUNE = """
DELETE FROM whatsmeow_message_secrets
 WHERE rowid <= (SELECT max(rowid) FROM whatsmeow_message_secrets) - ?
"""


def answer(path: str, question: str, argument: str | None) -> list[str]:
    """Returns the first column of what the file says, as text."""
    if question == "prune":
        return prune(path)
    values: list[object] = []
    if argument is not None:
        values = [bytes.fromhex(argument) if question == "ids" else argument]
    with closing(_opened(path, "ro")) as database:
        return [str(row[0]) for row in database.execute(QUESTIONS[question], values)]


def prune(path: str) -> list[str]:
    """Takes the oldest of the messages' secrets away, of which there is one more for each message;
    returns how many. Only while no client has the file."""
    with closing(_opened(path, "rw")) as database, database:
        return [str(database.execute(PRUNE, [KEPT]).rowcount)]


def _opened(path: str, mode: str) -> sqlite3.Connection:
    source = f"file:{quote(path)}?mode={mode}"
    return sqlite3.connect(source, uri=True, timeout=LOCKED_SECONDS)


def main() -> None:
    for line in sys.stdin:
        path, question, argument = json.loads(line)
        try:
            said: dict[str, object] = {"answer": answer(path, question, argument)}
        except sqlite3.Error as error:
            said = {"error": str(error)}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
