"""What the database fills in is what `render` would have written."""

from __future__ import annotations

import pytest

from broadcasts.rendering import greeting_of, render
from campaigns.models import Campaign
from leads.models import Lead
from tests.factories import CampaignFactory, DeviceFactory, LeadFactory

pytestmark = pytest.mark.django_db

NAMES = [
    "", " ", "   ", "Siti", " Siti ", "Siti  Nurhaliza", "O'Brien", '"Ali"', "50% %s %d %%", "\\",
    "\\' OR 1=1 --", "{name}", "{phone|x}", "رامي", "😀🎉", "two\nlines", "tab\there",
    "a" * 150, "\u00a0", "\u3000Ali", "0", "NULL", "?", ":p", "$1",
]  # fmt: skip
BODIES = [
    "Hi {name|there}, the shop is open.",
    "{name}",
    "{ name | }!",
    "50% off, {name|it's \"you\" \\ 😀}: %s %% 'now'\n\n{{",
    "Nobody's name, 100% \\n \\ '' \"",
    "   ",
    "Hi {first_name|friend} ({name}), {niche|none} at {phone}",
    "{name} {name}",
    "{niche}",
]


@pytest.mark.parametrize("body", BODIES)
def test_each_reads_what_render_writes(body: str) -> None:
    DeviceFactory()
    for n, name in enumerate(NAMES):
        LeadFactory(name=name, niches=["VITAC", "EXSTART"][: n % 3])
    campaign = CampaignFactory(message=body)
    assert campaign.schedule()

    Campaign.objects.process()

    written = dict(campaign.messages.values_list("lead_id", "body"))
    assert written == {lead.pk: render(body, lead) for lead in Lead.objects.all()}
    names = dict(campaign.messages.values_list("lead_id", "recipient_name"))
    assert names == dict(Lead.objects.values_list("pk", "name"))


def test_the_database_fills_in_a_name_and_nothing_else() -> None:
    assert [greeting_of(body) is not None for body in BODIES] == [True] * 6 + [False] * 3
