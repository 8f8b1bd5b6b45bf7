"""What leads write to our devices: kept once, shown on their pages."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from broadcasts import inbound
from broadcasts.models import InboundMessage
from devices.transports.base import Inbound
from tests.factories import DeviceFactory, LeadFactory

pytestmark = pytest.mark.django_db


def test_a_reply_that_is_reported_twice_is_kept_once() -> None:
    """After a crash WhatsApp hands out again what was not confirmed."""
    lead, device = LeadFactory(), DeviceFactory()
    reply = Inbound(lead.phone, "How much is it?", timezone.now(), "3EB0")

    inbound._note_reply(device.pk, reply)
    inbound._note_reply(device.pk, reply)
    inbound._note_reply(device.pk, Inbound(lead.phone, "Hello?", timezone.now(), "3EB1"))

    assert [kept.body for kept in lead.replies.all()] == ["Hello?", "How much is it?"]


def test_of_people_who_are_no_leads_nothing_is_kept() -> None:
    """The account may be somebody's own, with friends and family."""
    inbound._note_reply(DeviceFactory().pk, Inbound("60123456789", "Dinner?", timezone.now(), "1"))

    assert not InboundMessage.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_reply_to_a_device_that_is_gone_is_no_error() -> None:
    lead, device = LeadFactory(), DeviceFactory()
    pk = device.pk
    device.delete()

    inbound._note_reply(pk, Inbound(lead.phone, "Ok", timezone.now(), "1"))

    assert not lead.replies.exists()


def test_a_lead_s_page_shows_what_it_wrote_as_text(viewer_client: Client) -> None:
    lead, device = LeadFactory(), DeviceFactory(name="Sales 07")
    for number, body in enumerate(("<b>Hi</b>", "")):
        inbound._note_reply(device.pk, Inbound(lead.phone, body, timezone.now(), str(number)))

    page = viewer_client.get(reverse("leads:detail", args=[lead.pk])).content.decode()

    replies = page.partition('id="replies"')[2]
    assert "&lt;b&gt;Hi&lt;/b&gt;" in replies
    assert "to Sales 07" in replies
    assert "something without words" in replies


def test_what_a_lead_wrote_goes_with_the_lead() -> None:
    lead = LeadFactory()
    inbound._note_reply(DeviceFactory().pk, Inbound(lead.phone, "Ok", timezone.now(), "1"))

    lead.delete()

    assert not InboundMessage.objects.exists()
