"""Starts the engine as its users do, and reads from /proc what processes cost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TICKS = os.sysconf("SC_CLK_TCK")
NOTHING = "benchmarks.transports.Nothing"
INSTANT = "benchmarks.transports.Instant"
RECORDING = "benchmarks.transports.Recording"


def start(command: Sequence[str], **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=os.environ | environment, start_new_session=True
    )


@contextmanager
def started(
    command: Sequence[str], *, patience: float = 100, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours; what outlives the block gets SIGTERM and, after so many seconds, is
    killed."""
    process = start(command, **environment)
    try:
        yield process
    finally:
        end(process, patience)


def end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """SIGTERM; after so many seconds SIGKILL to what is left of it and of its children."""
    ours = family(process.pid)
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid in ours[1:]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def broadcasters(
    *, workers: int, devices: int, drain: bool = False, transport: str = INSTANT, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """`runbroadcaster` with so many workers that share the devices evenly."""
    command = [
        "manage.py", "runbroadcaster", f"--workers={workers}",
        f"--devices-per-worker={-(-devices // workers)}", *["--drain"] * drain,
    ]  # fmt: skip
    environment |= {
        "DJANGO_SETTINGS_MODULE": "benchmarks.settings", "BENCHMARK_TRANSPORT": transport
    }  # fmt: skip
    with started(command, patience=100, **environment) as process:
        yield process


def family(pid: int) -> list[int]:
    """Returns this process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found = [pid]
    for parent in found:
        found += children.get(parent, [])
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """Returns the processor time that these processes have used so far."""
    used = 0.0
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used += (int(fields[11]) + int(fields[12])) / TICKS
    return used


def memory_mb(pids: Iterable[int]) -> dict[str, float]:
    """Returns the memory of these processes: RSS counts shared pages in each, PSS shares them."""
    total = {"Rss": 0, "Pss": 0}
    for pid in pids:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                key, _, rest = line.partition(":")
                if key in total:
                    total[key] += int(rest.split()[0])
    return {key.upper(): kilobytes / 1024 for key, kilobytes in total.items()}


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


class Usage:
    """Processor time of some processes from now on, as cores."""

    def __init__(self, pids: Iterable[int | None]) -> None:
        self.pids = [pid for pid in pids if pid]
        self._began_at = time.monotonic()
        self._before = cpu_seconds(self.pids)

    def cores(self) -> float | None:
        if not self.pids:
            return None
        return (cpu_seconds(self.pids) - self._before) / (time.monotonic() - self._began_at)
