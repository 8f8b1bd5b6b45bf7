"""What the scheduler calls; schedules are rows of django-q2, made by config/migrations."""

from __future__ import annotations

from datetime import timedelta

from django.core.management import call_command

from attachments.models import Attachment
from broadcasts.models import BroadcastMessage, Worker
from broadcasts.passes import noted
from leads.uploads import sweep


@noted
def unstick_messages() -> dict[str, int]:
    return BroadcastMessage.objects.unstick()


@noted
def expire_messages() -> dict[str, int]:
    return {"expired": BroadcastMessage.objects.expire()}


def tidy_up() -> dict[str, int]:
    """Once a day: sessions that ended, lists that nobody imported, files that nothing carries,
    broadcasters long gone (their rows are of use while what they sent is still looked into)."""
    call_command("clearsessions")
    sweep()
    Attachment.objects.sweep()
    return {"broadcasters": Worker.objects.forget(older_than=timedelta(days=30))}
