"""What an operator does in a day, in a real browser, with the real processes behind it."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from campaigns.models import Campaign
from devices.models import SimulatedMessage
from tests.factories import PNG, DeviceFactory
from tests.processes import broadcaster, start

LEADS = """Name,Phone,Niche,Status
Siti Nurhaliza,011-1000 0001,VITAC,prospect
Ahmad Faizal,+60 11-1000 0002,VITAC,customer
Siti again,0111 0000 001,VITAC,prospect
,60 11 1000 0003,"VITAC, EXSTART",
Kedai Runcit,03-2161 0000,VITAC,prospect
Lim Wei Jie,011-1000 0004,EXSTART,prospect
"""

pytestmark = pytest.mark.django_db(transaction=True)


def scheduler_pass() -> None:
    process = start("manage.py", "process_campaigns")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said


def sign_in(page: Page, user: User) -> None:
    user.set_password("a pass phrase")
    user.save(update_fields=["password"])
    page.goto("/")
    page.get_by_label("Username").fill(user.username)
    page.get_by_label("Password").fill("a pass phrase")
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url("/")


def import_leads(page: Page, path: Path) -> None:
    page.goto("/leads/upload/")
    page.get_by_label("File").set_input_files(path)
    page.get_by_label("Where these people agreed").fill("October fair")
    page.get_by_role("button", name="Look through the file").click()
    page.get_by_role("button", name="Import 4 new leads").click()
    expect(page.get_by_text("This is what became of each row.")).to_be_visible()


def test_operator_imports_leads_and_watches_a_campaign_reach_them_once(
    page: Page, operator: User, tmp_path: Path
) -> None:
    for number in (1, 2):
        DeviceFactory(name=f"Sales {number:02}")
    path = tmp_path / "october.csv"
    path.write_text(LEADS)
    sign_in(page, operator)
    import_leads(page, path)

    page.goto("/campaigns/new/")
    page.get_by_label("title").fill("Open house")
    # A file is taken when it is chosen, and what is wrong with it is said beside the field.
    file = page.get_by_label("Picture, video or document")
    file.set_input_files({"name": "song.mp3", "mimeType": "audio/mpeg", "buffer": b"ID3 la la"})
    expect(page.get_by_text("none of the files that WhatsApp shows")).to_be_visible()
    # htmx listens to what it has put in 20 ms later; nobody is quicker than that but this test.
    expect(page.locator(".attachment.htmx-added")).to_have_count(0)
    file.set_input_files({"name": "Shop.png", "mimeType": "image/png", "buffer": PNG})
    expect(page.locator("#preview .bubble img")).to_be_visible()
    page.get_by_role("group", name="niches").get_by_label("VITAC").check()
    page.get_by_label("message").fill("Hi {first_name|there}, we open at ten.")
    # The count comes by itself, before anything is saved.
    page.get_by_role("button", name="Review 3 messages").click()
    expect(page.get_by_text("Nothing is sent yet.")).to_be_visible()
    page.get_by_role("button", name="Send 3 messages").click()
    campaign = Campaign.objects.get()
    expect(page).to_have_url(f"/campaigns/{campaign.pk}/")

    with broadcaster(SIMULATOR_SEED="all of them are on WhatsApp"):
        # The page follows by itself: nobody reloads it from here on.
        scheduler_pass()
        expect(page.get_by_role("link", name="3 sent of 3")).to_be_visible(timeout=30_000)
        scheduler_pass()
        expect(page.locator("#campaign-state")).to_contain_text("finished", timeout=30_000)

    files = SimulatedMessage.objects.filter(from_device=True).values_list("media", flat=True)
    assert [file.split()[-1] for file in files] == ["Shop.png"] * 3
    received = SimulatedMessage.objects.filter(from_device=True).values_list("phone", "body")
    assert sorted(received) == [
        ("601110000001", "Hi Siti, we open at ten."),
        ("601110000002", "Hi Ahmad, we open at ten."),
        ("601110000003", "Hi there, we open at ten."),
    ]
