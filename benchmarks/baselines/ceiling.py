"""The ceiling: the engine's own statements on the same rows, from a bare loop over mysqlclient.

The engine works for a while with a transport that writes its statements down. Then the database
is filled anew and the statements are given to it verbatim: no Django, no transport, no waiting,
each process's in the order in which it asked them. So the ceiling follows when the engine changes.
"""

from __future__ import annotations

import multiprocessing
import pickle
import re
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import databases, processes
from benchmarks.filling import fill

# Of what the broadcaster asks, the ceiling leaves out what moves no message: leases, heartbeats,
# looking about, and the simulator's sessions.
KEPT = re.compile(r"broadcast_messages|leads|next_send_at")
LEFT_OUT = re.compile(r"broadcast_workers|simulator_|SET [^=]*(worker_id|lease_expires_at)[` ]*=")
SECONDS = 120

Statement = tuple[str, tuple[Any, ...] | None]


def measure(*, devices: int, messages: int, sample: int, workers: int) -> dict[str, Any]:
    """Returns messages a second with so many processes, over about `sample` messages."""
    with TemporaryDirectory() as folder:
        fill(devices=devices, messages=messages)
        recorded = _record(Path(folder), devices=devices, workers=workers, sample=sample)
        fill(devices=devices, messages=messages)
        scripts = [_read(path) for path in sorted(Path(folder).iterdir())]
    seconds = _replay(scripts)
    sent = _sent()
    if sent != recorded:
        raise SystemExit(f"The replay sent {sent} messages, the engine {recorded}.")
    return {"rate": sent / seconds, "messages": sent, "seconds": seconds}


def _record(folder: Path, *, devices: int, workers: int, sample: int) -> int:
    """Lets the engine send about `sample` messages; returns how many it did send."""
    deadline = time.monotonic() + SECONDS
    with processes.broadcasters(
        workers=workers,
        devices=devices,
        transport=processes.RECORDING,
        BENCHMARK_RECORDING=str(folder),
    ):
        while _sent() < sample and time.monotonic() < deadline:
            time.sleep(0.5)
    return _sent()


def _sent() -> int:
    sql = "SELECT COUNT(*) FROM broadcast_messages WHERE status = 'sent'"
    return int(databases.ask(sql))


def _read(path: Path) -> list[Statement]:
    """Reads one process's statements; its devices are made its own in the database."""
    script: list[Statement] = []
    owned: dict[tuple[str, int], list[int]] = {}
    with path.open("rb") as file:
        while True:
            try:
                sql, params = pickle.load(file)  # noqa: S301  (we have just written it)
            except EOFError:
                break
            if sql == "owner":
                device_id, worker_id, epoch = params
                owned.setdefault((worker_id, epoch), []).append(device_id)
            elif sql in ("BEGIN", "COMMIT") or (KEPT.search(sql) and not LEFT_OUT.search(sql)):
                script.append((sql, params))
    for (worker_id, epoch), ids in owned.items():
        databases.run(
            "UPDATE devices SET worker_id = %s, lease_epoch = %s, status = 'online',"
            " lease_expires_at = UTC_TIMESTAMP() + INTERVAL 1 DAY"
            f" WHERE id IN ({', '.join(map(str, ids))})",
            [worker_id, epoch],
        )
    return script


def _replay(scripts: list[list[Statement]]) -> float:
    """Runs each script in a process of its own, all at once; returns the seconds it took."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(len(scripts))
    times = context.Queue()
    players = [context.Process(target=_play, args=(script, ready, times)) for script in scripts]
    for player in players:
        player.start()
    spans = [times.get() for _ in players]
    for player in players:
        player.join()
    return float(max(end for _, end in spans) - min(start for start, _ in spans))


def _play(script: list[Statement], ready: Any, times: Any) -> None:
    connection = databases.bare_connection()
    cursor = connection.cursor()
    ready.wait()
    start = time.monotonic()
    for sql, params in script:
        cursor.execute(sql, params)
        if cursor.description:
            cursor.fetchall()
    times.put((start, time.monotonic()))
