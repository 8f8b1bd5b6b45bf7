"""The monitoring SQL of the original system, as the README gives it, on this schema."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from broadcasts.models import BroadcastMessage
from tests.factories import (
    BroadcastMessageFactory,
    CampaignFactory,
    DeviceFactory,
    SequenceStepFactory,
)

README = Path(__file__).resolve().parents[2] / "README.md"


def query(heading: str) -> list[tuple[Any, ...]]:
    """Runs the statements under this heading of the README, one after the other."""
    section = README.read_text().split(f"### {heading}\n", 1)[1]
    block = re.search(r"```sql\n(.*?)```", section, re.DOTALL)
    assert block
    rows: list[tuple[Any, ...]] = []
    with connection.cursor() as cursor:
        for statement in filter(str.strip, block[1].split(";")):
            cursor.execute(statement)
            rows += cursor.fetchall()
    return rows


def created(moment: datetime, **values: Any) -> BroadcastMessage:
    message: BroadcastMessage = BroadcastMessageFactory(**values)
    BroadcastMessage.objects.filter(pk=message.pk).update(created_at=moment)
    return message


@pytest.mark.django_db
def test_worker_id_usage_counts_the_messages_of_each_day_and_those_that_were_claimed() -> None:
    now = timezone.now()
    yesterday, before = now - timedelta(days=1), now - timedelta(days=3)
    for _ in range(3):
        created(yesterday, status="sent", processing_worker_id="host.1.a/1")
    created(yesterday, status="pending")
    created(before, status="skipped")
    created(now - timedelta(days=8), status="sent", processing_worker_id="host.1.a/2")
    found = [
        (day, total, claimed, float(share)) for day, total, claimed, share in query("Worker ids")
    ]
    assert found == [(yesterday.date(), 4, 3, 75.0), (before.date(), 1, 0, 0.0)]


@pytest.mark.django_db
def test_duplicates_query_finds_nothing_because_the_keys_refuse_them() -> None:
    campaign, step = CampaignFactory(sending=True), SequenceStepFactory()
    phone = "60111000001"
    BroadcastMessageFactory(campaign=campaign, recipient_phone=phone)
    of_step = {"campaign": None, "sequence": step.sequence, "sequence_step": step}
    BroadcastMessageFactory(**of_step, recipient_phone=phone)
    assert query("Duplicates") == []
    # From another device too: the original's keys allowed that.
    for values in ({"campaign": campaign}, of_step):
        with pytest.raises(IntegrityError), transaction.atomic():
            BroadcastMessageFactory(**values, recipient_phone=phone, device=DeviceFactory())


@pytest.mark.django_db
def test_stuck_query_counts_what_was_claimed_more_than_five_minutes_ago() -> None:
    now = timezone.now()
    for minutes, status in ((6, "processing"), (4, "processing"), (60, "queued"), (60, "sent")):
        BroadcastMessageFactory(
            status=status,
            processing_worker_id="host.1.a/1",
            processing_started_at=now - timedelta(minutes=minutes),
        )
    BroadcastMessageFactory(status="pending")
    assert query("Stuck messages") == [(1,)]
