"""The audit must be able to say no: each of its checks is broken once, and must be red."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.db.models import F

from broadcasts.models import BroadcastMessage, Worker
from campaigns.models import Campaign
from devices.models import Device
from sequences.models import SequenceContact
from tests.factories import (
    BroadcastMessageFactory,
    CampaignFactory,
    DeviceFactory,
    LeadFactory,
    SequenceContactFactory,
)
from tests.faults.audit import CHECKS, audit
from tests.faults.clocks import SHIFT_SECONDS
from tests.faults.evidence import Evidence
from tests.faults.fleet import Fleet, Place, Stop
from tests.faults.moments import MARGIN_SECONDS
from tests.faults.trips import clock
from tests.faults.witness import NO_ANSWER
from tests.faults.world import Deed, World

pytestmark = pytest.mark.django_db

SENDER, VICTIM = 100, 200  # pids: one that lives, one that we killed in mid-send
WRONG = Place("scheduler-1", [], {}, sends=False, has_wrong_clock=True)


class Run:
    """The record of a run in which everything went well, to be forged."""

    def __init__(self, folder: Path) -> None:
        self.began_at = clock() - 100
        self.lines: list[dict[str, Any]] = []
        self.device, self.other = DeviceFactory.create_batch(
            2, transport="witness", min_delay_seconds=1
        )
        self.campaign = CampaignFactory(sending=True, audience_size=7, audience_max_lead_id=0)
        Campaign.objects.update(status="finished", finished_at=F("started_at"))
        self.world = World(2, 7, random.Random(0), expected={self.campaign.pk: 7})
        self.fleet = Fleet(folder, random.Random(0))
        self.fleet.places.append(WRONG)
        self.carried_out = Counter({"kill a worker": 1})
        self.silent: list[str] = []
        self.undrained: list[str] = []
        self._play()

    def _play(self) -> None:
        now = datetime.now(UTC)
        for name, pid in (("host.100.a", SENDER), ("host.200.b", VICTIM)):
            Worker.objects.create(
                pk=name, pid=pid, hostname="host", started_at=now, heartbeat_at=now
            )
        self.note("pass", 0, 0, place=WRONG.name, shift=SHIFT_SECONDS)
        self.note("pass", 1, 0, place=WRONG.name, shift=-SHIFT_SECONDS)
        self.note("open", -1, SENDER, session="older")
        self.first = self.message("sent", 0.0, "host.100.a")
        self.second = self.message("sent", 1.1, "host.100.a")
        self.refused = self.message("failed", 2.2, "host.100.a", "60128888877", error_code="no")
        self.skipped = self.message("skipped", None, None, skip_reason="opted_out")
        self.note("open", 2.3, VICTIM, session="newer")
        # Begun, and sent, when its process was killed.
        self.begun = self.message("unknown", 3.3, "host.200.b", error_code="interrupted")
        self.fleet.killed[VICTIM] = self.began_at + 3.4
        # Handed over then, and never begun.
        self.handed = self.message(
            "unknown", None, "host.200.b", device=self.other, error_code="interrupted",
            queued_at=self.moment(3.3),
        )  # fmt: skip
        # Sent, but the witness said that it could not tell.
        self.unsure = self.message(
            "unknown", None, "host.100.a", device=self.other, error_code=NO_ANSWER
        )
        self.note("open", -1, SENDER, session="older", device=self.other.pk)
        self.send(self.unsure, 0.5, device=self.other.pk)
        self.note("unsure", 0.7, SENDER, key=self.unsure.key)
        self.contact = SequenceContactFactory(status="completed", next_step=None, finished_at=now)

    def message(
        self, status: str, began: float | None, worker: str | None, phone: str = "", **values: Any
    ) -> BroadcastMessage:
        """Records a message, and has the witness see its send if it began."""
        if worker:
            claimed_at = self.moment(3.2 if began is None else began - 0.1)
            values = {
                "processing_worker_id": f"{worker}/1", "processing_started_at": claimed_at,
                "queued_at": claimed_at, "attempts": 1, "lease_epoch": 1,
            } | values  # fmt: skip
        finished_at = self.moment((began or 4) + 0.2)
        if status == "sent":
            values |= {"sent_at": finished_at, "delivered_at": finished_at}
            values |= {"provider_message_id": f"W{began}"}
        lead = LeadFactory(**({"phone": phone} if phone else {}))
        values = {"device": self.device, "finished_at": finished_at} | values
        if status == "skipped":
            values["device"] = None
        made: BroadcastMessage = BroadcastMessageFactory(
            campaign=self.campaign, lead=lead, recipient_phone=lead.phone, status=status, **values
        )
        Campaign.objects.update(audience_max_lead_id=lead.pk)
        if began is not None:
            pid = VICTIM if worker == "host.200.b" else SENDER
            self.send(made, began, pid, is_sent=status != "failed")
        return made

    def send(
        self, message: BroadcastMessage, began: float, pid: int = SENDER, *, is_sent: bool = True,
        **changes: Any,
    ) -> None:  # fmt: skip
        facts: dict[str, Any] = {
            "key": message.key, "entered_at": self.began_at + began,
            "asked_at": self.began_at + began - 0.001,
            "session": "newer" if pid == VICTIM else "older",
        } | changes  # fmt: skip
        self.note("entry", began, pid, **facts)
        if message.status == "failed":
            self.note("refusal", began + 0.06, pid, key=message.key)
        if is_sent:
            name = f"W{began}"
            facts = {"phone": message.recipient_phone, "body": "campaign-1 Hi", "id": name} | facts
            self.note("send", began + 0.06, pid, **facts)
        if message.status == "sent":
            told = {"key": message.key, "id": f"W{began}", "kind": "delivered"}
            self.note("receipt", began + 0.15, pid, **told)

    def note(
        self, what: str, after: float, pid: int, *, shift: float = 0, place: str = "x", **facts: Any
    ) -> None:
        at = self.began_at + after
        host = at + time.time() - clock() + shift
        line = {"what": what, "at": at, "host": host, "pid": pid, "place": place}
        self.lines.append(line | {"device": self.device.pk} | facts)

    def moment(self, after: float) -> datetime:
        """That time, by the database's clock."""
        return datetime.fromtimestamp(time.time() - clock() + self.began_at + after, tz=UTC)

    def forget(self, what: str, key: str) -> None:
        self.lines = [
            line for line in self.lines if not (line["what"] == what and line.get("key") == key)
        ]

    def change(self, message: BroadcastMessage, **values: Any) -> None:
        BroadcastMessage.objects.filter(pk=message.pk).update(**values)

    def do(self, about: str, *, holds: bool = True, after: float) -> None:
        at = self.began_at + after
        self.world.deeds.append(Deed(about, holds, at, at))

    @property
    def broken(self) -> set[str]:
        evidence = Evidence(
            self.lines, self.world, self.fleet, {"kill a worker"}, self.carried_out,
            silent=self.silent, undrained=self.undrained,
        )  # fmt: skip
        return {check.name for check in audit(evidence) if check.offenders}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_a_run_in_which_all_went_well_passes(run: Run) -> None:
    assert run.broken == set()


