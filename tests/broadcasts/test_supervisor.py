"""What the processes of a broadcaster begin with."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from broadcasts import supervisor
from broadcasts.supervisor import STOOD_SECONDS, Place, Supervisor
from tests.processes import ROOT, wait_until

BEGIN = """
import os, pathlib
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
from broadcasts import supervisor
from devices.transports.neonize import environment
environment.missing = list
print(os.getpid(), environment.is_set(), flush=True)
supervisor.begin_anew_if_needed()
print("on with it")
"""


def test_a_process_begins_anew_once_to_have_what_go_reads_at_its_start() -> None:
    """And stays the same process to whoever has started it."""
    bare = {name: value for name, value in os.environ.items() if name != "NEONIZE_BOT_TAG"}

    process = subprocess.Popen(
        [sys.executable, "-c", BEGIN], cwd=ROOT, env=bare, stdout=subprocess.PIPE, text=True
    )
    output = process.communicate(timeout=60)[0]

    assert output.splitlines() == [f"{process.pid} False", f"{process.pid} True", "on with it"]


def test_a_process_without_the_library_goes_on_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor.environment, "missing", lambda: ["neonize"])
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("began anew"))

    supervisor.begin_anew_if_needed()


def test_whose_place_dies_again_and_again_is_filled_after_longer_and_longer_pauses() -> None:
    place, pauses = Place(), []
    for _ in range(9):
        place.since = time.monotonic()  # it was started, and dies at once
        place.note_death()
        pauses.append(place.pause_seconds)
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300]

    place.since = time.monotonic() - STOOD_SECONDS
    place.note_death()
    assert place.pause_seconds == 5


def test_a_place_that_waits_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Neither another that has died nor whoever stops the supervisor."""
    supervised = Supervisor(2, [])
    code = "import os, pathlib, sys; (pathlib.Path(sys.argv[1]) / str(os.getpid())).touch()"
    supervised.command = [sys.executable, "-c", code, str(tmp_path)]
    running = threading.Thread(target=supervised.run)
    running.start()
    try:
        wait_until(lambda: all(place.pause_seconds for place in supervised.places))
    finally:
        supervised.stop()

    running.join(2)
    assert not running.is_alive()
    assert len(list(tmp_path.iterdir())) == 2
