"""What a run leaves behind: the witness's lines, the queue's rows, and what was done to whom."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

from django.db.models.functions import Now
from django_q.models import Success

from broadcasts.models import BroadcastMessage, Worker
from devices.models import Device
from tests.faults.fleet import Fleet
from tests.faults.trips import clock
from tests.faults.world import World

Line = dict[str, Any]


@dataclass
class Evidence:
    """Everything is read once, when nothing moves any more. All times are by clock()."""

    lines: list[Line]
    world: World
    fleet: Fleet
    ordered: Collection[str]  # the kinds of faults that this run had to bring about
    carried_out: Counter[str]
    silent: list[str] = field(default_factory=list)
    undrained: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # By the key of their last start, and by those of all.
        self.messages = {m.key: m for m in BroadcastMessage.objects.select_related("campaign")}
        self.starts = {key: m for m in self.messages.values() for key in m.keys}
        self.sends = self.of("send")
        self.entries = self.of("entry")
        self.pids = dict(Worker.objects.values_list("pk", "pid"))  # by the name in a claim
        statuses = Counter(m.status for m in self.messages.values())
        chunks = self.of("chunk")
        self.facts |= {
            "campaigns": len(self.world.expected),
            "chunks": f"{len(chunks)}, {sum(not c['won'] for c in chunks)} lost to another",
            "tasks of qcluster": Success.objects.count(),
            "messages": len(self.messages),
            "by status": ", ".join(f"{count} {name}" for name, count in statuses.most_common()),
            "sends": len(self.sends),
            "sent when tried again": sum(
                send["key"] != self.starts[send["key"]].keys[0]
                for send in self.sends
                if send["key"] in self.starts
            ),
            "killed": f"{len(self.fleet.killed)} processes",
            "stopped": f"{len(self.fleet.stops)} processes",
        }

    def of(self, what: str) -> list[Line]:
        return [line for line in self.lines if line["what"] == what]

    @cached_property
    def clock_offset(self) -> float:
        """From the host's one clock to the database's."""
        now = Device.objects.values_list(Now(), flat=True).first()
        assert now
        return now.timestamp() - clock()

    @cached_property
    def last_entries(self) -> dict[tuple[int, int], Line]:
        """The last send that each process (pid) began for each device."""
        return {(entry["pid"], entry["device"]): entry for entry in self.entries}

    def neighbours(self) -> Iterator[tuple[Line, Line]]:
        """Yields each two sends of a device that began one after the other."""
        by_device: dict[int, list[Line]] = defaultdict(list)
        # By their beginnings: a process that was stopped in mid-send appends late.
        for send in sorted(self.sends, key=lambda send: float(send["entered_at"])):
            by_device[send["device"]].append(send)
        for sends in by_device.values():
            yield from pairwise(sends)
