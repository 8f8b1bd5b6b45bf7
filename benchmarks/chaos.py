"""Nobody gets it twice while everything is killed, stopped, cut and restarted.

    python -m benchmarks chaos --minutes 30 [--seed S]
    python -m benchmarks chaos --database-url mysql://… [--restart COMMAND]
    python -m benchmarks chaos --database-url … --database-url … [--kill-node CMD --join-node CMD]

Starts a MariaDB of its own unless told otherwise; with several URLs (the nodes of a cluster) the
broadcasters are spread over them, and the driver stays with the first: kill another. A database is
made on that server and dropped at the end. The seed is printed: it repeats the driver's decisions,
though not the processes' timing. Exit code 1 when a promise was broken; the folder with the
witness's file and all logs is kept then.
"""

from __future__ import annotations

import argparse
import random
import secrets
import shutil
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.report import report
from tests.faults.run import Options, run
from tests.faults.server import Commands


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--devices", type=int, default=30)
    parser.add_argument("--leads", type=int, default=600)
    parser.add_argument("--sqlite", action="store_true", help="kills only, on a SQLite file")
    parser.add_argument("--database-url", action="append", default=[], dest="urls")
    parser.add_argument("--restart", default="", metavar="COMMAND")
    parser.add_argument("--kill-node", default="", metavar="COMMAND")
    parser.add_argument("--join-node", default="", metavar="COMMAND")
    chosen = parser.parse_args(arguments)
    sys.stderr.write(f"seed {chosen.seed}\n")
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    name = f"chaos_{secrets.token_hex(3)}"
    result = run(
        Options(
            folder=folder,
            seconds=chosen.minutes * 60,
            seed=chosen.seed,
            devices=chosen.devices,
            leads=chosen.leads,
            sqlite=chosen.sqlite,
            urls=[urlsplit(url)._replace(path=f"/{name}").geturl() for url in chosen.urls],
            commands=Commands(chosen.restart, chosen.kill_node, chosen.join_node),
        )
    )
    report("chaos", [check.row for check in result.checks], **result.facts)
    broken = [check for check in result.checks if check.offenders]
    for check in broken:
        sys.stdout.write(f"\nBROKEN  {check.name}\n")
        sys.stdout.writelines(f"        {offender}\n" for offender in check.offenders[:10])
    if broken:
        sys.stdout.write(f"\nKept for you: {folder}\n")
    else:
        shutil.rmtree(folder)
    return int(bool(broken))
