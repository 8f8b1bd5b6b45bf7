"""How fast due messages leave when nothing holds them up, beside other ways to do it.

    python -m benchmarks drain --database-url mysql://root@127.0.0.1:3306/siaran
    python -m benchmarks drain --messages 30000 --without celery --without django-q2
    python -m benchmarks drain --database-url sqlite:////tmp/drain.sqlite3

All on the same server, with durable commits, one after the other. A rate is messages over the time
from the first claim to the last outcome, by the database's clock, so that starting processes is
not in it; the task queues' is from the first message sent to the last. The engine sends through the
simulator, which records what arrives in the same database, and once more through a transport that
keeps no record, as the baselines' tasks do: that is what they are held against. Both before the
ceiling and behind it, since a machine is faster at one time than at another. Where several settings
are tried, the best of them counts. On SQLite only the engine is measured, against a rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from benchmarks import databases, processes
from benchmarks.filling import fill
from benchmarks.report import report

ENGINE, SENDING_NOTHING = "engine", "engine, sending nothing"
GOAL_ON_SQLITE = 3_000  # messages a second; there is nothing to compare with
GOALS = {"ceiling": 0.6, "original": 3.0, "django-q2": 20.0, "celery": 3.0}
PROCESSES = (1, 2, 4)  # that the ceiling is tried with
CEILING_MESSAGES = 60_000
ORIGINAL_SENDERS = 16
ORIGINAL_SECONDS = 60.0
DJANGO_Q2_MESSAGES = 3_000
CELERY_MESSAGES = 20_000

Row = dict[str, Any]


def main(arguments: list[str]) -> int:
    parser = databases.parser(__doc__)
    parser.add_argument("--devices", type=int, default=3_000)
    parser.add_argument("--messages", type=int, default=300_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[2], help="tried one by one")
    parser.add_argument("--without", action="append", default=[], choices=list(GOALS))
    options = parser.parse_args(arguments)
    with databases.own_database(options.database_url, keep=options.keep):
        size = {"devices": options.devices, "messages": options.messages}
        rows = list(engines(options.workers, **size))
        if databases.vendor() == "mysql":
            for name, measure in BASELINES.items():
                if name in options.without:
                    continue
                rows += [{"what": name} | row for row in measure(**size)]
                if name == "ceiling":
                    again = list(engines(options.workers, **size))
                    rows[: len(again)] = map(together, rows, again)
        show(rows, size)
    return 0


def engines(numbers_of_workers: Sequence[int], **size: int) -> Iterator[Row]:
    """Drains with each number of workers, and beside a server also without keeping a record."""
    transports = {ENGINE: processes.INSTANT}
    if databases.vendor() == "mysql":
        transports[SENDING_NOTHING] = processes.NOTHING
    for what, transport in transports.items():
        for workers in numbers_of_workers:
            yield {"what": what} | engine(**size, workers=workers, transport=transport)


def together(first: Row, second: Row) -> Row:
    """Returns the rate over both runs."""
    both = {name: first[name] + second[name] for name in ("messages", "seconds")}
    return first | both | {"rate": both["messages"] / both["seconds"]}


def engine(*, devices: int, messages: int, workers: int, transport: str) -> Row:
    """Drains the queue with `runbroadcaster`; returns its rate."""
    fill(devices=devices, messages=messages)
    with processes.broadcasters(
        workers=workers, devices=devices, drain=True, transport=transport
    ) as process:
        server = processes.Usage([databases.server_pid()])
        process.wait()
        cores = server.cores()
    return rate(messages) | {"processes": workers, "server cores": cores}


def rate(messages: int) -> Row:
    """Returns the rate of the messages that are `sent`, of whom there must be so many."""
    sent, first, last = databases.row(
        "SELECT COUNT(*), MIN(processing_started_at), MAX(sent_at) FROM broadcast_messages"
        " WHERE status = 'sent'"
    )
    if sent != messages:
        raise SystemExit(f"{sent} of {messages} messages were sent.")
    first, last = (datetime.fromisoformat(str(at)) for at in (first, last))
    seconds = (last - first).total_seconds()
    return {"rate": sent / seconds, "messages": sent, "seconds": seconds}


def ceiling(*, devices: int, messages: int) -> Iterator[Row]:
    from benchmarks.baselines.ceiling import measure

    sample = min(CEILING_MESSAGES, messages // 2)
    for workers in PROCESSES:
        row = measure(devices=devices, messages=messages, sample=sample, workers=workers)
        yield {"processes": workers} | row


def original(*, devices: int, messages: int) -> Iterator[Row]:
    from benchmarks.baselines.original import measure

    for whole in (False, True):
        row = measure(
            devices=devices,
            messages=messages,
            seconds=ORIGINAL_SECONDS,
            senders=ORIGINAL_SENDERS,
            whole=whole,
        )
        note = "with its check and its UPDATE to queued" if whole else ""
        yield {"processes": 1 + ORIGINAL_SENDERS, "note": note} | row


def django_q2(*, devices: int, messages: int) -> Iterator[Row]:
    from benchmarks.baselines.on_django_q2 import SETTINGS, measure

    messages = min(messages, DJANGO_Q2_MESSAGES)
    for settings in SETTINGS:
        row = measure(devices=devices, messages=messages, settings=settings)
        yield {"processes": settings["workers"], "note": words(settings)} | row


def celery(*, devices: int, messages: int) -> Iterator[Row]:
    try:
        from benchmarks.baselines.on_celery import SETTINGS, measure
    except ImportError as error:
        raise SystemExit(
            f"{error}: pip install -r requirements/benchmarks.txt, or --without celery"
        ) from error

    messages = min(messages, CELERY_MESSAGES)
    for workers, prefetch in SETTINGS:
        row = measure(devices=devices, messages=messages, workers=workers, prefetch=prefetch)
        yield {"processes": workers, "note": f"prefetch={prefetch}"} | row


def words(settings: Mapping[str, object]) -> str:
    return " ".join(f"{name}={value}" for name, value in settings.items() if name != "workers")


BASELINES: dict[str, Callable[..., Iterator[Row]]] = {
    "ceiling": ceiling,
    "original": original,
    "django-q2": django_q2,
    "celery": celery,
}


def show(rows: list[Row], size: dict[str, int]) -> None:
    on_sqlite = databases.vendor() == "sqlite"

    def best(what: str) -> float:
        """The engine's rate that these are held against."""
        whose = SENDING_NOTHING if what in GOALS and what != "ceiling" else ENGINE
        return max(float(row["rate"]) for row in rows if row["what"] == whose)

    report(
        "drain",
        [
            {
                "what": row["what"],
                "processes": row.get("processes"),
                "messages": row["messages"],
                "seconds": row["seconds"],
                "messages/s": row["rate"],
                "engine / this": best(row["what"]) / row["rate"],
                "goal": GOALS.get(row["what"]),
                "server cores": row.get("server cores"),
                "note": row.get("note") or None,
            }
            for row in rows
        ],
        **databases.facts(),
        **size,
        **({"goal": f">= {GOAL_ON_SQLITE:,} messages/s"} if on_sqlite else {}),
    )
