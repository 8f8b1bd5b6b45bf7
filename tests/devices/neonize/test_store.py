"""What session files say, and to whom. The tables are as whatsmeow makes them."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from django.conf import LazySettings

from devices.transports.neonize.reader import KEPT
from devices.transports.neonize.store import Store, StoreError, reader, stored, token_of


@pytest.fixture
def store(settings: LazySettings, tmp_path: Path) -> Store:
    settings.SESSION_DIR = tmp_path / "our sessions?"
    store = Store("7-abc", 7)
    store.path.parent.mkdir()
    with closing(sqlite3.connect(store.path)) as database:
        database.executescript(
            "CREATE TABLE whatsmeow_device (jid TEXT PRIMARY KEY);"
            "CREATE TABLE whatsmeow_lid_map (lid TEXT PRIMARY KEY, pn TEXT UNIQUE NOT NULL);"
            "CREATE TABLE whatsmeow_message_secrets (our_jid TEXT, chat_jid TEXT, sender_jid TEXT,"
            " message_id TEXT, key bytea NOT NULL,"
            " PRIMARY KEY (our_jid, chat_jid, sender_jid, message_id));"
            "INSERT INTO whatsmeow_lid_map VALUES ('123', '60123456789');"
        )
    return store


@pytest.fixture
def client(store: Store) -> Iterator[sqlite3.Connection]:
    """Has the file open, as neonize has all the time."""
    with closing(sqlite3.connect(store.path, isolation_level=None)) as database:
        yield database


def link(client: sqlite3.Connection) -> None:
    client.execute("INSERT INTO whatsmeow_device VALUES ('60111:2@s.whatsapp.net')")


def leave(client: sqlite3.Connection, key: str, message_id: str) -> None:
    row = ["60111@s.whatsapp.net", "123@lid", "60111@s.whatsapp.net", message_id, token_of(key)]
    client.execute("INSERT INTO whatsmeow_message_secrets VALUES (?, ?, ?, ?, ?)", row)


def test_a_token_is_32_bytes_and_the_key_s_own() -> None:
    assert len(token_of("message-1")) == 32
    assert token_of("message-1") == token_of("message-1") != token_of("message-2")


def test_ids_are_those_of_the_key_in_the_order_in_which_they_came(
    store: Store, client: sqlite3.Connection
) -> None:
    link(client)
    leave(client, "message-1", "3EB0ZZ")
    leave(client, "message-2", "3EB0MM")
    leave(client, "message-1", "3EB0AA")

    assert store.ids_of("message-1") == ["3EB0ZZ", "3EB0AA"]
    assert store.ids_of("message-3") == []


def test_of_an_account_that_was_logged_out_nothing_is_known_not_to_have_left(
    store: Store, client: sqlite3.Connection
) -> None:
    link(client)
    assert store.ids_of("message-1") == []

    client.execute("DELETE FROM whatsmeow_device")  # whatsmeow's; the rest goes with it

    with pytest.raises(StoreError, match="logged out"):
        store.ids_of("message-1")


def test_what_is_not_committed_is_not_seen_and_nobody_waits_for_who_reads(
    store: Store, client: sqlite3.Connection
) -> None:
    link(client)
    client.execute("BEGIN IMMEDIATE")
    leave(client, "message-1", "3EB0")
    assert store.ids_of("message-1") == []

    client.execute("COMMIT")

    assert store.ids_of("message-1") == ["3EB0"]


def test_a_file_that_is_being_written_for_too_long_cannot_be_asked(
    store: Store, client: sqlite3.Connection
) -> None:
    client.execute("BEGIN EXCLUSIVE")

    with pytest.raises(StoreError, match="locked"):
        store.ids_of("message-1")


def test_an_account_that_was_never_linked_or_was_logged_out_is_no_account(
    store: Store, client: sqlite3.Connection
) -> None:
    assert store.account() == ""

    link(client)

    assert store.account() == "60111:2@s.whatsapp.net"


def test_a_person_s_number_is_known_by_their_other_name(store: Store) -> None:
    assert store.phone_of("123") == "60123456789"
    assert store.phone_of("456") == ""


def test_what_cannot_be_read_is_told_and_not_taken_for_empty(store: Store) -> None:
    store.path.write_bytes(b"no database at all, but long enough to be looked at" * 100)

    with pytest.raises(StoreError, match="not a database"):
        store.ids_of("message-1")
    store.path.unlink()
    with pytest.raises(StoreError, match="unable to open"):
        store.account()
    assert not store.path.exists(), "asking made the file"


# Writes more than its cache holds, and is gone in the middle of it.
KILLED = """
import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 1")
database.execute("BEGIN")
for number in range(500):
    row = ("me", "you", "me", str(number), bytes.fromhex(sys.argv[2]))
    database.execute("INSERT INTO whatsmeow_message_secrets VALUES (?, ?, ?, ?, ?)", row)
