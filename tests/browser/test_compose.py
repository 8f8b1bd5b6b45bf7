"""What the form of a campaign does while somebody fills it in."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect
from pytest_django.live_server_helper import LiveServer

from campaigns.models import Campaign
from tests.browser.test_journey import sign_in
from tests.factories import DeviceFactory, LeadFactory, NicheFactory


def test_what_is_wrong_with_a_message_is_said_once_and_goes_when_it_is_mended(
    page: Page, operator: User
) -> None:
    sign_in(page, operator)
    page.goto(reverse("campaigns:create"))
    message, said = page.locator("#id_message"), page.get_by_text("Unknown: {nmae}.", exact=False)
    for _before_and_after_a_save_that_fails in range(2):
        message.fill("Hi {nmae}")
        expect(page.locator(".field", has=message).locator(said)).to_be_visible()
        expect(message).to_have_attribute("aria-invalid", "true")
        expect(page.locator("form").locator(said)).to_have_count(1)
        message.fill("Hi {name}")
        expect(page.locator("form").locator(said)).to_have_count(0)
        expect(message).not_to_have_attribute("aria-invalid", "true")
        message.fill("Hi {nmae}")
        page.get_by_role("button", name="Save draft").click()
        expect(page.get_by_text("Not saved yet.")).to_be_visible()


@pytest.mark.parametrize("scripted", [True, False])
def test_a_date_is_asked_for_when_it_is_not_now(
    browser: Browser, live_server: LiveServer, operator: User, scripted: bool
) -> None:
    context = browser.new_context(base_url=live_server.url, java_script_enabled=scripted)
    page = context.new_page()
    page.set_viewport_size({"width": 360, "height": 800})
    sign_in(page, operator)
    page.goto(reverse("campaigns:create"))

    date = page.locator("#id_starts_at")
    expect(date).to_be_hidden()
    page.get_by_text("Later", exact=True).click()
    expect(date).to_be_visible()
    expect(date).to_be_enabled()
    page.get_by_text("Now", exact=True).click()
    expect(date).to_be_hidden()
    context.close()


def write(page: Page) -> None:
    page.goto(reverse("campaigns:create"))
    page.get_by_label("Title").fill("Raya")
    page.get_by_text("VITAC", exact=True).click()
    page.locator("#id_message").fill("Hi {name|there}")


def test_back_on_the_form_the_count_is_of_what_stands_there(page: Page, operator: User) -> None:
    DeviceFactory(online=True)
    LeadFactory.create_batch(2)
    LeadFactory(niches=[NicheFactory(name="VITAC").name])
    sign_in(page, operator)
    write(page)
    page.get_by_role("button", name="Review 1 message").click()
    page.get_by_role("button", name="Send 1 message").click()
    expect(page.get_by_text("On its way")).to_be_visible()

    page.go_back()
    page.go_back()

    expect(page.locator("#id_message")).to_have_value("Hi {name|there}")
    expect(page.get_by_role("button", name="Review 1 message")).to_be_visible()
    expect(page.locator("#preview .bubble")).to_contain_text("Hi ")


def test_a_double_click_asks_once(page: Page, operator: User) -> None:
    NicheFactory(name="VITAC")
    sign_in(page, operator)
    write(page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(f"{request.method} {request.url}"))

    # A click and another before the server answers.
    button = page.get_by_role("button", name="Save draft")
    button.evaluate("button => { button.click(); setTimeout(() => button.click()); }")
    expect(page.get_by_text("Saved as a draft.")).to_be_visible()

    assert sum(each.startswith("POST") and each.endswith("/new/") for each in asked) == 1
    assert Campaign.objects.count() == 1
