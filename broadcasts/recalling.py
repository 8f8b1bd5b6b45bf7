from __future__ import annotations

import math
import time
from collections.abc import Mapping
from datetime import timedelta

from broadcasts.lease import Lease
from broadcasts.outcomes import settle_unknown, unknown_of

ASK_AGAIN_SECONDS = 60.0
ASKED_AT_ONCE = 500
# The one thread that asks also keeps the leases: after so long it goes on with something else.
LONGEST_SECONDS = 1.0


class Recalling:
    """Asks the transports of one broadcaster's devices about messages whose outcome got lost."""

    def __init__(self, worker_id: str) -> None:
        self._worker_id = worker_id
        self._asked_at = -math.inf
        self._to_ask: list[int] = []

    def ask(self, held: Mapping[int, Lease]) -> None:
        """About what got lost just now at every look. About all of a day once in a while, some at
        each look: a transport that cannot tell must not keep the others from being asked."""
        now = time.monotonic()
        if not self._to_ask and now >= self._asked_at + ASK_AGAIN_SECONDS:
            self._asked_at = now
            self._to_ask = unknown_of(self._worker_id, newer_than=timedelta(days=1))
        keys, self._to_ask = self._to_ask[:ASKED_AT_ONCE], self._to_ask[ASKED_AT_ONCE:]
        keys += unknown_of(self._worker_id, newer_than=timedelta(minutes=2))[-ASKED_AT_ONCE:]
        if not keys:
            return
        connected = {pk: lease for pk, lease in held.items() if lease.connected}
        sessions = {pk: lease.session for pk, lease in connected.items()}
        in_flight = [m for lease in connected.values() if (m := lease.in_flight)]
        for n, key in enumerate(keys, 1):
            settle_unknown([key], sessions, in_flight=in_flight)
            if time.monotonic() >= now + LONGEST_SECONDS:
                self._to_ask = list(dict.fromkeys(keys[n:] + self._to_ask))
                return
