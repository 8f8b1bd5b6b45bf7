"""How fast a campaign is queued, beside a bare INSERT ... SELECT of the same rows.

    python -m benchmarks enqueue [--database-url URL] [--leads N] [--devices N]

Fills leads (some opted out, without consent or not on WhatsApp; one niche of ten not chosen), in a
database of its own. The fan-out, as the scheduler calls it, and nothing but the database's driver,
which copies as many rows in the same chunks into a twin of the table, take turns of a scheduler's
pass: what else the machine does meanwhile meets both. Then a second campaign is queued while
another process inserts a message, updates a device and edits a lead, over and over, and keeps the
longest that each of them took; and before that, how long they take with nobody in the way.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import islice
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from benchmarks import databases
from benchmarks.report import report

# What it is to hold.
RATIO = 0.7
LONGEST_SECONDS = 0.2

ALONE_SECONDS = 10.0
NICHES = 10
BATCH = 5_000

# The same columns and widths, the same exclusions and the same audience, nothing decided: the
# device is the lead's own or the next in turn, and everybody's text the same.
COPY = """
INSERT INTO twin (device_id, lead_id, campaign_id, recipient_phone, recipient_name, body, priority,
                  status, skip_reason, min_delay_seconds, max_delay_seconds, scheduled_at,
                  expires_at, attempts, finished_at, error_code, error_message, created_at)
SELECT CASE WHEN reason = '' THEN COALESCE(device_id, id % {devices} + 1) END, id, {campaign},
       phone, name, CASE WHEN reason = '' THEN '{body}' ELSE '' END, 20,
       CASE WHEN reason = '' THEN 'pending' ELSE 'skipped' END, reason, 0, 0, {now},
       CASE WHEN reason = '' THEN {now} END, 0, CASE WHEN reason <> '' THEN {now} END, '', '', {now}
  FROM (SELECT l.id, l.device_id, l.phone, l.name,
               CASE WHEN l.opted_out_at IS NOT NULL THEN 'opted_out'
                    WHEN l.consented_at IS NULL THEN 'no_consent'
                    WHEN l.not_on_whatsapp_at IS NOT NULL THEN 'not_on_whatsapp'
                    ELSE '' END AS reason
          FROM leads l
         WHERE l.id > {after} AND l.id <= {upto}
           AND l.id IN (SELECT n.lead_id FROM lead_niches n WHERE n.niche_id IN ({niches})
                                         AND n.lead_id > {after} AND n.lead_id <= {upto})
         ORDER BY l.id) AS audience
"""
NEXT_LEADS = """
SELECT MAX(id) FROM (SELECT id FROM leads WHERE id > {after} AND id <= {upto}
                      ORDER BY id LIMIT {chunk}) AS ids
