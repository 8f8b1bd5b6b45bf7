"""Whoever follows a number finds as many rows: each count that is a link, on every page."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from broadcasts.models import BroadcastMessage
from campaigns.models import Campaign
from leads.models import Niche
from tests.factories import (
    BroadcastMessageFactory,
    CampaignFactory,
    DeviceFactory,
    LeadFactory,
)

pytestmark = pytest.mark.django_db

LINK = re.compile(r'<a\b[^>]*href="([^"]+)"[^>]*>(.*?)</a>', re.DOTALL)
# How many of each there are: no two alike, so that no link finds another's number by chance.
COUNTS = {
    "sent": 2, "failed": 3, "unknown": 4, "expired": 5, "processing": 1, "queued": 6,
    "pending": 7, "paused": 8, "cancelled": 9,
}  # fmt: skip
LEFT_OUT = {"opted_out": 2, "no_consent": 1}


@pytest.fixture
def campaign() -> Campaign:
    campaign: Campaign = CampaignFactory(sending=True)
    device, now = DeviceFactory(online=True), timezone.now()
    of_it = {"campaign": campaign, "device": device}
    for status, count in COUNTS.items():
        ended = now if status in BroadcastMessage.CLOSED else None
        held = {"lease_epoch": 1, "processing_started_at": now} if status == "queued" else {}
        BroadcastMessageFactory.create_batch(
            count, status=status, finished_at=ended, **of_it, **held
        )
    for reason, count in LEFT_OUT.items():
        BroadcastMessageFactory.create_batch(
            count, campaign=campaign, device=None, status="skipped", skip_reason=reason,
            finished_at=now,
        )  # fmt: skip
    return campaign


def linked(text: str, part: str) -> dict[str, int]:
    """Returns {address: number} of the links to such addresses that show a number."""
    found = {}
    for address, inside in LINK.findall(text):
        # Not what stands below it in smaller letters.
        words = re.sub(r"<small>.*?</small>|<[^>]+>", " ", inside, flags=re.DOTALL)
        numbers = re.findall(r"[0-9][0-9,]*", words)
        if part in address and numbers:
            found[html.unescape(address)] = int(numbers[0].replace(",", ""))
    return found


def rows(client: Client, address: str) -> int:
    """Follows the link, and counts the rows of the table there."""
    response = client.get(address)
    assert response.status_code == 200
    text = response.content.decode()
    return len(re.findall(r"<tr\b", text.partition("<tbody")[2]))


def follow(client: Client, page: str, part: str, base: str = "") -> dict[str, int]:
    """Follows every number that is a link on this page; returns them."""
    text = client.get(page).content.decode()
    numbers = linked(text, part)
    for address, number in numbers.items():
        assert rows(client, f"{base}{address}") == number, address
    return numbers


def test_every_number_of_a_campaigns_page(viewer_client: Client, campaign: Campaign) -> None:
    page = reverse("campaigns:detail", args=[campaign.pk])
    numbers = follow(viewer_client, page, "recipients")
    for part, number in {
        "status=sent": 2, "status=remaining": 22, "status=waiting": 15, "status=working": 7,
        "reason=opted_out": 2, "reason=no_consent": 1, "status=skipped": 3, "status=expired": 5,
    }.items():  # fmt: skip
        assert [n for address, n in numbers.items() if address.endswith(part)] == [number], part


def test_every_tab_of_its_recipients(viewer_client: Client, campaign: Campaign) -> None:
    page = reverse("campaigns:recipients", args=[campaign.pk])
    for part in ("", "?status=remaining"):
        numbers = follow(viewer_client, page + part, "?status=", base=page)
        assert len(numbers) == 8 + bool(part)


def test_every_number_of_the_list_of_campaigns(viewer_client: Client, campaign: Campaign) -> None:
    assert list(follow(viewer_client, reverse("campaigns:list"), "recipients").values()) == [3]


def test_every_number_of_the_overview(viewer_client: Client, campaign: Campaign) -> None:
    now = timezone.now()
    # Of somebody else's day, and what the same person has had today already.
    BroadcastMessageFactory(status="sent", finished_at=now - timedelta(days=2), campaign=campaign)
    other = CampaignFactory(sending=True)
    message = campaign.messages.filter(status="sent").earliest("pk")
    BroadcastMessageFactory(
        status="sent", finished_at=now, campaign=other, lead=message.lead, body=message.body
    )
    page = reverse("overview")
    numbers = follow(viewer_client, page, f"{reverse('messages:list')}?status=")
    for part, number in {
        "?status=sent&": 3, "?status=pending": 7, "?status=working": 7, "?status=failed&": 3,
        "?status=unknown": 4, "?status=expired&": 5, "?status=stuck": 1, "?status=repeated&": 1,
    }.items():  # fmt: skip
        assert [n for address, n in numbers.items() if part in address] == [number], part
    assert list(follow(viewer_client, page, "recipients").values()) == [3]


@pytest.mark.parametrize("page", ["devices:list", "devices:detail"])
def test_the_queue_of_a_device(viewer_client: Client, campaign: Campaign, page: str) -> None:
    device = campaign.messages.exclude(device=None).earliest("pk").device
    address = reverse(page, args=[device.pk] if page.endswith("detail") else [])
    assert list(follow(viewer_client, address, "status=remaining").values()) == [22]


def test_every_day_of_the_overviews_plot(viewer_client: Client, campaign: Campaign) -> None:
    text = viewer_client.get(reverse("overview")).content.decode()
    days = re.findall(r'href="([^"]+tried)" aria-label="[^:]+: (\d+) sent, (\d+) failed"', text)
    assert len(days) == 14
    for address, sent, failed in days:
        assert rows(viewer_client, html.unescape(address)) == int(sent) + int(failed)
    assert days[-1][1:] == ("2", "3")


@pytest.mark.parametrize("name", ["edit", "review"])
def test_every_number_of_who_is_left_out_of_an_audience(operator_client: Client, name: str) -> None:
    """Also of several niches and of one status, and of nobody else."""
    for niches in (["A"], ["B"], ["A", "B"], ["C"], []):
        LeadFactory(niches=niches, opted_out=True, status="customer")
        LeadFactory(niches=niches, without_consent=True, status="prospect")
        LeadFactory(niches=niches, without_consent=True, status="customer")
        LeadFactory(niches=niches, status="customer")
    DeviceFactory()
    for niches, status, counts in (
        ([], "", [5, 10]), ([], "customer", [5, 5]), (["A"], "", [2, 4]),
        (["A", "B"], "prospect", [3]), (["A", "B"], "customer", [3, 3]),
    ):  # fmt: skip
        draft = CampaignFactory(target_status=status)
        draft.niches.set(Niche.objects.filter(name__in=niches))
        page = reverse(f"campaigns:{name}", args=[draft.pk])
        assert list(follow(operator_client, page, "may=").values()) == counts


def test_a_list_of_several_niches_keeps_them_when_it_is_narrowed_further(
    viewer_client: Client,
) -> None:
    leads = [LeadFactory(niches=[name]) for name in "ABC"]
    chosen = [lead.niches.get().pk for lead in leads[:2]]
    several = viewer_client.get(reverse("leads:list"), {"niche": chosen}).content.decode()
    one = viewer_client.get(reverse("leads:list"), {"niche": chosen[:1]}).content.decode()
    assert '<select name="niche" id="id_niche" multiple>' in several
    assert several.count(" selected>") - one.count(" selected>") == 1
    assert '<select name="niche" id="id_niche">' in one
    assert rows(viewer_client, reverse("leads:list", query={"niche": ""})) == 3


def test_the_download_of_an_import_has_the_rows_that_it_is_said_to_have(
    operator_client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("leads.uploads._folder", lambda: tmp_path)
    text = "Phone\n0123456789\n0123456789\nnobody\n0123456780\n12\n"
    file = SimpleUploadedFile("leads.csv", text.encode())
    operator_client.post(reverse("leads:upload"), {"file": file})
    page: Any = operator_client.get(reverse("leads:review"))
    download = operator_client.get(reverse("leads:refused"))
    lines = b"".join(download.streaming_content).decode().splitlines()  # type: ignore[arg-type,attr-defined]
    assert page.context["report"].not_used == len(lines) - 1 == 3
