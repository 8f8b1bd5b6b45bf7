"""What the scheduler calls; schedules are rows of django-q2, made by config/migrations."""

from __future__ import annotations

from broadcasts.passes import noted
from campaigns.models import Campaign


@noted
def process_campaigns() -> dict[str, int]:
    return Campaign.objects.process()
