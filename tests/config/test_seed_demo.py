from __future__ import annotations

from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from campaigns.models import Campaign
from devices.models import Device
from leads.models import Lead
from sequences.models import Sequence
from tests.factories import DeviceFactory, LeadFactory

pytestmark = pytest.mark.django_db


def test_the_demo_has_everything_to_look_at() -> None:
    call_command("seed_demo", password="demo")

    assert Device.objects.usable().count() == 5
    assert Lead.objects.filter(opted_out_at__isnull=False).count() == 6
    assert Lead.objects.count() > 200
    assert Sequence.objects.get().status == "active"
    assert Campaign.objects.get().status == "scheduled"


def test_seeding_twice_adds_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("seed_demo", password="demo")
    before = (Lead.objects.count(), Device.objects.count(), Campaign.objects.count())

    call_command("seed_demo", password="demo")

    assert (Lead.objects.count(), Device.objects.count(), Campaign.objects.count()) == before


@pytest.mark.parametrize("factory", [LeadFactory, DeviceFactory])
def test_a_database_with_real_people_in_it_is_refused(factory: type[LeadFactory]) -> None:
    """Its campaign has no niche: it would go to every one of them."""
    factory()

    with pytest.raises(CommandError, match="in use"):
        call_command("seed_demo", password="demo")

    assert not Campaign.objects.exists()


def test_a_list_of_one_s_own_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("Name,Phone\nSiti,012-345 6789\nNobody,123\n")

    call_command("seed_demo", password="demo", leads=path)

    assert [lead.phone for lead in Lead.objects.all()] == ["60123456789"]