"""
BODY = "Hi {name|there}, the shop is open until nine tonight. https://example.my/a"
FILLED = "Hi Siti Nurhaliza 123456, the shop is open until nine tonight. https://example.my/a"


def fill(leads: int, devices: int) -> None:
    """Writes the leads, each with a niche and most with a device of their own.

    In a process of its own: what it leaves free in memory would hide what queuing takes.
    """
    import django

    django.setup()
    from django.utils import timezone

    from devices.models import Device
    from leads.models import Lead, Niche

    now = timezone.now()
    Device.objects.bulk_create(
        Device(name=f"Sales {n:04}", phone=f"6011{n:08}", status="online") for n in range(devices)
    )
    device_ids = list(Device.objects.order_by("pk").values_list("pk", flat=True))
    rows: Iterator[Lead] = (
        Lead(
            phone=f"6012{n:09}",
            name=f"Siti Nurhaliza {n}",
            device_id=device_ids[n % devices] if n % 4 else None,
            consented_at=None if n % 50 == 1 else now,
            opted_out_at=now if n % 50 == 2 else None,
            not_on_whatsapp_at=now if n % 50 == 3 else None,
        )
        for n in range(leads)
    )
    while batch := list(islice(rows, BATCH)):
        Lead.objects.bulk_create(batch)
    niches = list(Niche.ensure([f"NICHE {n:02}" for n in range(NICHES)]).values())
    carries = Lead.niches.through
    ids = iter(Lead.objects.order_by("pk").values_list("pk", flat=True).iterator())
    while chunk := list(islice(ids, BATCH)):
        carries._default_manager.bulk_create(
            carries(lead_id=pk, niche_id=niches[pk % NICHES].pk) for pk in chunk
        )


def campaign_of_all_but_one_niche() -> Any:
    from campaigns.models import Campaign
    from leads.models import Niche

    campaign = Campaign.objects.create(title="benchmark", message=BODY)
    campaign.niches.set(Niche.objects.order_by("name")[1:])
    assert campaign.schedule()
    return campaign


def queue(campaign: Any) -> bool:
    """One pass of the scheduler over this campaign; returns whether it is queued whole."""
    from campaigns.fanout import fan_out
    from campaigns.queryset import BUDGET_SECONDS

    complete = fan_out(campaign, stop_at=time.monotonic() + BUDGET_SECONDS)
    campaign.refresh_from_db()
    return complete


def copy(campaign: Any, chunk: int, after: int, upto: int) -> None:
    """Copies the rows of the leads between these ids, a commit after each chunk."""
    from django.db import connection

    from devices.models import Device

    niches = ", ".join(str(niche.pk) for niche in campaign.niches.all())
    devices = Device.objects.count()
    now = "NOW(6)" if connection.vendor == "mysql" else "STRFTIME('%Y-%m-%d %H:%M:%f', 'NOW')"
    cursor = connection.connection.cursor()  # the driver's; autocommit: each statement is a commit
    while after < upto:
        cursor.execute(NEXT_LEADS.format(after=after, upto=upto, chunk=chunk))
        end = cursor.fetchone()[0]
        statement = COPY.format(
            campaign=campaign.pk, body=FILLED, now=now, after=after, upto=end, niches=niches,
            devices=devices,
        )  # fmt: skip
        cursor.execute(statement)
        after = end


def _make_twin(cursor: Any) -> None:
    """Makes a table like broadcast_messages, with its indexes and foreign keys."""
    from django.db import connection

    cursor.execute("DROP TABLE IF EXISTS twin")
    if connection.vendor == "mysql":
        cursor.execute("CREATE TABLE twin LIKE broadcast_messages")
        for column, table in (("device", "devices"), ("lead", "leads"), ("campaign", "campaigns")):
            cursor.execute(
                f"ALTER TABLE twin ADD FOREIGN KEY ({column}_id) REFERENCES {table} (id)"
            )
        return
    cursor.execute(
        "SELECT sql FROM sqlite_master WHERE tbl_name = 'broadcast_messages' AND sql > ''"
    )
    for (sql,) in cursor.fetchall():
        for old, new in (('"broadcast_messages"', '"twin"'), ('INDEX "', 'INDEX "twin_')):
            sql = sql.replace(old, new)
        cursor.execute(sql)


def disturb(begin: Event, done: Event, results: Any) -> None:
    """Works on the same tables until told to stop; hands back, for the time until it begins and
    for the time from then on, how often it did and the longest that each took, in seconds."""
    import django

    django.setup()
    from django.utils import timezone

    from broadcasts.models import BroadcastMessage
    from devices.models import Device
    from leads.models import Lead

    devices = list(Device.objects.values_list("pk", flat=True))
    leads = list(Lead.objects.order_by("pk").values_list("pk", flat=True)[::997])

    def insert(n: int) -> object:
        return BroadcastMessage.objects.create(
            device_id=devices[n % len(devices)],
            recipient_phone=f"6013{n:08}",
            scheduled_at=timezone.now(),
        )

    def update(n: int) -> object:
        device = Device.objects.filter(pk=devices[n % len(devices)])
        return device.update(next_send_at=timezone.now() - timedelta(seconds=1))

    def edit(n: int) -> object:
        return Lead.objects.filter(pk=leads[n % len(leads)]).update(source=f"edited {n}")

    works = {"insert a message": insert, "update a device": update, "edit a lead": edit}
    n = 0
    for until in (begin, done):
        longest, before = dict.fromkeys(works, 0.0), n
        while not until.is_set():
            n += 1
            for what, work in works.items():
                began_at = time.perf_counter()
                work(n)
                longest[what] = max(longest[what], time.perf_counter() - began_at)
            time.sleep(0.005)
        results.put((n - before, longest))


class PeakMemory:
    """How much the process's resident memory has grown at most, since this was made."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        self.before = self._read("VmRSS")

    def megabytes(self) -> float:
        return (self._read("VmHWM") - self.before) / 1e6

    def _read(self, name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def take_turns(campaign: Any, chunk: int) -> tuple[float, float, list[float]]:
    """Returns the seconds of the campaign and of the bare statements, and the peak growth of
    memory after the first turn and at the end."""
    from django.db import connection

    with connection.cursor() as cursor:
        _make_twin(cursor)
    campaign.start()
    campaign.refresh_from_db()
    memory = PeakMemory()
    took = bare = 0.0
    grown: list[float] = []
    complete = False
    while not complete:
        after, began_at = campaign.checkpoint_lead_id, time.perf_counter()
        complete = queue(campaign)
        took += time.perf_counter() - began_at
        grown = [*grown[:1], memory.megabytes()]
        began_at = time.perf_counter()
        copy(campaign, chunk, after, campaign.checkpoint_lead_id)
        bare += time.perf_counter() - began_at
    return took, bare, grown


def with_others() -> tuple[float, Any, tuple[Any, Any], tuple[Any, Any]]:
    """Queues another campaign while a process is in the way; returns the seconds it took, the
    campaign, and what that process has to say without and with it."""
    spawn = multiprocessing.get_context("spawn")
    begin, done, results = spawn.Event(), spawn.Event(), spawn.Queue()
    other = spawn.Process(target=disturb, args=(begin, done, results))
    other.start()
    campaign = campaign_of_all_but_one_niche()
    time.sleep(ALONE_SECONDS)
    begin.set()
    alone = results.get()
    campaign.start()
    campaign.refresh_from_db()
    began_at = time.perf_counter()
    while not queue(campaign):
        pass
    took = time.perf_counter() - began_at
    done.set()
    beside = results.get()
    other.join()
    return took, campaign, alone, beside


def measure(leads: int, devices: int) -> None:
    from campaigns import fanout

    spawn = multiprocessing.get_context("spawn")
    filling = spawn.Process(target=fill, args=(leads, devices))
    filling.start()
    filling.join()
    campaign = campaign_of_all_but_one_niche()
    # A chunk is so many messages; of so many leads, since one niche of ten was not chosen.
    chunk = fanout.CHUNK * NICHES // (NICHES - 1)
    took, bare, grown = take_turns(campaign, chunk)
    counts = campaign.counts()
    count = sum(counts.values())
    assert databases.ask("SELECT COUNT(*) FROM twin") == count == campaign.audience_size
    disturbed, again, alone, beside = with_others()
    assert again.audience_size == count
    rows = [
        {"what": what, "seconds": seconds, "leads/s": count / seconds,
         "ratio": bare / seconds, "goal": goal}
        for what, seconds, goal in (
            ("bare INSERT ... SELECT", bare, None),
            ("campaign", took, RATIO),
            ("campaign, others at work", disturbed, None),
        )
    ]  # fmt: skip
    longest = {
        what: f"{alone[1][what] * 1000:.0f} ms at most alone, {seconds * 1000:.0f} ms beside it; "
        f"goal {LONGEST_SECONDS * 1000:.0f} ms"
        for what, seconds in beside[1].items()
    }
    report(
        "enqueue", rows, **databases.facts(), leads=leads, devices=devices, queued=count,
        skipped=counts["skipped"], chunk=fanout.CHUNK,
        memory=f"grew by {grown[0]:.1f} MB at most in the first turn, {grown[-1]:.1f} MB in all",
        others=f"{alone[0]} rounds alone, {beside[0]} beside it",
        **longest,
    )  # fmt: skip


def main(arguments: list[str]) -> int:
    parser = databases.parser(__doc__)
    parser.add_argument("--leads", type=int, default=1_000_000)
    parser.add_argument("--devices", type=int, default=3_000)
    options = parser.parse_args(arguments)
    with databases.own_database(options.database_url, keep=options.keep):
        measure(options.leads, options.devices)
    return 0
