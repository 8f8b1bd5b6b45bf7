from __future__ import annotations

from collections.abc import Iterable

from django.db import connection

from broadcasts.models import BroadcastMessage


def enqueue(messages: Iterable[BroadcastMessage], *, unique: tuple[str, str]) -> None:
    """Inserts these messages, leaving alone those that are there by the unique rule named.

    Not `ignore_conflicts`: on MySQL that is INSERT IGNORE, which shortens a number that is too
    long instead of refusing it. An update that changes nothing keeps every error an error. How
    many were new is not told: with MySQL's FOUND_ROWS the row count lies, so count by query.
    """
    BroadcastMessage.objects.bulk_create(
        messages,
        batch_size=1000,
        update_conflicts=True,
        update_fields=["recipient_phone"],
        unique_fields=unique if connection.features.supports_update_conflicts_with_target else None,
    )
