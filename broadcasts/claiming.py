"""The hot path: from `pending` to `processing`, over the fence to `queued`, and home to `sent`.

One claim serves all devices that are due now, with the head of each. UPDATE-then-SELECT, without
SKIP LOCKED, so it is the same on SQLite, MySQL 5.7 to 9 and MariaDB. See docs/engine.md.

Raw, because the ORM can express neither the correlated heads nor an UPDATE that is sure to stay
one statement, and because a Case of a few hundred Whens took it more time than all the rest.
"""

from __future__ import annotations

import logging
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from django.db import OperationalError, connection, transaction

from broadcasts.claimed import Claimed, refuse
from broadcasts.retrying import survive_conflicts
from devices.among import Among

if TYPE_CHECKING:
    from datetime import datetime

    from broadcasts.models import BroadcastMessage
    from broadcasts.pacing import Slot

logger = logging.getLogger(__name__)

T = TypeVar("T")

# In these states of its campaign or sequence a message leaves. What a paused or cancelled one still
# has in the queue is not sent, from the moment of the pause: the rows themselves are moved
# afterwards. Finished: what is tried again of one does not wait until that is written down.
CAMPAIGN_SENDS = ("queuing", "sending", "finished")
SEQUENCE_SENDS = ("active",)
HELD = """
    EXISTS (SELECT 1 FROM {campaigns} c
             WHERE c.id = m.campaign_id AND c.status NOT IN ({campaign_sends}))
    OR EXISTS (SELECT 1 FROM {sequences} s
                WHERE s.id = m.sequence_id AND s.status NOT IN ({sequence_sends}))
"""

# The head of each due device, read off idx_broadcast_optimize. A scalar sub-select per device:
# ten times cheaper than `device_id IN (...) ORDER BY ... LIMIT`, and fair.
# The hint and the CASE leave the optimizer one plan, a look at the head by (status, device): with
# statistics that lagged behind a fresh campaign, MariaDB 10.11 went through every pending message
# of all devices for each of them, and one claim took minutes.
HEADS = """
SELECT (SELECT m.id FROM {messages} m {by_head}
         WHERE m.status = CASE WHEN d.id > 0 THEN 'pending' END
           AND m.device_id = d.id AND m.scheduled_at <= {now}
           AND (m.expires_at IS NULL OR m.expires_at > {now})
           {unless_first}
           AND NOT ({held})
         ORDER BY m.priority, m.scheduled_at, m.id LIMIT 1)
  FROM {devices} d
 WHERE d.id IN ({ids})
   AND d.worker_id = %s AND d.lease_expires_at > {now}
   AND d.enabled AND d.status = 'online'
   AND (d.next_send_at IS NULL OR d.next_send_at <= {now})
"""

# For devices that may write to nobody new today. Read off the index: their first contacts are
# stepped over without a look at the rows.
UNLESS_FIRST = "AND NOT (m.priority IN ({lanes}) AND d.id IN ({ids}))"

# Of several who read the same heads one gets each row. By primary key, ids sorted: deadlock-free.
# Hinted, since by status it would lock what others are claiming.
CLAIM = """
UPDATE {messages} AS m {by_key}
   SET status = 'processing', processing_worker_id = %s, processing_started_at = {now},
       lease_epoch = (SELECT d.lease_epoch FROM {devices} d WHERE d.id = m.device_id)
 WHERE m.id IN ({ids}) AND m.status = 'pending'
   AND EXISTS (SELECT 1 FROM {devices} d
                WHERE d.id = m.device_id AND d.worker_id = %s AND d.lease_expires_at > {now})
   AND NOT ({held})
"""

HAND_OVER = """
UPDATE {messages} AS m {by_key}
   SET status = 'queued', queued_at = {now}, attempts = attempts + 1
 WHERE m.id IN ({ids}) AND m.status = 'processing' AND m.processing_worker_id IN ({tokens})
   AND EXISTS (SELECT 1 FROM {devices} d
                WHERE d.id = m.device_id AND d.worker_id = %s AND d.lease_epoch = m.lease_epoch
                  AND d.lease_expires_at > {now})
"""

