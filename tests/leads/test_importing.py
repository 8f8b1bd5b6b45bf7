from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import pytest
from django.utils import timezone

from leads.import_results import Options, Outcome, Report, Result, report_lines
from leads.importing import LeadImport
from leads.models import Lead, Niche, Trigger
from leads.spreadsheets import UnreadableFile
from tests.factories import DeviceFactory, LeadFactory

pytestmark = pytest.mark.django_db

HEAD = "Name,Phone Number,Niche,Target Status,Trigger,Source\r\n"


def lead_import(text: str, **options: Any) -> LeadImport:
    return LeadImport(io.BytesIO(text.encode()), Options(**{"region": "MY", **options}))


def run(text: str, **options: Any) -> list[Result]:
    return list(lead_import(text, **options).results())


def report(text: str, **options: Any) -> Report:
    return lead_import(text, **options).run()


def state() -> list[Any]:
    """Everything an import writes, but the times of writing."""
    leads = Lead.objects.order_by("phone").prefetch_related("niches", "triggers")
    return [
        (
            lead.phone, lead.name, lead.status, lead.source, lead.consent_source, lead.device_id,
            sorted(str(n) for n in lead.niches.all()), sorted(str(t) for t in lead.triggers.all()),
        )
        for lead in leads
    ]  # fmt: skip


def test_a_messy_row_becomes_a_clean_lead() -> None:
    (result,) = run(
        HEAD + '"  Kak\tLong  ",(+60)123456789,"VITAC, exstart",CUSTOMER, coldvitac ,'
        '"form ""Free""\r\n2"\r\n'
    )
    assert result.outcome == Outcome.CREATED
    lead = Lead.objects.get()
    assert (lead.phone, lead.name, lead.status) == ("60123456789", "Kak Long", "customer")
    assert lead.source == 'form "Free" 2'
    assert {str(niche) for niche in lead.niches.all()} == {"VITAC", "EXSTART"}
    assert {str(trigger) for trigger in lead.triggers.all()} == {"COLDVITAC"}


def test_names_of_any_script_and_formulas_are_kept_as_they_are() -> None:
    names = ["ஆனந்த்", "Nguyễn Văn An", "Cik Ros 🌸", '"Boss" Lee', "=SUM(A1)", "Mak Cik, Kedai"]
    rows = io.StringIO()
    csv.writer(rows).writerows([name, f"012345678{n}"] for n, name in enumerate(names))
    report("Name,Phone\n" + rows.getvalue())
    assert list(Lead.objects.order_by("phone").values_list("name", flat=True)) == names


def test_one_person_in_two_spellings_is_one_lead() -> None:
    first, second = run(HEAD + "Ali,0123456789,,,,\r\nALI,+60 12-345 6789,,,,\r\n")
    assert first.outcome == Outcome.CREATED
    assert second.outcome == Outcome.DUPLICATE
    assert "row 2" in second.reason
    assert Lead.objects.get().name == "Ali"


def test_a_duplicate_is_found_across_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leads.importing.BATCH_ROWS", 2)
    text = "Phone\n0123456781\n0123456782\n0123456783\n0123456781\n"
    assert [r.outcome for r in run(text)][-1] == Outcome.DUPLICATE
    assert [r.outcome for r in run(text, dry_run=True)][-1] == Outcome.DUPLICATE


def test_the_row_that_was_refused_does_not_stand_in_the_way_of_the_good_one() -> None:
    long, good = run("Name,Phone\n" + "x" * 151 + ",0123456789\nAli,0123456789\n")
    assert long.outcome == Outcome.REFUSED
    assert good.outcome == Outcome.CREATED


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("Ali,6.01234E+10,,,,", "spreadsheet"),
        ("Ali,,,,,", "empty"),
        ("Ali,03-84464946,,,,", "landline"),
        ("x" * 151 + ",0123456789,,,,", "name is longer than 150"),
        ("Ali,0123456789,,,," + "x" * 256, "source is longer than 255"),
        ("Ali,0123456789," + "x" * 101 + ",,,", "longer than 100"),
        ("Ali,0123456789,,,,,stray", "more cells"),
    ],
)
def test_a_row_that_cannot_be_used_is_refused_with_the_reason(row: str, reason: str) -> None:
    (result,) = run(HEAD + row + "\r\n")
    assert result.outcome == Outcome.REFUSED
    assert reason in result.reason
    assert not Lead.objects.exists()


