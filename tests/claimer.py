"""A process that claims what it can until nothing is left: `python -m tests.claimer WORKER`."""

from __future__ import annotations

import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from broadcasts.models import BroadcastMessage  # noqa: E402
from devices.models import Device  # noqa: E402

worker_id = sys.argv[1]
device_ids = list(Device.objects.values_list("pk", flat=True))
while BroadcastMessage.objects.filter(status="pending").exists():
    claimed = BroadcastMessage.objects.claim(worker_id=worker_id, device_ids=device_ids)
    sys.stdout.write("".join(f"{m.pk} {m.token}\n" for m in claimed))
