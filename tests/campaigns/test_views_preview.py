"""What a campaign's form says while somebody writes; nothing of it is stored."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.campaigns.entering import entered
from tests.factories import DeviceFactory, LeadFactory, NicheFactory

pytestmark = pytest.mark.django_db

NEW = reverse("campaigns:create")
PREVIEW = reverse("campaigns:preview")


def test_the_preview_counts_and_renders_for_a_real_lead(operator_client: Client) -> None:
    DeviceFactory(online=True)
    LeadFactory(name="Siti")
    LeadFactory(name="Ahmad", without_consent=True)
    text = operator_client.post(PREVIEW, entered()).content.decode()
    assert "Hi Siti, it is back." in text
    assert "no consent on record" in text
    assert "Review 1 message" in text


def test_one_may_step_through_the_leads_and_not_beyond_the_last(operator_client: Client) -> None:
    for name in ("Siti", "Ahmad"):
        LeadFactory(name=name)
    second = operator_client.post(PREVIEW, entered(lead="1")).content.decode()
    assert "Hi Ahmad" in second
    assert "Hi Ahmad" in operator_client.post(PREVIEW, entered(lead="99")).content.decode()
    assert "Hi Siti" in operator_client.post(PREVIEW, entered(lead="x")).content.decode()


def test_a_half_written_form_still_counts(operator_client: Client) -> None:
    LeadFactory()
    text = operator_client.post(PREVIEW, entered(title="", message="Hi {na")).content.decode()
    assert "Review 1 message" in text
    assert "A brace is not closed" in text


@pytest.mark.parametrize("address", [PREVIEW, NEW])
def test_the_preview_shows_a_placeholder_that_nobody_knows_with_those_that_there_are(
    operator_client: Client, address: str
) -> None:
    LeadFactory(name="Siti")
    data = entered(message="Hi {name}, about {odrer|it}", then="save")
    text = operator_client.post(address, data).content.decode()
    shown = text.split('class="bubble"')[1].split('class="hint"')[0]
    assert "Hi Siti, about {odrer|it}" in shown
    said = "Unknown: {odrer}. There are {name}, {first_name}, {phone}, {niche}."
    assert said not in shown
    at_field = text.split('id="id_message_errors"')[1].split("</div>")[0]
    assert said in at_field
    # And once more at the top, where the page that was not saved gathers them.
    assert text.count(said) == (1 if address == PREVIEW else 2)


def test_a_time_that_cannot_be_is_said_at_its_field_while_somebody_writes(
    operator_client: Client,
) -> None:
    def said(starts_at: str) -> str:
        data = entered(when="later", starts_at=starts_at)
        text = operator_client.post(PREVIEW, data).content.decode()
        return text.split('id="id_starts_at_errors"')[1].split("</div>")[0]

    assert "This time is past." in said("2020-01-01T10:00")
    assert "Give a date" not in said("")  # not yet


def test_what_forbids_sending_is_said(operator_client: Client) -> None:
    text = operator_client.post(PREVIEW, entered()).content.decode()
    assert "No lead matches this audience." in text
    assert "There is no device yet." in text
    assert "An administrator adds one." in text

    DeviceFactory(enabled=False)
    text = operator_client.post(PREVIEW, entered()).content.decode()
    assert "No device may send: all of them are off" in text
    assert "An administrator adds one." not in text


def test_where_there_is_no_device_whoever_may_add_one_is_led_there(admin_client: Client) -> None:
    link = f'<a href="{reverse("devices:new")}">Add one</a>'
    assert link in admin_client.post(PREVIEW, entered()).content.decode()
    DeviceFactory()
    assert link not in admin_client.post(PREVIEW, entered()).content.decode()


def test_leads_without_a_name_are_a_warning_where_the_name_is_bare(
    operator_client: Client,
) -> None:
    LeadFactory(name="")
    bare = operator_client.post(PREVIEW, entered(message="Hi {name}")).content.decode()
    filled = operator_client.post(PREVIEW, entered()).content.decode()
    assert "1 lead has no name" in bare
    assert "has no name" not in filled


def test_leads_without_a_niche_are_a_warning_where_the_niche_is_bare(
    operator_client: Client,
) -> None:
    LeadFactory(niches=["VITAC"])
    LeadFactory(opted_out=True)
    LeadFactory.create_batch(2)

    def said(message: str, **chosen: Any) -> str:
        return operator_client.post(PREVIEW, entered(message=message, **chosen)).content.decode()

    assert "2 leads have no niche and read a gap there." in said("About {niche}")
    assert "2 leads have no niche" in said("About { niche | }")
    assert "have no niche" not in said("About {niche|our shop}")
    niche = NicheFactory(name="VITAC").pk
    assert "have no niche" not in said("About {niche}", niches=[niche])


def test_a_device_that_is_away_is_a_warning(operator_client: Client) -> None:
    DeviceFactory(name="Sales 01", online=True)
    DeviceFactory(name="Sales 07")
    text = operator_client.post(PREVIEW, entered()).content.decode()
    assert "Sales 07 is not online" in text
