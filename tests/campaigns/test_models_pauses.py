from __future__ import annotations

import pytest
from django.core.exceptions import ValidationError

from tests.factories import CampaignFactory

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("pauses", "said"),
    [
        ((0, 0), "pauses as its devices have them"),
        ((20, 0), "pauses of 20 seconds at least"),
        ((20, 20), "pauses of 20 seconds at least"),
        ((20, 30), "pauses of 20 to 30 seconds at least"),
    ],
)
def test_a_longest_pause_of_nothing_is_that_of_the_devices(
    pauses: tuple[int, int], said: str
) -> None:
    campaign = CampaignFactory(min_delay_seconds=pauses[0], max_delay_seconds=pauses[1])
    campaign.clean()

    assert campaign.pauses == said


def test_a_longest_pause_is_not_shorter_than_the_shortest() -> None:
    with pytest.raises(ValidationError, match="shorter than the shortest"):
        CampaignFactory(min_delay_seconds=20, max_delay_seconds=10).clean()
