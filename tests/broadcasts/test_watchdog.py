from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import pytest

from tests.factories import DeviceFactory
from tests.processes import start

FED = """
import time
from broadcasts import watchdog
watchdog.STANDING_SECONDS = 2
watchdog.feed()
{then}
"""
BROADCASTER = """
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
from django.core.management import execute_from_command_line
from broadcasts import watchdog
watchdog.STANDING_SECONDS = 3
execute_from_command_line(["manage.py", "runbroadcaster"])
"""


class HangingTransport:
    """One that breaks the contract: `open` is to return at once."""

    def open(self, device: Any, report: Any) -> None:
        threading.Event().wait()


@pytest.mark.parametrize(
    "then",
    [
        "for _ in range(25): time.sleep(0.1); watchdog.feed()",
        "watchdog.stop(); time.sleep(2.5)",
    ],
)
def test_who_moves_or_has_ended_goes_on(then: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FED.format(then=then)], capture_output=True, text=True, timeout=60
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.django_db(transaction=True)
def test_a_broadcaster_that_stands_still_says_where_and_ends() -> None:
    DeviceFactory(transport="hanging")

    process = start(
        "-c", BROADCASTER, EXTRA_TRANSPORTS=f"hanging={__name__}.{HangingTransport.__name__}"
    )
    output = process.communicate(timeout=60)[0]

    assert process.returncode == 1
    assert __file__ in output
    assert "in open" in output
