"""The audit: what the witness saw against what the queue says."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

from django.db.models.functions import Now

from broadcasts.models import BroadcastMessage, Worker
from campaigns.models import Campaign
from devices.models import Device
from tests.faults.fleet import ROOT, Fleet
from tests.faults.witness import Log, clock, is_refused
from tests.faults.world import World

# A pause counts from hand-over to hand-over. A send that reached the witness late after its own
# hand-over (a commit's answer and a thread's start on a busy host) makes the next one look early:
# so late may it have been, but no later than its broadcaster's lease was safe.
LATE_SECONDS = 0.6 * 3
# The clocks of the database and of the witness are read a little apart.
GAP_TOLERANCE_SECONDS = 0.05


@dataclass
class Check:
    name: str
    offenders: list[str]

    @property
    def row(self) -> dict[str, Any]:
        found = len(self.offenders)
        return {"check": self.name, "offenders": found, "verdict": "BROKEN" if found else "holds"}


@dataclass
class Audit:
    """Everything is read once, when nothing moves any more."""

    log: Log
    world: World
    fleet: Fleet
    facts: dict[str, Any] = field(default_factory=dict)

    def checks(self) -> list[Check]:
        self.lines = self.log.lines()
        self.sends = [line for line in self.lines if line["what"] == "send"]
        self.messages = {m.key: m for m in BroadcastMessage.objects.select_related("campaign")}
        statuses = Counter(m.status for m in self.messages.values())
        self.facts |= {
            "sends": len(self.sends),
            "messages": len(self.messages),
            "by status": ", ".join(f"{count} {name}" for name, count in statuses.most_common()),
            "broadcasters killed": len(killed := self._killed_workers()),
            "devices they held": sum(killed.values()),
        }
        return [
            Check("nobody got a message twice, by its key", list(self._twice("key"))),
            Check("nobody got a campaign or step twice", list(self._twice("about"))),
            Check("every message in one closed state", list(self._open())),
            Check("messages add up to the audience", list(self._audiences())),
            Check("what was sent is sent or unknown", list(self._sent_against_the_record())),
            Check("what is sent was seen", list(self._never_seen())),
            Check("unknown: one a device and kill at most", list(self._unknown())),
            Check("failed: only whom the witness refused", list(self._failed())),
            Check("nothing expired (clocks 10 minutes off)", list(self._in("expired"))),
            Check("no send begun by a replaced session", list(self._after_replacement())),
            Check("no pause under the minimum", list(self._short_pauses())),
            Check("no process died by itself", list(self._died())),
            Check("verify_ledger", list(self._ledger())),
        ]

    def _twice(self, by: str) -> Iterator[str]:
        for send in self.sends:
            send["about"] = f"{send['body'].partition(' ')[0]} to {send['phone']}"
        for what, count in Counter(send[by] for send in self.sends).items():
            if count > 1:
                yield f"{what}: {count} times"

    def _open(self) -> Iterator[str]:
        for message in self.messages.values():
            held = message.campaign and message.campaign.status == "paused"
            if message.status not in message.CLOSED and not (held and message.status == "paused"):
                yield f"{message.key} is {message.status}"
        for campaign in Campaign.objects.filter(status__in=["scheduled", "queuing", "sending"]):
            yield f"{campaign} is {campaign.status}"

    def _audiences(self) -> Iterator[str]:
        rows = Counter(m.campaign_id for m in self.messages.values())
        for campaign in Campaign.objects.filter(fanned_out_at__isnull=False):
            expected = self.world.expected.get(campaign.pk)
            if not rows[campaign.pk] == campaign.audience_size == expected:
                yield (f"{campaign}: {rows[campaign.pk]} messages, audience "
                       f"{campaign.audience_size}, expected {expected}")  # fmt: skip

    def _sent_against_the_record(self) -> Iterator[str]:
        for send in self.sends:
            message = self.messages.get(send["key"])
            if not message:
                yield f"{send['key']} does not exist"
            elif message.recipient_phone != send["phone"]:
                yield f"{send['key']} went to {send['phone']}"
            elif message.status not in ("sent", "unknown"):
                yield f"{send['key']} is {message.status} {message.error_code}"

    def _never_seen(self) -> Iterator[str]:
        seen = {send["key"] for send in self.sends}
        return (m.key for m in self.messages.values() if m.status == "sent" and m.key not in seen)

    def _unknown(self) -> Iterator[str]:
        """Only what a killed process had in flight, which is one message for each device it held.

        Processes that were stopped, or whose database was away, write their outcomes later.
        """
        killed = self._killed_workers()
        slots: Counter[tuple[str, int | None]] = Counter()
        for message in self.messages.values():
            if message.status == "unknown":
                worker = (message.processing_worker_id or "").partition("/")[0]
                slots[worker, message.device_id] += 1
                if worker not in killed or slots[worker, message.device_id] > 1:
                    yield f"{message.key} of {worker}: {message.error_code}"

    def _killed_workers(self) -> dict[str, int]:
        """Returns how many devices each held when it last said so."""
        killed = Worker.objects.filter(pid__in=self.fleet.killed)
        return dict(killed.values_list("pk", "devices"))

    def _failed(self) -> Iterator[str]:
        for message in self.messages.values():
            if message.status == "failed" and not is_refused(message.recipient_phone):
                yield f"{message.key}: {message.error_code} after {message.attempts}"

    def _in(self, status: str) -> Iterable[str]:
        return (m.key for m in self.messages.values() if m.status == status)

    def _after_replacement(self) -> Iterator[str]:
        """A send begins only while its session is the device's newest, by the host's one clock."""
        opens: dict[int, list[tuple[float, str]]] = defaultdict(list)
        for line in self.lines:
            if line["what"] == "open":
                opens[line["device"]].append((line["at"], line["session"]))
        for send in self.sends:
            before = [s for at, s in opens[send["device"]] if at < send["entered_at"]]
            if not before or before[-1] != send["session"]:
                yield f"{send['key']} by device {send['device']}, pid {send['pid']}"

    def _short_pauses(self) -> Iterator[str]:
        """Between the beginnings of two sends: a process stopped in mid-send appends too late."""
        minimum = dict(Device.objects.values_list("pk", "min_delay_seconds"))
        by_device: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for send in sorted(self.sends, key=lambda send: float(send["entered_at"])):
            by_device[send["device"]].append(send)
        smallest: dict[int, float] = {}
        for pk, sends in by_device.items():
            for first, second in pairwise(sends):
                gap, least = second["entered_at"] - first["entered_at"], minimum[pk]
                smallest[least] = min(gap, smallest.get(least, gap))
                if gap + self._late_seconds(first) < least - GAP_TOLERANCE_SECONDS:
                    ends = " and ".join(f"{s['key']} (pid {s['pid']})" for s in (first, second))
                    yield f"device {pk}: {gap:.3f} of {least} s between {ends}"
        for least, gap in sorted(smallest.items()):
            self.facts[f"least pause of {least} s"] = f"{gap:.3f}"

    def _late_seconds(self, send: dict[str, Any]) -> float:
        """How long after its hand-over a send began; 0 where the queue cannot tell."""
        message = self.messages.get(send["key"])
        if not message or not message.queued_at:
            return 0.0
        late: float = send["entered_at"] + self._clock_offset - message.queued_at.timestamp()
        return min(max(late, 0.0), LATE_SECONDS)

    @cached_property
    def _clock_offset(self) -> float:
        """From the host's one clock to the database's."""
        now = Device.objects.values_list(Now(), flat=True).first()
        return now.timestamp() - clock()

    def _died(self) -> Iterator[str]:
        """Who never began, because the database was away just then, was started again later."""
        began = set(Worker.objects.values_list("pid", flat=True))
        self.facts["could not start"] = len(self.fleet.died.keys() - began)
        return (how for pid, how in self.fleet.died.items() if pid in began)

    def _ledger(self) -> Iterator[str]:
        done = subprocess.run(
            [sys.executable, "manage.py", "verify_ledger"],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            yield f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
