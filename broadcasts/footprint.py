"""How much of its host a broadcaster holds. Who holds too much gives back and begins anew.

A transport's library may leak; neonize does, 1.4 files and 0.2 MB for each connection it begins.
"""

from __future__ import annotations

import logging
import os
import resource
import time
from pathlib import Path

from django.conf import settings

logger = logging.getLogger(__name__)

PROCESS = Path("/proc/self")
SHARE_OF_FILES = 0.6  # of those that the system allows: beyond them, nothing can be opened at all


def allow_files() -> None:
    """Takes as many open files as the system allows: 200 linked devices come near the usual 1,024,
    and not everything here says so when it has none left."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Footprint:
    """What this process holds, looked at every now and then."""

    def __init__(self) -> None:
        # Where the limits are too low for the devices, it must not begin anew all the time.
        self._look_at = time.monotonic() + settings.RECYCLE_AFTER.total_seconds()

    def is_too_large(self) -> bool:
        if time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + settings.HEARTBEAT_SECONDS
        try:
            files, megabytes = _open_files(), _megabytes()
        except OSError:
            return False  # only Linux tells
        allowed = SHARE_OF_FILES * resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        most = min(settings.RECYCLE_FILES, allowed)
        if files <= most and megabytes <= settings.RECYCLE_MEGABYTES:
            return False
        logger.warning("This process holds %d files and %d MB: it begins anew", files, megabytes)
        return True


def _open_files() -> int:
    return len(os.listdir(PROCESS / "fd"))


def _megabytes() -> int:
    status = (PROCESS / "status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(resident.split()[1]) // 1024