@pytest.mark.parametrize(
    ("word", "status"),
    [("customer", "customer"), (" CUSTOMER ", "customer"), ("Pelanggan", "customer"),
     ("Prospect", "prospect"), ("", "prospect"), ("lead", "prospect")],
)  # fmt: skip
def test_the_status_of_a_new_lead_is_read(word: str, status: str) -> None:
    (result,) = run(f"Phone,Status\n0123456789,{word}\n")
    assert Lead.objects.get().status == status
    assert bool(result.remarks) == (word == "lead")


@pytest.mark.parametrize("word", ["", "lead"])
def test_a_status_that_is_not_stated_leaves_a_known_lead_as_it_is(word: str) -> None:
    LeadFactory(phone="60123456789", status="customer", name="")
    (result,) = run(f"Phone,Status\n0123456789,{word}\n")
    assert result.outcome == Outcome.UNCHANGED
    assert Lead.objects.get().status == "customer"


def test_the_status_option_is_for_rows_that_state_none() -> None:
    report("Phone,Status\n0123456781,\n0123456782,prospect\n", status="customer")
    assert list(Lead.objects.order_by("phone").values_list("status", flat=True)) == [
        "customer",
        "prospect",
    ]


def test_a_known_lead_gets_what_the_file_says_and_loses_nothing() -> None:
    LeadFactory(phone="60123456789", name="Ali", source="fair", niches=["VITAC"], triggers=["OLD"])
    (result,) = run(HEAD + ",0123456789,titan,customer,,\r\n")
    lead = Lead.objects.get()
    assert (lead.name, lead.status, lead.source) == ("Ali", "customer", "fair")
    assert {str(niche) for niche in lead.niches.all()} == {"VITAC", "TITAN"}
    assert {str(trigger) for trigger in lead.triggers.all()} == {"OLD"}
    assert result.outcome == Outcome.UPDATED
    assert result.changes == ["status: prospect → customer", "niche: + TITAN"]


def test_the_niches_that_were_new_are_those_that_were_made() -> None:
    """MariaDB finds CAFE for CAFÉ; SQLite makes both."""
    LeadFactory(phone="60123456780", niches=["VITAC"])

    made = report("Phone,Niche\n0123456781,cafe\n0123456782,café\n0123456783,vitac\n")

    names = set(Niche.objects.values_list("name", flat=True)) - {"VITAC"}
    assert set(made.new_niches) == names


def test_the_given_niches_are_added_to_every_lead() -> None:
    report("Phone,Niche\n0123456781,\n0123456782,vitac\n", niches=("VITAC", "FAIR"))
    assert all(lead.niches.count() == 2 for lead in Lead.objects.all())


def test_consent_is_recorded_with_where_it_was_given() -> None:
    done = report("Phone\n0123456789\n", consent="form of the October fair")
    lead = Lead.objects.with_skip_reason().get()
    assert lead.skip_reason == ""
    assert lead.consent_source == "form of the October fair"
    assert done.without_consent == 0


def test_without_consent_leads_are_stored_counted_and_passed_over() -> None:
    LeadFactory(phone="60123456781")
    LeadFactory(phone="60123456782", without_consent=True)
    done = report("Phone\n0123456781\n0123456782\n0123456783\n")
    assert done.without_consent == 2
    new = Lead.objects.with_skip_reason().get(phone="60123456783")
    assert new.skip_reason == "no_consent"


def test_consent_on_record_is_not_overwritten() -> None:
    LeadFactory(phone="60123456789", name="", consent_source="sign-up form")
    (result,) = run("Phone\n0123456789\n", consent="bought list")
    assert Lead.objects.get().consent_source == "sign-up form"
    assert result.outcome == Outcome.UNCHANGED


def test_consent_is_given_to_a_known_lead_that_had_none() -> None:
    LeadFactory(phone="60123456789", without_consent=True, consent_source="")
    (result,) = run("Phone\n0123456789\n", consent="form")
    assert Lead.objects.get().consented_at is not None
    assert result.changes == ["consent recorded"]


