"""Writing messages into the queue, so that nobody is in it twice.

A duplicate is left alone by an update that changes nothing. Not by INSERT IGNORE, which shortens a
number that is too long instead of refusing it. How many were new is not told: with MySQL's
FOUND_ROWS the row count lies, so count by query.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection

from broadcasts.models import BroadcastMessage
from broadcasts.rendering import Greeting
from leads.models import Lead

# Seen by this connection alone, and gone with it.
STAGE = """
CREATE TEMPORARY TABLE IF NOT EXISTS broadcast_staged (
    lead_id BIGINT NOT NULL PRIMARY KEY, device_id BIGINT NULL, skip_reason VARCHAR(20) NOT NULL,
    expires_at {time} NULL, body {text} NULL)
"""
TYPES = {
    "mysql": {"time": "DATETIME(6)", "text": "LONGTEXT CHARACTER SET utf8mb4"},
    "sqlite": {"time": "DATETIME", "text": "TEXT"},
}
CLEAR = "DELETE FROM broadcast_staged"
FILL = """
INSERT INTO broadcast_staged (lead_id, device_id, skip_reason, expires_at, body)
VALUES (%s, %s, %s, %s, %s)
"""
# Most of them: two numbers, and a deadline as the one parameter. A driver takes longer to make
# one ready than the server to read it.
FILL_PLAIN = """
INSERT INTO broadcast_staged (lead_id, device_id, skip_reason, expires_at, body) VALUES {rows}
"""
PLAIN = "(%d, %d, '', %%s, NULL)"
# Far below max_allowed_packet, and SQLite's 32,766 parameters.
PLAIN_ROWS = 1000

# A left join: for a lead that was deleted this moment there is no number, and the database refuses
# the chunk. The next pass reads the audience anew; with an inner join one would be missing.
INSERT = """
INSERT INTO {messages} ({columns}, lead_id, device_id, skip_reason, expires_at, recipient_phone,
                        recipient_name, body, status, finished_at)
SELECT {values}, s.lead_id, s.device_id, s.skip_reason, s.expires_at, l.phone,
       l.name, CASE WHEN s.skip_reason <> '' THEN '' ELSE COALESCE(s.body, {body}) END,
       CASE WHEN s.skip_reason <> '' THEN 'skipped' ELSE 'pending' END,
       CASE WHEN s.skip_reason <> '' THEN %s END
  FROM broadcast_staged s LEFT JOIN {leads} l ON l.id = s.lead_id
 WHERE 1 = 1
 ORDER BY s.lead_id
"""
UNLESS_THERE = {
    "mysql": "ON DUPLICATE KEY UPDATE {messages}.id = {messages}.id",
    "sqlite": "ON CONFLICT (campaign_id, recipient_phone) DO NOTHING",
}
# HEX: to a collation a name of blanks is empty.
NAME_OR = "CASE WHEN HEX(l.name) <> '' THEN l.name ELSE %s END"
JOINED = {"mysql": "CONCAT(%s, {name}, %s)", "sqlite": "(%s || {name} || %s)"}


class Entry(NamedTuple):
    """One message of a campaign. Without a body, the greeting that all share is its text."""

    lead_id: int
    device_id: int | None
    skip_reason: str
    expires_at: datetime | None
    body: str | None = None


def enqueue(messages: Iterable[BroadcastMessage], *, unique: tuple[str, str]) -> None:
    """Inserts these messages, leaving alone those that are there by the unique rule named."""
    BroadcastMessage.objects.bulk_create(
        messages,
        batch_size=1000,
        update_conflicts=True,
        update_fields=["recipient_phone"],
        unique_fields=unique if connection.features.supports_update_conflicts_with_target else None,
    )


def stage(entries: Sequence[Entry]) -> None:
    """Lays the entries ready for `enqueue_staged` on this connection, instead of any before.

    To be called outside of the transaction: a server with enforce_gtid_consistency makes no
    temporary table inside of one.
    """
    times: dict[datetime | None, Any] = {None: None}  # many share a deadline
    plain: list[tuple[str, Any]] = []
    others = []
    for lead_id, device_id, skip_reason, expires_at, body in entries:
        if expires_at not in times:
            times[expires_at] = connection.ops.adapt_datetimefield_value(expires_at)
        if device_id is None or skip_reason or body is not None:
            others.append((lead_id, device_id, skip_reason, times[expires_at], body))
        else:
            plain.append((PLAIN % (lead_id, device_id), times[expires_at]))
    with connection.cursor() as cursor:
        cursor.execute(STAGE.format(**TYPES[connection.vendor]))
        cursor.execute(CLEAR)
        for start in range(0, len(plain), PLAIN_ROWS):
            rows, deadlines = zip(*plain[start : start + PLAIN_ROWS], strict=True)
            cursor.execute(FILL_PLAIN.format(rows=", ".join(rows)), deadlines)
        if others:
            cursor.executemany(FILL, others)


def enqueue_staged(shared: Mapping[str, Any], greeting: Greeting | None, now: datetime) -> None:
    """Inserts a campaign's messages for what is staged, leaving alone who has one already.

    `shared` are the values, by column, that all have; the rest have the model's defaults.
    """
    own = {*Entry._fields, "recipient_phone", "recipient_name", "status", "finished_at"}
    given: dict[str, Any] = {}
    for field in BroadcastMessage._meta.concrete_fields:
        if field.attname not in own and not field.primary_key:
            value = shared.get(field.attname, field.get_default())
            if field.attname == "created_at":
                value = now
            if value is not None:
                given[str(field.column)] = field.get_db_prep_save(value, connection)
    body, parameters = "NULL", [*given.values()]
    if greeting:
        body = JOINED[connection.vendor].format(name=NAME_OR if greeting.has_name else "%s")
        parameters += greeting.parts
    parameters.append(connection.ops.adapt_datetimefield_value(now))
    messages = connection.ops.quote_name(BroadcastMessage._meta.db_table)
    statement = (INSERT + UNLESS_THERE[connection.vendor]).format(
        messages=messages,
        leads=connection.ops.quote_name(Lead._meta.db_table),
        columns=", ".join(given),
        values=", ".join(["%s"] * len(given)),
        body=body,
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
