"""What linked devices cost, and when they send again after kill -9, against a double of WhatsApp.

    python -m benchmarks whatsapp --database-url mysql://root@127.0.0.1:3306/siaran
    python -m benchmarks whatsapp --devices 10 --processes 1 --seconds 10

Needs scripts/prepare whatsapp-double. A column for each number of broadcaster processes, each with
so many devices, which are linked to the double of tests/whatsapp. Every message is the first one
to its recipient, with the look-ups and keys that takes. Each message is several commits to its
device's session file: they are in --folder, on a disk whose pace is reported too.

The double shares the machine, as WhatsApp does not: what it takes, the broadcasters have not. It
answers at once, refuses nothing and knows no limit.

"At their pace" is 5 to 15 s between messages, "flat out" is 1 s, which is more than they reach.
One process is killed while all keep their pace. A single one is started again at once, as systemd
does; of several the supervisor sees to it. Leases are LEASE_SECONDS long.
"""

from __future__ import annotations

import argparse
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks import databases, processes
from benchmarks.filling import FIRST_PHONE, fill
from benchmarks.idle import wait_until_online
from benchmarks.report import report
from tests.whatsapp import paired
from tests.whatsapp.conftest import why_not
from tests.whatsapp.double import Double

FIRST_DEVICE = 60_990_000_000
PACE, FLAT_OUT = (5, 15), (1, 1)
SETTLE_SECONDS = 15.0  # until broadcasters have read a new pace, and its first pauses are over
MOST_A_SECOND = 200  # messages; more than was ever seen
PATIENCE_SECONDS = 300.0
AT_ONCE = 1_000  # numbers; for each the double makes a phone with keys


def main(arguments: list[str]) -> int:
    parser = databases.parser(__doc__)
    parser.add_argument("--devices", type=int, default=200, help="of each process (default: 200)")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--seconds", type=float, default=30.0, help="of each measurement")
    parser.add_argument("--folder", type=Path, default=processes.ROOT / "var", help="of sessions")
    options = parser.parse_args(arguments)
    if reason := why_not():
        raise SystemExit(f"whatsapp {reason}.")
    with databases.own_database(options.database_url, keep=options.keep):
        from django.conf import settings

        from broadcasts.footprint import allow_files

        allow_files()  # the double has three for each device
        options.folder.mkdir(exist_ok=True)
        commits = commits_a_second(options.folder)
        columns = [measured(count, options) for count in options.processes]
        report(
            "whatsapp",
            [
                {"what": what} | {f"x {column['processes']}": column[what] for column in columns}
                for what in columns[0]
            ],
            **databases.facts(),
            **{"devices a process": options.devices, "seconds": options.seconds},
            commits=f"{commits:.0f} a second to one SQLite file in {options.folder}",
            leases=f"{settings.LEASE_SECONDS} s, renewed every {settings.HEARTBEAT_SECONDS} s",
        )
    return 0


