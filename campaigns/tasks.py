"""What the scheduler calls; schedules are rows of django-q2, made by config/migrations."""

from __future__ import annotations

from django_q.tasks import async_task

from campaigns.models import Campaign


def process_campaigns() -> dict[str, int]:
    return Campaign.objects.process()


def process_soon() -> None:
    """Asks the scheduler for a pass now: somebody pressed Send and is looking on."""
    async_task("campaigns.tasks.process_campaigns")