BROKEN: list[tuple[str, Callable[[Run], Any]]] = [
    ("nobody got a message twice, by its key", lambda run: run.send(run.first, 20)),
    (
        "nobody got a campaign or step twice",
        lambda run: run.send(run.second, 20, phone=run.first.recipient_phone),
    ),
    (
        "every message in one closed state, in time",
        lambda run: run.change(run.skipped, status="pending"),
    ),
    (
        "every message in one closed state, in time",
        lambda run: SequenceContact.objects.update(status="active"),
    ),
    (
        "every message in one closed state, in time",
        lambda run: Campaign.objects.update(status="sending"),
    ),
    (
        "every message in one closed state, in time",
        lambda run: run.undrained.append("not drained after 200 s"),
    ),
    ("messages add up to the audience", lambda run: Campaign.objects.update(audience_size=8)),
    ("messages add up to the audience", lambda run: run.world.expected.clear()),
    ("messages add up to the audience", lambda run: Campaign.objects.update(fanned_out_at=None)),
    (
        "what was sent is sent or unknown",
        lambda run: run.change(run.first, status="cancelled", sent_at=None),
    ),
    (
        "what was sent is sent or unknown",
        lambda run: run.change(run.first, recipient_phone="60199999999"),
    ),
    (
        # It was sent in an earlier start than the one that is on record.
        "what was sent is sent or unknown",
        lambda run: run.change(run.first, restarts=1),
    ),
    ("what is sent was seen", lambda run: run.forget("send", run.first.key)),
    (
        # Of a process that nobody killed.
        "unknown: by the witness, or in flight at a kill",
        lambda run: run.change(run.second, status="unknown", error_code="interrupted"),
    ),
    (
        # Its process had gone on to the device's next one.
        "unknown: by the witness, or in flight at a kill",
        lambda run: run.send(run.second, 4.4, VICTIM),
    ),
    (
        # It was never handed over.
        "unknown: by the witness, or in flight at a kill",
        lambda run: run.change(run.handed, queued_at=None),
    ),
    (
        # It was handed over long before the kill, and forgotten.
        "unknown: by the witness, or in flight at a kill",
        lambda run: run.change(run.handed, queued_at=run.moment(-30)),
    ),
    (
        # Two of one device.
        "unknown: by the witness, or in flight at a kill",
        lambda run: run.change(run.handed, device=run.device),
    ),
    (
        # The witness never said so.
        "unknown: by the witness, or in flight at a kill",
        lambda run: run.forget("unsure", run.unsure.key),
    ),
    (
        # It said so to another process.
        "unknown: by the witness, or in flight at a kill",
        lambda run: run.change(run.unsure, processing_worker_id="host.200.b/1"),
    ),
    (
        # It said so in an earlier start.
        "unknown: by the witness, or in flight at a kill",
        lambda run: run.change(run.unsure, restarts=1),
    ),
    (
        "failed: only what the witness refused",
        lambda run: run.forget("refusal", run.refused.key),
    ),
    (
        # It was refused, and of what followed when it was tried again nobody knows.
        "failed: only what the witness refused",
        lambda run: run.change(run.refused, restarts=1),
    ),
    ("what has a receipt was sent", lambda run: run.forget("receipt", run.first.key)),
    ("what has a receipt was sent", lambda run: run.forget("send", run.first.key)),
    (
        # It was delivered, but nobody said that it was read.
        "what has a receipt was sent",
        lambda run: run.change(run.first, read_at=run.moment(1)),
    ),
    (
        "what has a receipt was sent",
        lambda run: run.change(run.first, provider_message_id="of another"),
    ),
    (
        "most receipts of who lived are written",
        lambda run: BroadcastMessage.objects.update(delivered_at=None),
    ),
    (
        "nothing expired (clocks 10 minutes off)",
        lambda run: run.change(run.skipped, status="expired"),
    ),
    (
        "no send begun by a replaced session",
        lambda run: run.note("open", 1.0, VICTIM, session="newer"),
    ),
    (
        "no send begun after a pause, cancel, opt-out or switch-off",
        lambda run: run.do(f"campaign {run.campaign.pk}", after=-MARGIN_SECONDS),
    ),
    (
        "no send begun after a pause, cancel, opt-out or switch-off",
        lambda run: run.do(run.second.recipient_phone, after=1.0 - MARGIN_SECONDS),
    ),
    (
        # It was tried again since: that start counts as well.
        "no send begun after a pause, cancel, opt-out or switch-off",
        lambda run: (
            run.change(run.refused, restarts=1),
            run.do(run.refused.recipient_phone, after=2.1 - MARGIN_SECONDS),
        ),
    ),
    (
        "no send begun after a pause, cancel, opt-out or switch-off",
        lambda run: run.do(f"device {run.device.pk}", after=1.0 - MARGIN_SECONDS),
    ),
    ("no pause under the minimum", lambda run: run.send(run.begun, 1.9)),
    ("no device silenced", lambda run: run.silent.append("device 1 is offline")),
    (
        "no process ended but by us",
        lambda run: run.fleet.died.update({300: "scheduler-1 (pid 300) ended with 1"}),
    ),
    ("every kind of fault was carried out", lambda run: run.carried_out.clear()),
    (
        "wrong clocks were wrong",
        lambda run: run.lines.remove(next(x for x in run.lines if x["what"] == "pass")),
    ),
    ("verify_ledger", lambda run: run.change(run.first, finished_at=None)),
]


