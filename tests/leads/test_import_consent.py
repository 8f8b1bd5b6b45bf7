"""Consent comes from what the list or the operator says, and from nothing else."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from leads.import_results import Options, Report
from leads.importing import LeadImport
from leads.models import Lead
from leads.spreadsheets import UnreadableFile, read_layout
from tests.factories import LeadFactory
from tests.leads.pressing import press

pytestmark = pytest.mark.django_db


def lead_import(text: str, **options: Any) -> LeadImport:
    return LeadImport(io.BytesIO(text.encode()), Options(**{"region": "MY", **options}))


def report(text: str, **options: Any) -> Report:
    return lead_import(text, **options).run()


def consent_of(cell: str, heading: str = "Consent", **options: Any) -> str | None:
    """Where the lead of a list with this one cell agreed; None where it has no consent."""
    report(f'Phone,{heading}\n0123456789,"{cell}"\n', **options)
    lead = Lead.objects.get()
    return lead.consent_source if lead.consented_at else None


@pytest.mark.parametrize(
    "heading", ["Consent", "CONSENT?", "Opted in", "opt-in", "Consented", "Persetujuan", "Setuju"]
)
def test_a_column_of_consent_is_known_by_its_natural_names(heading: str) -> None:
    assert consent_of("Yes", heading) == f"{heading}: Yes"


@pytest.mark.parametrize("heading", ["Consent source", "Consent_Source", "Where they consented"])
def test_a_column_of_where_they_agreed_records_just_that(heading: str) -> None:
    assert consent_of("October fair", heading) == "October fair"


@pytest.mark.parametrize("cell", ["yes", "Y", "TRUE", "1", "Ya", "setuju", "Opted in.", "✓"])
def test_yes_is_recorded_as_it_stands_in_the_list(cell: str) -> None:
    assert consent_of(cell) == f"Consent: {cell}"


def test_yes_is_kept_with_where_the_operator_says_that_was() -> None:
    assert consent_of("yes", consent="October fair") == "October fair"


@pytest.mark.parametrize(
    "cell",
    ["no", "N", "false", "0", "tidak", "-", "n/a", "?", "Opted out", "No.", "NO!", "no consent",
     "not given", "NULL", "Belum setuju"],
)  # fmt: skip
def test_no_is_no_consent_whatever_is_said_of_the_whole_list(cell: str) -> None:
    assert consent_of(cell, consent="October fair") is None


@pytest.mark.parametrize("cell", ["pending", "asked her twice", "2024-05-01"])
def test_a_word_that_is_neither_yes_nor_no_is_no_and_is_named(cell: str) -> None:
    done = report(f"Phone,Consent\n0123456789,{cell}\n", consent="October fair")
    assert Lead.objects.get().consented_at is None
    assert done.without_consent == 1
    (remark,) = done.remarks
    assert cell in remark
    assert "Consent source" in remark


def test_an_empty_cell_leaves_it_to_what_is_said_of_the_whole_list() -> None:
    assert consent_of("") is None
    assert consent_of("", consent="October fair") == "October fair"


@pytest.mark.parametrize(
    "nowhere",
    ["none", "-", "unknown", "NULL", r"\N", "#N/A", "#REF!", "nan", "nil", "—", "x", "No.", "n/a",
     "no consent", "NOT_GIVEN", "(not asked)", "consent not given", "Refused at the door",
     "tiada persetujuan", "Tidak", "tak pasti", "belum", "2024-05-01", "\u200bno"],
)  # fmt: skip
def test_no_place_where_they_agreed_is_no_consent_and_is_named(nowhere: str) -> None:
    done = report(f"Phone,Consent source\n0123456789,{nowhere}\n", consent="October fair")
    assert Lead.objects.get().consented_at is None
    assert (done.without_consent, done.denied, done.unsaid) == (1, 1, 0)
    (remark,) = done.remarks
    assert f"“{nowhere}” under Consent source is no place" in remark


@pytest.mark.parametrize("place", ["Notary fair", "Nobel's", "Takaful form", "web form", "官网"])
def test_a_place_that_only_looks_like_no_is_a_place(place: str) -> None:
    assert consent_of(place, "Consent source") == place


def test_no_goes_before_a_place_and_a_place_before_the_whole_list() -> None:
    report(
        "Phone,Consent,Consent source\n"
        "0123456781,no,web form\n"
        "0123456782,yes,web form\n"
        "0123456783,,web form\n"
        "0123456784,yes,-\n",
        consent="October fair",
    )
    leads = Lead.objects.order_by("phone").values_list("consent_source", flat=True)
    assert list(leads) == ["", "web form", "web form", "October fair"]


def test_a_yes_does_not_outweigh_a_no_beside_it() -> None:
    done = report("Phone,Consent,Consent source\n0123456789,yes,not given\n", consent="fair")
    assert Lead.objects.get().consented_at is None
    assert done.denied == 1


@pytest.mark.parametrize(
    ("cells", "source"),
    [("yes,no", None), ("no,yes", None), (",no", None), ("yes,pending", None),
     ("yes,", "Consent: yes"), (",yes", "WhatsApp opt-in: yes"), ("yes,yes", "Consent: yes")],
)  # fmt: skip
@pytest.mark.parametrize("swapped", [False, True])
def test_of_several_columns_of_consent_one_no_is_enough(
    cells: str, source: str | None, swapped: bool
) -> None:
    headings = "Consent,WhatsApp opt-in"
    if swapped:
        headings, cells = (",".join(text.split(",")[::-1]) for text in (headings, cells))
    done = report(f"Phone,{headings}\n0123456789,{cells}\n", consent="" if source else "fair")
    lead = Lead.objects.get()
    assert (lead.consent_source if lead.consented_at else None) == source
    assert sorted(done.consent_headings) == ["Consent", "WhatsApp opt-in"]
    assert done.unused_headings == []


def test_of_several_columns_of_where_they_agreed_the_first_that_says_it_counts() -> None:
    report(
        "Phone,Consent source,Opt-in source\n"
        "0123456781,NULL,web form\n0123456782,fair,web form\n0123456783,fair,no consent\n"
    )
    leads = Lead.objects.order_by("phone").values_list("consent_source", flat=True)
    assert list(leads) == ["web form", "fair", ""]


# The same number in several rows


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_no_in_a_later_row_withholds_what_an_earlier_one_says(
    dry_run: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leads.importing.BATCH_ROWS", 2)
    text = "Phone,Consent\n0123456789,yes\n0123456781,yes\n0123456782,yes\n+60 12-345 6789,no\n"
    used, *others, denying = lead_import(text, consent="fair", dry_run=dry_run).results()
    assert used.outcome == "created"
    assert used.denied
    assert "Another row of the same number says no" in used.remarks[0]
    assert not any(result.denied for result in others)
    assert denying.reason == (
        "Same number as row 2, which is used instead. "
        "Row 5 says no to consent: that counts for all of them."
    )
    assert Lead.objects.count() == (0 if dry_run else 3)
    assert Lead.objects.filter(consented_at__isnull=False).count() == (0 if dry_run else 2)


@pytest.mark.parametrize(
    "rows",
    [
        ",0123456789,no\n,0123456789,yes\n",
        ",0123456789,\n,0123456789,no\n",
        ",0123456789,yes\n,0123456789,pending\n",
        ",0123456789,yes\n" + "x" * 151 + ",0123456789,no\n",
        ",0123456789,yes\n,0123456789,no,stray\n",
    ],
)
def test_a_no_counts_in_whichever_row_it_stands_also_one_that_is_not_used(rows: str) -> None:
    done = report(f"Name,Phone,Consent\n{rows}", consent="fair")
    assert Lead.objects.get().consented_at is None
    assert (done.without_consent, done.denied) == (1, 1)


def test_a_no_in_a_later_row_leaves_consent_on_record_and_says_so() -> None:
    LeadFactory(phone="60123456789", consent_source="sign-up form")
    done = report("Phone,Consent\n0123456789,yes\n0123456789,no\n")
    lead = Lead.objects.get()
    assert lead.consented_at
    assert lead.consent_source == "sign-up form"
    assert done.denied == 0
    assert any("on record, which stays" in remark for remark in done.remarks)


def test_a_list_of_consent_that_breaks_off_is_not_begun() -> None:
    rows = "".join(f"01{n:08},yes\n" for n in range(20_000_000, 20_001_500))
    broken = lead_import(f"Phone,Consent\n{rows}{'x' * 140_000}")
    with pytest.raises(UnreadableFile, match="after row 1501"):
        broken.run()
    assert not Lead.objects.exists()


# Leads that are here already


def test_leads_that_are_here_already_get_the_consent_of_their_own_rows() -> None:
    phones = [f"6012345678{n}" for n in range(4)]
    for phone in phones[:3]:
        LeadFactory(phone=phone, without_consent=True, consent_source="")
    LeadFactory(phone=phones[3], consent_source="sign-up form")
    done = report(
        "Phone,Consent,Consent source\n"
        f"{phones[0]},yes,fair\n{phones[1]},yes,walk-in\n{phones[2]},no,\n{phones[3]},no,\n"
    )
    leads = Lead.objects.order_by("phone")
    assert [lead.consent_source for lead in leads] == ["fair", "walk-in", "", "sign-up form"]
    assert [bool(lead.consented_at) for lead in leads] == [True, True, False, True]
    assert done.without_consent == 1
    (remark,) = done.remarks
    assert "on record, which stays" in remark


def test_a_place_of_its_own_for_each_lead_takes_no_more_statements() -> None:
    def statements(place: str) -> int:
        Lead.objects.all().delete()
        phones = [f"6012{n:07}" for n in range(3_000_000, 3_000_300)]
        for n, phone in enumerate(phones[:200]):
            # Of 100 nothing is on record, of 100 consent, and 100 are new. Some have opted out.
            LeadFactory(
                phone=phone,
                without_consent=n < 100,
                opted_out=n % 10 == 0,
                consent_source="old",
            )
        rows = "".join(f"{phone},{place.format(n)}\n" for n, phone in enumerate(phones))
        with CaptureQueriesContext(connection) as queries:
            report(f"Phone,Consent source\n{rows}")
        for n, lead in enumerate(Lead.objects.order_by("phone")):
            assert lead.consented_at
            assert lead.consent_source == ("old" if 100 <= n < 200 else place.format(n))
            assert bool(lead.opted_out_at) == (n < 200 and n % 10 == 0)
        return len(queries)

    assert statements("form of 1 May row {}") == statements("form") <= 30


def test_an_opt_out_survives_a_yes() -> None:
    LeadFactory(phone="60123456789", opted_out=True)
    assert consent_of("yes") == "sign-up form"
    assert Lead.objects.get().opted_out_at


def test_a_place_that_does_not_fit_is_refused_and_not_cut() -> None:
    done = report(f"Phone,Consent source\n0123456789,{'x' * 256}\n")
    assert done.counts == {"refused": 1}
    assert "where they consented" in done.problems[0].reason


def test_importing_it_again_changes_nothing() -> None:
    text = "Phone,Consent\n0123456781,yes\n0123456782,no\n"
    report(text)
    assert report(text).counts == {"unchanged": 2}


def test_the_source_of_a_lead_is_not_where_it_agreed() -> None:
    layout = read_layout(io.BytesIO(b"Phone,Source,Consent source\n"))
    assert layout.columns == {"phone": 0, "source": 1, "consent_source": 2}


# The pages and the command


@pytest.fixture(autouse=True)
def _upload_folder(settings: Any, tmp_path: Path) -> None:
    settings.BASE_DIR = tmp_path


def test_the_pages_name_what_is_read_for_consent_and_what_is_ignored(
    operator_client: Client,
) -> None:
    text = b"Phone,Opted in,Birthday,Shoe size\n0123456789,yes,1 May,42\n0123456788,no,,\n"
    file = SimpleUploadedFile("leads.csv", text)
    operator_client.post(reverse("leads:upload"), {"file": file})
    page = operator_client.get(reverse("leads:review")).content.decode()
    assert "Consent is read, row by row, from: <b>Opted in</b>" in page
    assert "These columns are not known, and are ignored: <b>Birthday, Shoe size</b>" in page
    assert "1 of these leads has no consent on record." in page
    assert "For 1 of them the list itself says no" in page
    assert "say where" not in page

    press(operator_client, "import")

    page = operator_client.get(reverse("leads:review")).content.decode()
    assert "These columns are not known, and were ignored: <b>Birthday, Shoe size</b>" in page
    assert "For 1 of them the list itself says no" in page
    assert "say where" not in page
    assert Lead.objects.filter(consented_at__isnull=False).count() == 1


def test_the_form_names_the_columns_that_are_read(operator_client: Client) -> None:
    page = operator_client.get(reverse("leads:upload")).content.decode()
    for words in ("Consent, Consent source", "Opted in", "any other column is ignored"):
        assert words in page


def test_only_those_of_whom_nothing_is_said_are_asked_for(operator_client: Client) -> None:
    rows = b"Phone,Consent\n0123456781,no\n0123456782,\n0123456783,\n"
    operator_client.post(reverse("leads:upload"), {"file": SimpleUploadedFile("leads.csv", rows)})
    page = operator_client.get(reverse("leads:review")).content.decode()
    assert "3 of these leads have no consent on record." in page
    assert "For 1 of them the list itself says no" in page
    assert "The list does not say where 2 of them agreed." in page

    press(operator_client, "import")

    page = operator_client.get(reverse("leads:review")).content.decode()
    assert "For 1 of them the list itself says no" in page
    assert "The list does not say where 2 of them agreed: upload it again" in page


def test_the_command_counts_those_apart_who_said_no(tmp_path: Path) -> None:
    path = tmp_path / "leads.csv"
    path.write_text("Phone,Consent\n0123456781,no\n0123456782,\n")
    out = io.StringIO()
    call_command("import_leads", path, stdout=out, no_color=True)
    assert "2 of these leads have no consent on record" in out.getvalue()
    assert "1  of them: the list itself says no" in out.getvalue()
    assert "1  of them: nobody said" in out.getvalue()
