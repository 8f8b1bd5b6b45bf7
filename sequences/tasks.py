"""What the scheduler calls; schedules are rows of django-q2, made by config/migrations."""

from __future__ import annotations

from broadcasts.passes import noted
from sequences.models import Sequence


@noted
def process_sequences() -> dict[str, int]:
    return Sequence.objects.process()
