"""What an empty queue costs: broadcasters with many devices and nothing that is due.

    python -m benchmarks idle --database-url mysql://root@127.0.0.1:3306/siaran

The messages there are begin tomorrow. Percentages are of one core, over --seconds, after the
broadcasters have taken their devices; the server alone is measured first.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from benchmarks import databases, processes
from benchmarks.filling import fill
from benchmarks.report import report

GOAL_PERCENT = 2.0


def main(arguments: list[str]) -> int:
    parser = databases.parser(__doc__)
    parser.add_argument("--devices", type=int, default=3_000)
    parser.add_argument("--messages", type=int, default=30_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args(arguments)
    with databases.own_database(options.database_url, keep=options.keep):
        fill(
            devices=options.devices,
            messages=options.messages,
            gap_seconds=(5, 15),
            due_in=timedelta(days=1),
        )
        time.sleep(10)  # what the filling left for the server to tidy up
        rows = [{"what": "server alone"} | _watch(options.seconds / 4)]
        with processes.broadcasters(workers=options.workers, devices=options.devices) as process:
            wait_until_online(options.devices)
            time.sleep(5)
            rows.append({"what": "broadcasters"} | _watch(options.seconds, process.pid))
        report(
            "idle",
            [row | {"goal %": GOAL_PERCENT} for row in rows],
            **databases.facts(),
            devices=options.devices,
            workers=options.workers,
        )
    return 0


def wait_until_online(devices: int, seconds: float = 120) -> None:
    """Returns when broadcasters hold all devices and their sessions are connected."""
    deadline = time.monotonic() + seconds
    while databases.ask("SELECT COUNT(*) FROM devices WHERE status = 'online'") < devices:
        if time.monotonic() > deadline:
            raise SystemExit(f"Not all devices were online within {seconds:.0f} s.")
        time.sleep(0.5)


def _watch(seconds: float, pid: int | None = None) -> dict[str, Any]:
    ours = processes.family(pid) if pid else []
    broadcasters = processes.Usage(ours)
    server = processes.Usage([databases.server_pid()])
    before = databases.statements()
    time.sleep(seconds)
    # On SQLite there is no server: its work is the broadcasters' own.
    by_server = 0.0 if databases.vendor() == "sqlite" else server.cores()
    return (
        shares(broadcasters.cores() or 0.0, by_server)
        | {
            "statements/s": (databases.statements() - before) / seconds,
        }
        | {f"{name} MB": size for name, size in processes.memory_mb(ours).items()}
    )


def shares(broadcasters: float, server: float | None) -> dict[str, float | None]:
    """Returns percentages of a core. Where the server's is not known, neither is the sum: it must
    not look as if the goal were met."""
    return {
        "broadcasters %": broadcasters * 100,
        "server %": None if server is None else server * 100,
        "together %": None if server is None else (broadcasters + server) * 100,
    }
