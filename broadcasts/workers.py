from __future__ import annotations

import os
import socket
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from django.conf import settings
from django.db import models
from django.db.models import F, Sum
from django.db.models.functions import Now

from broadcasts.retrying import survive_conflicts
from devices.transports.neonize import environment

if TYPE_CHECKING:
    from broadcasts.models import Worker


class WorkerQuerySet(models.QuerySet["Worker"]):
    def alive(self) -> Self:
        """Broadcasters whose heartbeat is not older than a lease, by the database's clock."""
        recent = Now() - timedelta(seconds=settings.LEASE_SECONDS)
        return self.filter(stopped_at__isnull=True, heartbeat_at__gt=recent)

    def capacity(self) -> int:
        """How many devices these may hold together."""
        return int(self.aggregate(total=Sum("capacity", default=0))["total"])

    def have_room(self) -> bool:
        """Whether these may hold more devices than they do."""
        return self.filter(devices__lt=F("capacity")).exists()

    def register(self, worker_id: str, **values: Any) -> Worker:
        return self.create(
            id=worker_id,
            hostname=socket.gethostname(),
            pid=os.getpid(),
            can_pair=not environment.problems(),
            started_at=Now(),
            heartbeat_at=Now(),
            **values,
        )

    @survive_conflicts
    def beat(self, worker_id: str, **values: int) -> datetime:
        """Says that this broadcaster lives, with what it holds and may hold; returns the
        database's time."""
        if not self.filter(pk=worker_id).update(heartbeat_at=Now(), **values):
            # It is new, or was tidied away while the database was unreachable.
            self.register(worker_id, **values)
        now: datetime = self.filter(pk=worker_id).values_list(Now(), flat=True).get()
        return now

    @survive_conflicts
    def retire(self, worker_id: str) -> None:
        self.filter(pk=worker_id).update(stopped_at=Now(), devices=0)

    def forget(self, *, older_than: timedelta) -> int:
        """Deletes the rows of broadcasters that ended long ago; returns how many."""
        return self.filter(heartbeat_at__lt=Now() - older_than).delete()[0]
