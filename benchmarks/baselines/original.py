"""The original's algorithm, as its README gives it: every 5 seconds, one UPDATE and one SELECT for
each device that has messages, of up to 100 at a time; one UPDATE for each outcome.

Pauses are off. It gets the indexes that it lists, one process that claims and several that send,
as its goroutines do, and nothing of its clean-up jobs. `whole` also does what its flow chart has
for each message before it leaves: "update status to queued" and "verify not already sent".
"""

from __future__ import annotations

import multiprocessing
import time
import uuid
from typing import Any

from benchmarks import databases
from benchmarks.filling import fill

POLL_SECONDS = 5.0
INDEXES = {
    "original_optimize": "(status, device_id, scheduled_at)",
    "original_worker": "(processing_worker_id)",
}
DEVICES = """
SELECT DISTINCT device_id FROM broadcast_messages
 WHERE status = 'pending' AND scheduled_at <= CURRENT_TIMESTAMP
"""
CLAIM = """
UPDATE broadcast_messages
   SET status = 'processing', processing_worker_id = %s, processing_started_at = NOW(6)
 WHERE status = 'pending' AND device_id = %s AND processing_worker_id IS NULL
   AND scheduled_at <= NOW() AND scheduled_at >= DATE_SUB(NOW(), INTERVAL 3 HOUR)
 ORDER BY scheduled_at LIMIT 100
"""
FETCH = """
SELECT m.id, m.device_id, m.recipient_phone, m.recipient_name, m.body, c.min_delay_seconds,
       c.max_delay_seconds, s.id, t.id
  FROM broadcast_messages m
  LEFT JOIN campaigns c ON c.id = m.campaign_id
  LEFT JOIN sequences s ON s.id = m.sequence_id
  LEFT JOIN sequence_steps t ON t.id = m.sequence_stepid
 WHERE m.processing_worker_id = %s
 ORDER BY m.scheduled_at
"""
QUEUED = "UPDATE broadcast_messages SET status = 'queued' WHERE id = %s"
CHECK = "SELECT status FROM broadcast_messages WHERE id = %s"
SENT = "UPDATE broadcast_messages SET status = 'sent', sent_at = NOW(6) WHERE id = %s"


def measure(
    *, devices: int, messages: int, seconds: float, senders: int, whole: bool = False
) -> dict[str, Any]:
    """Returns messages a second over so many seconds, or until all are sent."""
    fill(devices=devices, messages=messages)
    for name, columns in INDEXES.items():
        databases.run(f"CREATE INDEX {name} ON broadcast_messages {columns}")
    try:
        context = multiprocessing.get_context("spawn")
        batches = context.Queue()
        workers = [context.Process(target=_claim, args=(batches, senders, whole))]
        workers += [context.Process(target=_send, args=(batches, whole)) for _ in range(senders)]
        for worker in workers:
            worker.start()
        until = time.monotonic() + seconds
        for worker in workers:
            worker.join(max(0.0, until - time.monotonic()))
        codes = [worker.exitcode for worker in workers]  # None: at work when the time was over
        for worker in workers:
            worker.kill()
            worker.join()
        result = _rate()
        if any(codes) or (None not in codes and result["messages"] != messages):
            raise SystemExit(f"The original sent {result['messages']}, its processes: {codes}")
        return result
    finally:
        for name in INDEXES:
            databases.run(f"DROP INDEX {name} ON broadcast_messages")


def _rate() -> dict[str, Any]:
    """The first claim is the beginning; what is claimed and not yet sent does not count."""
    sent, seconds = (
        databases.ask(f"SELECT {what} FROM broadcast_messages {where}")
        for what, where in (
            ("COUNT(*)", "WHERE status = 'sent'"),
            ("TIMESTAMPDIFF(MICROSECOND, MIN(processing_started_at), MAX(sent_at)) / 1e6", ""),
        )
    )
    return {"rate": sent / float(seconds), "messages": sent, "seconds": float(seconds)}


def _claim(batches: Any, senders: int, whole: bool) -> None:
    cursor = databases.bare_connection().cursor()
    while True:
        began_at = time.monotonic()
        cursor.execute(DEVICES)
        devices = [device_id for (device_id,) in cursor.fetchall()]
        for device_id in devices:
            token = f"{device_id}_{time.time_ns()}_{uuid.uuid4().hex[:8]}"
            _execute(cursor, CLAIM, [token, device_id])
            cursor.execute(FETCH, [token])
            claimed = [row[0] for row in cursor.fetchall()]
            if whole:
                for message_id in claimed:
                    _execute(cursor, QUEUED, [message_id])
            batches.put(claimed)
        if not devices:
            break
        time.sleep(max(0.0, began_at + POLL_SECONDS - time.monotonic()))
    for _ in range(senders):
        batches.put(None)


def _send(batches: Any, whole: bool) -> None:
    cursor = databases.bare_connection().cursor()
    while (batch := batches.get()) is not None:
        for message_id in batch:
            if whole:
                cursor.execute(CHECK, [message_id])
                if cursor.fetchone()[0] == "sent":
                    continue
            _execute(cursor, SENT, [message_id])


def _execute(cursor: Any, sql: str, parameters: list[Any]) -> None:
    """Its claims by status and its updates by key deadlock; the loser is given another try."""
    import MySQLdb

    while True:
        try:
            cursor.execute(sql, parameters)
        except MySQLdb.OperationalError as error:
            if error.args[0] not in (1205, 1213):
                raise
        else:
            return