# The pause and the use of the caps, in the transaction of the hand-over. The counts go before the
# hour and the day that they are of: MySQL sets one after the other.
SLOTS = """
UPDATE {devices}
   SET next_send_at = {after_pause},
       usage_hour_count = CASE WHEN usage_hour_at = %s THEN usage_hour_count + 1 ELSE 1 END,
       usage_hour_at = %s,
       usage_first_count = CASE WHEN usage_day = %s THEN usage_first_count ELSE 0 END
                         + CASE WHEN id IN ({first}) THEN 1 ELSE 0 END,
       usage_day_count = CASE WHEN usage_day = %s THEN usage_day_count + 1 ELSE 1 END,
       usage_day = %s
 WHERE id IN ({ids}) AND worker_id = %s
"""

# Fenced by the claim: one that was released, or claimed anew, is another's to write about.
SENT = """
UPDATE {messages} AS m {by_key}
   SET status = 'sent', sent_at = {now}, finished_at = {now}, error_code = '', error_message = '',
       provider_message_id = CASE id {provider_message_id} END
 WHERE id IN ({ids}) AND processing_worker_id IN ({tokens}) AND status IN ('queued', 'unknown')
"""

# Receipts come late, twice and out of order: the first of a kind stays. With WhatsApp's ids, so
# that none lands on the next attempt of a message that was sent on its way again meanwhile.
RECEIVED = """
UPDATE {messages} AS m {by_key}
   SET {moment} = CASE id {at} END
 WHERE id IN ({ids}) AND provider_message_id IN ({provider_ids}) AND {moment} IS NULL
"""

# The lead stays with the device that has written to it ("sticky sender").
STAYS = """
UPDATE {leads} SET device_id = CASE id {device_id} END WHERE id IN ({ids}) AND device_id IS NULL
"""

NEWEST = "SELECT MAX(id) FROM {messages}"

# A CASE compares row by row: of so many rows it stays cheaper than a statement for each.
CASE_ROWS = 200

BY_HEAD = {
    "mysql": "FORCE INDEX (idx_broadcast_optimize)",
    "sqlite": "INDEXED BY idx_broadcast_optimize",
}
BY_KEY = {"mysql": "FORCE INDEX (PRIMARY)", "sqlite": "NOT INDEXED"}
NOW = {"mysql": "CURRENT_TIMESTAMP(6)", "sqlite": "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW')"}
AFTER = {
    "mysql": "CURRENT_TIMESTAMP(6) + INTERVAL ({seconds}) SECOND",
    "sqlite": "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW', ({seconds}) || ' seconds')",
}


def claim(
    model: type[BroadcastMessage],
    *,
    worker_id: str,
    device_ids: Sequence[int],
    nobody_new: Sequence[int] = (),
    interrupted: Callable[[], None] | None = None,
) -> list[Claimed]:
    """Claims the next message of each of these devices, where one is due and none else got it.

    Only for devices that `worker_id` holds a lease on, that are online and whose pause is over,
    all by the database's clock. Those of `nobody_new` claim no first contact. Returns the claimed
    messages with what sending them takes. `interrupted` is called where the answer got lost: the
    server may still be at it, and commit after the look for what it did.
    """
    heads = _heads(model, worker_id, device_ids, nobody_new)
    if not heads:
        return []
    # New for every claim, so that nobody ever finds another claim's rows under its own name.
    token = f"{worker_id}/{secrets.token_hex(8)}"
    try:
        with connection.cursor() as cursor:
            cursor.execute(_sql(model, CLAIM, ids=len(heads)), [token, *heads, worker_id])
    except OperationalError as error:
        # A deadlock's loser has nothing. After a lost connection the claim may have been
        # committed all the same: only the token tells, so look for it instead of guessing.
        logger.warning("Worker %s: claim interrupted: %s", worker_id, error)
        connection.close_if_unusable_or_obsolete()
        if interrupted:
            interrupted()
    claimed = Claimed.read(model, Among("pk", heads), processing_worker_id=token)
    if claimed:
        refuse(model, claimed)
        logger.info(
            "Worker %s claimed %d messages",
            worker_id,
            len(claimed),
            extra={"worker_id": worker_id, "claim": token, "messages": len(claimed)},
        )
    return claimed


