"""One run of the fault suite: sets the scene, lets havoc rage, drains, audits.

Django is set up only once the database is known, so its models are imported in the functions.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.faults.fleet import ROOT, Fleet
from tests.faults.proxy import Proxy
from tests.faults.server import (
    Commands,
    ForeignServer,
    PrivateMariadb,
    Server,
    SqliteFile,
)

if TYPE_CHECKING:
    from tests.faults.audit import Check
    from tests.faults.havoc import Havoc
    from tests.faults.world import World

DRAIN_SECONDS = 200
CLOCK_SHIFT_SECONDS = 600


@dataclass
class Options:
    folder: Path
    seconds: float
    seed: int
    devices: int = 30
    leads: int = 600
    sqlite: bool = False
    urls: list[str] = field(default_factory=list)
    commands: Commands = field(default_factory=Commands)


@dataclass
class Result:
    checks: list[Check]
    facts: dict[str, Any]


def run(options: Options) -> Result:
    """Runs everything in `options.folder`, and ends every process that it started."""
    server = _server(options)
    fleet: Fleet | None = None
    try:
        _set_up_django(options, server.urls[0])
        dice = random.Random(options.seed)
        fleet = Fleet(options.folder, dice)
        return _run(options, server, fleet, dice)
    finally:
        if fleet:
            fleet.kill_all()
        if options.urls:
            _query(f"DROP DATABASE IF EXISTS `{urlsplit(server.urls[0]).path[1:]}`")
        server.stop()


def _run(options: Options, server: Server, fleet: Fleet, dice: random.Random) -> Result:
    from tests.faults.audit import Audit
    from tests.faults.havoc import Havoc
    from tests.faults.witness import Log
    from tests.faults.world import World

    world = World(options.devices, options.leads, dice)
    world.create()
    proxies = [] if options.sqlite else [Proxy(url) for url in server.urls * 2][:3]
    # On SQLite the database's clock is each process's own: it is for one host, with one clock.
    clocks = None if options.sqlite else _clock_library(options.folder)
    _fill(fleet, server, proxies, clocks)
    havoc = Havoc(fleet, world, server, proxies, dice)
    began_at = time.monotonic()
    havoc.rage(options.seconds)
    raged = time.monotonic() - began_at
    fleet.end()
    drained = _drain(options, world, proxies)
    audit = Audit(Log(options.folder), world, fleet)
    checks = audit.checks()
    audit.facts |= {
        "seed": options.seed,
        "database": server.urls[0].partition(":")[0] + " " + _version(),
        "seconds of havoc": round(raged),
        "seconds to drain": round(drained),
        "campaigns": len(world.expected),
        "wrong clocks": "10 minutes ahead and behind" if clocks else "NOT RUN",
        "answers lost or held": sum(proxy.carried_out for proxy in proxies),
        "faults": _count(havoc),
    }
    return Result(checks, audit.facts)


def _server(options: Options) -> Server:
    if options.sqlite:
        return SqliteFile(options.folder)
    if options.urls:
        return ForeignServer(options.urls, options.commands)
    return PrivateMariadb(options.folder)


def _set_up_django(options: Options, url: str) -> None:
    """Makes the database; this process and all that it starts use it from here on."""
    import django

    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DATABASE_URL": url,
        "SECRET_KEY": "chaos",
        "LOG_LEVEL": "INFO",
        "LOG_FORMAT": "text",
        "EXTRA_TRANSPORTS": "witness=tests.faults.witness.WitnessTransport",
        "WITNESS": str(options.folder),
        # Short leases, so that a takeover takes seconds.
        "LEASE_SECONDS": "3",
        "HEARTBEAT_SECONDS": "1",
        # Nine minutes: if anybody believed a clock that is ten minutes off, messages would expire.
        "RECOVERY_WINDOW_HOURS": "0.15",
    }
    django.setup()
    if not options.sqlite:
        _query(f"CREATE DATABASE `{urlsplit(url).path[1:]}` CHARACTER SET utf8mb4")
    _manage("migrate", "--verbosity=0")


def _query(statement: str) -> None:
    """Says something to the server that needs no database."""
    import MySQLdb
    from django.db import connection

    where = connection.settings_dict
    to = {"host": where["HOST"], "port": int(where["PORT"] or 3306), "user": where["USER"]}
    client = MySQLdb.connect(**to, password=where["PASSWORD"])
    client.query(statement)
    client.close()


def _manage(*command: str, seconds: float = 120) -> int:
    done = subprocess.run([sys.executable, "manage.py", *command], cwd=ROOT, timeout=seconds)
    return done.returncode


def _clock_library(folder: Path) -> Path | None:
    """Compiles what shifts a process's wall clock; None where that is not possible."""
    compiler, library = shutil.which("cc") or shutil.which("gcc"), folder / "clock.so"
    if not compiler or sys.platform != "linux":
        return None
    source = Path(__file__).with_name("clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, source], check=True)
    return library


def _fill(fleet: Fleet, server: Server, proxies: list[Proxy], clocks: Path | None) -> None:
    """Three broadcasters, one of them with two workers, and two schedulers. Some have their clock
    10 minutes ahead or behind; all but one broadcaster reach the database through a proxy."""

    def clock(seconds: int) -> dict[str, str]:
        if not clocks:
            return {}
        return {"LD_PRELOAD": str(clocks), "CLOCK_SHIFT_SECONDS": str(seconds)}

    def database(n: int) -> dict[str, str]:
        # The first goes straight to its node, so that not all depends on this process.
        if n == 0 or not proxies:
            return {"DATABASE_URL": server.urls[n % len(server.urls)]}
        return {"DATABASE_URL": proxies[n % len(proxies)].url}

    ahead, behind = clock(CLOCK_SHIFT_SECONDS), clock(-CLOCK_SHIFT_SECONDS)
    one = ["manage.py", "runbroadcaster"]
    fleet.add("broadcaster-1", [*one, "--workers=2"], database(0), sends=True)
    fleet.add("broadcaster-2", one, database(1) | ahead, sends=True)
    fleet.add("broadcaster-3", one, database(2) | behind, sends=True)
    schedule = ["-m", "tests.faults.scheduler"]
    fleet.add("scheduler-1", [*schedule, "1"], database(0), sends=False)
    fleet.add("scheduler-2", [*schedule, "1.5"], database(1) | ahead, sends=False)


def _drain(options: Options, world: World, proxies: list[Proxy]) -> float:
    """Lets everything go on to its end, undisturbed; returns how many seconds that took."""
    from django.db import connection

    from broadcasts.models import BroadcastMessage
    from campaigns.models import Campaign
    from sequences.models import Sequence, SequenceContact

    connection.close()
    for fault in options.folder.glob("*-*"):  # orders that nobody came to carry out
        if fault.name in ("kill-entry", "kill-appended", "stop-entry", "stop-appended"):
            fault.unlink()
    world.settle()
    began_at = time.monotonic()
    command = [sys.executable, "manage.py", "runbroadcaster", "--drain"]
    with (options.folder / "drain.log").open("wb") as log:
        broadcaster = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            while time.monotonic() < began_at + DRAIN_SECONDS:
                Campaign.objects.process()
                Sequence.objects.process()
                BroadcastMessage.objects.unstick()
                waiting = SequenceContact.objects.filter(status="active").exists()
                if broadcaster.poll() is not None and not waiting:
                    break
                if broadcaster.poll() is not None:  # it was done before the sequence was
                    broadcaster = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
                time.sleep(0.5)
            Campaign.objects.process()
        finally:
            broadcaster.kill()
            broadcaster.wait()
    return time.monotonic() - began_at


def _version() -> str:
    from django.db import connection

    if connection.vendor == "sqlite":
        return str(connection.get_database_version())
    return str(connection.mysql_server_data["version"])  # type: ignore[attr-defined]


def _count(havoc: Havoc) -> str:
    return ", ".join(f"{count} x {name}" for name, count in sorted(havoc.done.items()))
