from __future__ import annotations

import pytest

from broadcasts.rendering import render
from tests.factories import LeadFactory

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("Hi {name}!", "Hi Siti Nurhaliza!"),
        ("Hi {first_name}!", "Hi Siti!"),
        ("{ name | there }", "Siti Nurhaliza"),
        ("{niche}", "EXSTART, VITAC"),
        ("Call {phone}", "Call +60 12-345 6789"),
        ("*bold*\n\n  two lines.com/a?b=c", "*bold*\n\n  two lines.com/a?b=c"),
    ],
)
def test_placeholders_are_filled_and_everything_else_is_left_alone(body: str, text: str) -> None:
    lead = LeadFactory(name="Siti Nurhaliza", phone="60123456789", niches=["VITAC", "EXSTART"])

    assert render(body, lead) == text


def test_who_has_no_name_is_greeted_by_the_fallback() -> None:
    assert render("Hi {name|there}, {first_name|friend}{niche}.", LeadFactory(name="")) == (
        "Hi there, friend."
    )


def test_a_name_that_looks_like_a_placeholder_stays_a_name() -> None:
    assert render("Hi {name}", LeadFactory(name="{phone}")) == "Hi {phone}"


def test_a_first_name_ends_before_a_comma() -> None:
    assert render("Hi {first_name|friend}, see", LeadFactory(name="Tan, Kid")) == "Hi Tan, see"
    assert render("Hi {first_name|friend}", LeadFactory(name=" , ")) == "Hi friend"


def test_a_name_of_blanks_has_no_first_name() -> None:
    assert render("Hi {first_name|friend}", LeadFactory(name="  ")) == "Hi friend"
