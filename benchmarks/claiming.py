"""How much cheaper one claim for many devices is than a claim for each.

    python -m benchmarks claiming

Runs on the database of DATABASE_URL (in a test database of its own) and prints both rates and
their ratio, measured in one run on one machine.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from django.db import connection  # noqa: E402
from django.utils import timezone  # noqa: E402

from broadcasts.models import BroadcastMessage  # noqa: E402
from campaigns.models import Campaign  # noqa: E402
from devices.models import Device  # noqa: E402

DEVICES, HISTORY, ROUNDS = 200, 100_000, 20


def fill() -> list[int]:
    now = timezone.now()
    campaign = Campaign.objects.create(title="benchmark", message="Hi", status="sending")
    Device.objects.bulk_create(
        Device(
            name=f"Sales {n:03}", phone=f"6011{n:08}", status="online", worker_id="benchmark",
            lease_epoch=1, lease_expires_at=now.replace(year=now.year + 1),
        )
        for n in range(DEVICES)
    )  # fmt: skip
    devices = list(Device.objects.values_list("pk", flat=True))
    waiting = DEVICES * ROUNDS * 2
    BroadcastMessage.objects.bulk_create(
        (
            BroadcastMessage(
                campaign=campaign, device_id=devices[n % DEVICES], recipient_phone=f"6012{n:08}",
                scheduled_at=now, status="sent" if n >= waiting else "pending",
            )
            for n in range(waiting + HISTORY)
        ),
        batch_size=2000,
    )  # fmt: skip
    return devices


def rate(claim_all: Callable[[], int]) -> float:
    """Returns messages a second over ROUNDS rounds; each round claims one for every device."""
    began_at, claimed = time.perf_counter(), 0
    for _ in range(ROUNDS):
        claimed += claim_all()
    assert claimed == ROUNDS * DEVICES
    return claimed / (time.perf_counter() - began_at)


def main(arguments: list[str]) -> int:
    connection.creation.create_test_db(verbosity=0)
    try:
        devices = fill()
        claim = BroadcastMessage.objects.claim
        together = rate(lambda: len(claim(worker_id="benchmark", device_ids=devices)))
        apart = rate(
            lambda: sum(len(claim(worker_id="benchmark", device_ids=[pk])) for pk in devices)
        )
        sys.stdout.write(
            f"{connection.display_name}: one claim for {DEVICES} devices {together:,.0f} "
            f"messages/s, a claim for each {apart:,.0f} messages/s, ratio {together / apart:.1f}\n"
        )
    finally:
        connection.creation.destroy_test_db(str(connection.settings_dict["NAME"]), verbosity=0)
    return 0
