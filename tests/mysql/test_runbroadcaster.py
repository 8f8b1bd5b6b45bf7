from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading

import pytest
from django.db import OperationalError, connection

from broadcasts.retrying import notice_silence
from tests.processes import ROOT


def test_a_broadcaster_that_starts_before_its_database_waits_until_it_is_told_to_end() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        url = f"mysql://root@127.0.0.1:{nobody.getsockname()[1]}/siaran"
        process = subprocess.Popen(
            [sys.executable, "manage.py", "runbroadcaster"],
            cwd=ROOT,
            env=os.environ | {"DATABASE_URL": url},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stderr
            for _ in range(2):
                assert "The database does not answer yet" in process.stderr.readline()
            assert process.poll() is None
            process.terminate()
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()
            process.communicate()


def test_a_broadcaster_that_waits_for_the_database_ends_with_its_supervisor() -> None:
    nobody = {"DATABASE_URL": "mysql://siaran@127.0.0.1:1/siaran"}
    process = subprocess.Popen(
        [sys.executable, "manage.py", "runbroadcaster", "--supervisor=1"],
        cwd=ROOT, env=os.environ | nobody,
    )  # fmt: skip
    try:
        assert process.wait(timeout=40) == 0
    finally:
        process.kill()


def test_a_broadcaster_ends_while_a_database_takes_its_connection_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"mysql://root@127.0.0.1:{mute.getsockname()[1]}/siaran"
        process = subprocess.Popen(
            [sys.executable, "manage.py", "runbroadcaster"],
            cwd=ROOT,
            env=os.environ | {"DATABASE_URL": url},
        )
        try:
            connected, _ = mute.accept()
            process.terminate()
            assert process.wait(timeout=40) == 0
            connected.close()
        finally:
            process.kill()
            process.wait()


@pytest.mark.django_db
def test_a_database_that_says_nothing_any_more_is_away_in_every_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = connection.settings_dict["OPTIONS"]
    for name in ("read_timeout", "write_timeout"):
        monkeypatch.setitem(options, name, None)  # and back again afterwards
    notice_silence(1)
    said: list[object] = []

    def ask() -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT SLEEP(20)")
                said.append(cursor.fetchall())
        except OperationalError as error:
            said.append(error.args[0])
        finally:
            connection.close()

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(15)

    assert said == [2013]
