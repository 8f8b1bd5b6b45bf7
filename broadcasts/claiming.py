"""Claiming: from `pending` to `processing`, and over the fence to `queued`.

One claim serves all devices that are due now, with the head of each. UPDATE-then-SELECT, without
SKIP LOCKED, so it is the same on SQLite, MySQL 5.7 to 9 and MariaDB. Measured beside the
alternatives in docs/architecture.md; the statements are raw because the ORM can express neither
the correlated heads nor an UPDATE that is sure to stay one statement.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from django.db import OperationalError, connection, transaction
from django.db.models import Case, Exists, F, OuterRef, Value, When
from django.db.models.functions import Now

from broadcasts.retrying import survive_conflicts
from devices.models import Device

if TYPE_CHECKING:
    from broadcasts.models import BroadcastMessage
    from broadcasts.pacing import Slot

logger = logging.getLogger(__name__)

# What a paused or cancelled campaign still has in the queue is not sent, from the moment of the
# pause: the rows themselves are moved afterwards.
HELD = """
    EXISTS (SELECT 1 FROM {campaigns} c
             WHERE c.id = m.campaign_id AND c.status NOT IN ('queuing', 'sending', 'finished'))
    OR EXISTS (SELECT 1 FROM {sequences} s WHERE s.id = m.sequence_id AND s.status <> 'active')
"""

# The head of each due device, read off idx_broadcast_optimize. A scalar sub-select per device:
# ten times cheaper than `device_id IN (...) ORDER BY ... LIMIT`, and fair.
HEADS = """
SELECT (SELECT m.id FROM {messages} m
         WHERE m.status = 'pending' AND m.device_id = d.id AND m.scheduled_at <= {now}
           AND (m.expires_at IS NULL OR m.expires_at > {now})
           AND NOT ({held})
         ORDER BY m.priority, m.scheduled_at, m.id LIMIT 1)
  FROM {devices} d
 WHERE d.id IN ({ids})
   AND d.worker_id = %s AND d.lease_expires_at > {now}
   AND d.enabled AND d.status = 'online'
   AND (d.next_send_at IS NULL OR d.next_send_at <= {now})
"""

# Of several who read the same heads one gets each row. By primary key, ids sorted: deadlock-free.
CLAIM = """
UPDATE {messages} AS m
   SET status = 'processing', processing_worker_id = %s, processing_started_at = {now},
       lease_epoch = (SELECT d.lease_epoch FROM {devices} d WHERE d.id = m.device_id)
 WHERE m.id IN ({ids}) AND m.status = 'pending'
   AND EXISTS (SELECT 1 FROM {devices} d
                WHERE d.id = m.device_id AND d.worker_id = %s AND d.lease_expires_at > {now})
   AND NOT ({held})
"""

NOW = {"mysql": "CURRENT_TIMESTAMP(6)", "sqlite": "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW')"}


def claim(
    model: type[BroadcastMessage], *, worker_id: str, device_ids: Sequence[int]
) -> list[BroadcastMessage]:
    """Claims the next message of each of these devices, where one is due and none else got it.

    Only for devices that `worker_id` holds a lease on, that are online and whose pause is over,
    all by the database's clock. Returns the claimed messages with their leads and devices.
    """
    heads = _heads(model, worker_id, device_ids)
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
    claimed = list(
        model.objects.filter(pk__in=heads, processing_worker_id=token)
        .select_related("lead", "device")
        .order_by("pk")
    )
    if claimed:
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
    messages: Sequence[BroadcastMessage],
    slots: Mapping[int, Slot],
    *,
    worker_id: str,
) -> list[BroadcastMessage]:
    """Commits that these messages are about to leave, with the next slot {device id: Slot}.

    From here on a crash leaves their outcome open. Returns those that may be given to the
    transport: a message whose device this worker lost in the meantime is not among them.
    """
    mine = Device.objects.filter(
        pk=OuterRef("device_id"),
        worker_id=worker_id,
        lease_epoch=OuterRef("lease_epoch"),
        lease_expires_at__gt=Now(),
    )
    ids = sorted(message.pk for message in messages)
    tokens = {message.processing_worker_id for message in messages}
    with transaction.atomic():
        handed = model.objects.filter(
            Exists(mine), pk__in=ids, processing_worker_id__in=tokens, status="processing"
        ).update(status="queued", queued_at=Now(), attempts=F("attempts") + 1)
        if handed < len(ids):
            ready = model.objects.filter(pk__in=ids, processing_worker_id__in=tokens)
            ready_ids = set(ready.filter(status="queued").values_list("pk", flat=True))
            messages = [message for message in messages if message.pk in ready_ids]
        _store_slots({m.device_id: slots[m.device_id] for m in messages if m.device_id}, worker_id)
    return list(messages)


def _store_slots(slots: Mapping[int, Slot], worker_id: str) -> None:
    if not slots:
        return

    def by_device(field: str) -> Case:
        return Case(
            *(When(pk=pk, then=Value(getattr(slot, field))) for pk, slot in slots.items()),
            default=F(field),
            output_field=Device._meta.get_field(field),  # type: ignore[arg-type]
        )

    fields = (
        "next_send_at",
        "usage_hour_at",
        "usage_hour_count",
        "usage_day",
        "usage_day_count",
    )
    Device.objects.filter(pk__in=sorted(slots), worker_id=worker_id).update(
        **{field: by_device(field) for field in fields}
    )


def _heads(model: type[BroadcastMessage], worker_id: str, device_ids: Sequence[int]) -> list[int]:
    if not device_ids:
        return []
    with connection.cursor() as cursor:
        cursor.execute(_sql(model, HEADS, ids=len(device_ids)), [*sorted(device_ids), worker_id])
        return sorted(pk for (pk,) in cursor.fetchall() if pk is not None)


def _sql(model: type[BroadcastMessage], statement: str, *, ids: int) -> str:
    """Fills in this database's table names and clock; values stay bound parameters."""
    quote = connection.ops.quote_name
    tables = {
        name: quote(model._meta.get_field(field).related_model._meta.db_table)  # type: ignore[union-attr]
        for name, field in (
            ("devices", "device"),
            ("campaigns", "campaign"),
            ("sequences", "sequence"),
        )
    }
    return statement.format(
        messages=quote(model._meta.db_table),
        **tables,
        held=HELD.format(**tables),
        now=NOW[connection.vendor],
        ids=", ".join(["%s"] * ids),
    )
