"""Checks of the run itself: that it was broken, and by nobody but us."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from tests.faults.clocks import SHIFT_SECONDS
from tests.faults.evidence import Evidence

CLOCK_TOLERANCE_SECONDS = 5  # the process may be stopped between reading two clocks


def died(evidence: Evidence) -> Iterable[str]:
    return evidence.fleet.died.values()


def not_carried_out(evidence: Evidence) -> Iterator[str]:
    """A run in which nothing broke proves nothing."""
    for kind in sorted(evidence.ordered):
        if not evidence.carried_out[kind]:
            yield kind


def right_clocks(evidence: Evidence) -> Iterator[str]:
    """Each process with a wrong clock was seen both ahead of the database and behind it: it began
    as one of them and was moved meanwhile."""
    seen: dict[str, set[int]] = defaultdict(set)
    for line in evidence.lines:
        ahead = line["host"] - line["at"] - evidence.clock_offset
        for shift in (SHIFT_SECONDS, -SHIFT_SECONDS):
            if abs(ahead - shift) < CLOCK_TOLERANCE_SECONDS:
                seen[line["place"]].add(shift)
    for place in evidence.fleet.places:
        for shift in (SHIFT_SECONDS, -SHIFT_SECONDS):
            if place.has_wrong_clock and shift not in seen[place.name]:
                yield f"{place.name} was never {shift:+} s off"
