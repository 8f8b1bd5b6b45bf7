"""What is said of a form that was refused because it may be from elsewhere."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from campaigns.models import Campaign
from tests.campaigns.entering import entered

pytestmark = pytest.mark.django_db

NEW = reverse("campaigns:create")
HERE = "http://testserver"


@pytest.fixture
def strict(operator: User) -> Client:
    """A browser of somebody who is signed in: the test client sends no forgery tokens."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(operator)
    client.get(NEW)
    return client


def test_a_page_from_before_somebody_signed_in_says_so_and_leads_back(strict: Client) -> None:
    data = entered(csrfmiddlewaretoken="a" * 64)
    response = strict.post(NEW, data, headers={"referer": f"{HERE}{NEW}"})
    page = response.content.decode()
    assert response.status_code == 403
    assert "This page was loaded before you signed in" in page
    assert f'href="{HERE}{NEW}"' in page
    assert 'class="alone"' in page
    assert "DEBUG" not in page
    assert not Campaign.objects.exists()


def test_it_leads_to_no_other_site(strict: Client) -> None:
    page = strict.post(NEW, headers={"referer": "https://evil.example/"}).content.decode()
    assert "evil.example" not in page
    assert f'href="{reverse("overview")}"' in page


def test_a_browser_without_cookies_is_told_that() -> None:
    response = Client(enforce_csrf_checks=True).post(reverse("login"), {"username": "a"})
    assert response.status_code == 403
    assert "The browser sent no cookie" in response.content.decode()


def test_another_address_than_siaran_s_own_is_not_called_an_old_page(strict: Client) -> None:
    response = strict.post(NEW, headers={"origin": "https://other.example"})
    page = response.content.decode()
    assert response.status_code == 403
    assert "SITE_URL" in page
    assert "signed in" not in page
