"""Which devices a broadcaster may open, and how many of them are its fair share."""

from __future__ import annotations

import math
import socket
from collections.abc import Mapping, Set
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from django.db.models import Count

from broadcasts.calls import Call
from broadcasts.models import Worker
from devices.models import Device
from devices.transports import sessions_here


class Kind(Enum):
    """Who may open a device."""

    BOUND = "the broadcasters of the host that has its session"
    FREE = "any broadcaster"


@dataclass(frozen=True, slots=True)
class Reach:
    """The usable devices, as they are seen from this host."""

    here: Mapping[str, Set[str]]  # by transport whose sessions are bound to hosts: this one's
    anywhere: int  # how many may be opened from any host,
    bound: int  # from one host, whichever,
    bound_here: int  # and from this one

    NEEDS: ClassVar = ("transport", "session")  # of a device, to tell

    @classmethod
    def now(cls) -> Reach:
        """Looks. Raises OSError where a transport could not look at what it keeps."""
        usable = Device.objects.usable()
        counts = dict(usable.order_by().values_list("transport").annotate(Count("pk")))
        here = {name: found for name in counts if (found := sessions_here(name)) is not None}
        bound = sum(counts[name] for name in here)
        bound_here = 0
        if any(here.values()):
            devices = usable.filter(transport__in=here).order_by()
            named = devices.values_list(*cls.NEEDS)
            bound_here = sum(session in here[name] for name, session in named)
        return cls(here, sum(counts.values()) - bound, bound, bound_here)

    def kind(self, device: Device | Call) -> Kind:
        return Kind.BOUND if device.transport in self.here else Kind.FREE

    def has(self, device: Device | Call) -> bool:
        """Whether it can be opened from this host."""
        return device.transport not in self.here or device.session in self.here[device.transport]

    def shares(self, capacity: int) -> dict[Kind, int]:
        """Returns how many of each kind a broadcaster of this capacity is to hold.

        By capacity: shared alike, what a small one cannot hold would be left to nobody. Those that
        are bound to this host come first, since nobody else can hold them.
        """
        alive = Worker.objects.alive()
        total = max(alive.capacity(), capacity)
        bound = 0.0
        if self.bound_here:
            beside = alive.filter(hostname=socket.gethostname()).capacity()
            bound = self.bound_here * capacity / max(beside, capacity)
        room, all_room = max(capacity - bound, 0.0), total - self.bound
        # Where the bound ones alone are more than all may hold, the others get their part as well.
        part = room / max(all_room, room) if all_room > 0 else capacity / total
        anywhere = self.anywhere * part
        fits = min(capacity / max(bound + anywhere, 1.0), 1.0)
        shares = {Kind.BOUND: min(math.ceil(bound * fits), capacity)}
        shares[Kind.FREE] = min(math.ceil(anywhere * fits), capacity - shares[Kind.BOUND])
        return shares
