from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.clocks import SHIFT_SECONDS, Clocks

ASKS = "import sys, time, datetime\nfor _ in sys.stdin: print(time.time(), flush=True)"


def test_a_process_s_clock_is_wrong_and_moves_while_it_runs(tmp_path: Path) -> None:
    clocks = Clocks(tmp_path)
    if not clocks.can_be_wrong:
        pytest.skip("no C compiler")
    environment = os.environ | clocks.environment("scheduler-1", SHIFT_SECONDS)
    with subprocess.Popen(
        [sys.executable, "-c", ASKS],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin
        assert process.stdout

        def ahead() -> float:
            assert process.stdin
            assert process.stdout
            process.stdin.write("\n")
            process.stdin.flush()
            return float(process.stdout.readline()) - time.time()

        assert abs(ahead() - SHIFT_SECONDS) < 5
        clocks.move()
        assert abs(ahead() + SHIFT_SECONDS) < 5
        process.stdin.close()
