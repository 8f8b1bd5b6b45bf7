"""Whether a claim, a hand-over and an outcome take longer when the table has grown.

    python -m benchmarks growth --database-url mysql://root@127.0.0.1:3306/siaran
    python -m benchmarks growth --rows 100000 1000000

The same process claims, hands over and records the next message of the same due devices, round by
round, first with little history in the table, then with much. The goal holds for the claim's
median.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from benchmarks import databases
from benchmarks.filling import fill, history, own
from benchmarks.report import report

GOAL_RATIO = 1.2
WORKER = "benchmark"
WARM_UP_ROUNDS = 10


def main(arguments: list[str]) -> int:
    parser = databases.parser(__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 10_000_000])
    parser.add_argument("--devices", type=int, default=3_000, help="share the history")
    parser.add_argument("--due", type=int, default=100, help="devices that a claim is for")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--settle", type=float, default=30, help="seconds after filling")
    options = parser.parse_args(arguments)
    with databases.own_database(options.database_url, keep=options.keep):
        if databases.vendor() != "mysql":
            raise SystemExit("growth needs MySQL or MariaDB: its history is written for them.")
        stages = len(options.rows)
        waiting = options.devices * (options.rounds + WARM_UP_ROUNDS) * stages
        fill(devices=options.devices, messages=waiting)
        own(options.due, WORKER)
        filled = 0
        results = []
        for rows in sorted(options.rows):
            history(devices=options.devices, first_id=waiting + filled + 1, rows=rows - filled)
            filled = rows
            time.sleep(options.settle)
            results.append({"history": rows} | _measure(options.due, options.rounds))
        show(results, options)
    return 0


def show(results: list[dict[str, Any]], options: Any) -> None:
    first = results[0]
    report(
        "growth",
        [
            {
                "step": step,
                "history": result["history"],
                "p50 ms": result[step][0],
                "p99 ms": result[step][1],
                "p50 / first": result[step][0] / first[step][0],
                "goal": GOAL_RATIO if step == "claim" else None,
            }
            for step in ("claim", "hand-over", "outcome")
            for result in results
        ],
        **databases.facts(),
        devices=options.devices,
        due=options.due,
        rounds=options.rounds,
        waiting=databases.ask("SELECT COUNT(*) FROM broadcast_messages WHERE status = 'pending'"),
    )


def _measure(due: int, rounds: int) -> dict[str, Any]:
    """Returns (p50, p99) in milliseconds by step."""
    took: dict[str, list[float]] = {"claim": [], "hand-over": [], "outcome": []}
    for _ in range(WARM_UP_ROUNDS):
        _round(due, {step: [] for step in took})
    for _ in range(rounds):
        _round(due, took)
    return {
        step: (statistics.median(times), sorted(times)[len(times) * 99 // 100])
        for step, times in took.items()
    }


def _round(due: int, took: dict[str, list[float]]) -> None:
    from broadcasts import outcomes, pacing
    from broadcasts.models import BroadcastMessage
    from devices.transports.base import Accepted

    messages = BroadcastMessage.objects
    ids = list(range(1, due + 1))
    claimed = _timed(took["claim"], lambda: messages.claim(worker_id=WORKER, device_ids=ids))
    assert len(claimed) == due
    # Over at once: the next round finds the same devices due.
    now = datetime.now(UTC)
    slot = pacing.after_send(pacing.Pace(), pacing.Slot(), now, 0)
    slots = dict.fromkeys(ids, slot)
    handed = _timed(
        took["hand-over"], lambda: messages.hand_over(claimed, slots, at=now, worker_id=WORKER)
    )
    assert len(handed) == due
    results = [outcomes.Sent(message, Accepted(f"SIM{message.pk}")) for message in handed]
    _timed(took["outcome"], lambda: outcomes.record(results))


def _timed(took: list[float], step: Callable[[], Any]) -> Any:
    began_at = time.perf_counter()
    result = step()
    took.append((time.perf_counter() - began_at) * 1000)
    return result
