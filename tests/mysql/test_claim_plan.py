from __future__ import annotations

import pytest
from django.db import connection

from broadcasts import claiming
from broadcasts.models import BroadcastMessage
from devices.models import Device
from tests.factories import BroadcastMessageFactory, CampaignFactory, DeviceFactory, LeadFactory

pytestmark = [pytest.mark.mysql, pytest.mark.django_db]


def test_the_optimizer_cannot_but_look_up_a_device_s_head() -> None:
    """Which plan it prefers depends on statistics that lag behind; a status that depends on the
    device's row leaves no range of the status to walk through."""
    campaign, devices = CampaignFactory(sending=True), DeviceFactory.create_batch(20, online=True)
    lead = LeadFactory()
    BroadcastMessage.objects.bulk_create(
        BroadcastMessageFactory.build(
            campaign=campaign, device=devices[n % 20], lead=lead, recipient_phone=f"6012{n:08}"
        )
        for n in range(2000)
    )
    ids = list(Device.objects.values_list("pk", flat=True))

    with connection.cursor() as cursor:
        statement = claiming._sql(BroadcastMessage, claiming.HEADS, ids=len(ids))
        cursor.execute(f"EXPLAIN {statement}", [*ids, "worker"])
        heads = [column[0] for column in cursor.description]
        plan = [dict(zip(heads, row, strict=True)) for row in cursor.fetchall()]

    (messages,) = (row for row in plan if row["table"] == "m")
    assert (messages["type"], messages["key"]) == ("ref", "idx_broadcast_optimize")
    assert messages["ref"].startswith("func,"), "the status is a constant again"
