"""What the scheduler calls; schedules are rows of django-q2, made by config/migrations."""

from __future__ import annotations

from sequences.models import Sequence


def process_sequences() -> dict[str, int]:
    return Sequence.objects.process()
