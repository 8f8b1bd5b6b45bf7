from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from leads.models import Lead
from tests.factories import DeviceFactory, LeadFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def leads_csv(tmp_path: Path) -> Path:
    path = tmp_path / "leads.csv"
    path.write_text("Nama,No Tel,Remarks\nAli,0123456789,x\nSiti,123,y\nAli,+60123456789,z\n")
    return path


def import_leads(*args: Any, **options: Any) -> str:
    out = io.StringIO()
    call_command("import_leads", *args, stdout=out, no_color=True, **options)
    return out.getvalue()


def test_it_imports_and_says_what_became_of_the_rows(leads_csv: Path) -> None:
    out = import_leads(leads_csv)
    assert Lead.objects.get().phone == "60123456789"
    assert [line.split() for line in out.splitlines()[:1]] == [["1", "new"]]
    assert "3  rows in all" in out
    assert "row 3: No such number" in out
    assert "Columns not known, and ignored: Remarks" in out
    assert "1 of these leads have no consent on record" in out


def test_it_says_which_columns_of_numbers_it_did_not_read(tmp_path: Path) -> None:
    path = tmp_path / "leads.csv"
    path.write_text("Phone,Mobile\n0123456789,0133456789\n")
    out = import_leads(path)
    assert "it is read from “Phone”, and these numbers are ignored: Mobile." in out
    assert "not known" not in out


def test_a_dry_run_imports_nothing(leads_csv: Path) -> None:
    assert "nothing was changed" in import_leads(leads_csv, "--dry-run")
    assert not Lead.objects.exists()


def test_the_options_are_of_all_the_rows(leads_csv: Path) -> None:
    device = DeviceFactory(name="Sales 01")
    import_leads(
        leads_csv, "--niche=vitac, hot", "--status=customer", "--device=Sales 01", "--consent=form"
    )
    lead = Lead.objects.get()
    assert {str(niche) for niche in lead.niches.all()} == {"VITAC", "HOT"}
    assert (lead.status, lead.device, lead.consent_source) == ("customer", device, "form")


def test_the_region_is_of_numbers_without_a_country_code(tmp_path: Path) -> None:
    path = tmp_path / "sg.csv"
    path.write_text("Phone\n91234567\n")
    import_leads(path, "--region=sg")
    assert Lead.objects.get().phone == "6591234567"


def test_the_rows_not_used_are_written_to_a_file(leads_csv: Path, tmp_path: Path) -> None:
    import_leads(leads_csv, report=tmp_path / "report.csv")
    lines = (tmp_path / "report.csv").read_text(encoding="utf-8-sig").splitlines()
    assert len(lines) == 3
    assert "'+60123456789" in lines[2]


def test_refused_rows_fail_it_only_when_strict(leads_csv: Path) -> None:
    import_leads(leads_csv)
    with pytest.raises(CommandError) as error:
        import_leads(leads_csv, "--strict")
    assert error.value.returncode == 3


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--device=Nobody"], "no device called Nobody"),
        (["--device=Deleted"], "no device called Deleted"),
        (["--region=Malaysia"], "not a country"),
        (["--consent=" + "x" * 256], "longer than 255"),
        (["--status=lead"], "invalid choice"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused(
    leads_csv: Path, options: list[str], reason: str
) -> None:
    DeviceFactory(name="Deleted", deleted_at=timezone.now())
    with pytest.raises(CommandError, match=reason):
        import_leads(leads_csv, *options)
    assert not Lead.objects.exists()


def test_a_file_that_is_not_there_or_no_list_is_refused(tmp_path: Path) -> None:
    for path, what in ((tmp_path / "missing.csv", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(CommandError) as refused:
            import_leads(path)
        said = str(refused.value)
        assert said.startswith(f"{path}: {what}")
        assert said.endswith("Nothing was imported.")
        assert "Errno" not in said
    (tmp_path / "x.csv").write_text("Name\nAli\n")
    with pytest.raises(CommandError, match="No column holds phone numbers"):
        import_leads(tmp_path / "x.csv")


@pytest.mark.parametrize("is_dry", [True, False])
def test_it_names_the_rows_that_change_a_lead_and_the_niches_that_are_new(
    tmp_path: Path, is_dry: bool
) -> None:
    LeadFactory(phone="60123456789", name="Ali", niches=["VITAC"])
    (tmp_path / "x.csv").write_text(
        "Phone,Name,Niche\n0123456789,Abu,VITAC\n0123456780,Siti,titan; VITAC\n12,Tan,NOBODY\n"
    )
    said = import_leads(tmp_path / "x.csv", dry_run=is_dry)
    assert "row 2: name: Ali → Abu" in said
    verb = "would be" if is_dry else "were"
    assert f"1  niches that {verb} made: TITAN\n" in said
