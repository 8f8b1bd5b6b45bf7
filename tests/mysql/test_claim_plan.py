from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from broadcasts.models import BroadcastMessage
from devices.models import Device
from tests.factories import BroadcastMessageFactory, CampaignFactory, DeviceFactory, LeadFactory

pytestmark = [pytest.mark.mysql, pytest.mark.django_db]


def fill(messages: int) -> list[int]:
    """Returns the ids of 20 devices that share so many pending messages."""
    campaign, devices = CampaignFactory(sending=True), DeviceFactory.create_batch(20, online=True)
    lead = LeadFactory()
    BroadcastMessage.objects.bulk_create(
        BroadcastMessageFactory.build(
            campaign=campaign, device=devices[n % 20], lead=lead, recipient_phone=f"6012{n:08}"
        )
        for n in range(messages)
    )
    return list(Device.objects.values_list("pk", flat=True))


def explain(statement: str) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {statement}")
        heads = [column[0] for column in cursor.description]
        return [dict(zip(heads, row, strict=True)) for row in cursor.fetchall()]


@pytest.mark.parametrize("nobody_new", [0, 5], ids=["no cap", "some write to nobody new"])
def test_the_optimizer_cannot_but_look_up_a_device_s_head(nobody_new: int) -> None:
    """Which plan it prefers depends on statistics that lag behind; a status that depends on the
    device's row leaves no range of the status to walk through."""
    ids = fill(2000)

    with CaptureQueriesContext(connection) as asked:
        BroadcastMessage.objects.claim(
            worker_id="worker", device_ids=ids, nobody_new=ids[:nobody_new]
        )
    plan = explain(asked.captured_queries[0]["sql"])

    (messages,) = (row for row in plan if row["table"] == "m")
    assert (messages["type"], messages["key"]) == ("ref", "idx_broadcast_optimize")
    assert messages["ref"].startswith("func,"), "the status is a constant again"


@pytest.mark.django_db(transaction=True)
def test_a_look_for_work_steps_from_device_to_device() -> None:
    """However many messages each of them has, once the statistics know of them."""
    ids = fill(4000)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE TABLE broadcast_messages")

    with CaptureQueriesContext(connection) as asked:
        assert set(BroadcastMessage.objects.first_due(timedelta(0))) == set(ids)

    (row,) = explain(asked.captured_queries[0]["sql"])
    assert row["key"] == "idx_broadcast_optimize"
    assert "Using index for group-by" in row["Extra"]


def test_whether_devices_have_work_is_looked_up_device_by_device() -> None:
    ids = fill(2000)

    with CaptureQueriesContext(connection) as asked:
        assert BroadcastMessage.objects.devices_with_work(ids[:5]) == set(ids[:5])

    _, inner = explain(asked.captured_queries[0]["sql"])
    assert (inner["select_type"], inner["key"]) == ("DEPENDENT SUBQUERY", "idx_broadcast_optimize")