def test_an_opt_out_survives_every_import() -> None:
    LeadFactory(phone="60123456789", opted_out=True, opt_out_source="wrote STOP")
    before = Lead.objects.get().opted_out_at
    (result,) = run(HEAD + "New Name,0123456789,VITAC,customer,,\r\n", consent="form")
    lead = Lead.objects.with_skip_reason().get()
    assert (lead.opted_out_at, lead.opt_out_source) == (before, "wrote STOP")
    assert lead.skip_reason == "opted_out"
    assert any("Opted out" in remark for remark in result.remarks)


def test_the_device_is_set_where_there_is_none_and_stays_where_there_is_one() -> None:
    mine, other = DeviceFactory(), DeviceFactory()
    LeadFactory(phone="60123456781", device=other)
    LeadFactory(phone="60123456782")
    report("Phone\n0123456781\n0123456782\n0123456783\n", device_id=mine.pk)
    assert list(Lead.objects.order_by("phone").values_list("device", flat=True)) == [
        other.pk,
        mine.pk,
        mine.pk,
    ]


def test_a_dry_run_says_what_would_happen_and_writes_nothing() -> None:
    LeadFactory(phone="60123456781", name="Ali", without_consent=True, niches=["VITAC"])
    text = HEAD + "Abu,0123456781,VITAC,,,\r\nSiti,0123456782,TITAN,,X,\r\nTan,123,,,,\r\n"
    before = state()
    dry = run(text, dry_run=True, consent="form")
    assert state() == before
    assert not Trigger.objects.exists()
    assert Niche.objects.count() == 1
    real = run(text, consent="form")
    assert [(r.outcome, r.changes, r.reason) for r in dry] == [
        (r.outcome, r.changes, r.reason) for r in real
    ]
    assert [r.outcome for r in dry] == [Outcome.UPDATED, Outcome.CREATED, Outcome.REFUSED]


def test_importing_again_changes_nothing() -> None:
    text = HEAD + 'Ali,0123456781,"VITAC, TITAN",lead,X,web\r\nAli 2,0123456781,HOT,,,\r\n'
    report(text, consent="form", niches=("FAIR",))
    before = state()
    assert report(text, consent="form", niches=("FAIR",)).counts == {
        Outcome.UNCHANGED: 1,
        Outcome.DUPLICATE: 1,
    }
    assert state() == before


class BreakingFile(io.BytesIO):
    """A disk or network that fails once this many bytes were read after the first look."""

    breaks_at: int | None = None

    def _check(self) -> None:
        if self.breaks_at is not None and self.tell() >= self.breaks_at:
            raise OSError("the disk is gone")

    def read1(self, size: int | None = -1, /) -> bytes:
        self._check()
        return super().read1(size)

    def read(self, size: int | None = -1, /) -> bytes:
        self._check()
        return super().read(size)


def test_an_interrupted_import_keeps_its_batches_and_a_second_run_completes_it() -> None:
    rows = [f"Lead {n},01{n:08}" for n in range(23_000_000, 23_003_000)]
    text = "Name,Phone\n" + "\n".join(rows) + "\n"
    file = BreakingFile(text.encode())
    broken = LeadImport(file, Options(region="MY", consent="form"))
    file.breaks_at = 45_000
    with pytest.raises(OSError, match="disk"):
        broken.run()
    assert Lead.objects.count() == broken.report.rows == 1000
    again = report(text, consent="form")
    assert again.counts == {Outcome.UNCHANGED: 1000, Outcome.CREATED: 2000}
    assert Lead.objects.count() == 3000


def test_a_batch_that_fails_is_not_half_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("while joining the tags")

    monkeypatch.setattr("leads.import_batches.Batch._join_tags", fail)
    with pytest.raises(RuntimeError):
        report("Phone,Niche\n0123456789,VITAC\n")
    assert not Lead.objects.exists()


