"""Who may see and do what: every address of the campaigns, for everybody who must not."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from campaigns.urls import urlpatterns
from tests.factories import CampaignFactory

NAMES = [str(pattern.name) for pattern in urlpatterns]
WITHOUT_CAMPAIGN = {"list", "create", "preview"}
# What a Viewer may look at; everything else takes more.
VIEWS = {"list", "detail", "row", "progress", "activity", "recipients", "export"}

pytestmark = pytest.mark.django_db


def address(name: str) -> str:
    if name in WITHOUT_CAMPAIGN:
        return reverse(f"campaigns:{name}")
    return reverse(f"campaigns:{name}", args=[CampaignFactory(sending=True).pk])


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("name", NAMES)
def test_whoever_is_not_signed_in_is_sent_to_sign_in(
    client: Client, name: str, method: str
) -> None:
    response = getattr(client, method)(address(name))
    assert response.status_code == 302
    assert response["Location"].startswith(reverse("login"))


@pytest.mark.parametrize("name", NAMES)
def test_an_outsider_is_refused(outsider_client: Client, name: str) -> None:
    assert outsider_client.post(address(name)).status_code == 403


@pytest.mark.parametrize("name", [name for name in NAMES if name not in VIEWS])
def test_a_viewer_changes_nothing(viewer_client: Client, name: str) -> None:
    assert viewer_client.post(address(name)).status_code == 403


@pytest.mark.parametrize("name", sorted(VIEWS))
def test_a_viewer_may_look(viewer_client: Client, name: str) -> None:
    assert viewer_client.get(address(name)).status_code == 200


def test_a_viewer_is_offered_nothing_that_changes(viewer_client: Client) -> None:
    page = viewer_client.get(address("detail")).content.decode()
    assert "Cancel" not in page
    assert "Copy" not in page


@pytest.mark.parametrize("name", ["detail", "row", "progress", "recipients", "review", "pause"])
def test_a_campaign_that_is_not_there_is_a_page_that_says_so(
    operator_client: Client, name: str
) -> None:
    response = operator_client.get(reverse(f"campaigns:{name}", args=[404404]))
    assert response.status_code == 404
    assert "There is nothing here" in response.content.decode()
