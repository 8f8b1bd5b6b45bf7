"""The whole chain, as the people at both ends see it: pages here, WhatsApp there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client as Browser
from django.urls import reverse

from broadcasts.models import BroadcastMessage
from campaigns.models import Campaign
from devices.models import Device
from leads.models import Lead
from tests.factories import LeadFactory
from tests.processes import start, wait_until
from tests.whatsapp.conftest import NewClient, NewPhone
from tests.whatsapp.double import Double
from tests.whatsapp.test_broadcaster import running
from tests.whatsapp.test_pairing import ask, linkable, pairing, state

pytestmark = pytest.mark.django_db(transaction=True)


def page(browser: Browser, name: str, *args: object, **asked: object) -> str:
    """What a page says, in words."""
    html = browser.get(reverse(name, args=args), asked).content.decode()
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_a_phone_is_paired_a_campaign_made_and_its_people_read_it_and_answer(
    whatsapp: Double, start_client: NewClient, new_phone: NewPhone, tmp_path: Path
) -> None:
    browser = Browser()
    browser.force_login(User.objects.create_superuser("siti"))
    account, ali, aminah = new_phone(), new_phone(), new_phone()
    app = start_client().link(ali)  # where Ali reads and writes: WhatsApp on his desktop
    for name, phone in (("Ali", ali.number), ("Aminah", aminah.number), ("No", "60199999999")):
        LeadFactory(name=name, phone=phone)

    with running(whatsapp, tmp_path / "sessions") as process:
        device = linkable()
        assert 'class="qr"' in ask(browser, device)
        account.scan(pairing(device).code)
        wait_until(lambda: state(device) == "done")
        assert f"Linked to +{account.number}" in page(browser, "devices:pair", device.pk)
        wait_until(lambda: Device.objects.online().filter(pk=device.pk).exists())

        campaign = send_campaign(browser, "Hi {name|there}, *new* prices.")

        wait_until(lambda: campaign.counts()["sent"] == 2 and campaign.counts()["skipped"] == 1)
        heard = app.wait_for("Message", lambda event: "Hi Ali, *new* prices." in str(event))
        assert account.number in str(heard["Info"]["MessageSource"])
        assert aminah.texts() == ["Hi Aminah, *new* prices."]
        wait_until(lambda: "Delivered 2 Read 0" in page(browser, "campaigns:detail", campaign.pk))

        app.call("mark_read", message_id=heard["Info"]["ID"])
        wait_until(lambda: "Delivered 2 Read 1" in page(browser, "campaigns:detail", campaign.pk))
        to_ali = BroadcastMessage.objects.get(recipient_phone=ali.number)
        shown = page(browser, "messages:detail", to_ali.pk)
        assert re.search(r":\d\d sent .*:\d\d delivered .*:\d\d read ", shown)
        assert heard["Info"]["ID"] in shown
        assert "Not on WhatsApp" in page(browser, "campaigns:recipients", campaign.pk)

        app.call("send_text", to=account.number, text="stop")
        wait_until(
            lambda: Lead.objects.filter(phone=ali.number, opted_out_at__isnull=False).exists()
        )
        lead = Lead.objects.get(phone=ali.number)
        assert "replied “stop”" in page(browser, "leads:detail", lead.pk)

        # So the next campaign leaves him out, and says why.
        later = send_campaign(browser, "And *more*.")
        wait_until(lambda: aminah.texts()[1:] == ["And *more*."])
        assert "Opted out" in page(browser, "campaigns:recipients", later.pk)
        process.terminate()
        assert process.wait(60) == 0

    assert [(m.text, m.copies) for m in ali.received()] == [("Hi Ali, *new* prices.", 1)]
    assert [m.copies for m in aminah.received()] == [1, 1]


def send_campaign(browser: Browser, text: str) -> Campaign:
    """Writes, reviews and sends it as one does in the browser; the scheduler queues it."""
    written = {
        "title": text, "message": text, "target_status": "", "when": "now", "timezone": "UTC",
        "min_delay_seconds": "0", "max_delay_seconds": "0", "then": "review",
    }  # fmt: skip
    review = browser.post(reverse("campaigns:create"), written)["Location"]
    offered = browser.get(review).content.decode()
    (agreed,) = re.findall(r'name="agreed" value="([^"]+)"', offered)
    assert re.search(r"Send \d+ message", offered)
    campaign = Campaign.objects.get(title=text)
    sent = browser.post(review, {"agreed": agreed})
    assert sent["Location"] == reverse("campaigns:detail", args=[campaign.pk])
    scheduler = start("manage.py", "process_campaigns")
    said, _ = scheduler.communicate(timeout=60)
    assert scheduler.returncode == 0, said
    return campaign
