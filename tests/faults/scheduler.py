"""A scheduler in a hurry: what django-q2 runs every minute, every second. For the fault suite."""

from __future__ import annotations

import os
import signal
import sys
import time
from types import FrameType

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import Error, connection  # noqa: E402

COMMANDS = ("process_campaigns", "process_sequences", "unstick_messages", "expire_messages")


def main(pause_seconds: float) -> None:
    stopping = False

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    while not stopping:
        for command in COMMANDS:
            try:
                call_command(command)
            except Error as error:  # the next pass takes up what this one left, as in django-q2
                sys.stderr.write(f"{command}: {error}\n")
                connection.close()
        time.sleep(pause_seconds)


if __name__ == "__main__":
    main(float(sys.argv[1]))
