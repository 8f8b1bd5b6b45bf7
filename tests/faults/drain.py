"""The end of a run: who was silenced, and everything that waits sent or settled undisturbed."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import NamedTuple

from django.db import connection
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now

from broadcasts.models import BroadcastMessage
from campaigns.models import Campaign
from devices.models import Device
from sequences.models import Sequence, SequenceContact
from tests.faults.fleet import ROOT, Fleet
from tests.faults.world import World

DRAIN_SECONDS = 200
# Whoever died last is started again, and its devices are taken over, within so long.
RECOVERY_SECONDS = 30


def silent_devices(fleet: Fleet) -> list[str]:
    """Lets the fleet recover; returns the devices that stay offline with messages waiting.

    To be asked before the processes are ended: new ones connect every device anew.
    """
    fleet.wake_all()
    connection.close()
    deadline = time.monotonic() + RECOVERY_SECONDS
    while True:
        fleet.keep()
        waiting = BroadcastMessage.objects.leaving().filter(
            device=OuterRef("pk"), status="pending", scheduled_at__lte=Now()
        )
        sending = Q(status="online", lease_expires_at__gt=Now())
        silent = Device.objects.usable().filter(~sending, Exists(waiting))
        found = [f"device {device.pk} is {device.status}" for device in silent]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


class Drained(NamedTuple):
    seconds: float
    left: list[str]  # that it was not done in time, if so


def drain(fleet: Fleet, world: World) -> Drained:
    """Lets everything go on to its end."""
    connection.close()
    world.settle()
    began_at = time.monotonic()
    command = [sys.executable, "manage.py", "runbroadcaster", "--drain"]
    left: list[str] = []
    with (fleet.folder / "drain.log").open("ab") as log:
        broadcaster = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            while True:
                Campaign.objects.process()
                Sequence.objects.process()
                BroadcastMessage.objects.unstick()
                has_ended = broadcaster.poll() is not None
                if broadcaster.returncode:
                    left.append(f"the draining broadcaster ended with {broadcaster.returncode}")
                if has_ended and not SequenceContact.objects.filter(status="active").exists():
                    break
                if time.monotonic() > began_at + DRAIN_SECONDS:
                    left.append(f"not drained after {DRAIN_SECONDS} s")
                    break
                if has_ended:  # it was done before the sequence was
                    broadcaster = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
                time.sleep(0.5)
            Campaign.objects.process()
        finally:
            broadcaster.kill()
            broadcaster.wait()
    return Drained(time.monotonic() - began_at, left)
