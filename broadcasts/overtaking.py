"""Deadlines of those who are overtaken: what is queued later but goes before takes time that a
message was not expected to wait for, and nobody is late for having let others go first."""

from __future__ import annotations

import itertools
import logging
import time
from collections import defaultdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import Case, F, Value, When
from django.db.models.functions import Now
from django.utils import timezone

from broadcasts import pacing
from broadcasts.acquaintance import WAITING
from broadcasts.pacing import Brake, Pace
from broadcasts.retrying import survive_conflicts
from broadcasts.timeline import Group, Line, waiting
from devices.models import Device

if TYPE_CHECKING:
    from broadcasts.queryset import BroadcastMessageQuerySet

logger = logging.getLogger(__name__)

CHUNK = 500
DEVICES = 20
# A scheduler task is to be short: there may be a million of them.
BUDGET_SECONDS = 20.0


def put_off(behind: BroadcastMessageQuerySet, ahead: BroadcastMessageQuerySet) -> int:
    """Gives to those who wait `behind` as much time as their devices take for those `ahead`.

    Returns how many deadlines it put off. Done twice it gives too much, which does no harm; not
    done to the end it is said in the log, and who expires for that can be rescheduled.
    """
    stop_at = time.monotonic() + BUDGET_SECONDS
    behind = behind.filter(status__in=WAITING, expires_at__gt=Now()).order_by()
    if not behind.exists():
        return 0
    groups = waiting(ahead.exclude(device=None))
    delays: dict[int, tuple[Pace, timedelta]] = {}
    for device in Device.objects.filter(pk__in=groups):
        if pace := Pace.if_known(device):
            delays[device.pk] = pace, _time_for(groups[device.pk], device, pace)

    # By device: many of one share a deadline. A few at a time, whatever index a database takes: on
    # SQLite each of these statements looks at all that wait.
    of_each = behind.order_by("device_id").values_list("pk", flat=True)
    some = (list(delays)[start : start + DEVICES] for start in range(0, len(delays), DEVICES))
    ids = itertools.chain.from_iterable(of_each.filter(device__in=each) for each in some)
    count = 0
    while chunk := list(itertools.islice(ids, CHUNK)):
        if time.monotonic() >= stop_at:
            logger.warning("Deadlines of %d messages are put off, and no more in this time", count)
            break
        count += _put_off(behind.filter(pk__in=chunk), delays)
    return count


def _time_for(groups: list[Group], device: Device, pace: Pace) -> timedelta:
    """Returns for how long the device sends nothing else than these, its nights apart."""
    now = timezone.now()
    line = Line.of(device, now, pace)
    for group in groups:
        line.play(group)
    free_at = max(line.all.slot.next_send_at or now, now)
    return free_at - now - line.all.held(free_at)[Brake.SENDING_HOURS]


@survive_conflicts
@transaction.atomic
def _put_off(behind: BroadcastMessageQuerySet, delays: dict[int, tuple[Pace, timedelta]]) -> int:
    # Locked, so that what a pause gives them at the same time is not lost.
    rows = behind.select_for_update().order_by("pk").values_list("pk", "device_id", "expires_at")
    alike: dict[datetime, list[int]] = defaultdict(list)
    for pk, device_id, expires_at in rows:
        pace, delay = delays[device_id or 0]
        if expires_at:
            alike[pacing.deadline(pace, expires_at, delay)].append(pk)
    later = Case(
        *(When(pk__in=ids, then=Value(at)) for at, ids in alike.items()), default=F("expires_at")
    )
    return behind.update(expires_at=later)
