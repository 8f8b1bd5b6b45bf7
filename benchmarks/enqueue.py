"""How fast a campaign is queued, beside a bare INSERT ... SELECT of the same rows.

    python -m benchmarks enqueue [--database-url URL] [--leads N] [--devices N]

Fills leads (some opted out, without consent or not on WhatsApp; one niche of ten not chosen), lets
the scheduler queue a campaign to them in a test database of its own, and copies as many rows in
the same chunks into a twin of the table with nothing but the database's driver. Meanwhile another
process inserts a message, updates a device and edits a lead, over and over, and keeps the longest
that each of them took.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import islice
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

NICHES = 10
BATCH = 5_000

# The same columns and widths, the same exclusions and the same audience, nothing decided: the
# device is the lead's own, and everybody's text the same.
COPY = """
INSERT INTO twin (device_id, lead_id, campaign_id, recipient_phone, recipient_name, body, priority,
                  status, skip_reason, min_delay_seconds, max_delay_seconds, scheduled_at,
                  expires_at, attempts, finished_at, error_code, error_message, created_at)
SELECT CASE WHEN reason = '' THEN device_id END, id, {campaign}, phone, name,
       CASE WHEN reason = '' THEN '{body}' ELSE '' END, 20,
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
SELECT MAX(id) FROM (SELECT id FROM leads WHERE id > {after} ORDER BY id LIMIT {chunk}) AS ids
"""
BODY = "Hi {name|there}, the shop is open until nine tonight. https://example.my/a"
FILLED = "Hi Siti Nurhaliza 123456, the shop is open until nine tonight. https://example.my/a"


def fill(leads: int, devices: int) -> None:
    """Writes the leads, each with a niche and most with a device of their own."""
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


def queue(campaign: Any) -> float:
    """Returns the seconds that the scheduler's passes took until the campaign was queued whole."""
    from campaigns.models import Campaign

    began_at = time.perf_counter()
    while campaign.fanned_out_at is None:
        Campaign.objects.process()
        campaign.refresh_from_db()
    return time.perf_counter() - began_at


def copy(campaign: Any, chunk: int) -> float:
    """Returns the seconds that the bare statements took, a commit after each."""
    from django.db import connection

    with connection.cursor() as cursor:
        _make_twin(cursor)
        cursor.execute("SELECT COALESCE(MAX(id), 0) FROM leads")
        newest = cursor.fetchone()[0]
    niches = ", ".join(str(niche.pk) for niche in campaign.niches.all())
    now = "NOW(6)" if connection.vendor == "mysql" else "STRFTIME('%Y-%m-%d %H:%M:%f', 'NOW')"
    driver = connection.connection  # autocommit: each statement is a commit
    cursor, after, began_at = driver.cursor(), 0, time.perf_counter()
    while after < newest:
        cursor.execute(NEXT_LEADS.format(after=after, chunk=chunk))
        upto = cursor.fetchone()[0]
        statement = COPY.format(
            campaign=campaign.pk, body=FILLED, now=now, after=after, upto=upto, niches=niches
        )
        cursor.execute(statement)
        after = upto
    return time.perf_counter() - began_at


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


def disturb(name: str, done: Event, results: Any) -> None:
    """Works on the same tables until told to stop; hands back the longest times in seconds."""
    import django

    django.setup()
    from django.db import connection
    from django.utils import timezone

    from broadcasts.models import BroadcastMessage
    from devices.models import Device
    from leads.models import Lead

    connection.settings_dict["NAME"] = name
    devices = list(Device.objects.values_list("pk", flat=True))
    leads = list(Lead.objects.order_by("pk").values_list("pk", flat=True)[::997])
    longest = {"insert a message": 0.0, "update a device": 0.0, "edit a lead": 0.0}
    done.clear()
    results.put("ready")

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

    n = 0
    while not done.is_set():
        n += 1
        for what, do in zip(longest, (insert, update, edit), strict=True):
            began_at = time.perf_counter()
            do(n)
            longest[what] = max(longest[what], time.perf_counter() - began_at)
        time.sleep(0.005)
    results.put((n, longest))


def megabytes() -> float:
    """Returns the process's resident memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(leads: int, devices: int) -> None:
    from django.db import connection

    from benchmarks.report import report
    from broadcasts.models import BroadcastMessage
    from campaigns import fanout
    from campaigns.models import Campaign

    fill(leads, devices)
    campaign = campaign_of_all_but_one_niche()
    before = megabytes()
    took = queue(campaign)
    grown = megabytes() - before
    count = BroadcastMessage.objects.filter(campaign=campaign).count()
    skipped = BroadcastMessage.objects.filter(campaign=campaign, status="skipped").count()
    bare = copy(campaign, fanout.CHUNK)
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM twin")
        assert cursor.fetchone()[0] == count
    spawn = multiprocessing.get_context("spawn")
    done, results = spawn.Event(), spawn.Queue()
    args = (str(connection.settings_dict["NAME"]), done, results)
    other = spawn.Process(target=disturb, args=args)
    other.start()
    results.get()
    again = campaign_of_all_but_one_niche()
    began_at = time.perf_counter()
    again.start()
    Campaign.objects.process()  # one pass of the scheduler: 45 s at most
    disturbed = time.perf_counter() - began_at
    again.refresh_from_db()
    done.set()
    rounds, longest = results.get()
    other.join()
    rows = [
        {"what": "bare INSERT ... SELECT", "seconds": bare, "leads/s": count / bare, "ratio": 1.0},
        {
            "what": "campaign",
            "seconds": took,
            "leads/s": count / took,
            "ratio": bare / took,
        },
        {
            "what": "campaign, others at work",
            "seconds": disturbed,
            "leads/s": again.audience_size / disturbed,
            "ratio": again.audience_size / disturbed / (count / bare),
        },
    ]
    report(
        "enqueue", rows, database=connection.display_name, leads=leads, devices=devices,
        queued=count, skipped=skipped, chunk=fanout.CHUNK, memory_growth_mb=round(grown, 1),
        others_rounds=rounds,
        **{f"longest: {what}, ms": round(took * 1000) for what, took in longest.items()},
    )  # fmt: skip


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database-url")
    parser.add_argument("--leads", type=int, default=1_000_000)
    parser.add_argument("--devices", type=int, default=3_000)
    options = parser.parse_args(arguments)
    if options.database_url:
        os.environ["DATABASE_URL"] = options.database_url
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    from django.db import connection

    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        measure(options.leads, options.devices)
    finally:
        connection.creation.destroy_test_db(str(connection.settings_dict["NAME"]), verbosity=0)
    return 0
