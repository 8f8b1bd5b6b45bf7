"""What the scheduler calls; schedules are rows of django-q2, made by config/migrations."""

from __future__ import annotations

from datetime import timedelta

from django.core.management import call_command

from broadcasts.models import BroadcastMessage, Worker


def unstick_messages() -> dict[str, int]:
    return BroadcastMessage.objects.unstick()


def expire_messages() -> dict[str, int]:
    return {"expired": BroadcastMessage.objects.expire()}


def tidy_up() -> dict[str, int]:
    """Once a day. A broadcaster's row is of use while what it sent is still looked into."""
    call_command("clearsessions")
    return {"broadcasters": Worker.objects.forget(older_than=timedelta(days=30))}
