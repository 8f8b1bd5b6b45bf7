from __future__ import annotations

import pytest

from leads.models import Lead
from tests.factories import LeadFactory

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "text",
    [
        "012-345",
        "0123456789",
        "+60 12",
        "60123",
        "0060 12-3",
        "\uff16\uff10\uff11\uff12",
        "siti",
        "NURHALIZA",
    ],
)
def test_a_lead_is_found_by_how_its_number_begins_or_by_its_name(text: str) -> None:
    lead = LeadFactory(phone="60123456789", name="Siti Nurhaliza")
    LeadFactory(phone="60198765432", name="Ahmad")

    assert list(Lead.objects.search(text)) == [lead]


def test_the_middle_of_a_number_finds_nobody() -> None:
    LeadFactory(phone="60123456789")

    assert not Lead.objects.search("3456").exists()


def test_a_prefix_of_nines_ends_where_it_should() -> None:
    found, _ = LeadFactory(phone="60199999999"), LeadFactory(phone="60200000000")

    assert list(Lead.objects.search("60199")) == [found]
