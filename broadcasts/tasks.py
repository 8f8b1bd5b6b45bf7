"""What the scheduler calls; schedules are rows of django-q2, made by config/migrations."""

from __future__ import annotations

from broadcasts.models import BroadcastMessage


def unstick_messages() -> dict[str, int]:
    return BroadcastMessage.objects.unstick()


def expire_messages() -> dict[str, int]:
    return {"expired": BroadcastMessage.objects.expire()}
