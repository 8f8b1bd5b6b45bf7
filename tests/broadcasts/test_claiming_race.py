from __future__ import annotations

from collections import Counter

import pytest
from django.utils import timezone

from broadcasts.models import BroadcastMessage
from tests import processes
from tests.factories import CampaignFactory, DeviceFactory

PROCESSES, DEVICES, MESSAGES = 8, 200, 20_000


@pytest.mark.django_db(transaction=True)
def test_eight_processes_claim_each_of_20000_messages_once() -> None:
    devices = [DeviceFactory(online=True) for _ in range(DEVICES)]
    campaign = CampaignFactory(sending=True)
    BroadcastMessage.objects.bulk_create(
        (
            BroadcastMessage(
                campaign=campaign,
                device=devices[n % DEVICES],
                recipient_phone=f"6012{n:08}",
                scheduled_at=timezone.now(),
            )
            for n in range(MESSAGES)
        ),
        batch_size=1000,
    )
    # All of one name, so that every process may claim for every device and they do race.
    claimers = [processes.start("-m", "tests.claimer", "worker") for _ in range(PROCESSES)]
    claims = [line.split() for claimer in claimers for line in claimer.communicate()[0].splitlines()
              if "claimed" not in line]  # fmt: skip

    assert [claimer.returncode for claimer in claimers] == [0] * PROCESSES
    claimed = Counter(int(pk) for pk, _ in claims)
    assert len(claimed) == MESSAGES, "a message was left"
    assert set(claimed.values()) == {1}, "a message was claimed twice"
    # The loser of a race got nothing: every row names the claim that says it won it.
    tokens = {int(pk): token for pk, token in claims}
    rows = BroadcastMessage.objects.values_list("pk", "status", "processing_worker_id")
    assert {pk: (status, token) for pk, status, token in rows} == {
        pk: ("processing", token) for pk, token in tokens.items()
    }
