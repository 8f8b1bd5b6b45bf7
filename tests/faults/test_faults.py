"""The fault suite's short runs. They bring their own database, whatever the other tests run on:
the long one kills its server. A run that fails says which promise was broken, by which messages,
and keeps its folder; `python -m benchmarks chaos --seed S` draws the same faults again."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest
from django.db import connection

from tests.faults.fleet import ROOT
from tests.faults.server import find_mariadbd

pytestmark = pytest.mark.faults

LIMIT_SECONDS = 900


def chaos(*arguments: str) -> None:
    # Nothing of the tests' own database or transports; the run sets what it needs.
    ours = {"DATABASE_URL", "EXTRA_TRANSPORTS", "SIARAN_TEST_DB"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "chaos", *arguments],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in ours},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    sys.stdout.write(done.stdout)  # pytest shows it when the test fails
    assert done.returncode == 0


@pytest.mark.mysql  # with the others that take a server, so that it runs once
@pytest.mark.skipif(not find_mariadbd(), reason="no mariadbd to kill (mariadb-server-core)")
def test_nobody_gets_it_twice_whatever_is_killed_stopped_cut_or_restarted() -> None:
    chaos("--minutes=0.8", "--leads=360", f"--seed={random.randrange(10**6)}")


@pytest.mark.skipif(connection.vendor != "sqlite", reason="runs with the tests on SQLite")
def test_nobody_gets_it_twice_on_sqlite_whoever_is_killed() -> None:
    chaos(
        "--sqlite", "--minutes=0.2", "--devices=8", "--leads=60",
        f"--seed={random.randrange(10**6)}",
    )  # fmt: skip
