"""What must be seen on a phone without scrolling sideways."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.urls import reverse
from playwright.sync_api import Locator, Page

from broadcasts.models import BroadcastMessage
from tests.browser.test_journey import sign_in
from tests.factories import BroadcastMessageFactory, LeadFactory

WIDTH = 360


@pytest.fixture
def message(browser: object) -> BroadcastMessage:
    return BroadcastMessageFactory(status="failed", error_message="It is not on WhatsApp.")


def is_seen(cell: Locator) -> bool:
    box = cell.bounding_box()
    return bool(box and box["x"] >= 0 and box["x"] + box["width"] <= WIDTH)


@pytest.mark.parametrize("name", ["list", "recipients"])
def test_where_a_message_stands_and_why_is_seen_on_a_phone(
    page: Page, operator: User, message: BroadcastMessage, name: str
) -> None:
    page.set_viewport_size({"width": WIDTH, "height": 800})
    sign_in(page, operator)
    recipients = reverse("campaigns:recipients", args=[message.campaign_id])
    page.goto(reverse("messages:list") if name == "list" else recipients)

    assert is_seen(page.locator("td", has_text="failed"))
    assert is_seen(page.get_by_text("It is not on WhatsApp."))


def test_how_far_a_campaign_is_is_seen_on_a_phone(
    page: Page, operator: User, message: BroadcastMessage
) -> None:
    page.set_viewport_size({"width": WIDTH, "height": 800})
    sign_in(page, operator)
    page.goto(reverse("campaigns:list"))

    assert is_seen(page.get_by_role("link", name=message.campaign.title))
    for words in ("0 / 1", "finished"):
        assert is_seen(page.locator("td", has_text=words))
    assert is_seen(page.locator("td[data-label=failed]", has_text="1"))
    assert is_seen(page.get_by_role("button", name="Copy"))


def test_who_may_be_messaged_is_seen_on_a_phone_with_their_niches(
    page: Page, operator: User
) -> None:
    LeadFactory(name="Siti", opted_out=True, niches=["VITAC"])
    page.set_viewport_size({"width": WIDTH, "height": 800})
    sign_in(page, operator)
    page.goto(reverse("leads:list"))

    for words in ("Siti", "opted out", "VITAC"):
        assert is_seen(page.locator("td", has_text=words))


def test_the_navigation_leaves_a_phone_its_page(page: Page, operator: User) -> None:
    page.set_viewport_size({"width": WIDTH, "height": 800})
    sign_in(page, operator)
    head = page.get_by_role("navigation", name="Main").bounding_box()
    assert head
    assert head["height"] <= 150
