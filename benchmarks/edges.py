"""What a claim and a look for work cost where the queue has an odd shape, beside the ordinary one.

    python -m benchmarks edges --database-url mysql://root@127.0.0.1:3306/siaran
    python -m benchmarks edges --database-url sqlite:////tmp/edges.sqlite3

In each situation one process claims the next message of so many due devices, round by round, and
after each claim looks which devices have anything waiting, as a broadcaster does twice a second for
its idle ones. The ordinary queue is measured with as many due devices as the odd one it stands
beside. What is held belongs to a campaign that was paused and stands before what may leave: the
scheduler has not moved it yet. What is capped are first contacts of devices that may write to
nobody new any more today.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from benchmarks import databases
from benchmarks.filling import fill, insert, own
from benchmarks.report import report

GOAL_RATIO = 3.0
WORKER = "benchmark"
WARM_UP_ROUNDS = 10


@dataclass(frozen=True, slots=True)
class Situation:
    """So many devices with so many messages each, the first of them held, or all of them first
    contacts of `capped` devices; `due` are claimed for."""

    what: str
    devices: int
    each: int
    due: int = 100
    held: int = 0
    capped: bool = False

    @property
    def claimable(self) -> int:
        return 0 if self.capped else self.each - self.held


ORDINARY = "ordinary"
SITUATIONS = (
    Situation(ORDINARY, 3_000, 100),
    Situation("10,000 devices with one each", 10_000, 1),
    Situation("paused: 100 held before 20", 3_000, 120, held=100),
    Situation("paused: nothing but 100 held", 3_000, 100, held=100),
    Situation("capped: nothing but 100 new people", 3_000, 100, capped=True),
    Situation(ORDINARY, 3_000, 100, due=1),
    Situation("100,000 on one device", 1, 100_000, due=1),
    Situation("paused: 100,000 held before 200", 1, 100_200, due=1, held=100_000),
    Situation("capped: nothing but 100,000 new people", 1, 100_000, due=1, capped=True),
)


def main(arguments: list[str]) -> int:
    parser = databases.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=90)
    parser.add_argument("--settle", type=float, default=10, help="seconds after filling")
    options = parser.parse_args(arguments)
    with databases.own_database(options.database_url, keep=options.keep):
        rows: list[dict[str, Any]] = []
        ordinary: dict[str, float] = {}
        for situation in SITUATIONS:
            found = _measure(situation, options)
            if situation.what == ORDINARY:
                ordinary = found
            rows.append(_row(situation, found, ordinary))
        report("edges", rows, **databases.facts(), rounds=options.rounds, goal=f"<= {GOAL_RATIO}")
    return 0


def _row(
    situation: Situation, found: dict[str, float], ordinary: dict[str, float]
) -> dict[str, Any]:
    return {
        "situation": situation.what,
        "due": situation.due,
        "claim p50 ms": found["claim p50 ms"],
        "claim p99 ms": found["claim p99 ms"],
        "claim / ordinary": found["claim p50 ms"] / ordinary["claim p50 ms"],
        "look p50 ms": found["look p50 ms"],
        "look / ordinary": found["look p50 ms"] / ordinary["look p50 ms"],
    }


def _measure(situation: Situation, options: argparse.Namespace) -> dict[str, float]:
    from broadcasts.models import BroadcastMessage

    _set_up(situation)
    time.sleep(options.settle)  # what the filling left for the server to tidy up
    messages = BroadcastMessage.objects
    claims: list[float] = []
    looks: list[float] = []
    for turn in range(WARM_UP_ROUNDS + options.rounds):
        first = turn * situation.due
        ids = [(first + n) % situation.devices + 1 for n in range(situation.due)]
        claim = partial(
            messages.claim,
            worker_id=WORKER,
            device_ids=ids,
            nobody_new=ids if situation.capped else [],
        )
        claimed = _timed(claims, claim)
        # One for each, as long as there is something that may leave.
        expected = situation.due if situation.claimable else 0
        if len(claimed) != expected:
            raise SystemExit(f"{situation.what}: {len(claimed)} claimed instead of {expected}.")
        _timed(looks, partial(messages.first_due, timedelta(seconds=8)))
    del claims[:WARM_UP_ROUNDS], looks[:WARM_UP_ROUNDS]
    return {
        "claim p50 ms": statistics.median(claims),
        "claim p99 ms": sorted(claims)[len(claims) * 99 // 100],
        "look p50 ms": statistics.median(looks),
    }


def _set_up(situation: Situation) -> None:
    from campaigns.models import Campaign

    fill(devices=situation.devices, messages=situation.devices * situation.each)
    own(situation.devices, WORKER)
    insert(Campaign, 1, id="2", title="'paused'", message="'Hi'", status="'paused'")
    # All are due since the same moment, so the lower ids stand before the others.
    databases.run(
        "UPDATE broadcast_messages SET campaign_id = 2 WHERE id <= %s",
        [situation.devices * situation.held],
    )


def _timed(took: list[float], step: Callable[[], Any]) -> Any:
    began_at = time.perf_counter()
    result = step()
    took.append((time.perf_counter() - began_at) * 1000)
    return result
