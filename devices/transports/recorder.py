"""The simulator's memory, written by one thread for all sessions of a process.

A commit that the disk has confirmed takes a millisecond or two, whatever is in it. So what is
waiting is written together (a group commit), and each one who waits gets an answer of its own.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from django.db import DataError, IntegrityError, connection, transaction
from django.db.models.sql import InsertQuery
from django.utils import timezone

from devices.among import Among
from devices.models import SimulatedMessage, SimulatedSession

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 500
IDLE_SECONDS = 5.0  # then the connection is given back


# Whether it was written, or the error of the database: then it may have been written or not, since
# the answer to a commit can get lost.
Answer = bool | Exception


class Words(NamedTuple):
    """What one side wrote to the other: a SimulatedMessage to be, which takes longer to make than
    its row to write."""

    device_id: int
    phone: str
    from_device: bool
    key: str
    provider_message_id: str
    body: str
    media: str = ""


@dataclass(slots=True)
class Entry:
    """Something to write, and who is told what came of it: in the recorder's thread, briefly."""

    device_id: int
    tell: Callable[[Answer], None]


@dataclass(slots=True)
class Opening(Entry):
    """A session begins: from its commit on, all older ones of the account can record nothing."""

    token: str


@dataclass(slots=True)
class Arrival(Entry):
    """A message reaches a phone; answered False, and not written, if `token` was replaced."""

    token: str
    words: Words


@dataclass(slots=True)
class Reply(Entry):
    """A person writes to the device."""

    words: Words


class Recorder:
    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Entry] = queue.SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def write(self, entry: Entry) -> None:
        """Arranges that `entry` is written; its answer comes after the commit.

        What is written first is in force first.
        """
        if self._thread is None:
            self._start()
        self._waiting.put(entry)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            self._write(self._gather())

    def _gather(self) -> list[Entry]:
        """Waits for something to write; returns it with all that came in by then."""
        try:
            entries = [self._waiting.get(timeout=IDLE_SECONDS)]
        except queue.Empty:
            _let_go()
            entries = [self._waiting.get()]
        while len(entries) < MOST_AT_ONCE and not self._waiting.empty():
            entries.append(self._waiting.get())
        return entries

    def _write(self, entries: Sequence[Entry]) -> None:
        try:
            refused = _commit(entries)
        except (DataError, IntegrityError) as error:
            # Refused by the server, so nothing of it is written. One entry is to blame (its device
            # was deleted, its text is impossible): it must not spoil the others.
            if len(entries) == 1:
                _tell(entries[0], error)
            else:
                for entry in entries:
                    self._write([entry])
        except Exception as error:
            logger.exception("the simulator could not write %d entries", len(entries))
            for entry in entries:
                _tell(entry, error)
            _let_go()  # it may be broken; the next entries get a new one
        else:
            for entry in entries:
                _tell(entry, id(entry) not in refused)


def _tell(entry: Entry, answer: Answer) -> None:
    try:
        entry.tell(answer)
    except Exception:  # whatever it is: this thread must live, all senders wait for it
        logger.exception("the simulator could not say what was written")


def _let_go() -> None:
    with suppress(Exception):  # the same
        connection.close()


def _commit(entries: Sequence[Entry]) -> set[int]:
    """Writes these in one transaction; returns the ids() of arrivals of replaced sessions.

    Rows are taken in the order of their devices, as the engine takes them: no deadlocks.
    """
    entries = sorted(entries, key=lambda entry: entry.device_id)  # stable: the newest opening last
    openings = {entry.device_id: entry.token for entry in entries if isinstance(entry, Opening)}
    arrivals = [entry for entry in entries if isinstance(entry, Arrival)]
    with transaction.atomic():
        if openings:
            _open(openings)
        # Locks the sessions' rows: none can be replaced between this look and the commit. SQLite
        # has its one write lock from BEGIN on.
        sessions = SimulatedSession.objects.select_for_update().filter(
            Among("pk", sorted({arrival.device_id for arrival in arrivals}))
        )
        current = dict(sessions.order_by("pk").values_list("pk", "token")) if arrivals else {}
        refused = {
            id(arrival) for arrival in arrivals if current.get(arrival.device_id) != arrival.token
        }
        _insert(
            [
                entry.words
                for entry in entries
                if isinstance(entry, Arrival | Reply) and id(entry) not in refused
            ]
        )
    return refused


def _insert(written: Sequence[Words]) -> None:
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    if written:
        with connection.cursor() as cursor:
            cursor.executemany(_statement(), [(*words, now) for words in written])


@cache
def _statement() -> str:
    """The one by which Django writes a row: `bulk_create` works out each anew, which took a fifth
    of a broadcaster's time."""
    fields = {field.attname: field for field in SimulatedMessage._meta.fields}
    query = InsertQuery(SimulatedMessage)
    query.insert_values(
        [fields[name] for name in (*Words._fields, "received_at")], [SimulatedMessage()]
    )
    [(statement, _)] = query.get_compiler(connection=connection).as_sql()
    return str(statement)


def _open(tokens: dict[int, str]) -> None:
    """Makes these the accounts' sessions {device id: token}, whether they had one or not."""
    by_key = connection.features.supports_update_conflicts_with_target
    SimulatedSession.objects.bulk_create(
        [SimulatedSession(device_id=pk, token=token) for pk, token in tokens.items()],
        update_conflicts=True,
        update_fields=["token"],
        unique_fields=["device"] if by_key else None,
    )


recorder = Recorder()
