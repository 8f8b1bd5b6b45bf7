"""Whether many devices keep their pace: rate, smallest gap, lateness, and what it costs.

    python -m benchmarks pace --database-url mysql://root@127.0.0.1:3306/siaran
    python -m benchmarks pace --speed 4 --minutes 3

The ideal rate is the sum over the devices of 1 / mean pause. Gaps lie between the hand-overs of a
device, whenever in the run. Lateness is the hand-over's time minus the slot that was stored for it:
a trigger in the benchmark's database notes both when a device's slot changes, which adds to what
the server does. The devices begin scattered as they are in the middle of a day.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks import databases, processes
from benchmarks.filling import fill
from benchmarks.idle import wait_until_online
from benchmarks.report import report

GAP_SECONDS = (5, 15)
START_SECONDS = 45  # until every device is connected
WARM_UP_SECONDS = 20
SLOTS = "CREATE TABLE benchmark_slots (device_id BIGINT, due_at DATETIME(6), left_at DATETIME(6))"
TRIGGER = """
CREATE TRIGGER benchmark_slot AFTER UPDATE ON devices FOR EACH ROW
BEGIN
  IF NOT (NEW.next_send_at <=> OLD.next_send_at) THEN
    INSERT INTO benchmark_slots VALUES (OLD.id, OLD.next_send_at, NOW(6));
  END IF;
END
"""


def main(arguments: list[str]) -> int:
    parser = databases.parser(__doc__)
    parser.add_argument("--devices", type=int, default=3_000)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--speed", type=float, default=1.0, help="times the rate (default: 1)")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    with databases.own_database(options.database_url, keep=options.keep):
        if databases.vendor() != "mysql":
            raise SystemExit("pace needs MySQL or MariaDB: its trigger is written for them.")
        row = run(options)
        report(
            "pace",
            [row],
            **databases.facts(),
            devices=options.devices,
            workers=options.workers,
            minutes=options.minutes,
            pause=" to ".join(f"{gap / options.speed:g}" for gap in GAP_SECONDS) + " s",
            goals="rate >= 0.99 of ideal (0.97 at speed 4), no gap below the shortest pause, "
            "late p99 <= 250 ms, broadcasters <= 0.3 core and <= 300 MB",
        )
    return 0


def run(options: argparse.Namespace) -> dict[str, Any]:
    mean_gap = sum(GAP_SECONDS) / 2 / options.speed
    whole = options.minutes * 60 + WARM_UP_SECONDS + START_SECONDS
    messages = options.devices * int(whole / mean_gap * 1.2 + 20)
    fill(devices=options.devices, messages=messages, gap_seconds=GAP_SECONDS)
    databases.run(SLOTS)
    start_at = datetime.now(UTC) + timedelta(seconds=START_SECONDS)
    _scatter(options.devices, start_at, options.speed)
    databases.run(TRIGGER)
    with processes.broadcasters(
        workers=options.workers, devices=options.devices, SIMULATOR_SPEED=str(options.speed)
    ) as process:
        wait_until_online(options.devices, seconds=START_SECONDS)
        _sleep_until(start_at + timedelta(seconds=WARM_UP_SECONDS))
        watched = _watch(process.pid, options.minutes * 60)
    ideal = options.devices / mean_gap
    gaps = min(_gaps())
    late = sorted(_lateness(watched.pop("from"), watched.pop("until")))
    return {
        "messages/s": watched["messages/s"],
        "of ideal": watched["messages/s"] / ideal,
        "smallest gap s": gaps,
        "late p50 ms": late[len(late) // 2] * 1000,
        "late p99 ms": late[len(late) * 99 // 100] * 1000,
        "late max ms": late[-1] * 1000,
    } | watched


def _watch(pid: int, seconds: float) -> dict[str, Any]:
    """Measures from now on for so many seconds; the largest memory of a look every 5 s."""
    ours = processes.family(pid)
    broadcasters = processes.Usage(ours)
    server = processes.Usage([databases.server_pid()])
    before, began_at = databases.statements(), databases.ask("SELECT UTC_TIMESTAMP(6)")
    until = time.monotonic() + seconds
    memory: dict[str, float] = {}
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 5.0))
        for name, size in processes.memory_mb(ours).items():
            memory[name] = max(size, memory.get(name, 0))
    ended_at = databases.ask("SELECT UTC_TIMESTAMP(6)")
    sent = databases.ask(
        "SELECT COUNT(*) FROM broadcast_messages WHERE sent_at >= %s AND sent_at < %s",
        [began_at, ended_at],
    )
    return {
        "from": began_at,
        "until": ended_at,
        "messages/s": sent / (ended_at - began_at).total_seconds(),
        "broadcaster cores": broadcasters.cores(),
        "server cores": server.cores(),
        "statements/s": (databases.statements() - before) / seconds,
    } | {f"{name} MB": size for name, size in memory.items()}


def _scatter(devices: int, start_at: datetime, speed: float) -> None:
    """Gives each device the rest of a pause that began at some moment before `start_at`."""
    shortest, longest = (gap / speed for gap in GAP_SECONDS)
    for device_id in range(1, devices + 1):
        # A long pause is more likely to be the one that is under way.
        pause = random.uniform(shortest, longest)
        while random.uniform(0, longest) > pause:
            pause = random.uniform(shortest, longest)
        rest = timedelta(seconds=pause * random.random())
        databases.run(
            "UPDATE devices SET next_send_at = %s WHERE id = %s",
            [(start_at + rest).replace(tzinfo=None), device_id],
        )


def _sleep_until(moment: datetime) -> None:
    time.sleep(max(0.0, (moment - datetime.now(UTC)).total_seconds()))


def _gaps() -> Iterator[float]:
    """Yields the seconds between successive hand-overs of each device."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT device_id, queued_at FROM broadcast_messages WHERE queued_at IS NOT NULL"
            " ORDER BY device_id, queued_at"
        )
        former: tuple[int, datetime] | None = None
        for device_id, queued_at in cursor:
            if former and former[0] == device_id:
                yield (queued_at - former[1]).total_seconds()
            former = device_id, queued_at


def _lateness(since: datetime, until: datetime) -> list[float]:
    """Returns by how many seconds each slot of this time was missed."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT TIMESTAMPDIFF(MICROSECOND, due_at, left_at) / 1e6 FROM benchmark_slots"
            " WHERE left_at >= %s AND left_at < %s AND due_at IS NOT NULL",
            [since, until],
        )
        return [float(seconds) for (seconds,) in cursor.fetchall()]
