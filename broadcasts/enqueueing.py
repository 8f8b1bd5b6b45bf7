"""Writing messages into the queue, so that nobody is in it twice.

A duplicate is left alone by an update that changes nothing. Not by INSERT IGNORE, which shortens a
number that is too long instead of refusing it. How many were new is not told: with MySQL's
FOUND_ROWS the row count lies, so count by query.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import connection

from broadcasts.models import BroadcastMessage
from broadcasts.rendering import Greeting
from leads.models import Lead

# Seen by this connection alone, and gone with it.
STAGE = """
CREATE TEMPORARY TABLE broadcast_staged (
    lead_id BIGINT NOT NULL PRIMARY KEY, device_id BIGINT NULL, priority SMALLINT NOT NULL,
    skip_reason VARCHAR(20) NOT NULL DEFAULT '', expires_at {time} NULL, body {text} NULL)
"""
TYPES = {
    "mysql": {"time": "DATETIME(6)", "text": "LONGTEXT CHARACTER SET utf8mb4"},
    "sqlite": {"time": "DATETIME", "text": "TEXT"},
}
# To delete the rows of the page before takes as long as to write them.
UNSTAGE = "DROP {temporary} TABLE IF EXISTS broadcast_staged"
TEMPORARY = {"mysql": "TEMPORARY", "sqlite": ""}
# Numbers, times and our own words, in as few columns as will do: a driver takes longer to make a
# parameter ready than the server to read it. Only a text is one.
PLACE = "INSERT INTO broadcast_staged (lead_id, device_id, priority, expires_at) VALUES "
PLACED = "(%d, %d, %d, '%s')"
SKIP = "INSERT INTO broadcast_staged (lead_id, priority, skip_reason) VALUES "
SKIPPED = "(%d, %d, '%s')"
PLACE_WITH_TEXT = """
INSERT INTO broadcast_staged (lead_id, device_id, priority, expires_at, body)
VALUES (%s, %s, %s, %s, %s)
"""

# A left join: for a lead that was deleted this moment there is no number, and the database refuses
# the chunk. The next pass reads the audience anew; with an inner join one would be missing.
INSERT = """
INSERT INTO {messages} ({columns}, lead_id, device_id, priority, skip_reason, expires_at,
                        recipient_phone, recipient_name, body, status, finished_at)
SELECT {values}, s.lead_id, s.device_id, s.priority, s.skip_reason, s.expires_at,
       l.phone, l.name, {ends_as}
  FROM broadcast_staged s LEFT JOIN {leads} l ON l.id = s.lead_id
 WHERE s.lead_id > %s AND s.lead_id <= %s
 ORDER BY s.lead_id
