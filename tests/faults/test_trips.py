from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

from tests.faults.trips import Trips

ROUNDS = 40  # without the lock about one in ten goes wrong
POINT = "before the send"


def come_there(folder: Path, *, threads: int = 16) -> tuple[int, int]:
    """Lets the threads of a new process come to one point together. Returns its id and status."""
    trips = Trips(folder)
    if (pid := os.fork()) == 0:
        barrier = threading.Barrier(threads)
        crowd = [
            threading.Thread(target=lambda: (barrier.wait(), trips.at(POINT)))
            for _ in range(threads)
        ]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
        os._exit(0)
    return os.waitpid(pid, os.WUNTRACED)


def test_who_has_taken_an_order_to_die_is_not_stopped_by_another_thread_first(
    tmp_path: Path,
) -> None:
    for n in range(ROUNDS):
        (folder := tmp_path / str(n)).mkdir()
        for verb in ("kill", "stop"):
            assert Trips(folder).order(f"{verb} {POINT}", 1)

        pid, status = come_there(folder)

        taken = {order.kind for order in Trips(folder).taken()}
        if os.WIFSTOPPED(status):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            assert taken == {f"stop {POINT}"}
        else:
            assert os.WTERMSIG(status) == signal.SIGKILL
            assert f"kill {POINT}" in taken