def test_a_batch_takes_a_bounded_number_of_queries(django_assert_max_num_queries: Any) -> None:
    text = "Name,Phone,Niche\n" + "".join(f"L{n},0123{n:06},VITAC\n" for n in range(900))
    with django_assert_max_num_queries(31):  # one of them for the niche that is new
        report(text)
    with django_assert_max_num_queries(30):
        assert report(text.replace("L", "M")).counts == {Outcome.UPDATED: 900}


def test_a_lead_that_a_rival_import_made_meanwhile_stays_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from leads import import_batches

    genuine = import_batches._upsert

    def rival_first(rows: list[Any], **kwargs: Any) -> None:
        if rows and isinstance(rows[0], Lead) and not Lead.objects.exists():
            LeadFactory(phone=rows[0].phone, name="Rival")
        genuine(rows, **kwargs)

    monkeypatch.setattr(import_batches, "_upsert", rival_first)
    report("Name,Phone\nAli,0123456789\n")
    assert Lead.objects.get().name == "Rival"


def test_no_phone_column_is_refused_before_anything_is_imported() -> None:
    with pytest.raises(UnreadableFile, match="Name, Alamat"):
        lead_import("Name,Alamat\nAli,KL\n")


def test_the_rows_not_used_can_be_mended_and_imported_again() -> None:
    text = 'Name,Phone\n=Boss,6.01E+10\nAli,"+60 3-8446 4946"\nSiti,0123456789\n'
    results = run(text)
    lines = "".join(report_lines(["Name", "Phone"], results))
    assert lines.startswith("\ufeffRow,Outcome,Reason,Name,Phone")
    rows = list(csv.reader(io.StringIO(lines)))
    assert rows[1][0] == "2"
    assert rows[1][3:] == ["'=Boss", "6.01E+10"]
    assert rows[2][4] == "'+60 3-8446 4946"
    assert len(rows) == 3
    mended = lines.replace("6.01E+10", "0133456789").replace("60 3-8446 4946", "60 14-345 6789")
    assert report(mended).counts == {Outcome.CREATED: 2}
    assert Lead.objects.get(phone="60133456789").name == "=Boss"


def test_the_report_holds_the_sums_and_the_first_problems() -> None:
    done = report("Phone,Remarks\n" + "123,x\n" * 60 + "0123456789,y\n")
    assert (done.rows, done.not_used, done.usable) == (61, 60, 1)
    assert done.unused_headings == ["Remarks"]
    assert len(done.problems) == 50


def test_new_niches_are_those_of_rows_that_are_used_once_however_many_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("leads.importing.BATCH_ROWS", 1)
    Niche.ensure(["VITAC"])
    text = HEAD + "A,0123456781,VITAC,,,\r\nB,0123456782,TITAN,,,\r\nC,0123456783,titan,,,\r\n"
    text += "D,12,NOBODY,,,\r\n"
    for is_dry in (True, False):
        assert report(text, niches=("FAIR",), dry_run=is_dry).new_niches == ["FAIR", "TITAN"]
    assert report(text, niches=("FAIR",)).new_niches == []


def test_results_come_in_the_order_of_the_file() -> None:
    def rows(results: Iterator[Result]) -> list[int]:
        return [result.row for result in results]

    text = "Phone\n0123456789\n123\n0123456789\n0133456789\n"
    assert rows(lead_import(text).results()) == [2, 3, 4, 5]


def test_the_creation_time_is_kept_and_the_change_is_dated() -> None:
    lead = LeadFactory(phone="60123456789", name="Ali")
    started = timezone.now()
    report("Name,Phone\nAbu,0123456789\n")
    after = Lead.objects.get()
    assert after.pk == lead.pk
    assert after.created_at == lead.created_at
    assert after.updated_at >= started


def test_a_number_that_is_another_lead_s_on_whatsapp_is_imported_as_its_duplicate() -> None:
    LeadFactory(phone="60123456788", whatsapp_phone="60123456783")
    text = "Phone,Consent\n0123456783,yes\n0123456789,yes\n"
    run(text, dry_run=True)
    for _ in range(2):
        run(text)
        leads = Lead.objects.with_skip_reason().order_by("pk")
        assert [lead.skip_reason for lead in leads] == ["", "duplicate", ""]
        Lead.objects.update(person=None)  # as where an import broke off before: again marks it
