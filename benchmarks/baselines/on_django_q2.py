"""One task a message on django-q2, with the database as its broker. Enqueued before it starts."""

from __future__ import annotations

import json
from typing import Any

from django_q.tasks import async_task

from benchmarks import processes
from benchmarks.baselines.sending import rate_when_done
from benchmarks.filling import fill

# As the application's scheduler has it; then as lean as django-q2 can be: many tasks fetched at a
# time, and a task that succeeded leaves no row.
SETTINGS: tuple[dict[str, int], ...] = (
    {"workers": 2},
    {"workers": 4},
    {"workers": 4, "bulk": 100, "queue_limit": 1000, "save_limit": -1},
)


def measure(*, devices: int, messages: int, settings: dict[str, int]) -> dict[str, Any]:
    fill(devices=devices, messages=messages)
    for message_id in range(1, messages + 1):
        async_task("benchmarks.baselines.sending.send", message_id)
    with processes.started(
        ["manage.py", "qcluster"],
        patience=10,
        DJANGO_SETTINGS_MODULE="benchmarks.baselines.django_q2_settings",
        BENCHMARK_CLUSTER=json.dumps(settings),
        LOG_LEVEL="ERROR",
    ):
        return rate_when_done(messages)