"""
# Text, status, and since when it is closed.
WAITS = """
       CASE WHEN s.skip_reason <> '' THEN '' ELSE COALESCE(s.body, {body}) END,
       CASE WHEN s.skip_reason <> '' THEN 'skipped' ELSE 'pending' END,
       CASE WHEN s.skip_reason <> '' THEN %s END"""
IS_CANCELLED = "'', CASE WHEN s.skip_reason <> '' THEN 'skipped' ELSE 'cancelled' END, %s"
UNLESS_THERE = {
    "mysql": "ON DUPLICATE KEY UPDATE {messages}.id = {messages}.id",
    "sqlite": "ON CONFLICT (campaign_id, recipient_phone) DO NOTHING",
}
# HEX: to a collation a name of blanks is empty.
NAME_OR = "CASE WHEN HEX(l.name) <> '' THEN l.name ELSE %s END"
JOINED = {"mysql": "CONCAT(%s, {name}, %s)", "sqlite": "(%s || {name} || %s)"}

# A cluster has several behind one address. Nodes on one host differ in their port.
SERVER = "SELECT @@hostname, @@port, @@server_id"


# One message of a campaign: lead, device, lane, skip reason, when it expires, text. Without a text,
# the greeting that all share is its text; without a device, nothing is to leave. A bare tuple:
# there are a million.
Entry = tuple[int, int | None, int, str, datetime | None, str | None]


def enqueue(messages: Iterable[BroadcastMessage], *, unique: tuple[str, str]) -> None:
    """Inserts these messages, leaving alone those that are there by the unique rule named."""
    BroadcastMessage.objects.bulk_create(
        messages,
        batch_size=1000,
        update_conflicts=True,
        update_fields=["recipient_phone"],
        unique_fields=unique if connection.features.supports_update_conflicts_with_target else None,
    )


def server() -> tuple[Any, ...]:
    """Returns what tells the server that this connection leads to from others; all alike on
    SQLite."""
    if connection.vendor == "sqlite":
        return ()
    with connection.cursor() as cursor:
        cursor.execute(SERVER)
        return tuple(cursor.fetchone())


def stage(entries: Sequence[Entry]) -> None:
    """Lays the entries ready for `enqueue_staged` on this connection, instead of any before.

    To be called outside of the transaction: a server with enforce_gtid_consistency makes no
    temporary table inside of one.
    """
    adapted: dict[datetime | None, Any] = {}  # many share a deadline
    placed, with_text, skipped = [], [], []
    for lead_id, device_id, priority, skip_reason, expires_at, body in entries:
        if device_id is None:
            skipped.append(SKIPPED % (lead_id, priority, skip_reason))
            continue
        if (time := adapted.get(expires_at)) is None:
            time = adapted[expires_at] = connection.ops.adapt_datetimefield_value(expires_at)
        if body is None:
            placed.append(PLACED % (lead_id, device_id, priority, time))
        else:
            with_text.append((lead_id, device_id, priority, time, body))
    with connection.cursor() as cursor:
        cursor.execute(UNSTAGE.format(temporary=TEMPORARY[connection.vendor]))
        cursor.execute(STAGE.format(**TYPES[connection.vendor]))
        if placed:
            cursor.execute(PLACE + ", ".join(placed))
        if with_text:
            cursor.executemany(PLACE_WITH_TEXT, with_text)
        if skipped:
            cursor.execute(SKIP + ", ".join(skipped))


def enqueue_staged(
    between: tuple[int, int],
    shared: Mapping[str, Any],
    greeting: Greeting | None,
    now: datetime,
    *,
    cancelled: bool = False,
) -> None:
    """Inserts a campaign's messages for what is staged, leaving alone who has one already.

    Of the leads with an id above the first of `between` and up to the second. `shared` are the
    values, by column, that all have; the rest have the model's defaults. With `cancelled`, whoever
    is not left out is cancelled from the beginning, and no text is written.
    """
    own = {"lead_id", "device_id", "priority", "skip_reason", "expires_at", "recipient_phone",
           "recipient_name", "body", "status", "finished_at"}  # fmt: skip
    given: dict[str, Any] = {}
    for field in BroadcastMessage._meta.concrete_fields:
        if field.attname not in own and not field.primary_key:
            value = shared.get(field.attname, field.get_default())
            if field.attname == "created_at":
                value = now
            if value is not None:
                given[str(field.column)] = field.get_db_prep_save(value, connection)
    body, parameters = "NULL", [*given.values()]
    if greeting and not cancelled:
        body = JOINED[connection.vendor].format(name=NAME_OR if greeting.has_name else "%s")
        parameters += greeting.parts
    parameters += (connection.ops.adapt_datetimefield_value(now), *between)
    messages = connection.ops.quote_name(BroadcastMessage._meta.db_table)
    statement = (INSERT + UNLESS_THERE[connection.vendor]).format(
        messages=messages,
        leads=connection.ops.quote_name(Lead._meta.db_table),
        columns=", ".join(given),
        values=", ".join(["%s"] * len(given)),
        ends_as=IS_CANCELLED if cancelled else WAITS.format(body=body),
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