os._exit(1)
"""


def test_what_a_client_was_killed_in_the_middle_of_has_not_been_written(store: Store) -> None:
    with closing(sqlite3.connect(store.path, isolation_level=None)) as database:
        link(database)
    token = token_of("message-1").hex()
    subprocess.run([sys.executable, "-c", KILLED, str(store.path), token], check=False)
    assert Path(f"{store.path}-journal").stat().st_size

    assert store.ids_of("message-1") == []
    assert store.phone_of("123") == "60123456789"


def test_who_reads_may_die(store: Store) -> None:
    assert store.phone_of("123") == "60123456789"
    assert reader._process
    reader._process.kill()
    reader._process.wait()

    assert store.phone_of("123") == "60123456789"


def test_who_reads_and_says_nothing_is_waited_for_so_long_and_replaced(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.phone_of("123") == "60123456789"
    silent = reader._process
    assert silent
    silent.send_signal(signal.SIGSTOP)
    monkeypatch.setattr("devices.transports.neonize.store.ANSWER_SECONDS", 2.0)

    assert store.account() == ""

    assert silent.poll() is not None


def test_nobody_waits_for_long_behind_another_s_question(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devices.transports.neonize.store.ANSWER_SECONDS", 0.1)

    with reader._asking, pytest.raises(StoreError, match="busy"):
        store.account()


def test_who_reads_and_cannot_be_started_is_no_other_error(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.phone_of("123")
    assert reader._process
    reader._process.kill()
    reader._process.wait()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    with pytest.raises(StoreError, match="No such file"):
        store.phone_of("123")


def test_the_files_are_for_nobody_else(store: Store) -> None:
    store.path.chmod(0o644)
    store.path.parent.chmod(0o755)

    store.protect()
    assert store.hold()

    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in store.path.parent.iterdir()} == {0o600}
    store.release()


def test_a_new_file_is_for_nobody_else_from_the_start_and_goes_with_all_that_is_beside_it(
    settings: LazySettings, tmp_path: Path
) -> None:
    settings.SESSION_DIR = tmp_path / "made" / "sessions"
    new, other = Store("8-new", 8), Store("8-new2", 8)
    new.create()
    other.create()
    assert stat.S_IMODE(new.path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(new.path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        new.create()

    assert new.hold()
    Path(f"{new.path}-journal").touch()
    new.delete()

    assert list(new.path.parent.iterdir()) == [other.path]


def test_a_host_without_the_file_says_what_to_do(store: Store) -> None:
    with pytest.raises(LookupError, match="Link it to its phone"):
        Store("8-abc", 8).protect()


def test_one_session_at_a_time_has_the_file_for_itself(store: Store) -> None:
    other = Store("7-abc", 7)
    assert store.hold()
    assert store.hold()
    assert not other.hold()

    store.release()

    assert other.hold()
    assert not store.hold()
    other.release()


def test_the_name_that_the_library_gets_is_the_file_wherever_it_is(store: Store) -> None:
    with closing(sqlite3.connect(f"file:{store.name}", uri=True)) as database:
        (row,) = database.execute("SELECT file FROM pragma_database_list").fetchall()

    assert Path(row[0]) == store.path


def test_the_oldest_tokens_go_and_those_that_may_be_asked_about_stay(
    store: Store, client: sqlite3.Connection
) -> None:
    link(client)
    client.execute("BEGIN")
    for number in range(3):
        leave(client, f"old-{number}", f"OLD{number}")
    client.execute(
        "WITH RECURSIVE more(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM more WHERE n < ?)"
        " INSERT INTO whatsmeow_message_secrets SELECT 'me', 'you', 'me', n, randomblob(32)"
        " FROM more",
        [KEPT - 1],
    )
    leave(client, "new", "NEW")
    client.execute("COMMIT")

    store.tidy()
    store.tidy()

    assert [store.ids_of(f"old-{number}") for number in range(3)] == [[], [], []]
    assert store.ids_of("new") == ["NEW"]
    ((left,),) = client.execute("SELECT count(*) FROM whatsmeow_message_secrets").fetchall()
    assert left == KEPT


def test_a_file_with_few_tokens_keeps_them_all(store: Store, client: sqlite3.Connection) -> None:
    link(client)
    store.tidy()
    leave(client, "message-1", "3EB0")
    store.tidy()

    assert store.ids_of("message-1") == ["3EB0"]


def test_a_host_has_the_sessions_whose_files_it_has(store: Store, settings: LazySettings) -> None:
    store.hold()
    store.path.with_name("7-abc.db-journal").touch()
    store.path.with_name("8-new.tmp").touch()
    assert stored() == {"7-abc"}
    store.release()

    settings.SESSION_DIR = store.path.parent / "nowhere"
    assert stored() == set()


def test_who_reads_is_heard_also_by_a_process_that_has_a_thousand_files_open(
    store: Store,
) -> None:
    """Whoever has died is started again then, with numbers that select() does not take."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1400:
        pytest.skip("this system does not allow so many")
    resource.setrlimit(resource.RLIMIT_NOFILE, (1400, hard))
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        if reader._process:
            reader._process.kill()
            reader._process.wait()
        assert store.phone_of("123") == "60123456789"
    finally:
        for file in files:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