@pytest.mark.parametrize(("check", "forge"), BROKEN, ids=[name for name, _ in BROKEN])
def test_each_broken_promise_is_found(run: Run, check: str, forge: Callable[[Run], Any]) -> None:
    forge(run)

    assert check in run.broken


def test_no_check_is_left_untried() -> None:
    assert {name for name, _ in BROKEN} == CHECKS.keys()


def test_what_was_claimed_before_a_deed_is_still_sent(run: Run) -> None:
    run.do(f"campaign {run.campaign.pk}", after=3.3 - MARGIN_SECONDS)

    assert run.broken == set()


def test_a_send_may_be_late_only_if_its_process_was_stopped_after_its_last_look(run: Run) -> None:
    late = next(x for x in run.lines if x["what"] == "entry" and x["key"] == run.second.key)
    run.note("open", 1.0, VICTIM, session="newer")
    run.note("open", 1.15, SENDER, session="older")  # for what follows
    late["asked_at"] = run.began_at + 0.9
    assert run.broken == {"no send begun by a replaced session"}

    run.fleet.stops.append(Stop(SENDER, run.began_at + 0.91, run.began_at + 1.09))
    assert run.broken == set()

    late["asked_at"] = run.began_at + 1.095  # looked only when it was woken, and sent all the same
    assert run.broken == {"no send begun by a replaced session"}


