from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator


class Agenda:
    """When each device is to be asked for its next message, by the caller's clock in seconds.

    A device stands in it once; a broadcaster of thousands looks at the first, not at all.
    """

    def __init__(self) -> None:
        self._at: dict[int, float] = {}
        # Entries that were moved or taken off stay behind, and are passed over when they come up.
        self._heap: list[tuple[float, int]] = []

    def __contains__(self, pk: int) -> bool:
        return pk in self._at

    def put(self, pk: int, at: float) -> None:
        """Puts the device down for `at`, wherever it stood."""
        if self._at.get(pk) != at:
            self._at[pk] = at
            heapq.heappush(self._heap, (at, pk))

    def drop(self, pks: Iterable[int]) -> None:
        for pk in pks:
            self._at.pop(pk, None)

    def next_at(self) -> float:
        """When the next is due; infinity where none is."""
        while self._heap:
            at, pk = self._heap[0]
            if self._at.get(pk) == at:
                return at
            heapq.heappop(self._heap)
        return math.inf

    def due(self, now: float, *, limit: int) -> Iterator[int]:
        """Takes off, and yields, those that are due, the longest waiting first."""
        for _ in range(limit):
            if self.next_at() > now:
                return
            _, pk = heapq.heappop(self._heap)
            del self._at[pk]
            yield pk
