"""The audit: what the witness saw against what the queue says, promise by promise.

Each check yields its offenders. tests/faults/test_audit.py breaks every one of them once.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.core.management import call_command

from broadcasts.models import BroadcastMessage
from campaigns.models import Campaign
from sequences.models import SequenceContact
from tests.faults import moments, processes, receipts
from tests.faults.evidence import Evidence
from tests.faults.witness import NO_ANSWER

# A process that is killed between hand-over and send leaves a message handed over that it never
# began to send. It cannot have had it for longer: the longest that an answer is held is 4.5 s, and
# once its leases are not fresh any more (1.8 s) it writes down itself that nothing left.
HANDED_OVER_SECONDS = 10.0


@dataclass
class Check:
    name: str
    offenders: list[str]

    @property
    def row(self) -> dict[str, Any]:
        found = len(self.offenders)
        return {"check": self.name, "offenders": found, "verdict": "BROKEN" if found else "holds"}


def audit(evidence: Evidence) -> list[Check]:
    return [Check(name, list(check(evidence))) for name, check in CHECKS.items()]


def _twice(by: Callable[[dict[str, Any]], str], evidence: Evidence) -> Iterator[str]:
    for what, count in Counter(map(by, evidence.sends)).items():
        if count > 1:
            yield f"{what}: {count} times"


def _about(send: dict[str, Any]) -> str:
    return f"{send['body'].partition(' ')[0]} to {send['phone']}"


def _open(evidence: Evidence) -> Iterator[str]:
    yield from evidence.undrained
    for message in evidence.messages.values():
        held = message.campaign and message.campaign.status == "paused"
        if message.status not in message.CLOSED and not (held and message.status == "paused"):
            yield f"{message.key} is {message.status}"
    for campaign in Campaign.objects.filter(status__in=["scheduled", "queuing", "sending"]):
        yield f"{campaign} is {campaign.status}"
    for contact in SequenceContact.objects.filter(status="active").select_related("lead"):
        yield f"{contact} is still active"


def _audiences(evidence: Evidence) -> Iterator[str]:
    """Of all that began, cancelled or not, but for what is paused before its audience is listed."""
    rows = Counter(m.campaign_id for m in evidence.messages.values())
    began = Campaign.objects.filter(audience_max_lead_id__isnull=False)
    for campaign in began.exclude(status="paused", fanned_out_at=None):
        expected = evidence.world.expected.get(campaign.pk)
        if not rows[campaign.pk] == campaign.audience_size == expected:
            yield (f"{campaign}: {rows[campaign.pk]} messages, audience "
                   f"{campaign.audience_size}, expected {expected}")  # fmt: skip
        elif not campaign.fanned_out_at:
            yield f"{campaign}: nobody knows that all are listed"


def _sent_against_the_record(evidence: Evidence) -> Iterator[str]:
    for send in evidence.sends:
        message = evidence.messages.get(send["key"])
        if not message:  # of an earlier start nothing may have left, or nobody might begin another
            yield f"{send['key']} does not exist, or is of an earlier start"
        elif message.recipient_phone != send["phone"]:
            yield f"{send['key']} went to {send['phone']}"
        elif message.status not in ("sent", "unknown"):
            yield f"{send['key']} is {message.status} {message.error_code}"


def _never_seen(evidence: Evidence) -> Iterator[str]:
    seen = {send["key"] for send in evidence.sends}
    for message in evidence.messages.values():
        if message.status == "sent" and message.key not in seen:
            yield message.key


def _unknown(evidence: Evidence) -> Iterator[str]:
    """Only what the witness itself could not tell that very process; and what a killed process had
    in flight: of each device it held the one message whose send it began last, or had handed over
    and not come to.

    Processes that were stopped, or whose database was away, write their outcomes later.
    """
    entered = {(entry["key"], entry["pid"]) for entry in evidence.entries}
    unsure = {(line["key"], line["pid"]) for line in evidence.of("unsure")}
    count = Counter({"begun": 0, "not begun": 0, "by the witness's word": 0})
    devices: Counter[tuple[str, int | None]] = Counter()
    for message in evidence.messages.values():
        if message.status != "unknown":
            continue
        name = (message.processing_worker_id or "").partition("/")[0]
        pid = evidence.pids.get(name, 0)
        if message.error_code == NO_ANSWER and (message.key, pid) in unsure:
            count["by the witness's word"] += 1
            continue
        devices[name, message.device_id] += 1
        if (message.key, pid) in entered:
            count["begun"] += 1
            last = evidence.last_entries[pid, message.device_id or 0]
            was_in_flight = last["key"] == message.key
        else:
            count["not begun"] += 1
            was_in_flight = _was_handed_over(evidence, message, pid)
        if not evidence.fleet.was_cut_off(pid) or devices[name, message.device_id] > 1:
            was_in_flight = False
        if not was_in_flight:
            yield f"{message.key} of {name}: {message.error_code}"
    evidence.facts["unknown"] = ", ".join(f"{n} {what}" for what, n in count.items())


def _was_handed_over(evidence: Evidence, message: BroadcastMessage, pid: int) -> bool:
    """Whether it was handed over just before that process was killed (or stopped, then killed), or
    before its database was away until it was, or until it was told to end."""
    fleet = evidence.fleet
    if not fleet.was_cut_off(pid) or not message.queued_at:
        return False
    until = fleet.last_active_at(pid)
    if fleet.was_node_away(until):
        # It may have been its node. Whoever has a database goes on to the next send.
        sends = (entry["at"] for entry in evidence.entries if entry["pid"] == pid)
        until = min(until, max(sends, default=until))
    handed_over_at = message.queued_at.timestamp() - evidence.clock_offset
    return handed_over_at > until - HANDED_OVER_SECONDS


def _failed(evidence: Evidence) -> Iterator[str]:
    """Refused in its last start: a retry has a key of its own."""
    refused = {refusal["key"] for refusal in evidence.of("refusal")}
    for message in evidence.messages.values():
        if message.status == "failed" and message.key not in refused:
            yield f"{message.key}: {message.error_code} after {message.attempts}"


def _expired(evidence: Evidence) -> Iterable[str]:
    return (m.key for m in evidence.messages.values() if m.status == "expired")


def _ledger(evidence: Evidence) -> Iterator[str]:
    said = io.StringIO()
    try:
        call_command("verify_ledger", again_after=0, stdout=said)
    except SystemExit as end:
        yield f"exit code {end.code}\n{said.getvalue()}"


CHECKS: dict[str, Callable[[Evidence], Iterable[str]]] = {
    "nobody got a message twice, by its key": partial(_twice, lambda send: str(send["key"])),
    "nobody got a campaign or step twice": partial(_twice, _about),
    "every message in one closed state, in time": _open,
    "messages add up to the audience": _audiences,
    "what was sent is sent or unknown": _sent_against_the_record,
    "what is sent was seen": _never_seen,
    "unknown: by the witness, or in flight at a kill": _unknown,
    "failed: only what the witness refused": _failed,
    "what has a receipt was sent": receipts.of_nothing_sent,
    "most receipts of who lived are written": receipts.lost,
    "nothing expired (clocks 10 minutes off)": _expired,
    "no send begun by a replaced session": moments.after_replacement,
    "no send begun after a pause, cancel, opt-out or switch-off": moments.after_a_deed,
    "no pause under the minimum": moments.short_pauses,
    "no device silenced": lambda evidence: evidence.silent,
    "no process ended but by us": processes.died,
    "every kind of fault was carried out": processes.not_carried_out,
    "wrong clocks were wrong": processes.right_clocks,
    "verify_ledger": _ledger,
}
