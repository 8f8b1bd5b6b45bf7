"""A page that is not kept up to date any more says so."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect
from pytest_django.live_server_helper import LiveServer

from tests.browser.test_journey import sign_in
from tests.factories import BroadcastMessageFactory, CampaignFactory

LOST = "No connection to Siaran since"
REFUSED = "Signed out, or not allowed any more, since"


@pytest.fixture
def window(browser: Browser, live_server: LiveServer, operator: User) -> Iterator[Page]:
    """A window of the operator, whose browser may complain of requests that fail."""
    context = browser.new_context(base_url=live_server.url)
    page = context.new_page()
    sign_in(page, operator)
    yield page
    context.close()


def test_a_page_whose_server_is_gone_says_so_until_it_is_back(window: Page) -> None:
    campaign = CampaignFactory(sending=True)
    BroadcastMessageFactory(campaign=campaign)
    window.goto(reverse("campaigns:detail", args=[campaign.pk]))
    bar = window.locator("#connection")
    expect(bar).to_be_hidden()
    window.context.set_offline(True)
    expect(bar).to_contain_text(LOST)
    expect(bar).to_be_visible()
    expect(bar.locator("p:visible time")).to_have_text(re.compile(r"^\d\d:\d\d$"))
    window.context.set_offline(False)
    expect(bar).to_be_hidden()


def test_a_preview_that_does_not_come_is_called_old(window: Page) -> None:
    window.goto(reverse("campaigns:create"))
    preview = f"**{reverse('campaigns:preview')}"
    window.route(preview, lambda route: route.fulfill(status=502))
    window.get_by_label("Message").fill("Hello")
    expect(window.get_by_text(LOST)).to_be_visible()
    window.unroute(preview)
    window.get_by_label("Message").fill("Hello again")
    expect(window.get_by_text(LOST)).to_be_hidden()


def test_a_page_of_somebody_who_is_signed_out_shows_no_sign_in_inside(window: Page) -> None:
    campaign = CampaignFactory(sending=True)
    BroadcastMessageFactory(campaign=campaign)
    window.goto(reverse("campaigns:detail", args=[campaign.pk]))
    Session.objects.all().delete()
    expect(window.get_by_text(REFUSED)).to_be_visible()
    expect(window.locator("#progress")).to_be_visible()
    expect(window.get_by_label("Password")).to_have_count(0)
