"""Checks of the moments at which sends began, by the host's one clock."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

from devices.models import Device
from tests.faults.evidence import Evidence
from tests.faults.fleet import LEASE_SECONDS
from tests.faults.world import names_of

# From the broadcaster's last look at its clock to the witness's: a thread's turn on a busy host.
GAP_TOLERANCE_SECONDS = 0.05
# What was claimed before the deed is still sent. A process does so only while its leases are fresh
# (0.6 of their length), and it renewed them before it claimed; the rest is for a busy host.
MARGIN_SECONDS = 0.6 * LEASE_SECONDS + 0.7


def after_replacement(evidence: Evidence) -> Iterator[str]:
    """A send begins only while its session is the device's newest.

    Only a process that was stopped after its own last look may be later: no look is the very last
    thing before a send, and so close to it another thread may carry out an order to stop.
    """
    opens: dict[int, list[tuple[float, str]]] = defaultdict(list)
    for line in evidence.of("open"):
        opens[line["device"]].append((line["at"], line["session"]))
    for entry in evidence.entries:
        asked_at, until = entry["asked_at"], entry["entered_at"]
        if evidence.fleet.was_disturbed(entry["pid"], asked_at, until):
            until = asked_at
        before = [each for each in opens[entry["device"]] if each[0] < until]
        if not before or max(before)[1] != entry["session"]:
            yield f"{entry['key']} by device {entry['device']}, pid {entry['pid']}"


def after_a_deed(evidence: Evidence) -> Iterator[str]:
    """Nothing of a campaign or sequence that was paused or cancelled, nothing to people who opted
    out, nothing from devices that were switched off. Only a process that was stopped after its own
    last check may be later."""
    holds = _holds(evidence)
    for entry in evidence.entries:
        message, at = evidence.starts.get(entry["key"]), entry["entered_at"]
        # By the device that was asked: a message that is tried again may be another's by now.
        names = {f"device {entry['device']}"} | (names_of(message) if message else set())
        for name in sorted(names):
            for since, until in holds[name]:
                if since + MARGIN_SECONDS < at < until and not evidence.fleet.was_disturbed(
                    entry["pid"], since, at
                ):
                    yield f"{entry['key']} of {name}, {at - since:.1f} s later"


def _holds(evidence: Evidence) -> dict[str, list[tuple[float, float]]]:
    """Returns from when until when nothing of each campaign, sequence or phone might be sent."""
    deeds = defaultdict(list)
    for deed in evidence.world.deeds:
        deeds[deed.about].append(deed)
    holds: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for about, done in deeds.items():
        for deed in done:
            # Released from when that was begun, whether the driver ever heard that it was done.
            ends = [d.began_at for d in done if not d.holds and d.began_at >= deed.began_at]
            if deed.holds:
                holds[about].append((deed.done_at, min(ends, default=math.inf)))
    return holds


def short_pauses(evidence: Evidence) -> Iterator[str]:
    """Between the beginnings of two sends of a device. Excused is only the end of a process, or of
    its being stopped: one that was stopped before its send began it late, and when it was killed,
    nobody knows."""
    minimum = dict(Device.objects.values_list("pk", "min_delay_seconds"))
    smallest: dict[int, float] = {}
    excused = 0
    for first, second in evidence.neighbours():
        gap, least = second["entered_at"] - first["entered_at"], minimum[first["device"]]
        around = first["entered_at"] - LEASE_SECONDS, second["entered_at"]
        if any(evidence.fleet.was_disturbed(send["pid"], *around) for send in (first, second)):
            excused += gap < least - GAP_TOLERANCE_SECONDS
            continue
        smallest[least] = min(gap, smallest.get(least, gap))
        if gap < least - GAP_TOLERANCE_SECONDS:
            ends = " and ".join(f"{s['key']} (pid {s['pid']})" for s in (first, second))
            yield f"device {first['device']}: {gap:.3f} of {least} s between {ends}"
    for least, gap in sorted(smallest.items()):
        evidence.facts[f"least pause of {least} s"] = f"{gap:.3f}"
    evidence.facts["shorter, but excused"] = excused
