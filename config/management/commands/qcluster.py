from __future__ import annotations

import signal
from types import FrameType

from django.core.management.base import BaseCommand

from config.scheduler import END_SECONDS, Scheduler


class Command(BaseCommand):
    help = (
        "Runs the scheduler until SIGTERM or Ctrl-C: django-q2's cluster, started afresh when one "
        "of its processes is killed or no task ends any more. Told to end, it gives a task that "
        f"runs {END_SECONDS:.0f} s. Start it as often as you like."
    )

    def handle(self, **options: object) -> None:
        scheduler = Scheduler()

        def stop(signum: int, frame: FrameType | None) -> None:
            scheduler.stop()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        scheduler.run()
