"""Two tabs, or two people, write one draft."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from campaigns.models import Campaign
from tests.campaigns.entering import entered
from tests.factories import CampaignFactory, NicheFactory

pytestmark = pytest.mark.django_db

REFUSED = "It was saved by somebody else, or in another tab"


def version(page: str) -> str:
    found = re.search(r'name="version" value="(\w+)"', page)
    assert found
    return found[1]


@pytest.fixture
def edit(operator_client: Client) -> Any:
    """Opens the form of a draft, and returns its address and which version it shows."""

    def opened(draft: Campaign) -> tuple[str, str]:
        url = reverse("campaigns:edit", args=[draft.pk])
        return url, version(operator_client.get(url).content.decode())

    return opened


def test_the_second_of_two_tabs_does_not_overwrite_the_first(
    operator_client: Client, edit: Any
) -> None:
    draft = CampaignFactory(title="October restock")
    url, shown = edit(draft)
    operator_client.post(url, entered(then="save", version=shown, message="From the first"))

    response = operator_client.post(url, entered(then="save", version=shown, message="The second"))
    page = response.content.decode()
    assert response.status_code == 200
    assert REFUSED in page
    assert "The second</textarea>" in page
    assert reverse("campaigns:detail", args=[draft.pk]) in page
    draft.refresh_from_db()
    assert draft.message == "From the first"

    again = entered(then="save", version=version(page), message="The second")
    assert operator_client.post(url, again).status_code == 302
    draft.refresh_from_db()
    assert draft.message == "The second"


@pytest.mark.parametrize("then", ["count", "save"])
def test_a_mistake_or_a_count_in_between_does_not_make_it_known(
    operator_client: Client, edit: Any, then: str
) -> None:
    draft = CampaignFactory(title="October restock")
    url, shown = edit(draft)
    operator_client.post(url, entered(then="save", version=shown, message="From the first"))
    mistaken = entered(then=then, version=shown, message="Hi {nmae}")
    page = operator_client.post(url, mistaken).content.decode()
    mended = entered(then="save", version=version(page), message="The second")
    assert REFUSED in operator_client.post(url, mended).content.decode()


def test_another_audience_is_another_version(operator_client: Client, edit: Any) -> None:
    draft = CampaignFactory()
    url, shown = edit(draft)
    draft.niches.add(NicheFactory())
    response = operator_client.post(url, entered(then="save", version=shown))
    assert REFUSED in response.content.decode()
    assert draft.niches.count() == 1


def test_the_second_of_two_clicks_on_save_is_no_change(operator_client: Client, edit: Any) -> None:
    niche = NicheFactory()
    url, shown = edit(CampaignFactory())
    data = entered(then="save", version=shown, message=" Twice \r\n", niches=[niche.pk])
    assert operator_client.post(url, data).status_code == 302
    assert operator_client.post(url, data).status_code == 302


def test_the_back_button_shows_what_was_saved(operator_client: Client) -> None:
    url = reverse("campaigns:edit", args=[CampaignFactory().pk])
    assert "no-store" in operator_client.get(url)["Cache-Control"]
