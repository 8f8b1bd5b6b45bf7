from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from broadcasts.models import BroadcastMessage
from config import adminsite
from leads.models import Lead
from sequences.models import SequenceContact
from tests import factories

pytestmark = pytest.mark.django_db


def url(model: type[Model]) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


@pytest.fixture
def boss_client() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    return client


def test_lists_count_no_further_than_needed(
    boss_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adminsite.BoundedPaginator, "MOST", 3)
    for _ in range(5):
        factories.LeadFactory()

    page = boss_client.get(url(Lead))

    assert "more than 3 leads" in page.text
    assert "Select all leads that match, on every page" in page.text
    assert page.context["cl"].paginator.count == 3


@pytest.mark.parametrize("common", [3, 4])
def test_a_common_status_lists_the_same_rows_as_a_rare_one(
    boss_client: Client, monkeypatch: pytest.MonkeyPatch, common: int
) -> None:
    monkeypatch.setattr(adminsite, "COMMON", common)
    pending = [factories.BroadcastMessageFactory() for _ in range(3)]
    factories.BroadcastMessageFactory(status="sent")

    page = boss_client.get(url(BroadcastMessage), {"status__exact": "pending"})

    rows = page.context["cl"].result_list
    assert list(rows) == pending[::-1]
    assert ("COALESCE" in str(rows.query)) is (common == 3)


def test_the_list_of_contacts_is_read_without_a_join(boss_client: Client) -> None:
    factories.SequenceContactFactory()

    page = boss_client.get(url(SequenceContact))

    assert "JOIN" not in str(page.context["cl"].result_list.query)


def test_filters_offer_the_newest_few_and_the_one_chosen(boss_client: Client) -> None:
    devices = [factories.DeviceFactory() for _ in range(adminsite.NewestRelatedFilter.SHOWN + 2)]
    message = factories.BroadcastMessageFactory(device=devices[0])
    factories.BroadcastMessageFactory(device=devices[1])

    page = boss_client.get(url(BroadcastMessage), {"device__id__exact": devices[0].pk})

    assert list(page.context["cl"].result_list) == [message]
    assert devices[0].name in page.text
    assert devices[1].name not in page.text


@pytest.mark.parametrize(
    ("text", "found"),
    [("012-345", 1), ("+60 12-345", 1), ("60123456789", 1), ("6012999", 0), ("Siti", 1)],
)
def test_leads_are_found_by_the_beginning_of_a_number_or_by_name(
    boss_client: Client, text: str, found: int
) -> None:
    factories.LeadFactory(phone="60123456789", name="Siti Nurhaliza")
    factories.LeadFactory(phone="60199999999", name="Ahmad")

    page = boss_client.get(url(Lead), {"q": text})

    assert len(page.context["cl"].result_list) == found


def test_messages_are_found_by_number_and_by_id(boss_client: Client) -> None:
    message = factories.BroadcastMessageFactory(lead__phone="60123456789")
    factories.BroadcastMessageFactory(lead__phone="60199999999")

    for text in ("012-345", f"#{message.pk}"):
        page = boss_client.get(url(BroadcastMessage), {"q": text})
        assert list(page.context["cl"].result_list) == [message]
    assert not boss_client.get(url(BroadcastMessage), {"q": "Siti"}).context["cl"].result_list


def test_leads_are_filtered_by_niche(boss_client: Client) -> None:
    lead = factories.LeadFactory(niches=["VITAC", "EXSTART"])
    factories.LeadFactory(niches=["EXSTART"])

    page = boss_client.get(url(Lead), {"niche": "VITAC"})

    assert list(page.context["cl"].result_list) == [lead]


@pytest.mark.parametrize("text", ["0060 12-345", "012-345", "+60 12 345", "6012345"])
@pytest.mark.parametrize("model", [Lead, BroadcastMessage, SequenceContact])
def test_a_number_is_found_as_people_write_it(
    boss_client: Client, model: type[Model], text: str
) -> None:
    wanted, other = (factories.LeadFactory(phone=p) for p in ("60123456789", "60133456789"))
    if model is BroadcastMessage:
        wanted, other = (factories.BroadcastMessageFactory(lead=lead) for lead in (wanted, other))
    elif model is SequenceContact:
        wanted, other = (factories.SequenceContactFactory(lead=lead) for lead in (wanted, other))
    found = boss_client.get(url(model), {"q": text}).context["cl"].result_list
    assert [row.pk for row in found] == [wanted.pk]
