"""What must be seen of a box that holds more than it shows."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.urls import reverse
from playwright.sync_api import FloatRect, Locator, Page

from leads.models import Niche
from tests.browser.test_journey import sign_in


def box(of: Locator) -> FloatRect:
    found = of.bounding_box()
    assert found
    return found


def test_a_row_is_cut_where_more_niches_follow(page: Page, operator: User) -> None:
    Niche.ensure([f"NICHE {n}" for n in range(7)])
    sign_in(page, operator)
    page.goto(reverse("campaigns:create"))

    choices = page.locator(".choices").first
    shown, cut = box(choices), box(choices.locator("label").nth(5))
    end = shown["y"] + shown["height"]
    assert cut["y"] + cut["height"] / 4 < end < cut["y"] + cut["height"] * 3 / 4


def test_five_niches_are_seen_whole(page: Page, operator: User) -> None:
    Niche.ensure([f"NICHE {n}" for n in range(5)])
    sign_in(page, operator)
    page.goto(reverse("campaigns:create"))

    choices = page.locator(".choices").first
    assert choices.evaluate("box => box.scrollHeight == box.clientHeight")
