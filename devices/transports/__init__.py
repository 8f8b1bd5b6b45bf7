"""How devices reach WhatsApp. Imported by the broadcaster only."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from devices.transports.base import Transport

# Imported when first used: a transport's library may start threads or a foreign runtime.
_MODULES = {"simulator": "devices.transports.simulator"}


def transport(name: str) -> Transport:
    """Returns the transport that devices name in their `transport` field."""
    return cast(Transport, import_module(_MODULES[name]).TRANSPORT)
