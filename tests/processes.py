"""Real processes on the tests' own database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from django.db import connection

ROOT = Path(__file__).resolve().parent.parent
Process = subprocess.Popen[str]

# Short leases, so that a takeover takes seconds; pauses pass fast, as they do in the demo.
FAST = {"LEASE_SECONDS": "3", "HEARTBEAT_SECONDS": "1", "SIMULATOR_SPEED": "100"}


def database_url() -> str:
    database = connection.settings_dict
    name = str(database["NAME"])
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    password = f":{quote(database['PASSWORD'])}" if database["PASSWORD"] else ""
    host = f"{database['HOST']}:{database['PORT'] or 3306}"
    return f"mysql://{database['USER']}{password}@{host}/{name}"


def start(*command: str, **environment: str) -> Process:
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | FAST | environment | {"DATABASE_URL": database_url()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@contextmanager
def broadcaster(*arguments: str, **environment: str) -> Iterator[Process]:
    """A running `runbroadcaster`, killed with its children at the end if it still lives."""
    process = start("manage.py", "runbroadcaster", *arguments, LOG_LEVEL="WARNING", **environment)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        sys.stdout.write(process.communicate()[0])  # pytest shows it when the test fails


def wait_until(condition: Callable[[], object], *, seconds: float = 40) -> None:
    """Waits for what another process does; fails when it never happens."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
