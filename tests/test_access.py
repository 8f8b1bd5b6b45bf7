"""Who may see and do what: every address outside of the admin pages, for everybody who must not.

The addresses are read off the urls, so a new one is held to this before anybody thinks of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from tests.factories import (
    AttachmentFactory,
    BroadcastMessageFactory,
    CampaignFactory,
    DeviceFactory,
    LeadFactory,
    SequenceStepFactory,
)

# Whose business it is to be open to everybody, or to look after themselves.
OPEN = {"login", "logout", "healthz", "readyz"}
# What a Viewer may look at; everything else takes more.
LOOKS = {
    "overview",
    "campaigns:list", "campaigns:detail", "campaigns:row", "campaigns:progress",
    "campaigns:activity", "campaigns:recipients", "campaigns:export",
    "sequences:list", "sequences:detail",
    "leads:list", "leads:detail",
    "messages:list", "messages:detail",
    "devices:list", "devices:detail", "devices:phone",
    "attachments:content",
}  # fmt: skip
ROWS: dict[str, Callable[[], Any]] = {
    "campaigns": lambda: CampaignFactory(sending=True),
    "sequences": lambda: SequenceStepFactory().sequence,
    "leads": LeadFactory,
    "messages": BroadcastMessageFactory,
    "devices": DeviceFactory,
    "attachments": AttachmentFactory,
}

pytestmark = pytest.mark.django_db


def addresses() -> Iterator[tuple[str, bool]]:
    """Yields the name of each address, and whether it is about one row."""
    for entry in get_resolver().url_patterns:
        if isinstance(entry, URLPattern):
            yield str(entry.name), False
        elif entry.app_name != "admin":
            yield from (
                (f"{entry.namespace}:{each.name}", "<int:pk>" in str(each.pattern))
                for each in entry.url_patterns
                if not isinstance(each, URLResolver)
            )


ADDRESSES = {name: is_of_row for name, is_of_row in addresses() if name not in OPEN}


def address(name: str) -> str:
    """Of a row that is there, so that nothing but the rights stand in the way."""
    args = [ROWS[name.partition(":")[0]]().pk] if ADDRESSES[name] else []
    return reverse(name, args=args)


def test_all_addresses_are_known() -> None:
    assert len(ADDRESSES) > 40
    assert ADDRESSES.keys() >= LOOKS


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("name", ADDRESSES)
def test_whoever_is_not_signed_in_is_sent_to_sign_in(
    client: Client, name: str, method: str
) -> None:
    response = getattr(client, method)(address(name))
    assert response.status_code == 302
    assert response["Location"].startswith(reverse("login"))


@pytest.mark.parametrize("name", ADDRESSES)
def test_an_outsider_is_refused(outsider_client: Client, name: str) -> None:
    url = address(name)
    assert outsider_client.post(url).status_code == 403
    assert outsider_client.get(url).status_code in (403, 405)  # what writes is for POST alone


@pytest.mark.parametrize("name", sorted(ADDRESSES.keys() - LOOKS))
def test_a_viewer_changes_nothing(viewer_client: Client, name: str) -> None:
    assert viewer_client.post(address(name)).status_code == 403


@pytest.mark.parametrize("name", sorted(LOOKS))
def test_a_viewer_may_look(viewer_client: Client, name: str) -> None:
    # 286: there is nothing to come, so htmx need not ask again.
    assert viewer_client.get(address(name)).status_code in (200, 286)


def test_an_outsider_is_told_which_groups_there_are(outsider_client: Client) -> None:
    said = outsider_client.get(reverse("overview")).content.decode()
    assert "group Viewer" in said
    assert "or Operator" in said


def test_a_viewer_is_told_which_groups_do_what_a_viewer_may_not(viewer_client: Client) -> None:
    said = viewer_client.get(reverse("campaigns:create")).content.decode()
    assert "group Operator" in said
    assert "group Admin" in said
    assert "group Viewer" not in said


def test_an_operator_is_sent_to_the_admins(operator_client: Client) -> None:
    said = operator_client.get(reverse("devices:new")).content.decode()
    assert "group Admin" in said
    assert "Operator" not in said
