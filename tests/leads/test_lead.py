"""A lead's own page, and what is done to one lead from there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from leads.models import Lead
from leads.phones import display_phone
from tests.factories import (
    AttachmentFactory,
    BroadcastMessageFactory,
    LeadFactory,
    SequenceContactFactory,
)

pytestmark = pytest.mark.django_db


def test_a_lead_shows_its_consent_messages_and_sequences(operator_client: Client) -> None:
    lead = LeadFactory(name="Ali", consent_source="sign-up form", niches=["VITAC"])
    BroadcastMessageFactory(lead=lead, body="Hi *Ali*")
    contact = SequenceContactFactory(lead=lead)
    page = operator_client.get(reverse("leads:detail", args=[lead.pk])).content.decode()
    for words in ("sign-up form", "VITAC", "Hi <strong>Ali</strong>", contact.sequence.name):
        assert words in page


def test_a_lead_s_page_shows_which_message_carried_a_file(viewer_client: Client) -> None:
    lead = LeadFactory()
    BroadcastMessageFactory(lead=lead, attachment=AttachmentFactory(name="Shop.png"))
    BroadcastMessageFactory(lead=lead)
    page = viewer_client.get(reverse("leads:detail", args=[lead.pk])).content.decode()
    assert page.count("Shop.png") == 1


def test_a_lead_s_messages_stand_by_the_time_that_is_shown_the_newest_first(
    viewer_client: Client,
) -> None:
    lead = LeadFactory()

    def at(hour: int) -> datetime:
        return datetime(2026, 11, 2, hour, tzinfo=UTC)

    for body, times in {
        "due at 12": {"scheduled_at": at(12)},
        "sent at 9": {"scheduled_at": at(4), "status": "sent", "sent_at": at(9)},
        "failed at 8": {"scheduled_at": at(3), "status": "failed", "finished_at": at(8)},
        "due at 6": {"scheduled_at": at(6)},
        "due at 6 as well": {"scheduled_at": at(6)},
        "sent at 10": {"scheduled_at": at(1), "status": "sent", "sent_at": at(10)},
    }.items():
        BroadcastMessageFactory(lead=lead, body=body, **times)

    page = viewer_client.get(reverse("leads:detail", args=[lead.pk]))

    assert [message.body for message in page.context["history"]] == [
        "due at 12", "sent at 10", "sent at 9", "failed at 8", "due at 6 as well", "due at 6"
    ]  # fmt: skip
    assert page.content.decode().count("2 Nov 2026, 14:00") == 2


def test_an_opt_out_is_recorded_with_who_did_it_and_only_once(operator_client: Client) -> None:
    lead = LeadFactory(name="Ali")
    url = reverse("leads:opt_out", args=[lead.pk])
    assert "Opt Ali out?" in operator_client.get(url).content.decode()
    assert Lead.objects.filter(opted_out_at=None).exists()  # a link only asks
    assert operator_client.post(url)["Location"] == reverse("leads:detail", args=[lead.pk])
    lead.refresh_from_db()
    first = lead.opted_out_at
    assert first is not None
    assert "operator" in lead.opt_out_source
    assert "There is nothing to do" in operator_client.get(url).content.decode()
    operator_client.post(url)
    lead.refresh_from_db()
    assert lead.opted_out_at == first
    assert LogEntry.objects.filter(object_id=str(lead.pk)).count() == 1


def test_a_viewer_may_not_opt_anybody_out(viewer_client: Client) -> None:
    lead = LeadFactory()
    assert viewer_client.post(reverse("leads:opt_out", args=[lead.pk])).status_code == 403
    page = viewer_client.get(reverse("leads:detail", args=[lead.pk])).content.decode()
    assert reverse("leads:opt_out", args=[lead.pk]) not in page


def test_whatsapp_is_asked_again_about_a_number_by_whoever_may_change_it(
    operator_client: Client, viewer_client: Client
) -> None:
    now = timezone.now()
    lead = LeadFactory(not_on_whatsapp_at=now, on_whatsapp_at=now)
    url, page = (reverse(f"leads:{name}", args=[lead.pk]) for name in ("ask_again", "detail"))
    assert url not in viewer_client.get(page).content.decode()
    assert viewer_client.post(url).status_code == 403
    assert Lead.objects.with_skip_reason().get().skip_reason == "not_on_whatsapp"
    assert url in operator_client.get(page).content.decode()
    for _click in range(2):
        assert operator_client.post(url)["Location"] == page
    assert Lead.objects.with_skip_reason().get().skip_reason == ""
    assert list(Lead.objects.unasked()) == [lead]
    assert LogEntry.objects.get().object_id == str(lead.pk)
    assert url not in operator_client.get(page).content.decode()
    assert operator_client.post(reverse("leads:ask_again", args=[99])).status_code == 404


def test_a_duplicate_names_the_lead_that_gets_the_messages(
    operator_client: Client, django_capture_on_commit_callbacks: Any
) -> None:
    person = LeadFactory(phone="5511987654321", whatsapp_phone="551187654321")
    with django_capture_on_commit_callbacks(execute=True):
        twin = LeadFactory(phone="551187654321")
    message = BroadcastMessageFactory(lead=person)
    page = operator_client.get(reverse("leads:detail", args=[twin.pk])).content.decode()
    assert "duplicate number" in page
    assert reverse("leads:detail", args=[person.pk]) in page
    found = operator_client.get(reverse("leads:list"), {"may": "duplicate"}).content.decode()
    assert reverse("leads:detail", args=[twin.pk]) in found
    assert reverse("leads:detail", args=[person.pk]) not in found
    for url in (
        reverse("leads:detail", args=[person.pk]), reverse("messages:detail", args=[message.pk])
    ):  # fmt: skip
        assert display_phone("551187654321") in operator_client.get(url).content.decode()


def test_a_lead_that_is_not_there_is_not_found(operator_client: Client) -> None:
    assert operator_client.get(reverse("leads:detail", args=[99])).status_code == 404
    assert operator_client.post(reverse("leads:opt_out", args=[99])).status_code == 404