@pytest.mark.parametrize("how", ["killed", "told_to_end"])
def test_whose_node_is_away_at_its_end_may_have_been_handed_what_it_never_began(
    run: Run, how: str
) -> None:
    run.change(run.handed, queued_at=run.moment(-2))
    del run.fleet.killed[VICTIM]
    getattr(run.fleet, how)[VICTIM] = run.began_at + 20
    forgotten = {"unknown: by the witness, or in flight at a kill"}
    assert run.broken == forgotten

    run.fleet.node_left_at, run.fleet.node_joined_at = run.began_at + 3, run.began_at + 30
    assert run.broken == set()

    # It had one: it began another send.
    at, of = run.began_at + 15, {"device": run.other.pk, "session": "its"}
    run.note("open", 14, VICTIM, **of)
    run.note("entry", 15, VICTIM, key="another", entered_at=at, asked_at=at, **of)
    assert run.broken == forgotten


def test_what_was_resumed_is_sent(run: Run) -> None:
    about = f"campaign {run.campaign.pk}"
    run.do(about, after=-20)
    run.do(about, holds=False, after=-0.2)

    assert run.broken == set()


def test_a_pause_of_which_nobody_knows_whether_it_was_made_holds_nothing(run: Run) -> None:
    run.world.deeds.append(Deed(f"campaign {run.campaign.pk}", True, run.began_at - 20))

    assert run.broken == set()


def test_a_short_gap_is_excused_only_beside_a_process_that_was_stopped_or_killed(run: Run) -> None:
    Device.objects.update(min_delay_seconds=2)
    assert run.broken == {"no pause under the minimum"}

    at = run.began_at
    run.fleet.stops.append(Stop(SENDER, at - 1, at - 0.5))
    assert run.broken == set()
