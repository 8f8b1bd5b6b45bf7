"""Real WhatsApp, through an account that is linked to a phone, as WhatsApp's own desktop app is.

The library behind it, neonize, is written in Go and imported by client.py alone, when a broadcaster
opens the first such device. A process that has it must never fork, and may be ended by it: that is
why broadcasters start each process afresh.

- session.py   one device: what the contract of docs/transports.md asks for
- client.py    one connection's life in the library, and who may call into it when
- uploads.py   the files that its messages carry, each uploaded once
- answers.py   what the library's error texts mean for a message
- events.py    what its events mean for a device
- store.py     the session files; reader.py looks into them, from a process of its own
- environment.py  what the process has to begin with, and what has to be installed
"""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from devices.models import Device
    from devices.transports.base import Report, Session


class NeonizeTransport:
    def open(self, device: Device, report: Report) -> Session:
        from devices.transports.neonize.environment import problems
        from devices.transports.neonize.session import NeonizeSession
        from devices.transports.neonize.store import Store

        if found := problems():
            raise RuntimeError(" ".join(found))
        store = Store(device.session, device.pk)
        store.protect()
        return NeonizeSession(store, report)

    def sessions_here(self) -> Set[str]:
        from devices.transports.neonize.store import stored

        return stored()
