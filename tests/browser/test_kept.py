"""What somebody enters is not lost where it could not be saved."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, User
from django.contrib.sessions.models import Session
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect
from pytest_django.live_server_helper import LiveServer

from campaigns.models import Campaign
from sequences.models import Sequence
from tests.browser.test_journey import sign_in
from tests.factories import CampaignFactory

RESTORED = "Restored: this is what you had entered and not saved."
NEW = reverse("campaigns:create")
TEXT = "Hi {name|there},\n\nit is back."


def write(page: Page) -> None:
    page.get_by_label("Title").fill("October restock")
    page.get_by_label("Message").fill(TEXT)
    page.get_by_text("Later", exact=True).click()


def sign_in_again(page: Page, user: User) -> None:
    page.get_by_label("Username").fill(user.username)
    page.get_by_label("Password").fill("a pass phrase")
    page.get_by_role("button", name="Sign in").click()


def expect_written(page: Page) -> None:
    expect(page.get_by_text(RESTORED)).to_be_visible()
    expect(page.get_by_label("Title")).to_have_value("October restock")
    expect(page.get_by_label("Message")).to_have_value(TEXT)
    expect(page.get_by_label("Later")).to_be_checked()


def test_a_campaign_is_still_there_after_the_session_ended_and_is_forgotten_once_it_is_saved(
    page: Page, operator: User
) -> None:
    sign_in(page, operator)
    page.goto(NEW)
    write(page)
    Session.objects.all().delete()
    page.get_by_role("button", name="Save draft").click()
    sign_in_again(page, operator)
    expect_written(page)
    expect(page.get_by_text("Not saved yet.")).to_have_count(0)

    page.get_by_text("Now", exact=True).click()
    page.get_by_role("button", name="Save draft").click()
    expect(page.get_by_text("Saved as a draft.")).to_be_visible()
    assert Campaign.objects.get().message == TEXT
    for path in (page.url, NEW):
        page.goto(path)
        expect(page.get_by_text(RESTORED)).to_have_count(0)
    expect(page.get_by_label("Message")).to_have_value("")


def test_steps_that_were_added_are_still_there_as_well(page: Page, operator: User) -> None:
    sign_in(page, operator)
    page.goto(reverse("sequences:create"))
    page.get_by_label("Name").fill("Welcome")
    page.get_by_label("Trigger").fill("COLDVITAC")
    page.get_by_role("button", name="Add a step").click()
    page.locator("#id_steps-2-message").fill("The third")
    Session.objects.all().delete()
    page.get_by_role("button", name="Save", exact=True).click()
    sign_in_again(page, operator)
    expect(page.get_by_text(RESTORED)).to_be_visible()
    expect(page.get_by_label("Name")).to_have_value("Welcome")
    expect(page.locator("#id_steps-2-message")).to_have_value("The third")
    expect(page.get_by_text("Nothing was saved yet.")).to_have_count(0)
    assert not Sequence.objects.exists()


def test_nobody_sees_what_another_has_entered(page: Page, operator: User) -> None:
    other = User.objects.create_user("other", password="a pass phrase")
    other.groups.add(Group.objects.get(name="Operator"))
    sign_in(page, operator)
    page.goto(NEW)
    write(page)
    Session.objects.all().delete()
    page.get_by_role("button", name="Save draft").click()
    sign_in_again(page, other)
    expect(page.get_by_label("Message")).to_have_value("")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Username")).to_be_visible()
    assert "kept:" not in page.evaluate("Object.keys(sessionStorage).join()")


def test_what_was_restored_can_be_thrown_away(page: Page, operator: User) -> None:
    draft = CampaignFactory(message="As it was")
    sign_in(page, operator)
    page.goto(reverse("campaigns:edit", args=[draft.pk]))
    page.get_by_label("Message").fill("Half a thou")
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto("/")
    page.goto(reverse("campaigns:edit", args=[draft.pk]))
    expect(page.get_by_label("Message")).to_have_value("Half a thou")
    page.get_by_role("link", name="Begin again without it").click()
    expect(page.get_by_text(RESTORED)).to_have_count(0)
    expect(page.get_by_label("Message")).to_have_value("As it was")


@pytest.mark.parametrize("then", ["Review", "Save draft"])
def test_a_form_from_before_a_new_sign_in_is_sent_after_all(
    browser: Browser, live_server: LiveServer, operator: User, then: str
) -> None:
    context = browser.new_context(base_url=live_server.url)
    page, other = context.new_page(), context.new_page()
    sign_in(page, operator)
    page.goto(NEW)
    write(page)
    other.goto("/")
    other.get_by_role("button", name="Sign out").click()
    sign_in_again(other, operator)
    expect(other).to_have_url("/")
    page.get_by_role("button", name=then).click()
    expect(page.get_by_text("This page was loaded before you signed in")).to_be_visible()
    page.get_by_role("link", name="Load the page again").click()
    expect_written(page)
    context.close()
