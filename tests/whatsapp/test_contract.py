"""The contract of docs/transports.md, held against our transport: its suite, in a process that was
started as a broadcaster's is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.processes import ROOT
from tests.whatsapp.double import Double
from tests.whatsapp.lab import VARIABLE

SUITE = "tests/devices/test_transport_contract.py"


def test_our_transport_keeps_what_the_contract_promises(whatsapp: Double, tmp_path: Path) -> None:
    environment = whatsapp.environment | {
        VARIABLE: str(whatsapp.folder),
        "DATABASE_URL": f"sqlite:///{tmp_path}/unused.sqlite3",
        "SIARAN_TEST_DB": f"{tmp_path}/contract.sqlite3",
    }

    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "whatsapp", "--durations=5", SUITE],
        cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip

    sys.stdout.write(run.stdout + run.stderr)  # pytest shows it when this fails
    assert run.returncode == 0
    assert re.search(r"^\d+ passed, \d+ deselected", run.stdout, re.MULTILINE), "some were skipped"
