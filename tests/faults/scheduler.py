"""The scheduler of the fault suite: in a hurry, or the real one.

    python -m tests.faults.scheduler SECONDS     what django-q2 runs every minute, so often
    python -m tests.faults.scheduler qcluster    django-q2 itself

Both queue in small chunks, so that there are many to be killed in and to race for.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import Error, connection  # noqa: E402
from django.db.backends.base.base import BaseDatabaseWrapper  # noqa: E402
from django.db.backends.signals import connection_created  # noqa: E402

from campaigns import fanout  # noqa: E402
from sequences import progress  # noqa: E402
from tests.faults.trips import Trips  # noqa: E402
from tests.faults.witness import Log  # noqa: E402

COMMANDS = ("process_campaigns", "process_sequences", "unstick_messages", "expire_messages")
CHUNK = 40

log = Log(Path(os.environ["WITNESS"]))
trips = Trips(log.folder)


def watch(execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """Notes each chunk of a campaign, and falls over in one, before its commit, if told to."""
    done = execute(sql, params, many, context)
    if sql.startswith("UPDATE") and "checkpoint_lead_id" in sql.partition("WHERE")[0]:
        log.note("chunk", won=bool(context["cursor"].rowcount))
        trips.at("in a chunk")
    return done


def watch_too(connection: BaseDatabaseWrapper, **_: object) -> None:
    """Watches whatever is connected: pages are written by threads on connections of their own."""
    if watch not in connection.execute_wrappers:
        connection.execute_wrappers.append(watch)


def hurry(pause_seconds: float) -> None:
    stopping = False

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    while not stopping:
        log.note("pass")
        for command in COMMANDS:
            try:
                call_command(command)
            except Error as error:  # the next pass takes up what this one left, as in django-q2
                sys.stderr.write(f"{command}: {error}\n")
                connection.close()
        time.sleep(pause_seconds)


if __name__ == "__main__":
    fanout.CHUNK = progress.CHUNK = CHUNK
    connection_created.connect(watch_too)
    if sys.argv[1] == "qcluster":
        call_command("qcluster")
    else:
        hurry(float(sys.argv[1]))
