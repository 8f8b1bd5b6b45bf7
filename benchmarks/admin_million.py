"""How long the admin's lists take with a million leads and a million messages.

    DATABASE_URL=sqlite:////tmp/million.sqlite3 python -m benchmarks admin_million [--rows N]

Fills an empty database, once, and times the pages; prints a Markdown table. Never run it on a
database that is in use.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import django

django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.db.models import Model  # noqa: E402
from django.test import Client  # noqa: E402
from django.test.utils import CaptureQueriesContext, setup_test_environment  # noqa: E402
from django.utils import timezone  # noqa: E402
from tqdm import tqdm  # noqa: E402

from broadcasts.models import BroadcastMessage  # noqa: E402
from campaigns.models import Campaign  # noqa: E402
from devices.models import Device  # noqa: E402
from leads.models import Lead, Niche, Trigger  # noqa: E402
from sequences.models import Sequence, SequenceContact, SequenceStep  # noqa: E402

BATCH = 10_000
DEVICES = 3_000
CAMPAIGNS = 200
NAMES = ["Siti", "Ahmad", "Wei Ling", "Priya"]
# Of 1,000 messages: what a busy installation looks like in the middle of its day.
STATUSES = (
    ["sent"] * 600 + ["pending"] * 300 + ["skipped"] * 50 + ["failed"] * 30 + ["expired"] * 18
    + ["queued", "processing"]
)  # fmt: skip


def create(model: type[Model], rows: Iterator[Any], total: int) -> None:
    with tqdm(total=total, desc=model._meta.db_table, disable=not sys.stderr.isatty()) as bar:
        while batch := list(islice(rows, BATCH)):
            model._default_manager.bulk_create(batch)
            bar.update(len(batch))


def fill(rows: int) -> None:
    """Writes `rows` leads, as many messages, tags and contacts, 3,000 devices, 200 campaigns."""
    now = timezone.now()
    niches = list(Niche.ensure([f"NICHE {n:02}" for n in range(20)]).values())
    create(
        Device, (Device(name=f"Sales {n:04}", phone=f"6011{n:07}") for n in range(DEVICES)), DEVICES
    )
    devices = list(Device.objects.values_list("pk", flat=True))
    create(
        Lead,
        (
            Lead(
                phone=f"601{n:09}",
                name=f"{NAMES[n % 4]} {n}",
                status="customer" if n % 5 == 0 else "prospect",
                device_id=devices[n % DEVICES],
                consented_at=now,
            )
            for n in range(rows)
        ),
        rows,
    )
    leads = list(Lead.objects.order_by("pk").values_list("pk", "phone"))
    through = Lead.niches.through
    create(
        through,
        (through(lead_id=pk, niche_id=niches[n % 20].pk) for n, (pk, _) in enumerate(leads)),
        rows,
    )
    campaigns = [
        Campaign(title=f"Campaign {n}", message="Hi", status="sending") for n in range(CAMPAIGNS)
    ]
    create(Campaign, iter(campaigns), CAMPAIGNS)
    campaign_ids = list(Campaign.objects.values_list("pk", flat=True))
    create(
        BroadcastMessage,
        (
            BroadcastMessage(
                device_id=devices[n % DEVICES],
                lead_id=pk,
                campaign_id=campaign_ids[n * CAMPAIGNS // rows],
                recipient_phone=phone,
                body="Hi there, the shop is open.",
                status=STATUSES[n * 7919 % 1000],
                scheduled_at=now + timedelta(seconds=n // 100),
            )
            for n, (pk, phone) in enumerate(leads)
        ),
        rows,
    )
    trigger = Trigger.objects.create(name="START")
    sequence = Sequence.objects.create(name="Welcome", trigger=trigger, status="active")
    step = SequenceStep.objects.create(sequence=sequence, position=1, message="Hi")
    create(
        SequenceContact,
        (SequenceContact(sequence=sequence, lead_id=pk, next_step=step) for pk, _ in leads),
        rows,
    )
    call_command("migrate", verbosity=0)


def pages() -> Iterator[tuple[str, str, dict[str, Any] | None]]:
    """Yields what is timed: a name, an address, and what is posted to it, if anything is."""
    lead, message = "/admin/leads/lead/", "/admin/broadcasts/broadcastmessage/"
    contact = "/admin/sequences/sequencecontact/"
    device = Device.objects.all()[DEVICES // 2].pk
    campaign = Campaign.objects.all()[CAMPAIGNS // 2].pk
    middle = BroadcastMessage.objects.filter(campaign=campaign)[:1].get()
    yield "leads", lead, None
    yield "leads, last page offered", f"{lead}?p=200", None
    yield "leads, customers", f"{lead}?status__exact=customer", None
    yield "leads, one niche", f"{lead}?niche=NICHE+07", None
    yield "leads, one device", f"{lead}?device__id__exact={device}", None
    yield "leads, number begins", f"{lead}?q=010 0055", None
    yield "leads, one number", f"{lead}?q={middle.recipient_phone}", None
    yield "leads, name of many", f"{lead}?q=Siti", None
    yield "leads, name of nobody", f"{lead}?q=Zulkifli", None
    yield "leads, one", f"{lead}{middle.lead_id}/change/", None
    yield "messages", message, None
    yield "messages, last page offered", f"{message}?p=200", None
    for status in ("sent", "pending", "failed", "queued", "unknown"):
        yield f"messages, {status}", f"{message}?status__exact={status}", None
    yield "messages, one campaign", f"{message}?campaign__id__exact={campaign}", None
    yield (
        "messages, one campaign, failed",
        f"{message}?campaign__id__exact={campaign}&status__exact=failed",
        None,
    )
    yield "messages, one device", f"{message}?device__id__exact={device}", None
    yield "messages, one number", f"{message}?q={middle.recipient_phone}", None
    yield "messages, number begins", f"{message}?q=010 0055", None
    yield "messages, one", f"{message}{middle.pk}/change/", None
    chosen = {"_selected_action": [middle.pk], "select_across": "1"}
    yield (
        "messages, ask: retry all failed",
        f"{message}?status__exact=failed",
        {"action": "retry_failed", **chosen},
    )
    yield "messages, ask: cancel all", message, {"action": "cancel", **chosen}
    yield "campaigns", "/admin/campaigns/campaign/", None
    yield "devices", "/admin/devices/device/", None
    yield "niches", "/admin/leads/niche/", None
    yield "sequences", "/admin/sequences/sequence/", None
    yield "contacts", contact, None
    yield "contacts, active", f"{contact}?status__exact=active", None
    yield "contacts, completed", f"{contact}?status__exact=completed", None
    yield "contacts, one number", f"{contact}?q={middle.recipient_phone}", None


def measure(ask: Callable[[], Any], times: int = 5) -> tuple[float, float, int]:
    """Returns the median and the longest time in milliseconds, and the number of queries."""
    took = []
    for _ in range(times):
        with CaptureQueriesContext(connection) as queries:
            started = time.perf_counter()
            answer = ask()
            took.append((time.perf_counter() - started) * 1000)
        assert answer.status_code == 200, answer
    return statistics.median(took), max(took), len(queries)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows: int = parser.parse_args(arguments).rows
    setup_test_environment()
    call_command("migrate", verbosity=0)
    if not Lead.objects.exists():
        fill(rows)
    boss, _ = User.objects.get_or_create(username="boss", is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(boss)
    out = sys.stdout
    out.write(f"{connection.vendor}, {Lead.objects.count():,} leads, ")
    out.write(f"{BroadcastMessage.objects.count():,} messages\n\n")
    out.write("| page | median ms | longest ms | queries |\n|---|---:|---:|---:|\n")
    for name, address, data in pages():
        median, longest, queries = measure(
            lambda address=address, data=data: (
                client.post(address, data)  # type: ignore[misc]
                if data
                else client.get(address)
            )
        )
        out.write(f"| {name} | {median:.0f} | {longest:.0f} | {queries} |\n")
        out.flush()
    return 0
