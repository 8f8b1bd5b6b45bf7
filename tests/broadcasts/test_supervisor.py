"""What the processes of a broadcaster begin with."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from broadcasts import supervisor
from tests.processes import ROOT

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
