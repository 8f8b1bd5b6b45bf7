"""How fast due messages leave when nothing holds them up, beside other ways to do it.

    python -m benchmarks drain --database-url mysql://root@127.0.0.1:3306/siaran
    python -m benchmarks drain --messages 30000 --without celery --without django-q2
    python -m benchmarks drain --database-url sqlite:////tmp/drain.sqlite3

All on the same server, with durable commits, one after the other. A rate is messages over the time
from the first claim to the last outcome, by the database's clock, so that starting processes is
not in it. On SQLite only the engine is measured.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from benchmarks import databases, processes
from benchmarks.filling import fill
from benchmarks.report import report

GOALS = {"ceiling": 0.6, "original": 3.0, "django-q2": 20.0, "celery": 3.0}


def engine(*, devices: int, messages: int, workers: int) -> dict[str, Any]:
    """Drains the queue with `runbroadcaster`; returns its rate."""
    fill(devices=devices, messages=messages)
    with processes.broadcasters(workers=workers, devices=devices, drain=True) as process:
        server = processes.Usage([databases.server_pid()])
        process.wait()
        cores = server.cores()
    result = rate(messages, since="processing_started_at")
    return result | {"processes": workers, "server cores": cores}


def rate(messages: int, *, since: str) -> dict[str, Any]:
    """Returns the rate of the messages that are `sent`, of whom there must be so many."""
    sql = f"SELECT COUNT(*), MIN({since}), MAX(sent_at) FROM broadcast_messages WHERE status='sent'"
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(sql)
        sent, first, last = cursor.fetchone()
    if sent != messages:
        raise SystemExit(f"{sent} of {messages} messages were sent.")
    first, last = (datetime.fromisoformat(str(at)) for at in (first, last))
    seconds = (last - first).total_seconds()
    return {"rate": sent / seconds, "messages": sent, "seconds": seconds}


def main(arguments: list[str]) -> int:
    parser = databases.parser(__doc__)
    parser.add_argument("--devices", type=int, default=3_000)
    parser.add_argument("--messages", type=int, default=300_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[2], help="tried one by one")
    parser.add_argument("--without", action="append", default=[], choices=list(GOALS))
    options = parser.parse_args(arguments)
    with databases.own_database(options.database_url, keep=options.keep):
        size = {"devices": options.devices, "messages": options.messages}
        rows: list[dict[str, Any]] = [
            {"what": "engine"} | engine(**size, workers=workers) for workers in options.workers
        ]
        if databases.vendor() == "mysql":
            rows += baselines(options)
        show(rows, size)
    return 0


def baselines(options: Any) -> list[dict[str, Any]]:
    from benchmarks.baselines import ceiling

    rows: list[dict[str, Any]] = []
    if "ceiling" not in options.without:
        sample = min(60_000, options.messages // 2)
        for workers in (1, 2, 4):
            measured = ceiling.measure(
                devices=options.devices, messages=options.messages, sample=sample, workers=workers
            )
            rows.append({"what": "ceiling", "processes": workers} | measured)
    return rows


def show(rows: list[dict[str, Any]], size: dict[str, int]) -> None:
    best = max(row["rate"] for row in rows if row["what"] == "engine")
    report(
        "drain",
        [
            {
                "what": row["what"],
                "processes": row.get("processes"),
                "messages": row["messages"],
                "seconds": row["seconds"],
                "messages/s": row["rate"],
                "engine / this": best / row["rate"],
                "goal": GOALS.get(row["what"]),
                "server cores": row.get("server cores"),
            }
            for row in rows
        ],
        **databases.facts(),
        **size,
    )
