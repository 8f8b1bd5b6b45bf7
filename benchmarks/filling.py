"""Fills the benchmark's database by statements over sets: 300,000 messages in seconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import DateTimeField, Model
from django.db.models.functions import Now

CHUNK = 500_000
FIRST_PHONE = 60_100_000_000


def fill(
    *,
    devices: int,
    messages: int,
    gap_seconds: tuple[int, int] = (0, 0),
    due_in: timedelta = timedelta(minutes=-1),
) -> None:
    """Empties the tables and writes so many simulated devices without caps and hours, a campaign
    that is being sent, and messages to as many leads with consent, in turn for each device."""
    from broadcasts.models import BroadcastMessage
    from campaigns.models import Campaign
    from devices.models import Device
    from leads.models import Lead

    _empty()
    nothing = dict.fromkeys(("daily_limit", "sends_from", "sends_until"), "NULL")
    insert(
        Device, devices, id="n + 1", name="n + 100000", phone="60990000000 + n", **nothing,
        min_delay_seconds=f"{gap_seconds[0]}", max_delay_seconds=f"{gap_seconds[1]}",
    )  # fmt: skip
    insert(Campaign, 1, id="1", title="'benchmark'", message="'Hi'", status="'sending'")
    insert(
        Lead, messages, id="n + 1", phone=f"{FIRST_PHONE} + n", name="'Siti'", consented_at=moment()
    )
    insert(
        BroadcastMessage,
        messages,
        id="n + 1",
        device_id=f"n %% {devices} + 1",
        lead_id="n + 1",
        campaign_id="1",
        recipient_phone=f"{FIRST_PHONE} + n",
        recipient_name="'Siti'",
        priority=f"{BroadcastMessage.Priority.CAMPAIGN_FIRST}",
        body="'Hi Siti, the shop is open again from Friday, and there is something new for you.'",
        scheduled_at=moment(due_in),
        expires_at=moment(timedelta(days=1)),
    )
    _analyse()


def own(devices: int, worker_id: str) -> None:
    """Makes this broadcaster the holder of the first devices for a day, all of them online."""
    from devices.models import Device

    Device.objects.filter(pk__lte=devices).update(
        worker_id=worker_id,
        lease_epoch=1,
        lease_expires_at=Now() + timedelta(days=1),
        status=Device.Status.ONLINE,
    )


def history(*, devices: int, first_id: int, rows: int) -> None:
    """Adds `rows` messages that were sent over the past year, ids from `first_id` on, under
    campaigns of 100,000 each."""
    from broadcasts.models import BroadcastMessage
    from campaigns.models import Campaign

    there = Campaign.objects.count()
    if (missing := (first_id + rows) // 100_000 + 2 - there) > 0:
        insert(
            Campaign, missing, id=f"n + {there + 1}", title="'before'", message="'Hi'",
            status="'finished'",
        )  # fmt: skip
    year_ago = (datetime.now(UTC) - timedelta(days=365)).replace(tzinfo=None, microsecond=0)
    for start in range(0, rows, CHUNK):
        sent_at = f"'{year_ago + timedelta(seconds=(first_id + start) // 2)}'"
        insert(
            BroadcastMessage,
            min(CHUNK, rows - start),
            id=f"n + {first_id + start}",
            device_id=f"n %% {devices} + 1",
            campaign_id=f"(n + {first_id + start}) DIV 100000 + 2",
            recipient_phone=f"{FIRST_PHONE} + n + {first_id + start}",
            body="'Hi Siti, the shop is open again from Friday.'",
            status="'sent'",
            attempts="1",
            provider_message_id=f"CONCAT('SIM', n + {first_id + start})",
            processing_worker_id="'history/0123456789abcdef'",
            **dict.fromkeys(("scheduled_at", "queued_at", "sent_at", "finished_at"), sent_at),
        )
    _analyse()


def insert(model: type[Model], count: int, **expressions: str) -> None:
    """Writes `count` rows of SQL expressions over n = 0, 1, 2, … by column; what is not given is
    NULL or the field's default."""
    values: dict[str, str] = {}
    parameters: list[Any] = []
    for field in model._meta.concrete_fields:
        column = str(field.column)
        if column in expressions:
            values[column] = expressions.pop(column)
        elif isinstance(field, DateTimeField) and not field.null:
            values[column] = moment()
        elif not field.null:
            values[column] = "%s"
            parameters.append(field.get_db_prep_save(field.get_default(), connection))
    assert not expressions, f"{model} has no {expressions}"
    quote = connection.ops.quote_name
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {quote(model._meta.db_table)} ({', '.join(map(quote, values))}) "
            f"SELECT {', '.join(values.values())} FROM ({_numbers(count)}) numbers ORDER BY n",
            parameters,
        )


def moment(later: timedelta = timedelta()) -> str:
    """Returns a moment from now as a literal; this machine's clock will do for filling."""
    return f"'{(datetime.now(UTC) + later).replace(tzinfo=None)}'"


def _numbers(count: int) -> str:
    """Returns a query for n = 0 to count - 1 that the oldest server understands."""
    digit = " UNION ALL ".join(f"SELECT {n} AS d" for n in range(10))
    places = range(len(str(max(count - 1, 0))))
    value = " + ".join(f"{10**place} * t{place}.d" for place in places)
    tables = ", ".join(f"({digit}) t{place}" for place in places)
    return f"SELECT n FROM (SELECT {value} AS n FROM {tables}) every WHERE n < {count}"


TABLES = (
    "simulator_messages", "simulator_sessions", "broadcast_messages", "broadcast_workers",
    "campaigns", "leads", "devices", "django_q_ormq", "django_q_task",
)  # fmt: skip


def _empty() -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            for table in TABLES:
                cursor.execute(f"DELETE FROM {table}")
            return
        cursor.execute("SET FOREIGN_KEY_CHECKS = 0")
        for table in TABLES:
            cursor.execute(f"TRUNCATE TABLE {table}")
        cursor.execute("SET FOREIGN_KEY_CHECKS = 1")


def _analyse() -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("ANALYZE")
        else:
            cursor.execute("ANALYZE TABLE broadcast_messages, devices, leads")
            cursor.fetchall()