@survive_conflicts
def hand_over(
    model: type[BroadcastMessage],
    messages: Sequence[Claimed],
    slots: Mapping[int, Slot],
    *,
    at: datetime,
    worker_id: str,
) -> list[Claimed]:
    """Commits that these messages are about to leave, with the next slot {device id: Slot}.

    The slots were worked out for a hand-over `at` that moment; the pause is stored from the moment
    at which the database really makes it, however long claim and retries took.

    From here on a crash leaves their outcome open. Returns those that may be given to the
    transport: a message whose device this worker lost in the meantime is not among them.
    """
    ids = sorted(message.pk for message in messages)
    tokens = sorted({message.token for message in messages})
    statement = _sql(model, HAND_OVER, ids=len(ids), tokens=_marks(len(tokens)))
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, [*ids, *tokens, worker_id])
        handed_over = cursor.rowcount
        if handed_over < len(ids):
            ready = model.objects.filter(pk__in=ids, processing_worker_id__in=tokens)
            ready_ids = set(ready.filter(status="queued").values_list("pk", flat=True))
            messages = [message for message in messages if message.pk in ready_ids]
        # None: this is a repetition, and the try that was committed has counted them already.
        if handed_over:
            _store_slots(model, messages, slots, at, worker_id)
    return list(messages)


@survive_conflicts
def finish(model: type[BroadcastMessage], sent: Mapping[int, str], tokens: Iterable[str]) -> int:
    """Writes down that these messages {id: WhatsApp's id} were sent under these claims.

    Safe to repeat: what is recorded already does not match again. Returns how many matched.
    """
    names = sorted(set(tokens))
    finished = 0
    for rows in _chunks(sent):
        cases, values = _cases(provider_message_id=rows)
        statement = _sql(model, SENT, ids=len(rows), tokens=_marks(len(names)), **cases)
        with connection.cursor() as cursor:
            cursor.execute(statement, [*values, *rows, *names])
            finished += cursor.rowcount
    return finished


@survive_conflicts
def receive(
    model: type[BroadcastMessage],
    moment: Literal["delivered_at", "read_at"],
    received: Mapping[int, tuple[str, datetime]],
) -> None:
    """Writes down when these messages {id: (WhatsApp's id, when)} were delivered or read."""
    for rows in _chunks(received):
        names = [name for name, _ in rows.values()]
        at = {pk: connection.ops.adapt_datetimefield_value(when) for pk, (_, when) in rows.items()}
        cases, values = _cases(at=at)
        marks = _marks(len(names))
        statement = _sql(model, RECEIVED, ids=len(rows), moment=moment, provider_ids=marks, **cases)
        with connection.cursor() as cursor:
            cursor.execute(statement, [*values, *rows, *names])


@survive_conflicts
def keep_with(model: type[BroadcastMessage], devices: Mapping[int, int]) -> None:
    """Ties leads that no device has written to yet to these devices: {lead id: device id}."""
    for rows in _chunks(devices):
        cases, values = _cases(device_id=rows)
        with connection.cursor() as cursor:
            cursor.execute(_sql(model, STAYS, ids=len(rows), **cases), [*values, *rows])


def newest(model: type[BroadcastMessage]) -> int:
    """Returns the highest id so far, or 0: when it grew, something came. Asked all the time."""
    [[pk]] = ask(NEWEST.format(messages=connection.ops.quote_name(model._meta.db_table)))
    return pk or 0


