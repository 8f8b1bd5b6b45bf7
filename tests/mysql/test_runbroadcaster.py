from __future__ import annotations

import os
import socket
import subprocess
import sys

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
