"""Adding a device and pairing it, in a real browser.

The phone's part, and that of the process which talks to WhatsApp, are played here;
tests/whatsapp/test_pairing.py has the real ones.
"""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from devices.models import Device
from devices.pairing import Pairing
from tests.browser.test_journey import sign_in

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def admin(browser: object) -> User:
    return User.objects.create_superuser("siti")


def test_a_device_is_added_and_paired_without_a_reload(page: Page, admin: User) -> None:
    sign_in(page, admin)
    page.goto("/devices/new/")
    page.locator("#id_name").fill("Sales")
    page.get_by_label("WhatsApp, linked to a phone").check()
    expect(page.get_by_label("Number")).to_have_count(0)  # a phone brings its own
    page.get_by_role("button", name="Add the device").click()

    device = Device.objects.get()
    page.get_by_role("button", name="Show the code").click()
    expect(page.get_by_text("Without this nothing is linked.")).to_be_visible()
    page.get_by_label("I have read this and accept it.").check()
    page.get_by_role("button", name="Show the code").click()
    expect(page.get_by_text("Waiting for a broadcaster to take it up")).to_be_visible()

    # From here on the page follows by itself.
    pairing = Pairing.objects.claim("worker")
    assert pairing
    pairing.show("https://wa.me/settings/linked_devices#first", 60)
    code = page.get_by_role("img", name="QR code")
    expect(code).to_be_visible()
    first = code.inner_html()
    expect(page.locator("[data-seconds]")).to_have_text("57")  # counts down
    page.get_by_role("button", name="Cancel").focus()
    pairing.show("https://wa.me/settings/linked_devices#second", 20)
    expect(page.locator("[data-seconds]")).to_have_text("19")
    assert code.inner_html() != first
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()

    pairing.has_linked("60123456789")
    expect(page.get_by_text("the two exchange keys")).to_be_visible()
    pairing.succeed("60123456789")
    expect(page.get_by_text("Linked to +60123456789.")).to_be_visible()
    expect(page.locator("#pairing-state")).to_have_text("linked")
    page.get_by_role("link", name="To the device").click()
    expect(page).to_have_url(f"/devices/{device.pk}/")


def test_a_failure_appears_by_itself_and_is_tried_again_with_one_click(
    page: Page, admin: User
) -> None:
    device = Device.objects.create(name="Sales", transport="neonize")
    sign_in(page, admin)
    page.goto(f"/devices/{device.pk}/pair/")
    page.get_by_label("I have read this and accept it.").check()
    page.get_by_text("Type a code of 8 characters").click()
    page.get_by_label("Number of the phone").fill("012-345 6789")
    page.get_by_role("button", name="Show the code").click()
    pairing = Pairing.objects.claim("worker")
    assert pairing
    pairing.show("ABCD-EFGH", 160)
    expect(page.get_by_text("ABCD-EFGH")).to_be_visible()
    pairing.fail(Pairing.Reason.TIMED_OUT)
    expect(page.get_by_text("The time ran out", exact=False).first).to_be_visible()

    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_text("Waiting for a broadcaster to take it up")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Cancelled. Nothing was linked.")).to_be_visible()
    assert Pairing.objects.latest("pk").phone == "60123456789"
