"""What a task queue's task does with one message: nothing is sent, its row is marked as sent."""

from __future__ import annotations

import time

from benchmarks import databases

FIRST_TO_LAST = "TIMESTAMPDIFF(MICROSECOND, MIN(sent_at), MAX(sent_at)) / 1e6"


def send(message_id: int) -> None:
    from django.db.models.functions import Now

    from broadcasts.models import BroadcastMessage

    BroadcastMessage.objects.filter(pk=message_id, status="pending").update(
        status="sent", sent_at=Now(), finished_at=Now()
    )


def rate_when_done(messages: int, *, seconds: float = 300) -> dict[str, float]:
    """Waits for all of them; returns the rate from the first to the last."""
    deadline = time.monotonic() + seconds
    while _sent() < messages and time.monotonic() < deadline:
        time.sleep(0.5)
    sent = _sent()
    took = float(databases.ask(f"SELECT {FIRST_TO_LAST} FROM broadcast_messages") or 0)
    if sent < messages:
        raise SystemExit(f"{sent} of {messages} messages were sent in {seconds:.0f} s.")
    return {"rate": sent / took, "messages": sent, "seconds": took}


def _sent() -> int:
    return int(databases.ask("SELECT COUNT(*) FROM broadcast_messages WHERE status = 'sent'"))
