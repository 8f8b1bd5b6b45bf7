"""One run of the fault suite: sets the scene, lets havoc rage, drains, audits.

Django is set up only once the database is known, so its models are imported in the functions.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.faults.clocks import SHIFT_SECONDS, Clocks
from tests.faults.fleet import LEASE_SECONDS, ROOT, Fleet, Place
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
    from tests.faults.audit import audit
    from tests.faults.drain import drain, silent_devices
    from tests.faults.evidence import Evidence
    from tests.faults.havoc import Havoc
    from tests.faults.witness import Log
    from tests.faults.world import World

    world = World(options.devices, options.leads, dice)
    world.create()
    # One for each process that does not go straight to its node.
    proxies = [] if options.sqlite else [Proxy(url) for url in (server.urls * 3)[1:3]]
    # On SQLite the database's clock is each process's own: it is for one host, with one clock.
    clocks = None if options.sqlite else Clocks(options.folder)
    _fill(fleet, server, proxies, clocks)
    havoc = Havoc(fleet, world, server, proxies, clocks, dice)
    began_at = time.monotonic()
    havoc.rage(options.seconds)
    raged = time.monotonic() - began_at
    silent = silent_devices(fleet)
    carried_out = havoc.carried_out  # the end of all broadcasters is none of it
    fleet.end()
    drained = drain(fleet, world)
    evidence = Evidence(
        Log(options.folder).lines(), world, fleet, havoc.ordered, carried_out,
        silent=silent, undrained=drained.left,
    )  # fmt: skip
    checks = audit(evidence)
    facts = {
        "seed": options.seed,
        "database": server.urls[0].partition(":")[0] + " " + _version(),
        "seconds of havoc": round(raged),
        "seconds to drain": round(drained.seconds),
        "faults": ", ".join(f"{n} x {name}" for name, n in sorted(carried_out.items())),
    }
    return Result(checks, facts | evidence.facts)


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
        "LEASE_SECONDS": str(LEASE_SECONDS),
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


def _fill(fleet: Fleet, server: Server, proxies: list[Proxy], clocks: Clocks | None) -> None:
    """Three broadcasters, one of them with two workers, and three schedulers, one of them the real
    one. Of each some have their clock 10 minutes ahead or behind; all but one broadcaster reach the
    database through a proxy."""

    def add(name: str, command: list[str], n: int, *, sends: bool, ahead: int = 0) -> None:
        # The first goes straight to its node, so that not all depends on this process.
        url = proxies[n - 1].url if n and proxies else server.urls[0]
        environment = {"DATABASE_URL": url}
        if clocks and ahead:
            environment |= clocks.environment(name, ahead * SHIFT_SECONDS)
        wrong = bool(clocks and ahead)
        fleet.add(Place(name, command, environment, sends, has_wrong_clock=wrong))

    broadcaster, scheduler = ["manage.py", "runbroadcaster"], ["-m", "tests.faults.scheduler"]
    add("broadcaster-1", [*broadcaster, "--workers=2"], 0, sends=True)
    add("broadcaster-2", broadcaster, 1, sends=True, ahead=1)
    add("broadcaster-3", broadcaster, 2, sends=True, ahead=-1)
    add("scheduler-1", [*scheduler, "1"], 1, sends=False, ahead=1)
    add("scheduler-2", [*scheduler, "1.5"], 2, sends=False, ahead=-1)
    add("scheduler-3", [*scheduler, "qcluster"], 0, sends=False)


def _version() -> str:
    from django.db import connection

    if connection.vendor == "sqlite":
        return str(connection.get_database_version())
    return str(connection.mysql_server_data["version"])  # type: ignore[attr-defined]
