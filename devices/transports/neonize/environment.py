"""What a process needs before it may load neonize."""

from __future__ import annotations

import ctypes.util
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from django.utils.translation import gettext as _

# Go reads the environment that its process began with: what Python sets later it does not see.
ENVIRONMENT = {
    # Else each message is marked as written by an artificial intelligence.
    "NEONIZE_BOT_TAG": "off",
}
BEGAN_WITH = Path("/proc/self/environ")


def missing() -> list[str]:
    """Returns what has to be installed, in words for whoever does that."""
    if not find_spec("neonize"):
        return [_("neonize is not installed: scripts/prepare whatsapp.")]
    if not ctypes.util.find_library("magic"):
        return [_("libmagic is not installed, which neonize loads: the Debian package libmagic1.")]
    return []


def is_set() -> bool:
    """Whether this process began with ENVIRONMENT. Where the host does not say, it did not."""
    try:
        began_with = BEGAN_WITH.read_bytes().split(b"\0")
    except OSError:
        return False
    return all(f"{name}={value}".encode() in began_with for name, value in ENVIRONMENT.items())


@cache
def problems() -> list[str]:
    """Returns why this process cannot open a session, if it cannot."""
    if found := missing():
        return found
    if not is_set():
        needed = " ".join(f"{name}={value}" for name, value in ENVIRONMENT.items())
        return [_("This process was not started with %s; runbroadcaster does that.") % needed]
    return []
