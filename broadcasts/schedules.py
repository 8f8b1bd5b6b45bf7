"""Whether the scheduler is at work: by what it ended, not by what was due.

django-q2's own rows do not tell: a schedule's next run moves on also where nobody carries out what
was due (a worker that is killed may take a lock of the others with it), and a task's end is by the
clock of its host.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import OuterRef, Subquery
from django.db.models.functions import Coalesce, Now
from django.utils import timezone
from django_q.models import Schedule

from broadcasts.models import Pass

# django-q2 looks at its schedules every 30 s, and a pass may take a minute.
LATE_AFTER = timedelta(minutes=3)
# What moves messages along: the scheduler runs where each of these that is switched on does.
PASSES = (
    "campaigns.tasks.process_campaigns",
    "sequences.tasks.process_sequences",
    "broadcasts.tasks.unstick_messages",
    "broadcasts.tasks.expire_messages",
)


@dataclass(frozen=True)
class Scheduler:
    """The schedules that are switched on, how many of them move messages along every few minutes,
    how many of those ended no pass when it was time, and when one last did."""

    schedules: int
    moving: int
    late: int
    ended_at: datetime | None

    @property
    def runs(self) -> bool:
        return self.schedules > 0 and not self.late

    @property
    def stands_still(self) -> bool:
        return 0 < self.moving == self.late


def scheduler() -> Scheduler:
    """Returns whether somebody runs the schedules, by the database's clock. One statement."""
    passes = Pass.objects.filter(task=OuterRef("func")).values("ended_at")
    # Without repeats left a schedule is switched off. One that never ran is due from its first.
    on = Schedule.objects.exclude(repeats=0).annotate(
        passed_at=Subquery(passes),
        late_at=Coalesce("passed_at", "next_run"),
        now=Now(),
    )
    rows = list(on.values_list("func", "schedule_type", "minutes", "passed_at", "late_at", "now"))
    late = [
        since < now - LATE_AFTER - timedelta(minutes=(minutes or 1) - 1)
        for func, kind, minutes, _, since, now in rows
        if func in PASSES and kind == Schedule.MINUTES
    ]
    ended_at = max((passed_at for *_, passed_at, _, _ in rows if passed_at), default=None)
    return Scheduler(len(rows), len(late), sum(late), ended_at)


def make_due() -> None:
    """Makes the passes due now, by this host's clock, which its cluster goes by. A host whose clock
    was ahead has put them off, for as long as it was."""
    now = timezone.now()
    Schedule.objects.exclude(repeats=0).filter(func__in=PASSES, next_run__gt=now).update(
        next_run=now
    )