def measured(count: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measures so many processes, with a new double and newly linked devices."""
    devices = count * options.devices
    with (
        tempfile.TemporaryDirectory(prefix="whatsapp-", dir=options.folder) as folder,
        Double.start(Path(folder)) as whatsapp,
    ):
        _prepare(whatsapp, Path(folder), devices, options.seconds)
        run = Run(whatsapp, Path(folder), count, options.devices)
        with run.broadcasters():
            found = run.measure(options.seconds)
        return {"processes": count, "devices": devices} | found


class Run:
    """Broadcasters with linked devices, and what is seen of them."""

    def __init__(self, whatsapp: Double, folder: Path, count: int, devices: int) -> None:
        self.whatsapp, self.count, self.devices = whatsapp, count, devices
        self._environment = whatsapp.environment | {"SESSION_DIR": str(folder)}

    @contextmanager
    def broadcasters(self) -> Iterator[None]:
        self._began_at = time.monotonic()
        self._process = self._start()
        try:
            yield
        finally:
            processes.end(self._process, seconds=100)

    def _start(self) -> subprocess.Popen[bytes]:
        return processes.start(
            ["manage.py", "runbroadcaster", f"--workers={self.count}",
             f"--devices-per-worker={self.devices}"],
            **self._environment,
        )  # fmt: skip

    def measure(self, seconds: float) -> dict[str, Any]:
        wait_until_online(self.count * self.devices, PATIENCE_SECONDS)
        found: dict[str, Any] = {"all online after s": time.monotonic() - self._began_at}
        time.sleep(SETTLE_SECONDS)
        found |= {f"{what}, at their pace": value for what, value in self._watch(seconds).items()}
        found |= self._footprint()
        _set_pace(FLAT_OUT)
        found |= {f"{what}, flat out": value for what, value in self._watch(seconds).items()}
        found |= {f"{what}, after that": value for what, value in self._footprint().items()}
        _set_pace(PACE)
        found |= self._kill()
        began_at = time.monotonic()
        processes.end(self._process, seconds=100)
        found["stopped by SIGTERM within s"] = time.monotonic() - began_at
        return found | self._verdict()

    def _watch(self, seconds: float) -> dict[str, Any]:
        ours = processes.Usage(processes.family(self._process.pid))
        double = processes.Usage([self.whatsapp.pid])
        server = processes.Usage([databases.server_pid()])
        before, began_at = _sent(), time.monotonic()
        time.sleep(seconds)
        return {
            "messages/s": (_sent() - before) / (time.monotonic() - began_at),
            "broadcaster cores": ours.cores(),
            "double cores": double.cores(),
            "database cores": server.cores(),
        }

    def _footprint(self) -> dict[str, Any]:
        """Returns what a broadcaster process holds, of several the one that holds most; and what
        all hold with their helpers."""
        each = [processes.memory_mb([pid]) for pid in self._workers()]
        return {
            "RSS MB a process": max(size["RSS"] for size in each),
            "PSS MB a process": max(size["PSS"] for size in each),
            "PSS MB of all": processes.memory_mb(processes.family(self._process.pid))["PSS"],
            "threads a process": max(processes.threads(pid) for pid in self._workers()),
            "files a process": max(processes.open_files(pid) for pid in self._workers()),
        }

    def _workers(self) -> list[int]:
        from broadcasts.models import Worker

        return list(Worker.objects.alive().values_list("pid", flat=True))

    def _kill(self) -> dict[str, Any]:
        """Kills one process; returns when its devices sent again."""
        from django.utils import timezone

        from broadcasts.models import BroadcastMessage, Worker
        from devices.models import Device

        victim = Worker.objects.alive().order_by("pk")[0]
        devices = list(Device.objects.filter(worker_id=victim.pk).values_list("pk", flat=True))
        killed_at = timezone.now()
        os.kill(victim.pid, signal.SIGKILL)
        if victim.pid == self._process.pid:
            self._process.wait()
            self._process = self._start()
        again = BroadcastMessage.objects.filter(
            device_id__in=devices, queued_at__gt=killed_at, status="sent"
        )
        open_then = BroadcastMessage.objects.filter(processing_worker_id__startswith=victim.pk)
        interrupted = open_then.filter(status="queued").count()
        first = _wait_for(again.exists, killed_at)
        count = again.order_by().values("device_id").distinct().count
        return {
            "killed: devices": len(devices),
            "killed: on the wire": interrupted,
            "killed: first sends after s": first,
            "killed: all send after s": _wait_for(lambda: count() >= len(devices), killed_at),
        }

    def _verdict(self) -> dict[str, Any]:
        """Returns what must be 0, and what was left for a receipt or a person to settle."""
        from broadcasts.models import BroadcastMessage

        messages = BroadcastMessage.objects.order_by()
        if not messages.filter(status="pending").exists():
            raise SystemExit("There were too few messages: the figures say nothing.")
        recipients = {send.id: send.recipient for send in self.whatsapp.sends()}
        often = Counter(recipients.values())
        unknown = messages.filter(status="unknown").values_list("recipient_phone", flat=True)
        return {
            "people written to": len(often),
            "of them twice": sum(count > 1 for count in often.values()),
            "unknown in the end": len(unknown),
            "of them arrived": sum(phone in often for phone in unknown),
            "failed or skipped": messages.filter(status__in=["failed", "skipped"]).count(),
            "the double stumbled": len(self.whatsapp.complaints()),
        }


def _prepare(whatsapp: Double, folder: Path, devices: int, seconds: float) -> None:
    """Links devices and writes messages for them, more than can leave in the time."""
    from django.db.models import CharField, F, Value
    from django.db.models.functions import Cast, Concat

    from devices.models import Device

    messages = devices * 30 + int(MOST_A_SECOND * (seconds + 2 * SETTLE_SECONDS))
    fill(devices=devices, messages=messages, gap_seconds=PACE)
    Device.objects.update(
        transport="neonize", session=Concat(Value("linked-"), Cast(F("pk"), CharField()))
    )
    numbers = [
        (str(FIRST_DEVICE + number), folder / f"linked-{number + 1}.db")
        for number in range(devices)
    ]
    with redirect_stdout(sys.stderr):  # what the client has to say is no part of the report
        paired.link(whatsapp, numbers)
    for start in range(0, messages, AT_ONCE):
        whatsapp.register(*(str(FIRST_PHONE + start + number) for number in range(AT_ONCE)))


def commits_a_second(folder: Path, seconds: float = 2.0) -> float:
    """Returns how fast this disk is for a session file, as the library opens it."""
    with tempfile.TemporaryDirectory(dir=folder) as ours:
        connection = sqlite3.connect(Path(ours) / "file.db", isolation_level=None)
        connection.execute("CREATE TABLE commits (n INTEGER)")
        began_at, count = time.monotonic(), 0
        while time.monotonic() < began_at + seconds:
            connection.execute("INSERT INTO commits VALUES (1)")
            count += 1
        connection.close()
    return count / seconds


def _set_pace(gap_seconds: tuple[int, int]) -> None:
    """Gives all devices another pace, and the broadcasters time to find out."""
    from devices.models import Device

    shortest, longest = gap_seconds
    Device.objects.update(min_delay_seconds=shortest, max_delay_seconds=longest)
    time.sleep(SETTLE_SECONDS)


def _sent() -> int:
    from broadcasts.models import BroadcastMessage

    return BroadcastMessage.objects.filter(status="sent").count()


def _wait_for(condition: Callable[[], bool], since: datetime) -> float:
    """Returns how long after `since` it came about."""
    from django.utils import timezone

    while not condition():
        if (timezone.now() - since).total_seconds() > PATIENCE_SECONDS:
            raise SystemExit(f"It did not come about within {PATIENCE_SECONDS:.0f} s.")
        time.sleep(0.2)
    return (timezone.now() - since).total_seconds()