def ask(statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Returns the rows of a statement that is asked too often to have it worked out each time."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())


def _store_slots(
    model: type[BroadcastMessage],
    messages: Sequence[Claimed],
    slots: Mapping[int, Slot],
    at: datetime,
    worker_id: str,
) -> None:
    first = {m.device_id for m in messages if m.priority in model.FIRST_CONTACTS}
    # By hour and day: devices of one zone share both, so this is one group, or two around midnight.
    pauses: dict[tuple[Any, Any], dict[int, float]] = defaultdict(dict)
    for message in messages:
        slot = slots[message.device_id]
        pauses[slot.usage_hour_at, slot.usage_day][message.device_id] = _seconds(slot, at)
    for (hour_at, on), rows in pauses.items():
        hour = connection.ops.adapt_datetimefield_value(hour_at)
        day = connection.ops.adapt_datefield_value(on)
        for chunk in _chunks(rows):
            cases, values = _cases(pause=chunk)
            after_pause = AFTER[connection.vendor].format(seconds=f"CASE id {cases['pause']} END")
            new = [pk for pk in chunk if pk in first] or [0]
            statement = _sql(
                model, SLOTS, ids=len(chunk), after_pause=after_pause, first=_marks(len(new))
            )
            with connection.cursor() as cursor:
                cursor.execute(
                    statement, [*values, hour, hour, day, *new, day, day, *chunk, worker_id]
                )


def _seconds(slot: Slot, at: datetime) -> float:
    return (slot.next_send_at - at).total_seconds() if slot.next_send_at else 0.0


def _cases(**columns: Mapping[int, Any]) -> tuple[dict[str, str], list[Any]]:
    """Returns the WHENs of each column {id: value}, and their parameters in that order."""
    whens = {name: "WHEN %s THEN %s " * len(values) for name, values in columns.items()}
    pairs = chain.from_iterable(values.items() for values in columns.values())
    return whens, list(chain.from_iterable(pairs))


def _chunks(rows: Mapping[int, T]) -> Iterator[dict[int, T]]:
    """Yields these rows by id, so many at a time as one CASE may have; ids sorted."""
    ids = sorted(rows)
    for start in range(0, len(ids), CASE_ROWS):
        yield {pk: rows[pk] for pk in ids[start : start + CASE_ROWS]}


def _marks(count: int) -> str:
    return ", ".join(["%s"] * count)


def _quoted(words: Iterable[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)


def _heads(
    model: type[BroadcastMessage],
    worker_id: str,
    device_ids: Sequence[int],
    nobody_new: Sequence[int],
) -> list[int]:
    if not device_ids:
        return []
    lanes = model.FIRST_CONTACTS if nobody_new else ()
    unless_first = ""
    if nobody_new:
        unless_first = UNLESS_FIRST.format(lanes=_marks(len(lanes)), ids=_marks(len(nobody_new)))
    statement = _sql(model, HEADS, ids=len(device_ids), unless_first=unless_first)
    parameters: list[int | str] = [*lanes, *nobody_new, *sorted(device_ids), worker_id]
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return sorted(pk for (pk,) in cursor.fetchall() if pk is not None)


def _sql(
    model: type[BroadcastMessage],
    statement: str,
    *,
    ids: int,
    unless_first: str = "",
    **parts: str,
) -> str:
    """Fills in this database's table names and clock; values stay bound parameters."""
    quote = connection.ops.quote_name
    tables = {
        name: quote(model._meta.get_field(field).related_model._meta.db_table)  # type: ignore[union-attr]
        for name, field in (
            ("devices", "device"),
            ("campaigns", "campaign"),
            ("sequences", "sequence"),
            ("leads", "lead"),
        )
    }
    return statement.format(
        messages=quote(model._meta.db_table),
        **tables,
        held=HELD.format(
            campaign_sends=_quoted(CAMPAIGN_SENDS), sequence_sends=_quoted(SEQUENCE_SENDS), **tables
        ),
        now=NOW[connection.vendor],
        by_head=BY_HEAD[connection.vendor],
        by_key=BY_KEY[connection.vendor],
        ids=_marks(ids),
        unless_first=unless_first,
        **parts,
    )
